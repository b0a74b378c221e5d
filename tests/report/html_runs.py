"""Runs of two rungs of a ladder and of a recipe with a malicious name, for the tests of the HTML report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from factories import make_recipe, make_run
from hotlap.ladder import get_recipe
from hotlap.result import Run

HOSTILE = "own/<img src=x onerror=\"document.title='broken'\"></script>%{x}"


def of(name: str, seed: int, accuracy: float | None, certified_s: float, minute: int, **changes: Any) -> Run:
    """A run of a published recipe, made at a given minute; two epochs."""
    recipe = changes.pop("recipe", None) or get_recipe(name)
    run = make_run(seed=seed, accuracy=accuracy, certified_s=certified_s, recipe=recipe)
    curve = ((1.0, accuracy - 0.01), (2.0, accuracy)) if accuracy is not None else ()
    started = f"2026-03-01T{minute // 60:02d}:{minute % 60:02d}:00+00:00"
    return replace(
        run, epochs_run=2.0, loss_by_epoch=(0.5, 0.25), accuracy_by_epoch=curve, started_at=started, **changes
    )


def two_rungs(seeds: int = 6) -> list[Run]:
    """Rungs 7 and 8 of the MNIST ladder in turn, seed by seed."""
    runs = []
    for seed in range(seeds):
        slow = of("mnist/7-narrower", seed, 0.9900 + 0.0001 * (seed % 3), 30.0 + seed, 4 * seed)
        fast = of("mnist/8-final", seed, 0.9908 + 0.0001 * (seed % 4), 15.0 + seed / 10, 4 * seed + 1)
        runs += [slow, fast] if seed % 2 == 0 else [replace(fast, started_at=slow.started_at), _later(slow)]
    return runs


def _later(run: Run) -> Run:
    return replace(run, started_at=run.started_at[:-7] + "30+00:00")


def hostile_runs() -> list[Run]:
    """Two runs on a shared machine, one failed; the recipe stops on test accuracy and its name is an attack."""
    recipe = make_recipe(HOSTILE, stop_at=0.99)
    good = of("", 0, 0.992, 9.0, 600, recipe=recipe, timing_valid=False)
    return [good, of("", 1, None, 5.0, 601, recipe=recipe, error="<b>nan</b>", timing_valid=False)]


def predictions(n: int = 40, classes: int = 4, seed: int = 0) -> tuple[Any, Any, Any]:
    """Probabilities, labels and pictures of 6 × 5 pixels; image 0 is confidently wrong and image 1 undecided."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    probabilities = np.full((n, classes), 0.1 / (classes - 1))
    probabilities[np.arange(n), labels] = 0.9
    probabilities[0] = 0.01 / (classes - 1)
    probabilities[0, 1] = 0.99
    probabilities[1] = 1 / classes
    return probabilities, labels, rng.integers(0, 256, (n, 6, 5), np.uint8)
