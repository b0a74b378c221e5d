"""Plots of a ladder as PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotlap._files import replacing
from hotlap.errors import InputError
from hotlap.report.formats import percent_with_interval, seconds, target_percent
from hotlap.report.ladder_table import LadderRow
from hotlap.report.tables import NOT_TIMED, RANGES, STOPS_ON_TEST, is_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEASURED = "#0b5cad"
PUBLISHED = "#8a5a00"
TARGET = "#b3261e"
GREY = "#5f6368"

ROW_IN = 0.36
"""Height of a rung, in inches."""

PANEL_IN = 3.4
"""Width of each panel, in inches."""

DPI = 160

_HOLLOW: dict[str, Any] = {
    "marker": "D",
    "markersize": 7.5,
    "markerfacecolor": "none",
    "markeredgecolor": PUBLISHED,
    "markeredgewidth": 1.4,
    "linestyle": "none",
}


KINDS = ("png", "svg")
"""Sorts of files that a plot is written as, and the endings of their names."""


def need_plots(what: str = "a plot") -> None:
    """Make sure that plots can be drawn: asked before hours of training that a plot is to end.

    Nothing is imported, so that asking costs nothing.

    Raises:
        InputError: matplotlib is not installed; it begins with ``what``.
    """
    if find_spec("matplotlib") is None:
        raise InputError(f"{what} needs matplotlib", "pip install 'hotlap[plot]'")


def plot_ladder(rows: Sequence[LadderRow], path_stem: Path, *, title: str, kinds: Sequence[str] = KINDS) -> list[Path]:
    """Plot a ladder's certified times (log scale) and accuracies, with 95 % intervals, beside the published figures.

    Args:
        rows: rungs in order; those without figures keep their line.
        path_stem: where to write; ``.png`` and ``.svg`` are appended. Each file is replaced whole.
        title: heading.
        kinds: which of the two to write.

    Returns:
        The files written.

    Raises:
        InputError: matplotlib is not installed, there are no rows, or the files cannot be written.
    """
    if not rows:
        raise InputError("a ladder without rungs cannot be plotted")
    need_plots()
    import matplotlib as mpl

    # Fixed ids and no date: plotting the same figures again gives the same file.
    with mpl.rc_context({"svg.hashsalt": "hotlap", "font.size": 10, "axes.spines.top": False}):
        figure = _figure(rows, title)
        return [save_figure(figure, path_stem.with_name(f"{path_stem.name}.{kind}"), kind) for kind in kinds]


def save_figure(figure: Figure, path: Path, kind: str) -> Path:
    """Write a figure as ``png`` or ``svg``, under another name first, so that no half-written file is ever seen.

    Raises:
        InputError: the file cannot be written.
    """
    metadata = {"Date": None} if kind == "svg" else None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=DPI, bbox_inches="tight", pad_inches=0.15, metadata=metadata)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}", "choose another path") from None
    return path


def _figure(rows: Sequence[LadderRow], title: str) -> Figure:
    """Two panels over one axis of rungs, with the measured figures written out beside each."""
    from matplotlib.figure import Figure

    height = ROW_IN * len(rows)
    gap, above, below = 1.05, 0.85, 0.95  # inches between, above and below the panels
    width = 2 * (PANEL_IN + gap)
    total = height + above + below
    figure = Figure(figsize=(width, total), facecolor="white")
    bottom, share = below / total, height / total
    times = figure.add_axes((0, bottom, PANEL_IN / width, share))
    accuracies = figure.add_axes(((PANEL_IN + gap) / width, bottom, PANEL_IN / width, share), sharey=times)
    for axes in (times, accuracies):
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.spines["right"].set_visible(False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="#e4e6e9", linewidth=0.8)
        axes.set_axisbelow(True)
        for position in range(0, len(rows), 2):
            axes.axhspan(position - 0.5, position + 0.5, color="#f6f7f9", zorder=0, linewidth=0)
    times.set_yticks(range(len(rows)), [_label(row) for row in rows])
    _align_left(figure, times)
    accuracies.tick_params(axis="y", labelleft=False)
    _plot_times(times, rows)
    _plot_accuracies(accuracies, rows)
    times.annotate(
        title, (0, 1), xytext=(0, 30), xycoords="axes fraction", textcoords="offset points", fontsize=13, weight="bold"
    )
    _legend(figure, times, rows, total)
    return figure


def _label(row: LadderRow) -> str:
    """The rung's name, led by its number unless it says so itself."""
    return row.name if row.name.startswith(str(row.index)) else f"{row.index}  {row.name}"


def _align_left(figure: Figure, axes: Axes) -> None:
    """Let the rungs' names begin at one line, the longest ending at the axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    renderer = canvas.get_renderer()
    labels = axes.get_yticklabels()
    points = max(label.get_window_extent(renderer).width for label in labels) * 72 / figure.dpi
    axes.tick_params(axis="y", pad=points + 8)
    for label in labels:
        label.set_horizontalalignment("left")


def _plot_times(axes: Axes, rows: Sequence[LadderRow]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    shown: list[float] = []
    for position, row in enumerate(rows):
        if row.published_s is not None:
            shown.append(row.published_s)
            _published(axes, row.published_s, position)
        summary = row.summary
        if summary is None or not summary.certified_s_median:
            continue
        low, high = summary.certified_s_ci95 or (summary.certified_s_median,) * 2
        shown += [low, summary.certified_s_median, high]
        _measured(axes, summary.certified_s_median, (low, high), position)
        _write(axes, seconds(summary.certified_s_median) + ("" if summary.timing_valid else " ‡"), position)
    axes.set_xscale("log")
    low, high = (min(shown) / 1.35, max(shown) * 1.35) if shown else (1, 100)
    axes.set_xlim(low, high)
    decades = math.log10(high / low)
    subs = (1.0, 3.0) if decades > 1.3 else (1.0, 2.0, 5.0) if decades > 0.8 else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=subs))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} s"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    _head(axes, "certified time (median, log scale)", any(row.summary is not None for row in rows))


def _plot_accuracies(axes: Axes, rows: Sequence[LadderRow]) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    shown: list[float] = []
    for position, row in enumerate(rows):
        if row.published_accuracy is not None:
            shown.append(row.published_accuracy)
            _published(axes, row.published_accuracy, position)
        summary = row.summary
        if summary is None or summary.accuracy_mean is None:
            continue
        low, high = summary.accuracy_ci95 or (summary.accuracy_mean,) * 2
        shown += [low, summary.accuracy_mean, high]
        _measured(axes, summary.accuracy_mean, (low, high), position)
        text = percent_with_interval(summary.accuracy_mean, summary.accuracy_ci95)
        _write(axes, text + (" †" if summary.stops_on_test else ""), position)
    targets = dict.fromkeys(row.summary.target for row in rows if row.summary and row.summary.target is not None)
    for target in targets:
        shown.append(target)
        axes.axvline(target, color=TARGET, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    margin = max((high - low) * 0.08, 0.0002)
    axes.set_xlim(low - margin, high + margin)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.6g} %"))
    _head(axes, "accuracy (mean, 95 % interval)", any(row.summary is not None for row in rows))


def _measured(axes: Axes, centre: float, bounds: tuple[float, float], position: int) -> None:
    axes.plot(bounds, (position, position), color=MEASURED, linewidth=2.2, solid_capstyle="butt", zorder=3)
    axes.plot([centre], [position], marker="o", markersize=5.5, color=MEASURED, linestyle="none", zorder=4)


def _published(axes: Axes, value: float, position: int) -> None:
    # Hollow, larger and on top, so that a measured point at the same place shows inside it.
    axes.plot([value], [position], zorder=5, **_HOLLOW)


def _write(axes: Axes, text: str, position: int) -> None:
    """Write a measured figure to the right of the panel, where no marker can run into it."""
    axes.text(
        1.02, position, text, transform=axes.get_yaxis_transform(), va="center_baseline", fontsize=9, color=MEASURED
    )


def _head(axes: Axes, text: str, measured: bool) -> None:
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
    axes.annotate(text, (0, 1), xytext=(0, 7), color="#202124", **place)
    if measured:
        axes.annotate("measured", (1.02, 1), xytext=(0, 7), color=MEASURED, fontsize=9, **place)


def _legend(figure: Figure, axes: Axes, rows: Sequence[LadderRow], total: float) -> None:
    """Below the panels: what the markers are, and the marks that occur."""
    from matplotlib.lines import Line2D

    summaries = [row.summary for row in rows if row.summary is not None]
    handles = [
        Line2D([], [], color=MEASURED, marker="o", markersize=5.5, linewidth=2.2, label="measured, 95 % interval"),
        Line2D([], [], label="published", **_HOLLOW),
    ]
    if targets := list(dict.fromkeys(s.target for s in summaries if s.target is not None)):
        named = ", ".join(map(target_percent, targets))
        handles.append(Line2D([], [], color=TARGET, linewidth=1.2, linestyle=(0, (5, 3)), label=f"target {named}"))
    axes.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 0.52 / total),
        bbox_transform=figure.transFigure,
        ncols=3,
        frameon=False,
        borderaxespad=0,
        borderpad=0,
        handletextpad=0.6,
    )
    notes = []
    if any(is_range(summary) for summary in summaries):
        notes.append(RANGES)
    if any(summary.stops_on_test for summary in summaries):
        notes.append(f"† {STOPS_ON_TEST}")
    if not all(summary.timing_valid for summary in summaries):
        notes.append(f"‡ {NOT_TIMED}")
    figure.text(0, 0.1 / total, "    ".join(notes), fontsize=9, color=GREY, va="center")
