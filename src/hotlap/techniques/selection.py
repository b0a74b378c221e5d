"""What every choice of training images does, and what it may train to make up its mind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from hotlap.recipe import Component


class Learner(Protocol):
    """A network that a selection trains beside the main one, with an optimizer and a schedule of its own."""

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each image (n,), in training mode; gradients flow where torch records them."""
        ...

    def update(self, loss: Tensor, step: int, total: int, per_epoch: int) -> None:
        """Take an optimizer step down the gradient of a scalar ``loss``, as step ``step`` (from 0) of ``total``."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on after an interruption."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        ...


MakeLearner: TypeAlias = Callable[[Component, Component, Component], Learner]
"""Builds a learner of a model, an optimizer and a schedule for the data of the run."""


class Selection(Protocol):
    """Chooses which images of a batch are trained on."""

    def choose(self, images: Tensor, labels: Tensor, step: int, total: int, per_epoch: int) -> Tensor:
        """Return the places (m,) int64 of the chosen images.

        Args:
            images: (n, C, H, W), augmented; not modified.
            labels: (n,), or shares (n, classes).
            step: optimizer steps done.
            total: optimizer steps of the whole run.
            per_epoch: optimizer steps of an epoch.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on after an interruption."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        ...
