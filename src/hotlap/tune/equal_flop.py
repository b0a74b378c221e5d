"""Points of a search that train with as much arithmetic as the recipe: dearer networks for fewer epochs."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from hotlap.engine.inspect import TrainingCost
from hotlap.engine.seeding import isolated
from hotlap.errors import InputError
from hotlap.recipe import Recipe

DIGITS = 4
"""Significant digits of epochs that were changed; more only where so few leave the cost far off."""

_MOST_DIGITS = 9
_CLOSE = 2e-3
"""Share of the cost that rounding may add or take away."""

_STRIDE = 1.002
"""Ratio of the epochs that are looked at round a guess: a wide one may pass over the nearest that fit, for others at
which one more epoch trains on smaller images."""

_HALVINGS = 50


class EqualFlop:
    """Says for how many epochs a changed recipe trains with the training FLOP of the recipe as it was given.

    Training FLOP are forward and backward over all epochs, as ``TrainingCost`` counts them; the images of an epoch are
    taken to be as many whatever changes. The caller's random numbers are left as they were.

    Args:
        recipe: as it was given.
        shape: (C, H, W) of one image.
        classes: number of classes.

    Raises:
        InputError: the recipe selects images, so that its cost is not known beforehand.
    """

    def __init__(self, recipe: Recipe, shape: tuple[int, int, int], classes: int) -> None:
        self._shape, self._classes, self._given = shape, classes, recipe.epochs
        self._flop = self._cost(recipe)(recipe.epochs)

    def epochs_of(self, recipe: Recipe) -> float:
        """Return the epochs of a changed recipe; those of the recipe as it was given where they cost the same.

        Raises:
            InputError: it selects images, its network cannot be built, or does not take the images.
        """
        return equal_epochs(self._cost(recipe), self._flop, self._given)

    def _cost(self, recipe: Recipe) -> Callable[[float], float]:
        refuse_selection(recipe)
        with isolated(torch.device("cpu")):
            return TrainingCost(recipe, self._shape, self._classes).over_epochs


def refuse_selection(recipe: Recipe) -> None:
    """Refuse a recipe that trains on a part of its images, whose FLOP are only known to be at most so many.

    Raises:
        InputError: it does.
    """
    if recipe.selection is not None:
        raise InputError(
            "what a recipe costs that selects its images is not known beforehand",
            "leave out --equal-flop, or the selection: --set selection=null",
        )


def equal_epochs(flop: Callable[[float], float], wanted: float, given: float) -> float:
    """Return the number of epochs whose cost is the wanted one.

    Args:
        flop: cost of a number of epochs. It grows with them, but where the size of images depends on the share of
            training that has passed it may fall at once, when an epoch comes to begin earlier.
        wanted: cost.
        given: epochs to begin with, which are returned where they cost just that.

    Returns:
        Epochs with ``DIGITS`` digits; with more where rounding would change the cost by more than 0.2 %.
    """
    if flop(given) == wanted:
        return given
    low, high = _bracket(flop, wanted, given * wanted / flop(given))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if flop(middle) < wanted else (low, middle)
    for digits in range(DIGITS, _MOST_DIGITS + 1):
        step = 10.0 ** (math.floor(math.log10(high)) + 1 - digits)
        near = [float(f"{step * count:.{digits}g}") for count in (math.floor(high / step), math.ceil(high / step))]
        best = min((epochs for epochs in near if epochs > 0), key=lambda epochs: abs(flop(epochs) - wanted))
        if abs(flop(best) - wanted) <= _CLOSE * wanted:
            break
    return best


def _bracket(flop: Callable[[float], float], wanted: float, guess: float) -> tuple[float, float]:
    """Return epochs near a guess that cost less than is wanted, and greater ones that do not."""
    low = high = guess
    while flop(low) >= wanted:
        low, high = low / _STRIDE, low
    while flop(high) < wanted:
        low, high = high, high * _STRIDE
    return low, high
