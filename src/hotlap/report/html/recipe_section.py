"""Run sets on the page: one table of all, and for each how accuracies spread, how it learns and where its time goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from hotlap.report.curves import loss_curve, mean_curve
from hotlap.report.formats import NONE, percent, percent_beside, seconds, target_percent
from hotlap.report.html import figures
from hotlap.report.html.ladder_section import accuracy_cell, marked, reached_cell, remarks, time_cell
from hotlap.report.html.parts import Block, Cell, Column, Plot, Row, Section, Table, Text
from hotlap.report.html.selection import machine_text
from hotlap.report.tables import summary_line
from hotlap.result import CERTIFIED, PHASES, POLICIES, Run
from hotlap.stats.intervals import mean
from hotlap.stats.summary import summarise

PHASE_COLOURS = {
    "load": "#858b95",
    "warmup": "#9a7fd1",
    "prepare": "#c47a00",
    "train": figures.MEASURED,
    "evaluate": figures.FASTER,
    "log": "#b0759b",
}

Curve = Sequence[tuple[float, float]]


def recipes_section(sets: Sequence[Sequence[Run]]) -> Section:
    """Show run sets, each of one recipe on one machine.

    Raises:
        InputError: plotly is not installed.
    """
    return Section(
        title="Recipes",
        blocks=[overview(sets)] if len(sets) > 1 else [],
        sections=[recipe_section(runs, among=[own[0] for own in sets]) for runs in sets],
    )


def overview(sets: Sequence[Sequence[Run]], caption: str = "All recipes") -> Table:
    """Build the table of run sets."""
    summaries = [summarise(runs) for runs in sets]
    columns = [
        Column("recipe", numeric=False),
        Column("machine", numeric=False),
        Column("runs"),
        Column("target"),
        Column("accuracy"),
        Column("at target"),
        Column("certified time"),
    ]
    rows = [
        [
            Cell(summary.recipe),
            Cell(machine_text(runs, [own[0] for own in sets])),
            Cell(str(summary.n + summary.failed), summary.n + summary.failed),
            Cell(target_percent(summary.target), summary.target),
            accuracy_cell(summary),
            reached_cell(summary),
            time_cell(summary),
        ]
        for runs, summary in zip(sets, summaries, strict=True)
    ]
    return Table(caption=caption, columns=columns, rows=rows, notes=remarks(summaries))


def recipe_section(runs: Sequence[Run], *, among: Sequence[Run] = ()) -> Section:
    """Show one run set.

    Args:
        runs: of one recipe and software on one machine, each seed once.
        among: a run of every set on the page. The heading says by what it differs from others of its name.
    """
    recipe, where = runs[0].recipe, machine_text(runs, among)
    done = [run for run in runs if run.status == "done" and run.accuracy is not None]
    blocks: list[Block] = [Text(f"{summary_line(summarise(runs))}.")]
    if done:
        blocks.append(Row([_distribution(runs, done), _phases(done)]))
        if curves := _curves(done):
            blocks.append(Row(curves))
    blocks.append(Text(f"{where}; digest {recipe.digest[:12]}."))
    several = sum(other.recipe.name == recipe.name for other in among) > 1
    title = f"{recipe.name} ({recipe.digest[:8]}, {where})" if several else recipe.name
    return Section(title=title, blocks=blocks)


def _distribution(runs: Sequence[Run], done: Sequence[Run]) -> Plot:
    """Every run's accuracy over a box of the quartiles, against the target."""
    target = runs[-1].recipe.target
    percents = [100 * run.accuracy for run in done if run.accuracy is not None]
    box = {
        "type": "box",
        "orientation": "h",
        "x": percents,
        "y": [0] * len(percents),
        "boxpoints": "all",
        "jitter": 0.5,
        "pointpos": 0,
        "hoveron": "points",
        "hoverinfo": "text",
        "hovertext": [figures.hover(f"seed {run.seed}: {percent(run.accuracy)} in {_time_text(run)}") for run in done],
        "name": "run",
        "showlegend": False,
        "line": {"color": figures.MEASURED, "width": 1.5},
        "fillcolor": "rgba(47,125,225,0.15)",
        "marker": {"color": figures.MEASURED, "size": 7, "opacity": 0.7},
    }
    layout = figures.layout(
        xaxis=figures.plain_axis("accuracy of each run", ticksuffix=" %"),
        yaxis=figures.bare_axis(range=[-0.6, 0.6]),
        shapes=[] if target is None else [figures.target_line(100 * target, vertical=True)],
    )
    entry = [] if target is None else [figures.target_entry(f"target {target_percent(target)}")]
    if target is not None:  # the line is no data, and the axis would leave it out
        low, high = min(*percents, 100 * target), max(*percents, 100 * target)
        room = max(0.08 * (high - low), 0.02)
        layout["xaxis"]["range"] = [low - room, high + room]
    columns = [Column("seed"), Column("accuracy"), Column("at target", numeric=False), Column("certified time")]
    columns += [Column("epochs"), Column("others’ cores")]
    rows = [
        [
            Cell(str(run.seed), run.seed),
            Cell(
                percent_beside(run.accuracy, target) if run.status == "done" else f"failed: {run.error}", run.accuracy
            ),
            Cell(NONE if target is None else "yes" if run.reached else "no"),
            Cell(_time_text(run), run.certified_s),
            Cell(f"{run.epochs_run:g}", run.epochs_run),
            Cell(NONE if run.contention is None else f"{run.contention:.2f}", run.contention),
        ]
        for run in runs
    ]
    low_text, high_text = percent(min(percents) / 100), percent(max(percents) / 100)
    count = "1 run" if len(done) == 1 else f"{len(done)} runs"
    return Plot(
        title="Accuracy over seeds",
        figure=figures.figure([box, *entry], layout),
        height=230,
        summary=f"Accuracies of {count}, from {low_text} to {high_text}"
        + ("." if target is None else f", against a target of {target_percent(target)}."),
        table=Table(
            caption=f"Runs of {runs[0].recipe.name}", columns=columns, rows=rows, notes=remarks([summarise(runs)])[1:]
        ),
    )


def _time_text(run: Run) -> str:
    return marked(seconds(run.certified_s), "" if run.timing_valid else "‡")


def _phases(done: Sequence[Run]) -> Plot:
    """Mean seconds of each phase in one bar; what the certified time leaves out is hatched."""
    names = list(dict.fromkeys((*PHASES, *(name for run in done for name in run.phases))))
    means = {name: mean([run.phases.get(name, 0.0) for run in done]) or 0.0 for name in names}
    total = sum(means.values())
    counted = POLICIES[CERTIFIED]

    def says(name: str) -> str:
        return "counts" if name in counted else "does not count"

    bars: list[dict[str, Any]] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": figures.literal(name),
            "x": [means[name]],
            "y": [0],
            "width": 0.7,
            "hoverinfo": "text",
            "hovertext": [figures.hover(f"{name}: {seconds(means[name])}", says(name))],
            "marker": {
                "color": PHASE_COLOURS.get(name, figures.GREY),
                "pattern": {"shape": "" if name in counted else "/"},
            },
        }
        for name in sorted(names, key=lambda name: name not in counted)
        if means[name] > 0
    ]
    layout = figures.layout(
        barmode="stack",
        xaxis=figures.plain_axis("mean seconds of a run", ticksuffix=" s"),
        yaxis=figures.bare_axis(range=[-0.6, 0.6]),
    )
    layout["legend"]["traceorder"] = "normal"
    rows = [
        [
            Cell(name),
            Cell(seconds(means[name]), means[name]),
            Cell(percent(means[name] / total if total else None, 1), means[name]),
            Cell("yes" if name in counted else "no"),
        ]
        for name in names
    ]
    columns = [Column("phase", numeric=False), Column("mean time"), Column("share"), Column("counts", numeric=False)]
    return Plot(
        title="Where the time goes",
        figure=figures.figure(bars, layout),
        height=230,
        summary="Mean time of each phase: "
        + ", ".join(f"{name} {seconds(s)}" for name, s in means.items() if s > 0)
        + ". Hatched phases do not count.",
        table=Table(caption="Mean time of each phase", columns=columns, rows=rows),
    )


def _curves(done: Sequence[Run]) -> list[Plot]:
    """Loss and accuracy by epoch, where there are at least two points to join."""
    plots = []
    losses = [[(x, y) for x, y in loss_curve(run) if math.isfinite(y)] for run in done]
    accuracies = [[(x, 100 * y) for x, y in run.accuracy_by_epoch] for run in done]
    seeds = [run.seed for run in done]
    if any(len(curve) > 1 for curve in losses):
        plots.append(_curve("Training loss", losses, seeds, "mean loss of the epoch", "{:.4f}", ""))
    if any(len(curve) > 1 for curve in accuracies):
        plots.append(_curve("Accuracy by epoch", accuracies, seeds, "test accuracy", "{:.2f} %", " %"))
    return plots


def _curve(title: str, curves: Sequence[Curve], seeds: Sequence[int], what: str, form: str, unit: str) -> Plot:
    """One thin line for each seed and a strong one for their mean."""
    x: list[float | None] = []
    y: list[float | None] = []
    texts: list[str] = []
    for seed, curve in zip(seeds, curves, strict=True):
        for epoch, value in curve:
            x.append(epoch)
            y.append(value)
            texts.append(figures.hover(f"seed {seed}, epoch {epoch:g}: {form.format(value)}"))
        x.append(None)  # lifts the pen
        y.append(None)
        texts.append("")
    average = mean_curve([curve for curve in curves if curve])
    marker = {"size": 5, "color": figures.MEASURED}
    traces = []
    if len(curves) > 1:
        line = {"width": 1, "color": figures.GREY}
        traces.append(
            figures.points(
                x,
                y,
                texts,
                mode="lines+markers",
                name="each seed",
                opacity=0.55,
                line=line,
                marker={"size": 3, "color": figures.GREY},
            )
        )
    traces.append(
        figures.points(
            [epoch for epoch, _ in average],
            [value for _, value in average],
            [figures.hover(f"mean, epoch {epoch:g}: {form.format(value)}") for epoch, value in average],
            mode="lines+markers",
            name="mean" if len(curves) > 1 else f"seed {seeds[0]}",
            line={"width": 2.5, "color": figures.MEASURED},
            marker=marker,
        )
    )
    layout = figures.layout(
        xaxis=figures.plain_axis("epochs"),
        yaxis=figures.plain_axis(what, ticksuffix=unit),
    )
    count = "1 run" if len(curves) == 1 else f"{len(curves)} runs"
    rows = [
        [
            Cell(f"{epoch:g}", epoch),
            Cell(form.format(value), value),
            Cell(str(n := sum(len(curve) > at for curve in curves)), n),
        ]
        for at, (epoch, value) in enumerate(average)
    ]
    return Plot(
        title=title,
        figure=figures.figure(traces, layout),
        height=300,
        summary=f"{title} of {count}: the mean goes from {form.format(average[0][1])} "
        f"to {form.format(average[-1][1])} in {average[-1][0]:g} epochs.",
        table=Table(
            caption=f"{title}, mean over seeds", columns=[Column("epochs"), Column(what), Column("runs")], rows=rows
        ),
    )
