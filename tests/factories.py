"""Recipes and runs for tests, with every value given or fixed."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from hotlap.recipe import Evaluation, Feed, Recipe, part
from hotlap.result import Environment, Run

_BASE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_recipe(name: str = "mnist/tiny", **changes: Any) -> Recipe:
    """Build a small complete recipe; ``changes`` replace whole fields."""
    fields: dict[str, Any] = {
        "name": name,
        "data": part("mnist"),
        "feed": Feed(loading="device", shuffle="every-epoch", drop_last=False, mean=(0.1307,), std=(0.3081,)),
        "augment": (part("translate", max_px=2), part("cutout", size=3)),
        "model": part("cnn", widths=(24, 32), kernels=(5, 3), hidden=256),
        "optimizer": part("adam", lr=0.01, betas=(0.7, 0.9), eps=1e-8, nesterov=False),
        "schedule": part("one_cycle", shape="cos", peak_at=0.3),
        "batch_size": 256,
        "epochs": 1,
        "evaluation": Evaluation(batch_size=2000, augmentation=part("mirror", views=2)),
        "target": 0.99,
    }
    return Recipe(**{**fields, **changes})


def make_environment(**changes: Any) -> Environment:
    """Build an environment of two threads on a processor that nobody sells."""
    fields: dict[str, Any] = {
        "hotlap": "0.1.0",
        "python": "3.11.9",
        "torch": "2.13.0",
        "platform": "Linux",
        "cpu": "Example CPU",
        "cores": 4,
        "threads": 2,
        "memory_gb": 8.0,
        "load_average": 0.25,
    }
    return Environment(**{**fields, **changes})


def make_run(
    *,
    seed: int = 0,
    accuracy: float | None = 0.991,
    certified_s: float = 15.0,
    recipe: Recipe | None = None,
    threads: int = 2,
    **changes: Any,
) -> Run:
    """Build a run whose certified time is ``certified_s``; started ``seed`` minutes after a fixed moment.

    ``accuracy=None`` makes a failed run.
    """
    failed = accuracy is None
    fields: dict[str, Any] = {
        "recipe": recipe or make_recipe(),
        "seed": seed,
        "status": "failed" if failed else "done",
        "accuracy": accuracy,
        "epochs_run": 1.0,
        "steps": 235,
        "phases": {
            "load": 0.5,
            "warmup": 2.0,
            "prepare": certified_s / 8,
            "train": certified_s / 2,
            "evaluate": certified_s * 3 / 8,
            "log": 0.25,
        },
        "device": "cpu",
        "backend": "eager",
        "environment": make_environment(threads=threads),
        "timing_valid": True,
        "data_digest": "d" * 64,
        "accuracy_by_epoch": () if failed else ((1.0, accuracy),),
        "loss_by_epoch": (0.125,),
        "error": "the loss became nan at step 17" if failed else None,
        "started_at": (_BASE + timedelta(minutes=seed)).isoformat(timespec="seconds"),
        "id": uuid.uuid4().hex,
    }
    return Run(**{**fields, **changes})


def make_runs(
    n: int, *, mean: float = 0.9904, std: float = 0.0008, certified_s: float = 15.2, **fixed: Any
) -> list[Run]:
    """Build n runs with seeded random accuracies (whole test images of 10,000) and times."""
    random_numbers = random.Random(1)
    runs = []
    for seed in range(n):
        accuracy = round(random_numbers.gauss(mean, std), 4)
        runs.append(
            make_run(seed=seed, accuracy=accuracy, certified_s=certified_s * random_numbers.gauss(1, 0.03), **fixed)
        )
    return runs
