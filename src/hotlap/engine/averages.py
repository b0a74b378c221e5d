"""The average of weights that a recipe asks for, or none."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn

from hotlap.recipe import Recipe
from hotlap.techniques import AVERAGINGS
from hotlap.techniques.averaging import Averaging


class NoAveraging:
    """Leaves the weights as they are trained."""

    def update(self, done: int, total: int) -> None: ...  # noqa: D102

    def evaluating(self) -> AbstractContextManager[None]:  # noqa: D102
        return nullcontext()

    def finish(self) -> None: ...  # noqa: D102

    def state_dict(self) -> dict[str, Any]:  # noqa: D102
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...  # noqa: D102


def averaging_of(recipe: Recipe, network: nn.Module) -> Averaging:
    """Build the recipe's average of a network's weights, which must have been initialised."""
    if recipe.averaging is None:
        return NoAveraging()
    averaging: Averaging = AVERAGINGS.build(recipe.averaging, network=network)
    return averaging
