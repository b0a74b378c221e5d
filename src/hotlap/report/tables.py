"""Tables of runs for the terminal (rich) and for notebooks (HTML), and the sentence that sums a run set up."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from hotlap.report.formats import (
    NONE,
    factor,
    interval,
    p_value,
    percent,
    percent_beside,
    percent_with_interval,
    seconds,
    seconds_with_interval,
    target_percent,
)
from hotlap.result import Run, Summary
from hotlap.stats.intervals import MEDIAN_EXACT_N
from hotlap.stats.summary import group_runs, set_text, summarise

__all__ = [
    "factor",
    "interval",
    "p_value",
    "percent",
    "percent_with_interval",
    "run_set_html",
    "run_set_table",
    "runs_table",
    "seconds",
    "seconds_with_interval",
    "summary_line",
    "target_percent",
]

MOST_ROWS = 12
"""Longest run set that is shown run by run."""

NOT_TIMED = "times not valid: the machine was shared"
STOPS_ON_TEST = "stops on test accuracy, which flatters it"
RANGES = f"times of fewer than {MEDIAN_EXACT_N} runs: their range, too few for an interval"


def summary_line(summary: Summary) -> str:
    """Say what a run set showed, in one line, with every reservation that applies.

    For example ``99.04 % ± 0.03 (95 % interval, n = 30), 21 of 30 runs ≥ 99 %, mean ≥ 99 % (p = 0.004), certified time
    15.2 s [14.8, 15.9]``.
    """
    runs = summary.n + summary.failed
    parts = []
    if summary.accuracy_mean is None:
        parts.append("no finished run")
    elif summary.accuracy_ci95 is None:
        parts.append(f"{percent(summary.accuracy_mean)} (n = {summary.n}, too few for an interval)")
    else:
        mean = percent_with_interval(summary.accuracy_mean, summary.accuracy_ci95)
        parts.append(f"{mean} (95 % interval, n = {summary.n})")
    if summary.target is not None:
        parts.append(f"{reached_count(summary)} of {_count(runs, 'run')} ≥ {target_percent(summary.target)}")
        if summary.p_below_target is not None:
            parts.append(_verdict(summary.target, summary.p_below_target))
    if summary.failed:
        parts.append(f"{summary.failed} failed")
    if summary.certified_s_median is not None:
        time = seconds_with_interval(summary.certified_s_median, summary.certified_s_ci95)
        if is_range(summary):
            time += " (range)"
        parts.append(f"certified time {time}" if summary.timing_valid else f"time {time}")
    return "; ".join([", ".join(parts), *notes(summary)])


def notes(summary: Summary) -> list[str]:
    """Reservations under which a run set's figures stand; empty when there are none."""
    found = []
    if not summary.timing_valid:
        found.append(NOT_TIMED)
    if summary.stops_on_test:
        found.append(STOPS_ON_TEST)
    return found


def is_range(summary: Summary) -> bool:
    """Whether the interval of the time is only the range of too few times for 95 %."""
    return summary.certified_s_ci95 is not None and summary.n < MEDIAN_EXACT_N


def reached_count(summary: Summary) -> int:
    """How many runs, of all, ended at or above the target."""
    return round(summary.reached_share * (summary.n + summary.failed))


def _verdict(target: float, p: float) -> str:
    shown = "" if p < 0.05 else " not shown"
    return f"mean ≥ {target_percent(target)}{shown} ({p_value(p)})"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _caption(runs: Sequence[Run]) -> str:
    """One summary line for each machine and software that the runs are of."""
    lines = []
    groups = group_runs(runs)
    for group in groups:
        summary = summarise(group)
        where = f"{set_text(group[0], [own[0] for own in groups])}: " if len(groups) > 1 else ""
        lines.append(where + summary_line(summary))
    return "\n".join(lines)


def _run_cells(run: Run) -> tuple[str, ...]:
    """Seed, accuracy, whether the target was reached, certified time, epochs, load average."""
    if run.status == "failed":
        reached = "failed"
    elif run.recipe.target is None:
        reached = NONE
    else:
        reached = "yes" if run.reached else "no"
    load = run.environment.load_average
    return (
        str(run.seed),
        percent_beside(run.accuracy, run.recipe.target),
        reached,
        seconds(run.certified_s) + ("" if run.timing_valid else " ‡"),
        f"{run.epochs_run:g}",
        NONE if load is None else f"{load:.2f}",
    )


def _run_header(runs: Sequence[Run]) -> tuple[str, ...]:
    target = runs[-1].recipe.target if runs else None
    reached = "at target" if target is None else f"≥ {target_percent(target)}"
    return "seed", "accuracy", reached, "certified time", "epochs", "load"


def _summary_rows(summary: Summary) -> list[tuple[str, str]]:
    low = summary.accuracy_lower95
    shown = [
        ("runs", f"{summary.n}" + (f" and {summary.failed} failed" if summary.failed else "")),
        ("accuracy, mean", percent_with_interval(summary.accuracy_mean, summary.accuracy_ci95)),
        ("accuracy, standard deviation", percent(summary.accuracy_std, 3)),
        ("accuracy, lower 95 % bound of the mean", percent_beside(low, summary.target)),
        (
            f"runs ≥ {target_percent(summary.target)}",
            f"{reached_count(summary)} of {summary.n + summary.failed} ({percent(summary.reached_share, 0)})",
        ),
        ("certified time, median", seconds_with_interval(summary.certified_s_median, summary.certified_s_ci95)),
        *((f"  {name}", seconds(s)) for name, s in summary.phases_s.items()),
        ("epochs, median", NONE if summary.epochs_median is None else f"{summary.epochs_median:g}"),
        ("machine", f"{summary.device}, {summary.threads} threads, {summary.backend}"),
    ]
    return [row for row in shown if summary.target is not None or not row[0].startswith("runs ≥")]


def run_set_table(runs: Sequence[Run]) -> Any:
    """Show a run set: every run up to ``MOST_ROWS``, else the figures; the summary line is the caption.

    Returns:
        A rich renderable.
    """
    from rich.table import Table
    from rich.text import Text

    if not runs:
        return Text("no runs")
    title = Text(runs[-1].recipe.name)
    caption = Text(_caption(runs))
    groups = group_runs(runs)
    if len(runs) > MOST_ROWS and len(groups) == 1:
        table = Table(title=title, caption=caption, show_header=False, title_justify="left", caption_justify="left")
        table.add_column("figure")
        table.add_column("value", justify="right")
        for name, value in _summary_rows(summarise(runs)):
            table.add_row(Text(name), Text(value))
        return table
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    for name in _run_header(runs):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(*map(Text, _run_cells(run)))
    return table


def run_set_html(runs: Sequence[Run]) -> str:
    """Show a run set as one HTML table for a notebook; every text is escaped, nothing is loaded from elsewhere."""
    if not runs:
        return "<p>no runs</p>"
    header, body = _run_header(runs), [_run_cells(run) for run in runs]
    if len(runs) > MOST_ROWS and len(group_runs(runs)) == 1:
        header, body = (), [*_summary_rows(summarise(runs))]
    style = "text-align:right;padding:0.2em 0.8em"
    caption = "<br>".join(html.escape(line) for line in (runs[-1].recipe.name, *_caption(runs).splitlines()))
    parts = [f'<table><caption style="text-align:left">{caption}</caption>']
    if header:
        cells = "".join(f'<th style="{style}">{html.escape(name)}</th>' for name in header)
        parts.append(f"<thead><tr>{cells}</tr></thead>")
    parts.append("<tbody>")
    for row in body:
        cells = "".join(f'<td style="{style}">{html.escape(cell)}</td>' for cell in row)
        parts.append(f"<tr>{cells}</tr>")
    return "\n".join([*parts, "</tbody></table>"])


def runs_table(runs: Sequence[Run]) -> Any:
    """List stored runs of any recipes, one line each.

    Returns:
        A rich table; a time marked ‡ was taken on a shared machine.
    """
    from rich.table import Table
    from rich.text import Text

    caption = f"{_count(len(runs), 'run')}" + (f"; ‡ {NOT_TIMED}" if not all(r.timing_valid for r in runs) else "")
    table = Table(caption=Text(caption), caption_justify="left")
    table.add_column("id", no_wrap=True)
    table.add_column("started (UTC)", no_wrap=True)
    table.add_column("recipe", overflow="fold", ratio=1)
    for name in ("seed", "accuracy", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("machine", overflow="fold")
    for run in runs:
        table.add_row(
            run.id[:8],
            run.started_at[:16].replace("T", " "),
            Text(run.recipe.name),
            str(run.seed),
            "failed" if run.accuracy is None else percent(run.accuracy),
            seconds(run.certified_s) + ("" if run.timing_valid else " ‡"),
            Text(f"{run.device} ×{run.environment.threads}"),
        )
    return table
