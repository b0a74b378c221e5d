"""A ladder on the page: its table, the waterfall of times, times against accuracies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hotlap.ladder import AnyLadder, Rung, resolve
from hotlap.report.formats import (
    NONE,
    factor,
    percent,
    percent_with_interval,
    seconds,
    seconds_with_interval,
    target_percent,
)
from hotlap.report.html import figures
from hotlap.report.html.parts import Block, Cell, Column, Notes, Plot, Row, Section, Table, Text
from hotlap.report.html.selection import LadderView
from hotlap.report.ladder_table import LadderRow, is_doubtful, ladder_rows_json, speedup_text
from hotlap.report.tables import NOT_TIMED, RANGES, STOPS_ON_TEST, is_range, reached_count
from hotlap.result import POLICIES, Summary


def ladder_section(view: LadderView) -> Section:
    """Show a ladder as it was measured on one machine.

    Raises:
        InputError: plotly is not installed.
    """
    blocks: list[Block] = [Text(_about(view)), _table(view)]
    plots = []
    if any(_time(row) is not None or row.published_s for row in view.rows):
        plots.append(_waterfall(view))
    if any(_both(row) is not None for row in view.rows):
        plots.append(_scatter(view))
    if plots:
        blocks.append(Row(plots))
    deviations = [f"{step.name}: {step.deviation}" for step in _rungs(view) if step.deviation]
    if deviations:
        blocks += [Text("What is done otherwise than published:"), Notes(deviations)]
    return Section(title=view.title, blocks=blocks)


def marked(text: str, mark: str) -> str:
    """A figure with its mark, where it has one."""
    return f"{text} {mark}" if mark else text


def remarks(summaries: Sequence[Summary]) -> list[str]:
    """Explain the marks and brackets that a table of these summaries holds."""
    lines = ["± and square brackets: 95 % interval."]
    if any(is_range(summary) for summary in summaries):
        lines.append(f"{RANGES[0].upper()}{RANGES[1:]}.")
    if any(summary.stops_on_test for summary in summaries):
        lines.append(f"† {STOPS_ON_TEST}.")
    if not all(summary.timing_valid for summary in summaries):
        lines.append(f"‡ {NOT_TIMED}.")
    return lines


def interval_name(summaries: Sequence[Summary]) -> str:
    """Say what the bars around these times are: of few runs only their range."""
    ranges = [is_range(summary) for summary in summaries if summary.certified_s_ci95 is not None]
    if not any(ranges):
        return "95 % interval"
    return "range" if all(ranges) else "95 % interval or range"


def accuracy_cell(summary: Summary) -> Cell:
    """Mean accuracy with its interval and mark."""
    text = percent_with_interval(summary.accuracy_mean, summary.accuracy_ci95)
    return Cell(marked(text, "†" if summary.stops_on_test else ""), summary.accuracy_mean)


def reached_cell(summary: Summary) -> Cell:
    """How many runs are at or above the target."""
    if summary.target is None:
        return Cell(NONE)
    return Cell(f"{reached_count(summary)} of {summary.n + summary.failed}", summary.reached_share)


def time_cell(summary: Summary) -> Cell:
    """Median certified time with its interval and mark."""
    text = seconds_with_interval(summary.certified_s_median, summary.certified_s_ci95)
    return Cell(marked(text, "" if summary.timing_valid else "‡"), summary.certified_s_median)


def _rungs(view: LadderView) -> list[Rung]:
    shown = {row.name for row in view.rows if row.summary is not None}
    return [step.rung for step in resolve(view.ladder) if step.rung.name in shown and not view.changes]


def _about(view: LadderView) -> str:
    measured = f"Measured on: {view.machine}."
    if view.changes:
        return f"{measured} Every rung was changed by {view.changes}, so nothing is set beside the published figures."
    return f"{measured} {published_on(view.ladder)}"


def published_on(ladder: AnyLadder) -> str:
    """Say what the published figures were measured on, and which of the phases they count."""
    counted = " + ".join(POLICIES[ladder.policy])
    return f"Published figures: {ladder.hardware}; they count {counted}."


def _table(view: LadderView) -> Table:
    summaries = [row.summary for row in view.rows if row.summary is not None]
    targets = list(dict.fromkeys(s.target for s in summaries if s.target is not None))
    columns = [
        Column("rung", numeric=False),
        Column("change", numeric=False),
        Column("published time"),
        Column("published accuracy"),
        Column("runs"),
        Column("accuracy"),
        Column(f"≥ {target_percent(targets[0])}" if len(targets) == 1 else "at target"),
        Column("certified time"),
        Column("over rung 0"),
        Column("over the one before"),
    ]
    rows = []
    for row, figures_ in zip(view.rows, ladder_rows_json(view.rows), strict=True):
        summary = row.summary
        head = [
            Cell(_label(row), row.index),
            Cell(row.title),
            Cell(row.published_text or NONE, row.published_s),
            Cell(percent(row.published_accuracy), row.published_accuracy),
        ]
        if summary is None:
            rows.append([*head, Cell("0", 0), *[Cell(NONE)] * 5])
            continue
        ratios = [
            (speedup_text(row, view.rows, 0), figures_["speedup_over_first"]),
            (speedup_text(row, view.rows, row.index - 1), figures_["speedup_over_before"]),
        ]
        n = summary.n + summary.failed
        rows.append(
            [
                *head,
                Cell(str(n), n),
                accuracy_cell(summary),
                reached_cell(summary),
                time_cell(summary),
                *(Cell(text, ratio) for text, ratio in ratios),
            ]
        )
    if view.changes:
        columns, rows = columns[:2] + columns[4:], [row[:2] + row[4:] for row in rows]
    return Table(caption=view.title, columns=columns, rows=rows, notes=remarks(summaries))


def _label(row: LadderRow) -> str:
    return row.name if row.name.startswith(str(row.index)) else f"{row.index}  {row.name}"


def _time(row: LadderRow) -> float | None:
    return row.summary.certified_s_median if row.summary is not None else None


def _measured_text(row: LadderRow) -> str:
    assert row.summary is not None
    return f"measured {time_cell(row.summary).text} ({row.summary.n} runs)"


def _waterfall(view: LadderView) -> Plot:
    """Times from rung to rung on a log scale; the bar between two rungs is as long as the factor between them."""
    shown = [row for row in view.rows if _time(row) or row.published_s]
    ratios = {r["index"]: r["speedup_over_before"] for r in ladder_rows_json(view.rows)}
    measured = [(y, row, time) for y, row in enumerate(shown) if (time := _time(row))]
    published = [(y, row, row.published_s) for y, row in enumerate(shown) if row.published_s]
    steps = [(y, row, time, ratio) for y, row, time in measured if (ratio := ratios[row.index])]
    summaries = [row.summary for _, row, _ in measured if row.summary]
    doubtful = [is_doubtful(row, view.rows, row.index - 1) for _, row, *_ in steps]
    bars = {
        "type": "bar",
        "orientation": "h",
        "name": "change over the one before",
        "y": [y for y, *_ in steps],
        "base": [time for *_, time, _ in steps],
        "x": [time * ratio - time for *_, time, ratio in steps],
        "width": 0.5,
        "marker": {
            "color": [figures.FASTER if ratio >= 1 else figures.TARGET for *_, ratio in steps],
            "opacity": 0.4,
            "pattern": {"shape": ["/" if one else "" for one in doubtful]},  # a time that does not count is hatched
        },
        "hoverinfo": "text",
        "hovertext": [
            figures.hover(_label(row), marked(f"{factor(ratio)} as fast as the one before", "‡" if doubt else ""))
            for (_, row, _, ratio), doubt in zip(steps, doubtful, strict=True)
        ],
        "showlegend": False,
    }
    bounds = [summary.certified_s_ci95 for summary in summaries]
    dots = figures.points(
        [time for *_, time in measured],
        [y for y, *_ in measured],
        [figures.hover(_label(row), row.title, _measured_text(row)) for _, row, _ in measured],
        name=f"measured, {interval_name(summaries)}",
        marker={"color": figures.MEASURED, "size": 9},
        error_x=figures.error_bars([time for *_, time in measured], bounds, color=figures.MEASURED),
    )
    outlines = figures.hollow(
        [time for *_, time in published],
        [y for y, *_ in published],
        [figures.hover(_label(row), f"published {row.published_text}") for _, row, _ in published],
    )
    texts = [
        marked(seconds(_time(row)), "" if row.summary.timing_valid else "‡") if row.summary and _time(row) else ""
        for row in shown
    ]
    spans = [value for bound in bounds for value in bound or ()]
    values = [*(time for *_, time in measured), *(time for *_, time in published), *spans]
    layout = figures.layout(
        xaxis=figures.log_axis(values, title={"text": "median, seconds (log scale)"}),
        yaxis=figures.names_axis([_label(row) for row in shown]),
        annotations=figures.values_at_right(texts),
        bargap=0,
    )
    layout["margin"]["r"] = 84
    table = Table(
        caption=f"{view.title}: times",
        columns=[Column("rung", numeric=False), Column("certified time"), Column("published"), Column("over before")],
        rows=[
            [
                Cell(_label(row), row.index),
                time_cell(row.summary) if row.summary else Cell(NONE),
                Cell(row.published_text or NONE, row.published_s),
                Cell(speedup_text(row, view.rows, row.index - 1), ratios[row.index]),
            ]
            for row in shown
        ],
        notes=remarks(summaries)[1:],
    )
    data = [trace for trace, any_ in ((bars, steps), (outlines, published), (dots, measured)) if any_]
    return Plot(
        title="Time, rung by rung",
        figure=figures.figure(data, layout),
        height=figures.ROW_PX * len(shown) + 100,
        summary=f"Certified times of {len(measured)} rungs on a logarithmic scale, {_span(measured)}"
        f"with {len(published)} published times beside them{'; hatched bars do not count' if any(doubtful) else ''}.",
        table=table,
    )


def _span(measured: Sequence[tuple[int, LadderRow, float]]) -> str:
    if not measured:
        return ""
    return f"from {seconds(measured[0][-1])} to {seconds(measured[-1][-1])}, "


def _both(row: LadderRow) -> tuple[float, float] | None:
    """Measured time and accuracy, where there are both."""
    time = _time(row)
    if row.summary is None or not time or row.summary.accuracy_mean is None:
        return None
    return time, row.summary.accuracy_mean


def _scatter(view: LadderView) -> Plot:
    """Time against accuracy, each with its 95 % interval."""
    measured = [(row, row.summary, *both) for row in view.rows if row.summary and (both := _both(row))]
    published = [
        (row, row.published_s, row.published_accuracy)
        for row in view.rows
        if row.published_s and row.published_accuracy is not None
    ]
    times = [time for *_, time, _ in measured]
    percents = [100 * accuracy for *_, accuracy in measured]
    accuracy_bounds = [
        (100 * s.accuracy_ci95[0], 100 * s.accuracy_ci95[1]) if s.accuracy_ci95 else None for _, s, *_ in measured
    ]
    of_times = interval_name([summary for _, summary, *_ in measured])
    intervals = "95 % intervals" if of_times == "95 % interval" else f"95 % intervals, of times {of_times}"
    bars: dict[str, Any] = {"color": figures.MEASURED}
    dots = figures.points(
        times,
        percents,
        [
            figures.hover(_label(row), f"accuracy {accuracy_cell(summary).text}", _measured_text(row))
            for row, summary, *_ in measured
        ],
        name=f"measured, {intervals}",
        mode="markers+text",
        text=[str(row.index) for row, *_ in measured],
        textposition="top right",
        marker={"color": figures.MEASURED, "size": 9},
        error_x=figures.error_bars(times, [s.certified_s_ci95 for _, s, *_ in measured], **bars),
        error_y=figures.error_bars(percents, accuracy_bounds, **bars),
    )
    outlines = figures.hollow(
        [time for _, time, _ in published],
        [100 * accuracy for *_, accuracy in published],
        [
            figures.hover(_label(row), f"published {row.published_text}, {percent(accuracy)}")
            for row, _, accuracy in published
        ],
    )
    outlines |= {"mode": "markers+text", "text": [str(row.index) for row, *_ in published], "textposition": "top right"}
    targets = list(dict.fromkeys(s.target for _, s, *_ in measured if s.target is not None))
    spans = [value for _, s, *_ in measured for value in s.certified_s_ci95 or ()]
    layout = figures.layout(
        xaxis=figures.log_axis(
            [*times, *(time for _, time, _ in published), *spans], title={"text": "certified time, seconds (log scale)"}
        ),
        yaxis=figures.plain_axis("accuracy, mean", ticksuffix=" %"),
        shapes=[figures.target_line(100 * target, vertical=False) for target in targets],
    )
    entries = [figures.target_entry(f"target {target_percent(target)}") for target in targets]
    table = Table(
        caption=f"{view.title}: times and accuracies",
        columns=[Column("rung", numeric=False), Column("certified time"), Column("accuracy"), Column("published")],
        rows=[
            [
                Cell(_label(row), row.index),
                time_cell(summary),
                accuracy_cell(summary),
                Cell(f"{row.published_text or NONE}, {percent(row.published_accuracy)}", row.published_accuracy),
            ]
            for row, summary, *_ in measured
        ],
    )
    return Plot(
        title="Time and accuracy",
        figure=figures.figure([*([outlines] if published else []), dots, *entries], layout),
        height=max(340, figures.ROW_PX * len(view.rows) + 100),
        summary=f"Certified time against mean accuracy of {len(measured)} rungs, with {intervals}; "
        "numbers are those of the rungs.",
        table=table,
    )
