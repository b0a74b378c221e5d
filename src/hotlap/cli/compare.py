"""``hotlap compare``: two recipes, interleaved, with intervals."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout
from hotlap.errors import InputError

if TYPE_CHECKING:
    from hotlap.bench.session import Session
    from hotlap.cli.progress import RunProgress
    from hotlap.recipe import Recipe
    from hotlap.result import Run
    from hotlap.stats.comparison import MeanDifference, TimeRatio
    from hotlap.stats.sequential import Monitored
    from hotlap.store import Store


def compare(
    a: Annotated[str, typer.Argument(help="Baseline recipe.")],
    b: Annotated[str | None, typer.Argument(help="Other recipe; the baseline with --set when left out.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="How many seeds of each, at most (10), or which (3..7).")] = "5",
    until: Annotated[
        float | None,
        typer.Option("--until", metavar="ALPHA", help="Stop when accuracy is settled, with this error rate: 0.05."),
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="Start no pair that is expected to end later than this.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Train nothing: say how many runs would show --effect.")] = False,
    effect: Annotated[
        float | None, typer.Option("--effect", metavar="POINTS", help="Difference to plan for, in percentage points.")
    ] = None,
    set_: options.Set = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    shared: options.Shared = False,
    store: options.StorePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare two recipes by runs in turn (A B B A …): difference of accuracy and ratio of times, with intervals.

    Both recipes run with the same seeds, so that they share their random numbers where they use them alike. With
    --until the comparison is looked at after every pair and stops when the difference of accuracy is settled; its
    interval and p then hold however often it was looked at.
    """
    from hotlap.bench.session import Session, resolve_recipe
    from hotlap.cli.progress import RunProgress
    from hotlap.store import Store

    baseline = resolve_recipe(a)
    if b is None and not set_:
        raise InputError("nothing to compare with", "name a second recipe, or change the first with --set")
    other = resolve_recipe(b if b is not None else a, changes=options.changes(set_))
    if baseline.digest == other.digest:
        raise InputError(f"{a} and {b or a} are one recipe (digest {baseline.digest[:12]})")
    if until is not None and not 0 < until < 1:
        raise InputError(f"--until is an error rate between 0 and 1, not {until}", "for example --until 0.05")
    if plan != (effect is not None) or (effect is not None and effect <= 0):
        raise InputError("--plan and a positive --effect go together", "for example --plan --effect 0.05")
    chosen = options.parse_seeds(seeds)
    with Store(store) as opened, RunProgress(2 * len(chosen), quiet=quiet or json) as progress:
        if effect is not None:
            _plan(opened, baseline, other, effect, as_json=json)
            return
        session = Session(
            device=device,
            threads=threads,
            store=opened,
            observer=progress,
            download=progress,
            timing_valid=not shared,
        )
        limit = max_minutes * 60 if max_minutes is not None else None
        pairs = _pairs(session, baseline, other, chosen, until=until, max_seconds=limit, progress=progress)
    _report(pairs, until, as_json=json)


def _pairs(
    session: Session,
    a: Recipe,
    b: Recipe,
    seeds: list[int],
    *,
    until: float | None,
    max_seconds: float | None,
    progress: RunProgress,
    now: Callable[[], float] = time.monotonic,
) -> list[tuple[Run, Run]]:
    """Train pairs in alternating order until they are settled, or the seeds or the time are used up."""
    pairs: list[tuple[Run, Run]] = []
    session.fetch(a)
    session.fetch(b)
    start = now()
    for number, seed in enumerate(seeds):
        if max_seconds is not None and (now() - start) * (number + 1) / max(number, 1) > max_seconds:
            progress.say(f"stopped after {number} pairs: the next would not fit into the time")
            break
        runs: dict[str, Run] = {}
        for recipe in (a, b) if number % 2 == 0 else (b, a):
            run = runs[recipe.digest] = replace(session.run(recipe, seed), module=None)
            progress.say(f"{recipe.name} seed {run.seed}: {run.accuracy or 0:.2%} in {run.certified_s:.2f} s")
        pairs.append((runs[a.digest], runs[b.digest]))
        look = _look(pairs, until) if until is not None else None
        if look is not None and look.settled:
            progress.say(f"settled after {number + 1} pairs")
            break
    return pairs


def _finished(pairs: list[tuple[Run, Run]]) -> list[tuple[float, float]]:
    return [(x.accuracy, y.accuracy) for x, y in pairs if x.accuracy is not None and y.accuracy is not None]


def _look(pairs: list[tuple[Run, Run]], alpha: float) -> Monitored | None:
    from hotlap.stats.sequential import monitor

    differences = [y - x for x, y in _finished(pairs)]
    return monitor(differences, alpha=alpha) if differences else None


def _report(pairs: list[tuple[Run, Run]], until: float | None, *, as_json: bool) -> None:
    from hotlap.report.tables import summary_line
    from hotlap.stats.comparison import time_ratio, welch_difference
    from hotlap.stats.summary import summarise

    if not (accuracies := _finished(pairs)):
        raise InputError("no pair of runs finished, so there is nothing to compare", "hotlap runs --status failed")
    times = [(x.certified_s, y.certified_s) for x, y in pairs if x.accuracy is not None and y.accuracy is not None]
    difference = welch_difference([x for x, _ in accuracies], [y for _, y in accuracies])
    ratio = time_ratio([x for x, _ in times], [y for _, y in times])
    look = _look(pairs, until) if until is not None else None
    summaries = summarise([x for x, _ in pairs]), summarise([y for _, y in pairs])
    text = sentence(pairs[0][0].recipe.name, pairs[0][1].recipe.name, difference, ratio, look)
    if as_json:
        document: dict[str, Any] = {
            "a": summaries[0].to_dict(),
            "b": summaries[1].to_dict(),
            "accuracy": {**asdict(difference), "runs_needed": difference.runs_needed},
            "time_ratio": asdict(ratio),
            "sequential": None if look is None else _finite(asdict(look)),
            "sentence": text,
        }
        print_json(document)
        return
    console = stdout()
    for summary in summaries:
        console.print(f"{summary.recipe}: {summary_line(summary)}", markup=False, soft_wrap=True)
    console.print(text, markup=False, soft_wrap=True)


def _finite(look: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: an interval that excludes nothing is none."""
    low, high = look["interval"] or (float("-inf"), float("inf"))
    return {**look, "interval": [low, high] if high < float("inf") else None}


def sentence(a: str, b: str, difference: MeanDifference, ratio: TimeRatio, look: Monitored | None = None) -> str:
    """Write a comparison as one sentence that can be quoted; points are percentage points of accuracy.

    Args:
        a: name of the baseline.
        b: name of the candidate.
        difference: of a number of runs fixed in advance; its interval is used unless ``look`` is given.
        ratio: of times.
        look: of a comparison that was looked at after every pair.
    """
    points = f"{100 * difference.difference:+.3f} points"
    interval, p = (look.interval, look.p) if look is not None else (difference.ci95, difference.p)
    if interval is not None and p is not None:
        low, high = (100 * bound for bound in interval)
        points += f" [{low:+.3f}, {high:+.3f}], p = {p:.2g}"
        settled = look.settled if look is not None else difference.resolved
        if not settled and difference.runs_needed:
            needed = difference.runs_needed
            points += f", unresolved (about {needed} runs of each would settle a difference of this size)"
    times = f"{ratio.ratio:.3g} times as fast"
    if ratio.ci95 is not None:
        times += f" [{ratio.ci95[0]:.3g}, {ratio.ci95[1]:.3g}]"
    kind = "95 % intervals"
    if look is not None:
        kind = f"intervals: {1 - look.alpha:.4g} for accuracy, at all looks together, 0.95 for the ratio of times"
    return f"{b} against {a}: accuracy {points}; {times}, over {ratio.pairs} interleaved pairs ({kind})."


def _plan(store: Store, a: Recipe, b: Recipe, effect: float, *, as_json: bool) -> None:
    """Say how many runs would show an effect, from the spread of the runs that are stored."""
    from hotlap.stats.comparison import POWER, runs_to_resolve
    from hotlap.stats.intervals import standard_deviation

    spreads: dict[str, float] = {}
    for recipe in (a, b):
        runs = {run.seed: run.accuracy for run in store.runs(digest=recipe.digest, status="done")}
        spread = standard_deviation([accuracy for accuracy in runs.values() if accuracy is not None])
        if spread is not None:
            spreads[recipe.name] = spread
    if not spreads:
        raise InputError(f"no spread is known of {a.name} or {b.name}", f"hotlap train {a.name} --seeds 5")
    pooled = (sum(s**2 for s in spreads.values()) / len(spreads)) ** 0.5
    needed = runs_to_resolve(effect / 100, pooled)
    if as_json:
        print_json({"effect_points": effect, "deviation": pooled, "runs_of_each": needed, "power": POWER})
        return
    stdout().print(
        f"A difference of {effect:g} points shows (p < 0.05) with {POWER:.0%} chance in {needed} runs of each: one run "
        f"varies by {100 * pooled:.3f} points (standard deviation, from stored runs of {' and '.join(spreads)}).",
        markup=False,
        soft_wrap=True,
    )
