"""The plots of a report as picture files: ladders, and how their rungs and other recipes learn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hotlap.errors import InputError
from hotlap.report.curves import plot_curves
from hotlap.report.html.selection import Selection, ladder_views, run_sets
from hotlap.report.ladder_table import LadderRow
from hotlap.report.plots import plot_ladder
from hotlap.result import Run
from hotlap.stats.summary import summarise


def write_plots(selection: Selection, folder: Path, kind: str) -> list[Path]:
    """Write the plots of ladders and of learning curves.

    Args:
        selection: the runs.
        folder: made when missing; files of the same names are replaced.
        kind: ``png`` or ``svg``.

    Returns:
        The files written: ``NAME.KIND`` and ``NAME-curves.KIND``, numbered from 2 on where a name comes again.

    Raises:
        InputError: matplotlib is not installed, there is nothing to plot, or a file cannot be written.
    """
    taken: set[str] = set()
    written: list[Path] = []
    plotted: set[str] = set()
    for view in ladder_views(selection):
        measured = [row for row in view.rows if row.summary is not None]
        stem = _stem(view.ladder.name, taken)
        written += plot_ladder(view.rows, folder / stem, title=view.title, kinds=(kind,))
        if _has_curves(view.runs):
            written += plot_curves(measured, view.runs, folder / f"{stem}-curves", title=view.title, kinds=(kind,))
        plotted |= {run.id for run in view.runs}
    for runs in run_sets([run for run in selection.runs if run.id not in plotted]):
        if _has_curves(runs):
            name = runs[0].recipe.name
            stem = _stem(name, taken)
            written += plot_curves([_row(runs)], runs, folder / f"{stem}-curves", title=name, kinds=(kind,))
    if not written:
        raise InputError("there is no ladder and no learning curve to plot", "leave out --format: hotlap report")
    return written


def _has_curves(runs: Sequence[Run]) -> bool:
    done = [run for run in runs if run.status == "done"]
    return any(max(len(run.loss_by_epoch), len(run.accuracy_by_epoch)) > 1 for run in done)


def _stem(name: str, taken: set[str]) -> str:
    """A file's name that says what it shows; nothing in a recipe's name can lead out of the folder."""
    base = re.sub(r"[^\w.+-]+", "-", name).strip("-.")[:80] or "recipe"
    stem, number = base, 2
    while stem in taken:
        stem, number = f"{base}-{number}", number + 1
    taken.add(stem)
    return stem


def _row(runs: Sequence[Run]) -> LadderRow:
    """A recipe that belongs to no ladder, as a row of one."""
    name = runs[0].recipe.name
    return LadderRow(
        index=0,
        name=name.rpartition("/")[2],
        title=name,
        published_s=None,
        published_text="",
        published_accuracy=None,
        summary=summarise(runs),
        running=None,
    )
