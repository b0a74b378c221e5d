"""Whether recipes train on a GPU as they do on a CPU: the losses of their first steps side by side."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpu_results import Programme
from hotlap import datasets
from hotlap.datasets import ImageData
from hotlap.engine.environment import capture
from hotlap.engine.loop import Silent, train_seeds
from hotlap.ladder import recipes
from hotlap.recipe import Recipe, paths

IMAGES, BATCH = 512, 128
"""Images of the training set, and of a batch at most: few, since a CPU has to do the same, and so few that recipes
which begin with smaller images soon see large ones. A quarter to test on."""
STEPS, JUDGED = 10, 6
"""Steps that are taken, and those of them that must agree: from the 7th on, rounding has grown too large to judge."""
TOLERANCE = {"fp32": 0.02, "fp16": 0.05, "bf16": 0.1}
"""Largest relative difference of any loss that is judged."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class _Losses(Silent):
    """An observer that keeps every loss on the device."""

    seen: list[Tensor] = field(default_factory=list)

    def step(self, done: int, loss: Tensor) -> None:
        self.seen.append(loss.detach().clone())


def comparable(recipe: Recipe, precision: str, count: int) -> Recipe:
    """Return a recipe's first steps without what draws on the device: augmentation and dropout.

    Args:
        recipe: whose.
        precision: to compute in.
        count: images of its training set.
    """
    changes: dict[str, Any] = {"augment": (), "mixing": None, "stop_at": None, "engine.precision": precision}
    changes |= {path: 0.0 for path in paths(recipe) if path.endswith("dropout")}
    changes["batch_size"] = batch = min(recipe.batch_size, BATCH)
    changes["epochs"] = STEPS / (count // batch if recipe.feed.drop_last else -(-count // batch))
    return recipe.with_changes(changes | {"evaluation.augmentation": None})


def reference(recipe: Recipe, count: int) -> Recipe:
    """Return what ``comparable`` is held against: PyTorch's own operations, one by one, in float32."""
    plain = {"engine.compile": False, "engine.winograd": False, "engine.fused": False}
    return comparable(recipe, "fp32", count).with_changes(plain)


def images_of(recipe: Recipe) -> ImageData:
    """Load the first images of a recipe's data set."""
    data = datasets.load(recipe.data.name, **recipe.data.options)
    train, test = slice(IMAGES), slice(IMAGES // 4)
    return replace(
        data, x_train=data.x_train[train], y_train=data.y_train[train], x_test=data.x_test[test],
        y_test=data.y_test[test], digest=f"{data.digest} first {IMAGES}",
    )  # fmt: skip


def losses_of(short: Recipe, data: ImageData, device: torch.device) -> list[float]:
    """Train a recipe with PyTorch on a device and return its losses."""
    watch = _Losses()
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = short.engine.precision != "fp32"
    try:
        train_seeds(short, lambda: data, (0,), device=device, observer=watch, timing_valid=False, backend="torch")
    finally:
        torch.backends.cudnn.allow_tf32 = before
    return [float(loss) for loss in watch.seen]


class References:
    """Losses on a CPU, by what was trained on which images: those of a file, and others when they are asked for.

    Args:
        path: lines of JSON; those that are computed are appended. None keeps none.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[tuple[str, str], list[float]] = {}
        for text in path.read_text().splitlines() if path is not None and path.exists() else []:
            try:
                line = json.loads(text)
            except ValueError:
                continue  # an interruption cut it off
            self._known[line["digest"], line["data"]] = [float(loss) for loss in line["losses"]]

    def of(self, recipe: Recipe, data: ImageData) -> list[float]:
        short = reference(recipe, len(data.x_train))
        key = short.digest, data.digest
        if key not in self._known:
            self._known[key] = losses_of(short, data, CPU)
            if self._path is not None:
                line = {"recipe": recipe.name, "digest": key[0], "data": key[1], "torch": torch.__version__}
                line["commit"] = capture(CPU).commit or ""
                cut_off = self._path.exists() and not self._path.read_bytes().endswith(b"\n")
                with self._path.open("a") as file:
                    file.write("\n" * cut_off + json.dumps(line | {"losses": self._known[key]}) + "\n")
        return self._known[key]


def references(to: Programme, known: References) -> None:
    """(a, beforehand) Losses on the CPU, so that no GPU waits for them."""
    for name in to.todo("references", sorted(recipes())):
        with to.trying("references", name):
            recipe = to.recipe(name)
            losses = known.of(recipe, images_of(recipe))
            print(f"{name}: {losses[0]:.4f} to {losses[-1]:.4f} in {len(losses)} steps", flush=True)


def correctness(to: Programme, known: References) -> None:
    """(a) Losses on the device against losses on the CPU, for every recipe.

    Without what is left out here, some recipes are one and the same, and trained once.
    """
    for name in to.todo("correctness", sorted(recipes())):
        with to.trying("correctness", name):
            recipe = to.recipe(name)
            data = images_of(recipe)
            own = recipe.engine.precision if recipe.engine.precision in ("fp16", "bf16") else None
            digest = comparable(recipe, own or "fp32", len(data.x_train)).digest
            if same := [line for line in to.lines("correctness") if line.get("digest") == digest]:
                to.write("correctness", **same[0] | {"recipe": name, "same_as": same[0]["recipe"]})
                continue
            expected = known.of(recipe, data)
            result: dict[str, Any] = {}
            for precision in ("fp32", *([own] if own else [])):
                found = losses_of(comparable(recipe, precision, len(data.x_train)), data, to.device)
                apart = [abs(f - e) / abs(e) for f, e in zip(found, expected, strict=True)]
                worst = max(apart[:JUDGED])
                result |= {precision: worst, f"{precision}_agrees": worst < TOLERANCE[precision]}
                result[f"{precision}_later"] = apart[JUDGED:]
            to.write(
                "correctness", recipe=name, digest=digest, steps=len(expected), judged=JUDGED, **result, cpu=expected
            )
