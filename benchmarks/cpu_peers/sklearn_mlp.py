"""scikit-learn's MLPClassifier on single-precision pixels, newly shifted images in every epoch.

    python benchmarks/cpu_peers/sklearn_mlp.py --data FOLDER --seed 0

Excluded from the time: reading the files and importing. There is nothing to compile.
"""

from __future__ import annotations

import time
import warnings
from importlib.metadata import version
from typing import Any

import numpy as np
import shared
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

SETTINGS = {"hidden": (512,), "epochs": 20, "batch": 500, "lr": 0.001, "alpha": 0.0001, "shift": True}
SIZE = 26


def pixels(images: shared.Images) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32) / 255


def trained(task: shared.Task) -> MLPClassifier:
    settings: dict[str, Any] = task.settings
    rng = np.random.default_rng(task.seed)
    model = MLPClassifier(
        settings["hidden"], batch_size=min(settings["batch"], len(task.x)), learning_rate_init=settings["lr"],
        alpha=settings["alpha"], random_state=task.seed,
    )  # fmt: skip
    classes = np.unique(task.y)
    still = None if settings["shift"] else pixels(shared.middle_crops(task.x, SIZE))
    for _ in range(settings["epochs"]):
        # partial_fit makes one pass, in an order of its own; through it every pass may see other shifts.
        model.partial_fit(
            pixels(shared.shifted_crops(task.x, rng, SIZE)) if still is None else still, task.y, classes=classes
        )
    return model


def main() -> None:
    task = shared.read(__doc__, SETTINGS)
    warnings.simplefilter("ignore", ConvergenceWarning)
    start = time.perf_counter()
    model = trained(task)
    found = model.predict(pixels(shared.middle_crops(task.x_test, SIZE)))
    reached = float((found == task.y_test).mean())
    shared.report(reached, time.perf_counter() - start, {"scikit-learn": version("scikit-learn")})


if __name__ == "__main__":
    main()
