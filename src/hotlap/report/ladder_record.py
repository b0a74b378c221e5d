"""Records of ladders: raw runs, with a table and a plot that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hotlap._files import replace_file
from hotlap.errors import InputError
from hotlap.ladder import AnyLadder, get_ladder, resolve
from hotlap.report.curves import changes_text, curves_markdown
from hotlap.report.formats import percent, percent_with_interval, seconds_with_interval
from hotlap.report.ladder_table import LadderRow
from hotlap.report.plots import need_plots
from hotlap.report.record_files import README, RUNS, check_place, machine_lines, write_raw
from hotlap.result import Run, Summary
from hotlap.stats.summary import summarise

KIND = "ladder"

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def ladder_rows(ladder: AnyLadder, runs: Sequence[Run], *, rungs: Sequence[int] | None = None) -> list[LadderRow]:
    """Return a table row for each rung, with the summary of its runs.

    Args:
        ladder: whose rungs.
        runs: runs of these rungs, known by their recipe's name; the order does not matter.
        rungs: which rungs, by index; all when None.
    """
    rows = []
    for step in resolve(ladder):
        if rungs is not None and step.index not in rungs:
            continue
        own = sorted((run for run in runs if run.recipe.name == step.recipe.name), key=lambda run: run.seed)
        published = step.rung.published
        rows.append(
            LadderRow(
                index=step.index,
                name=step.rung.name,
                title=step.rung.title,
                published_s=published.time_s,
                published_text=published.time,
                published_accuracy=published.accuracy,
                summary=summarise(own) if own else None,
                running=None,
            )
        )
    return rows


def write_ladder_record(
    folder: Path, ladder: AnyLadder, runs: Sequence[Run], changes: Mapping[str, Any] = _NOTHING
) -> list[Path]:
    """Write a ladder's record: raw runs, README with the table, and the plot as PNG and SVG.

    Args:
        folder: made when missing; the files of an earlier record in it are replaced, each at once.
        ladder: the ladder that was measured.
        runs: runs of its rungs.
        changes: dotted path → value (plain JSON types), made to every rung. The record then shows how the changed
            rungs learn, epoch by epoch, instead of setting them beside the published figures.

    Returns:
        The files written.

    Raises:
        InputError: no runs, runs of recipes that are not the ladder's, matplotlib is not installed, or the folder holds
            something else.
        OSError: the folder cannot be written.
    """
    if not runs:
        raise InputError("a record needs runs", f"hotlap ladder {ladder.name}")
    known = {step.recipe.with_changes(changes).digest for step in resolve(ladder)}
    if changed := sorted({run.recipe.name for run in runs if run.recipe.digest not in known}):
        raise InputError(
            f"{', '.join(changed)} was changed, so its runs are no record of the ladder", "leave out --set and the like"
        )
    check_ladder_place(folder, ladder, changes)
    ordered = sorted(runs, key=lambda run: (run.recipe.name, run.seed))
    claim = _claim(ladder, changes)
    return [*write_raw(folder, ordered, claim), *write_derived(folder, claim, ordered)]


def check_ladder_place(folder: Path, ladder: AnyLadder, changes: Mapping[str, Any] = _NOTHING) -> None:
    """Make sure that a ladder's record can be written to a folder, before the first file or hours of training.

    Args:
        folder: need not be there.
        ladder: whose record.
        changes: as for ``write_ladder_record``.

    Raises:
        InputError: matplotlib is not installed, or the folder holds another record or files that are no record's.
    """
    need_plots()
    check_place(folder, _claim(ladder, changes))


def _claim(ladder: AnyLadder, changes: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": KIND, "ladder": ladder.name, **({"changes": dict(changes)} if changes else {})}


def write_derived(folder: Path, claim: Mapping[str, Any], runs: Sequence[Run]) -> list[Path]:
    """Write what follows from a ladder record's raw runs, which are left as they are: README and plots.

    Raises:
        InputError: matplotlib is not installed.
        OSError: the folder cannot be written.
    """
    ladder = get_ladder(claim["ladder"])
    rows = [row for row in ladder_rows(ladder, runs) if row.summary]
    if claim.get("changes"):
        from hotlap.report.curves import plot_curves

        written = plot_curves(rows, runs, folder / "curves", title=ladder.title)
    else:
        from hotlap.report.plots import plot_ladder

        written = plot_ladder(rows, folder / "ladder", title=ladder.title)
    return [*written, replace_file(folder / README, ladder_readme(claim, runs))]


def record_table(claim: Mapping[str, Any], runs: Sequence[Run]) -> list[str]:
    """Write the table of a ladder's record as the lines of Markdown."""
    rows = ladder_rows(get_ladder(claim["ladder"]), runs)
    return curves_markdown(rows, runs) if claim.get("changes") else ladder_markdown(rows)


def ladder_readme(claim: Mapping[str, Any], runs: Sequence[Run]) -> str:
    """Write a record's README from what it claims and its raw runs alone, so that it can be checked against them."""
    ladder = get_ladder(claim["ladder"])
    if changes := claim.get("changes"):
        lines = [
            f"# {ladder.title}: how its rungs learn",
            "",
            f"Generated from the {len(runs)} runs in `{RUNS}` by `make records`; do not edit.",
            f"Every rung was changed by `{changes_text(changes)}`, so these runs say nothing of the published figures.",
            "Certified time is prepare + train + final evaluation, the median over runs.",
            "",
            *record_table(claim, runs),
            "",
            "## Machine",
            "",
            *machine_lines(runs),
            "",
            "![loss and accuracy after each epoch](curves.svg)",
            "",
        ]
        return "\n".join(lines)
    lines = [
        f"# {ladder.title}",
        "",
        f"Generated from the {len(runs)} runs in `{RUNS}` by `make records`; do not edit.",
        "Certified time is prepare + train + final evaluation (timing rules "
        f"{', '.join(sorted({str(run.timing_rules) for run in runs}))}), the median over runs; accuracy is the mean "
        "with its 95 % interval.",
        f"The published figures are from: {ladder.hardware}.",
        "",
        *record_table(claim, runs),
        "",
        "## Machine",
        "",
        *machine_lines(runs),
        "",
        "![the ladder](ladder.svg)",
        "",
    ]
    return "\n".join(lines)


def ladder_markdown(rows: Sequence[LadderRow]) -> list[str]:
    """Write a ladder's rows as the lines of a Markdown table, with remarks on its marks below."""
    lines = [
        "| rung | change | published | published accuracy | runs | measured accuracy | at target | certified time "
        "| over rung 0 | over the one before |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    before: LadderRow | None = None
    for row in rows:
        lines.append(_line(row, rows[0].summary, before.summary if before else None))
        before = row
    return [*lines, "", *_remarks(rows)]


def _line(row: LadderRow, first: Summary | None, before: Summary | None) -> str:
    accuracy = percent(row.published_accuracy) if row.published_accuracy is not None else "–"
    head = f"| {row.name} | {row.title} | {row.published_text} | {accuracy} |"
    summary = row.summary
    if summary is None:
        return f"{head} 0 | – | – | – | – | – |"

    def over(base: Summary | None) -> str:
        if base is None or not base.certified_s_median or not summary.certified_s_median:
            return "–"
        doubtful = not (base.timing_valid and summary.timing_valid)
        return f"{base.certified_s_median / summary.certified_s_median:.2f}×{' ‡' if doubtful else ''}"

    n = summary.n + summary.failed
    marks = ("†" if summary.stops_on_test else "") + ("" if summary.timing_valid else "‡")
    measured = percent_with_interval(summary.accuracy_mean, summary.accuracy_ci95)
    time = seconds_with_interval(summary.certified_s_median, summary.certified_s_ci95)
    return (
        f"{head} {n} | {measured} | {round(summary.reached_share * n)} of {n} | {time} {marks} "
        f"| {over(first)} | {over(before)} |"
    )


def _remarks(rows: Sequence[LadderRow]) -> list[str]:
    summaries = [row.summary for row in rows if row.summary]
    remarks = ["Square brackets hold a 95 % interval, for fewer than 6 runs their range."]
    if any(summary.stops_on_test for summary in summaries):
        remarks.append("† Stops on test accuracy, as published: its accuracy is optimistic by construction.")
    if any(not summary.timing_valid for summary in summaries):
        remarks.append("‡ Other work shared the machine during at least one run: accuracy counts, times do not.")
    return remarks
