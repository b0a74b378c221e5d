"""The optimizer's step as the loop takes it: learning rates from the schedule, then the update."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Any, Protocol

import torch
from torch import Tensor

from hotlap.optim import OPTIMIZERS, SCHEDULES
from hotlap.optim.by_role import ByRole
from hotlap.optim.schedules import Schedule
from hotlap.optim.weights import Weights
from hotlap.recipe import Recipe


class Optimizer(Protocol):
    """What the engine needs of an optimizer; every ``torch.optim.Optimizer`` has it.

    A group's ``lr`` is its peak when built; a group that holds a ``factor``, a schedule of its own, follows that
    instead of the recipe's; one that holds ``ends`` is trained for so many epochs only; in one that holds ``done``,
    that is the number of steps before the one to come.
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
        foreseen: whether every kind of step is gone through during warm-up.
    """

    def __init__(self, recipe: Recipe, weights: Weights, *, foreseen: bool = False) -> None:
        self.optimizer: Optimizer = OPTIMIZERS.build(recipe.optimizer, params=weights)
        schedule: Schedule = SCHEDULES.build(recipe.schedule)
        groups = self.optimizer.param_groups
        self._plan = [(group["lr"], group.get("factor") or schedule) for group in groups]
        # Compiled code would be compiled anew, in mid-training, for fewer gradients.
        may_end = foreseen or not recipe.engine.compile
        ending = [group for group in groups if may_end and group.get("ends") is not None]
        self._ending = [(group["ends"], group["params"]) for group in ending]

    def zero_grad(self, done: int = 0, per_epoch: int = 1) -> None:
        """Forget all gradients; from step ``done`` on, ask for none of weights that no step will change any more."""
        self.optimizer.zero_grad()
        for epochs, weights in self._ending:
            for weight in weights:
                weight.requires_grad_(done < math.ceil(epochs * per_epoch))

    def kind(self, done: int, per_epoch: int) -> Hashable:
        """Return what tells step ``done`` (from 0) from others, learning rates apart: equal kinds do the same work."""
        ended = tuple(done >= math.ceil(epochs * per_epoch) for epochs, _ in self._ending)
        intervals = [group.get("renormalise_every") for group in self.optimizer.param_groups]
        return ended, tuple(done % every == 0 for every in intervals if every)

    def rates(self, done: int, total: int, per_epoch: int) -> list[float]:
        """Set the learning rate of each group for step ``done`` (from 0) of ``total``, and return them."""
        for group, (peak, factor) in zip(self.optimizer.param_groups, self._plan, strict=True):
            # In order: a group's own schedule may follow that of the first.
            group["lr"] = peak * factor(done, total, per_epoch)
            if "done" in group:
                group["done"] = done
        return [group["lr"] for group in self.optimizer.param_groups]

    @torch.no_grad()
    def step(self, done: int, total: int, per_epoch: int) -> None:
        """Change the parameters by their gradients, as step ``done`` (from 0) of ``total``."""
        self.rates(done, total, per_epoch)
        self.optimizer.step()

    @torch.no_grad()
    def forget(self) -> None:
        """Bring the optimizer's state to zero, as before the first step, in the memory that it has."""
        for tensor in self._state().values():
            tensor.zero_()

    def _state(self) -> dict[tuple[Tensor, str], Tensor]:
        """Every tensor of the optimizer's state, by the weight that it belongs to and its name."""
        held = ((weight, state) for part in self._parts() for weight, state in part.state.items())
        return {(w, name): value for w, state in held for name, value in state.items() if isinstance(value, Tensor)}

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned, in the memory that there is; learning rates come from the recipe."""
        before = self._state()
        self.optimizer.load_state_dict(state)
        with torch.no_grad():
            for part in self._parts():
                for weight, held in part.state.items():
                    for name, loaded in held.items():
                        if (own := before.get((weight, name))) is not None:
                            held[name] = own.copy_(loaded)

    def _parts(self) -> list[Any]:
        return list(self.optimizer.parts) if isinstance(self.optimizer, ByRole) else [self.optimizer]
