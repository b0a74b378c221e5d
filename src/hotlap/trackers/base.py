"""What a tracker is told, and the figures that the adapters write."""

from __future__ import annotations

import json
from typing import Any, Protocol

from hotlap.recipe import Recipe, paths, plain
from hotlap.result import Run


class Tracker(Protocol):
    """Is told of one run after another; a method ``close``, where there is one, is called at the end."""

    def begin(self, recipe: Recipe, seed: int) -> None:
        """Begin a run."""
        ...

    def epoch(self, epochs: float, loss: float | None, accuracy: float | None) -> None:
        """Note the mean training loss and the test accuracy (0–1) after so many epochs; None where not measured."""
        ...

    def end(self, run: Run) -> None:
        """End the run that was begun last."""
        ...


def settings(recipe: Recipe, seed: int) -> dict[str, Any]:
    """The recipe by dotted path, with its digest and the seed; numbers and texts only."""
    found: dict[str, Any] = {"recipe": recipe.name, "digest": recipe.digest, "seed": seed}
    for path, value in paths(recipe).items():
        if path != "name":
            simple = plain(value)
            found[path] = simple if isinstance(simple, bool | int | float | str) else json.dumps(simple)
    return found


def figures(run: Run) -> dict[str, float]:
    """What a run ends with: accuracy, seconds by phase, epochs and steps."""
    found = {f"seconds/{phase}": float(seconds) for phase, seconds in run.phases.items()}
    found |= {"seconds/certified": run.certified_s, "epochs": run.epochs_run, "steps": float(run.steps)}
    if run.accuracy is not None:
        found["final_accuracy"] = run.accuracy
    return found


def facts(run: Run) -> dict[str, str]:
    """What a run ends with that is no number."""
    return {
        "run": run.id,
        "status": run.status,
        "device": run.device,
        "data_digest": run.data_digest,
        "timing_valid": str(run.timing_valid).lower(),
        **({"error": run.error} if run.error else {}),
    }


def measured(loss: float | None, accuracy: float | None) -> dict[str, float]:
    """The figures of an epoch that there are."""
    return {name: value for name, value in (("loss", loss), ("accuracy", accuracy)) if value is not None}
