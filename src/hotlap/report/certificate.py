"""Certificates: evidence that a recipe reaches a target, as a folder of raw runs and what follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotlap._files import replace_file
from hotlap.errors import InputError
from hotlap.recipe import Recipe, paths, show_value
from hotlap.report.formats import NONE, p_value, percent, percent_beside, seconds, seconds_with_interval, target_percent
from hotlap.report.record_files import README, RUNS, machine_lines, write_raw
from hotlap.report.tables import notes
from hotlap.result import CERTIFIED, POLICIES, Run, Summary
from hotlap.stats.summary import summarise

KIND = "certificate"

FEWEST_RUNS = 10
"""Runs below which nothing is certified, however good they look."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a target is certified, and why not."""

    certified: bool
    reason: str


def judge(summary: Summary, target: float) -> Verdict:
    """Apply the rule: the lower bound of the mean's 95 % interval, over enough runs, is at or above the target."""
    if summary.stops_on_test:
        return Verdict(
            False, "the recipe decides when to stop by looking at the test images, so its accuracy is no evidence"
        )
    if summary.failed:
        return Verdict(False, f"{summary.failed} of {summary.n + summary.failed} runs failed")
    if summary.n < FEWEST_RUNS or summary.accuracy_ci95 is None:
        return Verdict(False, f"{summary.n} runs are too few; at least {FEWEST_RUNS} are needed")
    low = summary.accuracy_ci95[0]
    relation = "is at or above" if low >= target else "is below"
    return Verdict(
        low >= target,
        f"the lower bound of the mean's 95 % interval, {percent_beside(low, target, 3)}, {relation} "
        f"{target_percent(target)}",
    )


def write_certificate(folder: Path, runs: Sequence[Run], target: float) -> tuple[list[Path], Verdict]:
    """Write a record of one recipe: raw runs, recipe, source digest, verdict and README.

    Args:
        folder: made when missing; the files of an earlier record in it are replaced, each at once.
        runs: runs of one recipe on one machine, one for each seed.
        target: accuracy (0–1) that the mean is held to.

    Returns:
        The files written and the verdict; a record is written whatever the verdict.

    Raises:
        InputError: no runs, runs of several recipes or machines, a seed that comes twice, or a folder that holds
            something else.
        OSError: the folder cannot be written.
    """
    _one_of_each_seed(runs)
    ordered = sorted(runs, key=lambda run: run.seed)
    verdict = judge(summarise(ordered), target)
    claim = {
        **identity(ordered[0].recipe),
        "target": target,
        "certified": verdict.certified,
        "recipe": ordered[0].recipe.to_dict(),
        "source_sha256": _source(ordered),
    }
    written = write_raw(folder, ordered, claim)
    return [*written, replace_file(folder / README, certificate_readme(claim, ordered))], verdict


def identity(recipe: Recipe) -> dict[str, str]:
    """Say what a certificate of a recipe is of, as ``check_place`` asks."""
    return {"kind": KIND, "digest": recipe.digest}


def certificate_readme(claim: Mapping[str, Any], runs: Sequence[Run]) -> str:
    """Write a certificate's README from its claim and raw runs alone.

    Raises:
        InputError: the claim is of another recipe or source than the runs, or says another verdict than follows from
            them; or a seed comes twice.
    """
    recipe, target = Recipe.from_dict(claim["recipe"]), float(claim["target"])
    if {run.recipe.digest for run in runs} != {recipe.digest} or claim["digest"] != recipe.digest:
        raise InputError(f"the runs are not of the recipe that the record names ({recipe.name})")
    _one_of_each_seed(runs)
    summary = summarise(runs)
    verdict = judge(summary, target)
    if claim["certified"] != verdict.certified:
        raise InputError(f"the record says certified: {claim['certified']}, but {verdict.reason}")
    if _sources(runs) and claim["source_sha256"] != _source(runs):
        raise InputError(f"the runs were not made by the source that the record names ({claim['source_sha256']})")
    low, high = summary.accuracy_ci95 or (None, None)
    counted = " + ".join(f"{name} {seconds(summary.phases_s.get(name))}" for name in POLICIES[CERTIFIED])
    lines = [
        f"# {recipe.name}: {'certified' if verdict.certified else 'not certified'} at {target_percent(target)}",
        "",
        f"{verdict.reason[0].upper()}{verdict.reason[1:]}.",
        f"Generated from the {len(runs)} runs in `{RUNS}`; do not edit.",
        "",
        "| figure | value |",
        "|---|---|",
        f"| mean accuracy | {percent(summary.accuracy_mean, 3)} |",
        f"| 95 % interval of the mean | {percent(low, 3)} to {percent(high, 3)} |",
        f"| standard deviation of one run | {percent(summary.accuracy_std, 3)} |",
        f"| runs | {summary.n} done, {summary.failed} failed |",
        f"| runs at or above {target_percent(target)} | {_reached(runs, target)} of {len(runs)} |",
        f"| one-sided test of “the mean is below {target_percent(target)}” | {_p(runs, target)} |",
        f"| certified time, median with 95 % interval | "
        f"{seconds_with_interval(summary.certified_s_median, summary.certified_s_ci95)} |",
        f"| made of (medians) | {counted} |",
        "",
        *(f"- {note}" for note in notes(summary)),
        "",
        "## Runs",
        "",
        "| seed | accuracy | certified time | others\u2019 cores |",
        "|---|---|---|---|",
        *(
            f"| {run.seed} | {percent(run.accuracy)} | {seconds(run.certified_s)}{'' if run.timing_valid else ' ‡'} | "
            f"{NONE if run.contention is None else f'{run.contention:.2f}'} |"
            for run in runs
        ),
        "",
        "## Recipe",
        "",
        f"Digest `{recipe.digest}`, {_source_text(claim, runs)}.",
        "",
        "| key | value |",
        "|---|---|",
        *(
            f"| {path} | {_cell(getattr(value, 'name', None) or show_value(value))} |"
            for path, value in paths(recipe).items()
        ),
        "",
        "## Machine",
        "",
        *machine_lines(runs),
        "",
    ]
    return "\n".join(lines)


def _sources(runs: Sequence[Run]) -> dict[str, int]:
    """How many runs were made by each source; those of the first versions do not say."""
    return dict(sorted(Counter(run.environment.source for run in runs if run.environment.source).items()))


def _source(runs: Sequence[Run]) -> str | None:
    """The source that all runs were made by; None where there are several, or it was not kept."""
    sources = _sources(runs)
    return next(iter(sources)) if list(sources.values()) == [len(runs)] else None


def _source_text(claim: Mapping[str, Any], runs: Sequence[Run]) -> str:
    if claim["source_sha256"]:
        return f"source `{claim['source_sha256']}`"
    sources = _sources(runs)
    counts = [f"`{digest}` ({n} runs)" for digest, n in sources.items()]
    if unknown := len(runs) - sum(sources.values()):
        counts.append(f"not kept ({unknown} runs)")
    return f"source {', '.join(counts)}"


def _cell(text: str) -> str:
    """A text that may hold a path of the user's, as a cell of a Markdown table."""
    return text.replace("|", "\\|")


def _one_of_each_seed(runs: Sequence[Run]) -> None:
    if len({run.seed for run in runs}) < len(runs):
        raise InputError("a seed that comes twice is no second observation", "one run of each seed")


def _reached(runs: Sequence[Run], target: float) -> int:
    return sum(run.accuracy is not None and run.accuracy >= target for run in runs)


def _p(runs: Sequence[Run], target: float) -> str:
    from hotlap.stats.intervals import p_mean_below

    return p_value(p_mean_below([run.accuracy for run in runs if run.accuracy is not None], target))
