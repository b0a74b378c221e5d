"""The optimizer's step as the loop takes it: learning rates from the schedule, then the update."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch

from hotlap.optim import OPTIMIZERS, SCHEDULES
from hotlap.optim.schedules import Schedule
from hotlap.optim.weights import Weights
from hotlap.recipe import Recipe


class Optimizer(Protocol):
    """What the engine needs of an optimizer; every ``torch.optim.Optimizer`` has it.

    A group's ``lr`` is its peak when built; a group that holds a ``factor``, a schedule of its own, follows that
    instead of the recipe's; one that holds ``ends`` is trained for so many epochs only.
    """

    param_groups: list[dict[str, Any]]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        ...

    def step(self) -> Any:
        """Change the parameters by their gradients."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on after an interruption."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        ...


class Updates:
    """A recipe's optimizer driven by its schedule.

    Args:
        recipe: whose optimizer and schedule to build.
        weights: the parameters to train; changed by every step.
    """

    def __init__(self, recipe: Recipe, weights: Weights) -> None:
        self.optimizer: Optimizer = OPTIMIZERS.build(recipe.optimizer, params=weights)
        schedule: Schedule = SCHEDULES.build(recipe.schedule)
        groups = self.optimizer.param_groups
        self._plan = [(group["lr"], group.get("factor") or schedule) for group in groups]
        # Compiled code would be compiled anew, in mid-training, for fewer gradients.
        ending = [] if recipe.engine.compile else [group for group in groups if group.get("ends") is not None]
        self._ending = [(group["ends"], group["params"]) for group in ending]

    def zero_grad(self, done: int = 0, per_epoch: int = 1) -> None:
        """Forget all gradients; from step ``done`` on, ask for none of weights that no step will change any more."""
        self.optimizer.zero_grad()
        for epochs, weights in self._ending:
            for weight in weights:
                weight.requires_grad_(done < math.ceil(epochs * per_epoch))

    def rates(self, done: int, total: int, per_epoch: int) -> list[float]:
        """Set the learning rate of each group for step ``done`` (from 0) of ``total``, and return them."""
        for group, (peak, factor) in zip(self.optimizer.param_groups, self._plan, strict=True):
            # In order: a group's own schedule may follow that of the first.
            group["lr"] = peak * factor(done, total, per_epoch)
        return [group["lr"] for group in self.optimizer.param_groups]

    @torch.no_grad()
    def step(self, done: int, total: int, per_epoch: int) -> None:
        """Change the parameters by their gradients, as step ``done`` (from 0) of ``total``."""
        self.rates(done, total, per_epoch)
        self.optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; learning rates come from the recipe again."""
        self.optimizer.load_state_dict(state)
