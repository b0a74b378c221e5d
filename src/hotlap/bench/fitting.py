"""A recipe for other images than it was made for: sizes that it shrinks images to follow those of the images."""

from __future__ import annotations

from typing import Any

from hotlap import datasets
from hotlap.engine.network import least_side
from hotlap.recipe import Component, Recipe, part

_SHRINK = "shrink"


def shrinks(recipe: Recipe) -> bool:
    """Tell whether the recipe trains on smaller images for a while."""
    return any(augmentation.name == _SHRINK for augmentation in recipe.augment)


def fitted(recipe: Recipe, published: Component, shape: tuple[int, int, int]) -> Recipe:
    """Return the recipe with the sides of its ``shrink`` in proportion to the images, where it has one.

    A recipe that trains 32×32 pixels at 24×24 for a while trains 128×128 at 96×96. No side is made shorter than what
    the network takes.

    Args:
        recipe: changed to other images.
        published: the data set that it was made for.
        shape: (C, H, W) of one of the other images.
    """
    before = datasets.published_shape(published.name)
    if before is None or not shrinks(recipe):
        return recipe
    longest = max(shape[1:])
    # The number of classes has no part in it.
    least = least_side(recipe, shape[0], classes=2) or 1

    def of(augmentation: Component) -> Component:
        if augmentation.name != _SHRINK:
            return augmentation
        options: dict[str, Any] = dict(augmentation.options)
        sides = [max(least, round(side * longest / max(before[1:]))) for side in options["sides"]]
        return part(_SHRINK, **{**options, "sides": tuple(min(side, longest) for side in sides)})

    return recipe.with_changes({"augment": tuple(map(of, recipe.augment))})
