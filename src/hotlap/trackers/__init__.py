"""Experiment trackers: finished runs written to TensorBoard, MLflow, Weights & Biases, or anything with three methods.

Runs are written after they have ended, from what they hold, so a tracker costs a training nothing.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import isfinite

from hotlap.errors import unknown_name
from hotlap.result import Run
from hotlap.trackers.base import Tracker

__all__ = ["KNOWN", "Tracker", "log_run", "opened", "tracker"]

KNOWN = ("tensorboard", "mlflow", "wandb")
"""Names that ``tracker`` takes; each is a module of this package and an extra of that name."""


def tracker(text: str) -> Tracker:
    """Make a tracker from ``name`` or ``name:folder``, as ``--track`` takes it.

    Raises:
        InputError: an unknown name, or the library is not installed.
    """
    name, _, folder = text.partition(":")
    if name not in KNOWN:
        raise unknown_name("tracker", name, KNOWN)
    made: Tracker = importlib.import_module(f"hotlap.trackers._{name}").make(folder or None)
    return made


def _warn(problem: str) -> None:
    warnings.warn(problem, RuntimeWarning, stacklevel=3)


@contextmanager
def opened(texts: Iterable[str], complain: Callable[[str], None] = _warn) -> Iterator[list[Tracker]]:
    """Lend the trackers of some ``name:folder`` texts and close them afterwards.

    Args:
        texts: as ``tracker`` takes them.
        complain: told of each tracker that cannot be closed, in a line; the others are closed all the same.

    Raises:
        InputError: as for ``tracker``.
    """
    made: list[Tracker] = []
    try:
        made.extend(map(tracker, texts))
        yield made
    finally:
        for one in made:
            close = getattr(one, "close", None)
            if callable(close):
                try:
                    close()
                except Exception as error:  # each library has its own kinds
                    complain(f"{type(one).__name__} could not be closed: {' '.join(str(error).split())}")


def log_run(run: Run, trackers: Sequence[Tracker]) -> list[str]:
    """Write a finished run to each tracker.

    A tracker that fails, because a server is away or a disk full, costs neither the run nor the other trackers.

    Returns:
        A line for each tracker that failed.
    """
    problems = []
    for one in trackers:
        try:
            one.begin(run.recipe, run.seed)
            for epochs, loss, accuracy in _epochs(run):
                one.epoch(epochs, loss, accuracy)
            one.end(run)
        except Exception as error:  # each library has its own kinds
            problems.append(f"{type(one).__name__} could not log seed {run.seed}: {' '.join(str(error).split())}")
    return problems


def _epochs(run: Run) -> Iterator[tuple[float, float | None, float | None]]:
    """(epochs passed, mean training loss, test accuracy) in order; None where it was not measured or no number."""
    # The last epoch may be a part of one.
    losses = {min(float(at), run.epochs_run): loss for at, loss in enumerate(run.loss_by_epoch, start=1)}
    measured = dict(run.accuracy_by_epoch)
    for epochs in sorted(losses.keys() | measured.keys()):
        loss = losses.get(epochs)
        yield epochs, loss if loss is not None and isfinite(loss) else None, measured.get(epochs)
