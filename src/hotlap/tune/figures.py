"""Optuna's own plots of a study, as SVG files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hotlap._files import replacing
from hotlap.report.plots import need_plots
from hotlap.tune.storage import open_study


@contextmanager
def _no_windows() -> Iterator[None]:
    """Draw into memory: Optuna's plots are made with pyplot, which may open windows where there is a screen."""
    import matplotlib.pyplot as plt

    backend = plt.get_backend()
    plt.switch_backend("agg")
    try:
        yield
    finally:
        plt.switch_backend(backend)


def write_figures(storage: Path, name: str, folder: Path) -> list[Path]:
    """Plot a study's history, each parameter's values and, from two finished trials on, how much each mattered.

    Args:
        storage: SQLite file of studies.
        name: of the study.
        folder: made when missing; files of the same names are replaced.

    Returns:
        The files written.

    Raises:
        InputError: matplotlib is not installed, or there is no such study.
        OSError: the folder cannot be written.
    """
    need_plots()
    import matplotlib.pyplot as plt
    from optuna.exceptions import ExperimentalWarning
    from optuna.visualization import matplotlib as plots

    folder.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, Callable[..., Any]] = {
        "history": plots.plot_optimization_history,
        "slice": plots.plot_slice,
        "importances": plots.plot_param_importances,
    }
    written = []
    with open_study(storage, name) as study, warnings.catch_warnings(), plt.rc_context(), _no_windows():
        warnings.simplefilter("ignore", ExperimentalWarning)
        for kind, plot in kinds.items():
            try:
                axes = plot(study, target_name="validation accuracy")
            except (ImportError, ValueError, RuntimeError):
                continue  # importances need several trials that differ
            figure = axes.figure if hasattr(axes, "figure") else axes.flat[0].figure
            path = folder / f"{kind}.svg"
            with replacing(path) as temporary:
                figure.savefig(temporary, format="svg", bbox_inches="tight")
            plt.close(figure)
            written.append(path)
    return written
