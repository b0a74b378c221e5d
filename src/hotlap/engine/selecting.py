"""The choice of training images that a recipe asks for, or none, and the small network it may train."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hotlap.engine.precision import context
from hotlap.engine.program import Program
from hotlap.engine.seeding import Streams
from hotlap.engine.updates import Updates
from hotlap.recipe import Component, Recipe
from hotlap.techniques import SELECTIONS
from hotlap.techniques.selection import Selection


class _Learner:
    """A second program of the same run; see ``techniques.selection.Learner``."""

    def __init__(self, recipe: Recipe, program: Program, device: torch.device) -> None:
        self._device = device
        self._program = program
        self._smoothing = recipe.label_smoothing
        self._updates = Updates(recipe, program.weights(recipe))

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        with context(self._program.precision, self._device):
            logits = self._program.answer(images).float()
            return functional.cross_entropy(logits, labels, label_smoothing=self._smoothing, reduction="none")

    def update(self, loss: Tensor, step: int, total: int, per_epoch: int) -> None:
        self._updates.zero_grad(step, per_epoch)
        self._program.backward(loss)
        self._updates.step(step, total, per_epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"network": self._program.network.state_dict(), "updates": self._updates.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._program.network.load_state_dict(state["network"])
        self._updates.load_state_dict(state["updates"])


class Selecting:
    """Cuts batches down to the images that a recipe's selection chooses; whole batches without one.

    Args:
        recipe: whose selection to build.
        program: what is trained, for the shape of its images.
        device: where it is trained.
        streams: of the run; a network of the selection's own is drawn from ``init`` too.
        first_images: returns that many training images, normalised.
    """

    def __init__(
        self,
        recipe: Recipe,
        program: Program,
        device: torch.device,
        streams: Streams,
        first_images: Callable[[int], Tensor],
    ) -> None:
        def learner(model: Component, optimizer: Component, schedule: Component) -> _Learner:
            small = replace(recipe, model=model, optimizer=optimizer, schedule=schedule)
            made = Program(small, program.shape, program.classes, device, 1)
            made.initialise([streams], first_images)
            return _Learner(small, made, device)

        self._selection: Selection | None = None
        if recipe.selection is not None:
            self._selection = SELECTIONS.build(recipe.selection, learner=learner)

    def __call__(
        self, images: Tensor, labels: Tensor, step: int, total: int, per_epoch: int
    ) -> tuple[Tensor, Tensor, float]:
        """Return the chosen images, their labels, and the share of the batch that they are."""
        if self._selection is None:
            return images, labels, 1.0
        chosen = self._selection.choose(images, labels, step, total, per_epoch)
        return images[chosen], labels[chosen], len(chosen) / len(images)

    def state_dict(self) -> dict[str, Any]:
        """Return the selection's state."""
        return {} if self._selection is None else self._selection.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        if self._selection is not None:
            self._selection.load_state_dict(state)
