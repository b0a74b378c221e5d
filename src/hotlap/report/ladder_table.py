"""The table of a ladder: published beside measured, rung by rung."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hotlap.report.formats import (
    NONE,
    factor,
    percent,
    percent_with_interval,
    seconds,
    seconds_with_interval,
    target_percent,
)
from hotlap.report.tables import NOT_TIMED, RANGES, STOPS_ON_TEST, is_range, reached_count
from hotlap.result import Summary

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.measure import Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRow:
    """One rung as a row of the table.

    Attributes:
        index: number of the rung in its ladder, from 0.
        name: short name, e.g. ``one-cycle``.
        title: the change, in a few words.
        published_s: published time in seconds; None when none was published.
        published_text: published time as it was published, e.g. ``3.14 s ± 0.005``.
        published_accuracy: published accuracy (0–1); None when none was published.
        summary: what was measured here; None before the first run.
        running: what is going on at this rung, e.g. ``seed 3 …``; None when nothing is.
    """

    index: int
    name: str
    title: str
    published_s: float | None
    published_text: str
    published_accuracy: float | None
    summary: Summary | None
    running: str | None


@dataclass(frozen=True, slots=True)
class _Column:
    """A column: its header, its cell for a row, and when it gives way (the lowest first; 0 never does)."""

    key: str
    header: str
    cell: Callable[[LadderRow], str]
    gives_way: int = 0
    left: bool = False


CHANGE_WIDTH = 18
"""Columns give way until the change has this many characters to a line."""

CELL_PADDING = 2
"""Characters between two columns: the padding and the box's divider."""


class LadderTable:
    """A rich renderable that leaves out columns as the terminal gets narrower, the least important first."""

    def __init__(self, rows: Sequence[LadderRow], *, title: str, eta_s: float | None) -> None:
        self.rows = tuple(rows)
        self.title = title
        self.eta_s = eta_s

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        columns = _fitting(_columns(self.rows), self.rows, options.max_width)
        table = Table(
            title=Text(self.title, style="bold"),
            caption=Text("\n".join(self.caption({column.key for column in columns}))),
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            pad_edge=False,
            show_edge=False,
        )
        for column in columns:
            if column.left:
                table.add_column(column.header, overflow="fold", ratio=1, min_width=8)
            else:
                table.add_column(column.header, justify="right", no_wrap=True)
        for row in self.rows:
            style = "bold" if row.running else None
            table.add_row(*(Text(column.cell(row)) for column in columns), style=style)
        yield table

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        from rich.measure import Measurement

        return Measurement(min(40, options.max_width), options.max_width)

    def caption(self, columns: Collection[str]) -> Iterator[str]:
        """Lines below the table with these columns: target, the marks that occur, time left."""
        summaries = [row.summary for row in self.rows if row.summary is not None]
        targets = list(dict.fromkeys(summary.target for summary in summaries if summary.target is not None))
        if summaries:
            text = "accuracy: mean ± 95 % interval"
            if targets:
                text += f"; at target: runs ≥ {' or '.join(map(target_percent, targets))}"
            yield text + "; time: median of prepare + train + evaluate"
        if "time_with_interval" in columns and any(is_range(summary) for summary in summaries):
            yield RANGES
        if any(summary.stops_on_test for summary in summaries):
            yield f"† {STOPS_ON_TEST}"
        if not all(summary.timing_valid for summary in summaries):
            yield f"‡ {NOT_TIMED}"
        if self.eta_s is not None:
            yield f"about {seconds(self.eta_s)} left"


def ladder_table(rows: Sequence[LadderRow], *, title: str, eta_s: float | None) -> LadderTable:
    """Show a ladder beside its published figures.

    Args:
        rows: rungs in order; they need not be all of the ladder's.
        title: heading.
        eta_s: expected seconds to the end; None when nothing is running or nobody knows.

    Returns:
        A rich renderable for any width from about 60 characters; speed-ups are ratios of median certified times.
    """
    return LadderTable(rows, title=title, eta_s=eta_s)


def ladder_rows_json(rows: Sequence[LadderRow]) -> list[dict[str, Any]]:
    """Return the rows as plain JSON types, with the speed-ups; times in seconds, accuracies fractions."""
    return [
        {
            "index": row.index,
            "name": row.name,
            "title": row.title,
            "published_s": row.published_s,
            "published_text": row.published_text,
            "published_accuracy": row.published_accuracy,
            "summary": None if row.summary is None else row.summary.to_dict(),
            "speedup_over_first": _speedup(row, rows, 0),
            "speedup_over_before": _speedup(row, rows, row.index - 1),
            "running": row.running,
        }
        for row in rows
    ]


def _speedup(row: LadderRow, rows: Sequence[LadderRow], over: int) -> float | None:
    """How many times faster a rung is than rung ``over``; None when either was not measured, or they are one."""
    base = _row(rows, over)
    if base is None or base is row or base.summary is None or row.summary is None:
        return None
    base_s, own_s = base.summary.certified_s_median, row.summary.certified_s_median
    return base_s / own_s if base_s is not None and own_s else None


def speedup_text(row: LadderRow, rows: Sequence[LadderRow], over: int) -> str:
    """Write how many times faster a rung is than rung ``over``, marked where one of their times does not count."""
    text = factor(_speedup(row, rows, over))
    return f"{text} ‡" if text != NONE and is_doubtful(row, rows, over) else text


def is_doubtful(row: LadderRow, rows: Sequence[LadderRow], over: int) -> bool:
    """Whether the time of a rung, or of rung ``over``, does not count."""
    base = _row(rows, over)
    pair = (row.summary, base.summary if base else None)
    return any(summary is not None and not summary.timing_valid for summary in pair)


def _row(rows: Sequence[LadderRow], index: int) -> LadderRow | None:
    return next((row for row in rows if row.index == index), None)


def _columns(rows: Sequence[LadderRow]) -> list[_Column]:
    """Every column, in order; the widest form that a wide terminal shows."""

    def accuracy(row: LadderRow) -> str:
        if row.summary is None:
            return row.running or NONE
        text = percent_with_interval(row.summary.accuracy_mean, row.summary.accuracy_ci95)
        return text + (" †" if row.summary.stops_on_test else "")

    def at_target(row: LadderRow) -> str:
        if row.summary is None or row.summary.target is None:
            return NONE
        return f"{reached_count(row.summary)}/{row.summary.n + row.summary.failed}"

    def time(row: LadderRow, *, with_interval: bool) -> str:
        if row.summary is None or row.summary.certified_s_median is None:
            return NONE
        bounds = row.summary.certified_s_ci95 if with_interval else None
        text = seconds_with_interval(row.summary.certified_s_median, bounds)
        return text + ("" if row.summary.timing_valid else " ‡")

    return [
        _Column("index", "#", lambda row: str(row.index)),
        _Column("change", "change", _change, left=True),
        _Column("published_text", "published time", lambda row: row.published_text or NONE, gives_way=1),
        _Column("published_s", "published\ntime", lambda row: seconds(row.published_s), gives_way=6),
        _Column("published_accuracy", "published\naccuracy", lambda row: percent(row.published_accuracy), gives_way=3),
        _Column("accuracy", "measured\naccuracy", accuracy),
        _Column("at_target", "at\ntarget", at_target, gives_way=5),
        _Column("time_with_interval", "measured time", lambda row: time(row, with_interval=True), gives_way=2),
        _Column("time", "measured\ntime", lambda row: time(row, with_interval=False)),
        _Column("over_first", "over\nrung 0", lambda row: speedup_text(row, rows, 0), gives_way=7),
        _Column("over_before", "over\nbefore", lambda row: speedup_text(row, rows, row.index - 1), gives_way=4),
    ]


_LONG_FORMS = {"published_text": "published_s", "time_with_interval": "time"}
"""Columns that say more than another, which comes in their place when they give way."""


def _change(row: LadderRow) -> str:
    """What the rung changes, with what is going on there when figures fill the accuracy's cell."""
    return f"{row.title} ({row.running})" if row.running and row.summary is not None else row.title


def _fitting(columns: Sequence[_Column], rows: Sequence[LadderRow], width: int) -> list[_Column]:
    """Leave columns out, the first to give way first, until the change has room."""
    dropped: set[str] = set()
    givers = sorted((column for column in columns if column.gives_way), key=lambda column: column.gives_way)
    while True:
        shown = [c for c in columns if c.key not in dropped]
        keys = {column.key for column in shown}
        shown = [c for c in shown if not any(c.key == short and long in keys for long, short in _LONG_FORMS.items())]
        taken = sum(_width(column, rows) + CELL_PADDING for column in shown if not column.left)
        giver = next((column for column in givers if column in shown), None)
        if width - taken >= CHANGE_WIDTH or giver is None:
            return shown
        dropped.add(giver.key)


def _width(column: _Column, rows: Sequence[LadderRow]) -> int:
    lines = [*column.header.split("\n"), *(column.cell(row) for row in rows)]
    return max(len(line) for line in lines)
