"""How rungs learn, epoch by epoch: the table and plot of ladders that were measured with a change, e.g. cut short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from statistics import fmean
from typing import Any

from hotlap.errors import InputError
from hotlap.report.formats import NONE, percent, seconds
from hotlap.report.ladder_table import LadderRow
from hotlap.report.plots import KINDS, need_plots, save_figure
from hotlap.result import Run


def changes_text(changes: Mapping[str, Any]) -> str:
    """Write changes as the options that make them, in order of their paths, e.g. ``--set epochs=2``."""
    from json import dumps

    return " ".join(
        f"--set {path}={v if isinstance(v, str) else dumps(v, sort_keys=True)}" for path, v in sorted(changes.items())
    )


def curves_markdown(rows: Sequence[LadderRow], runs: Sequence[Run]) -> list[str]:
    """Write the rungs that have runs as the lines of a Markdown table.

    Args:
        rows: the ladder's rungs.
        runs: their runs, known by the name of their recipe, which ends with the rung's.
    """
    lines = [
        "| rung | change | seeds | precision | training loss after each epoch | accuracy after each epoch "
        "| certified time |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        own = _of(row, runs)
        if not own:
            continue
        losses = " → ".join(f"{value:.3f}" for _, value in mean_curve([loss_curve(run) for run in own]))
        accuracies = " → ".join(percent(value) for _, value in mean_curve([run.accuracy_by_epoch for run in own]))
        time = seconds(row.summary.certified_s_median) if row.summary else NONE
        mark = "" if row.summary is None or row.summary.timing_valid else " ‡"
        precisions = ", ".join(sorted({run.precision for run in own}))
        lines.append(
            f"| {row.name} | {row.title} | {len(own)} | {precisions} | {losses} | {accuracies} | {time}{mark} |"
        )
    lines += [
        "",
        "Means over seeds; the last accuracy is the final one, with test-time augmentation where there is any.",
    ]
    choosing = [row.name for row in rows if any(run.recipe.selection is not None for run in _of(row, runs))]
    if choosing:
        lines.append(f"Losses of {', '.join(choosing)} count images that were not chosen as 0.")
    if any(row.summary is not None and not row.summary.timing_valid for row in rows):
        lines.append("‡ Other work shared the machine during at least one run: accuracy counts, times do not.")
    return lines


def plot_curves(
    rows: Sequence[LadderRow], runs: Sequence[Run], path_stem: Path, *, title: str, kinds: Sequence[str] = KINDS
) -> list[Path]:
    """Plot mean training loss and test accuracy of each rung after each epoch, with a thin line for each seed.

    Args:
        rows: the ladder's rungs.
        runs: as for ``curves_markdown``.
        path_stem: where to write; ``.png`` and ``.svg`` are appended. Each file is replaced whole.
        title: heading.
        kinds: which of the two to write.

    Returns:
        The files written.

    Raises:
        InputError: matplotlib is not installed, there is nothing to plot, or the files cannot be written.
    """
    shown = [row for row in rows if _of(row, runs)]
    if not shown:
        raise InputError("there are no runs to plot")
    need_plots()
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "hotlap", "font.size": 10, "axes.spines.top": False}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 4.6), facecolor="white", layout="constrained")
        figure.suptitle(title, fontsize=13, weight="bold", x=0.01, ha="left")
        losses, accuracies = figure.subplots(1, 2)
        colours = mpl.colormaps["turbo"].resampled(len(shown) + 1)
        for position, row in enumerate(shown):
            own, colour = _of(row, runs), colours(position)
            _draw(losses, [loss_curve(run) for run in own], colour, row.name, 1.0)
            _draw(accuracies, [run.accuracy_by_epoch for run in own], colour, row.name, 100.0)
        for axes, label in ((losses, "training loss"), (accuracies, "test accuracy, %")):
            axes.set_xlabel("epochs")
            axes.set_ylabel(label)
            axes.spines["right"].set_visible(False)
            axes.grid(color="#e4e6e9", linewidth=0.8)
            axes.set_axisbelow(True)
        handles, labels = accuracies.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=9)
        return [save_figure(figure, path_stem.with_name(f"{path_stem.name}.{kind}"), kind) for kind in kinds]


def _of(row: LadderRow, runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.status == "done" and run.recipe.name.rpartition("/")[2] == row.name]


def loss_curve(run: Run) -> list[tuple[float, float]]:
    """The mean loss of each epoch, at its end; the last may be a part of one."""
    return [(min(k + 1.0, run.epochs_run), loss) for k, loss in enumerate(run.loss_by_epoch)]


def mean_curve(curves: Sequence[Sequence[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Average curves point by point, the first with the first of the others; each mean is over those that reach it."""
    points = zip_longest(*curves)
    present = [[point for point in at if point is not None] for at in points]
    return [(at[0][0], fmean(value for _, value in at)) for at in present]


def _draw(axes: Any, curves: Sequence[Sequence[tuple[float, float]]], colour: Any, label: str, scale: float) -> None:
    for curve in curves:
        axes.plot([x for x, _ in curve], [scale * y for _, y in curve], color=colour, linewidth=0.6, alpha=0.45)
    average = mean_curve(curves)
    axes.plot(
        [x for x, _ in average], [scale * y for _, y in average],
        color=colour, linewidth=1.8, marker="o", markersize=4, label=label,
    )  # fmt: skip
