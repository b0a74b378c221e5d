"""The user's own images without a recipe: look at them, choose a recipe, and adapt what must be adapted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from hotlap import datasets
from hotlap.bench.own_data import data_component, options_written
from hotlap.bench.session import resolve_recipe
from hotlap.datasets import Inspection
from hotlap.datasets.base import Progress
from hotlap.datasets.own import check_numbers
from hotlap.engine.network import least_side
from hotlap.ladder import get_recipe
from hotlap.ladders import DEFAULTS
from hotlap.recipe import Component, Recipe, part, paths

SMALL_GREY = "mnist/8-final"
"""Whose recipe is taken for grey images of at most ``_SMALL`` pixels a side."""

OTHER = "cifar10-airbench/94-muon"
"""Whose recipe is taken for all others."""

_SMALL = 32
_LARGEST = 128  # images of one size are used as they are up to this side
_SIDES = (16, 32, 64)  # what images of several sizes, or larger ones, are cut and shrunk to
_WHITENING = ("optimizer.whitening_epochs", "optimizer.whitening_schedule.epochs")
_LEAST_BATCH, _BATCHES = 16, 8  # a set of fewer than so many batches is trained on in smaller ones


@dataclass(frozen=True, slots=True)
class Choice:
    """A recipe for the user's images.

    Attributes:
        recipe: complete, with the data set and everything that was adapted to it.
        inspection: what the images are like.
        remarks: what was chosen and why.
    """

    recipe: Recipe
    inspection: Inspection
    remarks: tuple[str, ...]

    def lines(self) -> tuple[str, ...]:
        """What was found, then what was chosen."""
        return (*self.inspection.lines(), *self.remarks)


def choose(
    data: str | Path,
    *,
    changes: Mapping[str, Any] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Choice:
    """Choose a recipe for a data set and adapt it.

    Grey images of up to 32 pixels a side take the recipe for MNIST, all others that for CIFAR-10. Where there are fewer
    than 8 batches in an epoch, batches become smaller; epochs are added until there are as many optimizer steps as the
    recipe takes on its own data set. Mean and spread come from the training images.

    Args:
        data: a known name, a folder of images, a saved Hugging Face set, or an ``.npz`` file.
        changes: dotted path → value, as ``Recipe.with_changes`` takes them; what they set is left as they say.
        device: where it is to be trained; a known data set may have another recipe for a GPU.
        progress: told about reading.

    Raises:
        InputError: there is no such data set or device, or no recipe takes images so small.
        DataError: the images cannot be read.
    """
    changes = dict(changes or {})
    named = Path(data).stem
    of_data = {path: value for path, value in changes.items() if path == "data" or path.startswith("data.")}
    component = get_recipe(OTHER).with_changes({"data": data_component(data), **of_data}).data
    with options_written("--set data.KEY=VALUE"):
        component = _sized(component, of_data, progress)
        inspection = datasets.inspect(component.name, progress=progress, **component.options)
    known, why = _recipe_for(component.name, inspection)
    base = resolve_recipe(known, device=device)
    adapted: dict[str, Any] = {}
    remarks = [
        f"recipe: {base.name}, {why}; another: hotlap train RECIPE --data {data}{_written(component, data, inspection)}"
    ]
    if component.name != base.data.name:
        # Another data set has another mean and spread: they are taken from its training images.
        adapted = {"data": component, "feed.mean": None, "feed.std": None, "target": None}
        fewer = _batches(base, inspection.train, changes)
        if fewer:
            remarks.append(_adapted(base, fewer))
        adapted |= fewer | _whitening(base, fewer.get("epochs", base.epochs), changes)
        if _mirrors(base) and not {"augment", "evaluation.augmentation"} & changes.keys():
            remarks.append(
                "images are mirrored at random and in evaluation; where left and right differ (text, digits): "
                "--set augment=[] --set evaluation.augmentation=null"
            )
        base = base.with_changes(adapted, name=f"{base.name} on {named}")
    recipe = resolve_recipe(base, changes=changes)
    pixels = (inspection.train + inspection.test) * inspection.channels * math.prod(inspection.size)
    check_numbers(pixels)
    return Choice(recipe, inspection, tuple(remarks))


def _sized(component: Component, given: Mapping[str, Any], progress: Progress | None) -> Component:
    """Give images of several sizes, or large ones, one size that small networks take; pass over damaged files."""
    if component.name not in ("folder", "huggingface"):
        return component
    options = dict(component.options)
    if "data.unreadable" not in given:
        options["unreadable"] = "skip"
    if not {"data.size", "data.resize"} & given.keys():
        seen = datasets.look(component.name, progress=progress, **options)
        side = _side(seen.sizes) if seen is not None and seen.sizes else None
        if side is not None:
            options |= {"size": side, "resize": "crop"}
    return part(component.name, **options)


def _side(sizes: tuple[tuple[tuple[int, int], int], ...]) -> int | None:
    """The side of the squares to cut images to; None where all have one size that is small enough."""
    if len(sizes) == 1 and max(sizes[0][0]) <= _LARGEST:
        return None
    shorter = sorted((min(size), count) for size, count in sizes)
    half = sum(count for _, count in shorter) / 2
    upto = accumulate(count for _, count in shorter)
    median = next(side for (side, _), count in zip(shorter, upto, strict=True) if count >= half)
    return max((side for side in _SIDES if side <= median), default=_SIDES[0])


def _recipe_for(name: str, found: Inspection) -> tuple[str, str]:
    """Name of the recipe that suits the images, and why."""
    if name in DEFAULTS:
        return name, "the fastest for this data set"
    size = f"{found.size[0]}×{found.size[1]}"
    kind = "grey" if found.channels == 1 else "colour" if found.channels == 3 else f"{found.channels}-channel"
    if found.channels != 1 or max(found.size) > _SMALL:
        return OTHER, f"for {kind} images of {size}"
    least = least_side(get_recipe(SMALL_GREY), found.channels, len(found.class_names)) or 1
    if min(found.size) < least:
        return OTHER, f"because {SMALL_GREY} takes images from {least}×{least} on, and these are {size}"
    return SMALL_GREY, f"for small grey images ({size})"


def _batches(base: Recipe, images: int, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Smaller batches and more epochs for a set smaller than the recipe's own."""
    found: dict[str, Any] = {}
    # Through the recipe, which refuses what is no size of a batch.
    batch = base.with_changes({"batch_size": changes.get("batch_size", base.batch_size)}).batch_size
    if "batch_size" not in changes and images < _BATCHES * batch:
        smaller = max(_LEAST_BATCH, 2 ** int(math.log2(max(1.0, images / _BATCHES))))
        found["batch_size"] = batch = min(smaller, batch, images)
    steps = base.epochs * _per_epoch(base, datasets.info(base.data.name).train, base.batch_size)
    per_epoch = _per_epoch(base, images, batch)
    if "epochs" not in changes and base.epochs * per_epoch < steps:
        found["epochs"] = float(math.ceil(steps / per_epoch))
    return found


def _whitening(base: Recipe, epochs: float, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Train the whitening's bias for the same share of more epochs."""
    if epochs == base.epochs:
        return {}
    held = {path: value for path, value in paths(base).items() if path in _WHITENING and isinstance(value, int | float)}
    return {path: value * epochs / base.epochs for path, value in held.items() if path not in changes}


def _per_epoch(recipe: Recipe, images: int, batch: int) -> int:
    return max(1, images // batch if recipe.feed.drop_last else -(-images // batch))


def _adapted(base: Recipe, fewer: Mapping[str, Any]) -> str:
    texts = []
    if "batch_size" in fewer:
        texts.append(f"batches of {fewer['batch_size']} instead of {base.batch_size}")
    if "epochs" in fewer:
        texts.append(
            f"{fewer['epochs']:g} epochs instead of {base.epochs:g}, for as many optimizer steps as on {base.data.name}"
        )
    return f"adapted to so few images: {' and '.join(texts)}"


def _written(component: Component, data: str | Path, found: Inspection) -> str:
    """How the options that were chosen for the data are written on the command line."""
    usual = data_component(data).options
    keys = ("size", "resize", "unreadable") if found.seen.unreadable else ("size", "resize")
    return "".join(
        f" --set data.{key}={component.options[key]}"
        for key in keys
        if key in usual and component.options[key] != usual[key]
    )


def _mirrors(recipe: Recipe) -> bool:
    views = recipe.evaluation.augmentation
    names = [part.name for part in recipe.augment] + ([views.name] if views else [])
    return any("flip" in name or name in ("mirror", "six-view") for name in names)
