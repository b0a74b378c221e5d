"""Several optimizers as one: each trains the parameters of some roles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from hotlap.optim import OPTIMIZERS, SCHEDULES
from hotlap.optim.schedules import Schedule
from hotlap.optim.weights import ROLES, Role, Weights
from hotlap.recipe import Component
from hotlap.registry import Card


class ByRole:
    """Optimizers that step together.

    Args:
        parts: each with its own parameters; the first is the one that others may follow.
        schedules: for each, a schedule in place of the recipe's, or None.
        ends: for each, the epochs after which its learning rate is 0 for good, or None.
    """

    def __init__(
        self, parts: list[torch.optim.Optimizer], schedules: Sequence[Schedule | None], ends: Sequence[float | None]
    ) -> None:
        self.parts = parts
        for part, schedule, end in zip(parts, schedules, ends, strict=True):
            for group in part.param_groups:
                group |= {} if schedule is None else {"factor": schedule}
                group |= {} if end is None else {"ends": end}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all optimizers, in order; those with a schedule of their own hold it as ``factor``."""
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        """Change the parameters by their gradients."""
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all optimizers, without their schedules and ends, which are part of the recipe."""
        states = [part.state_dict() for part in self.parts]
        for state in states:
            for group in state["param_groups"]:
                group.pop("factor", None)
                group.pop("ends", None)
        return {"parts": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; the groups stay the same objects.

        Raises:
            ValueError: the state is of other optimizers.
        """
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            groups = list(part.param_groups)
            part.load_state_dict(state)
            for group, loaded in zip(groups, part.param_groups, strict=True):
                group.update(loaded)
            part.param_groups = groups


@OPTIMIZERS.register(
    "by-role",
    Card(
        does="Gives convolutions, norms, the whitening bias and the head optimizers of their own.",
        effect="Lets Muon train the convolutions and SGD the rest, and freezes the whitening bias after some epochs.",
        source="Jordan 2024 (airbench94, airbench94_muon).",
    ),
)
def by_role(
    *,
    params: Weights,
    filters: Component,
    norm: Component | None,
    whitening: Component | None,
    head: Component | None,
    whitening_epochs: float | None,
    whitening_schedule: Component | None,
) -> ByRole:
    """Build the optimizers.

    Args:
        params: the parameters with their roles; a role without any needs no optimizer.
        filters: optimizer of the convolutions and of whatever has no other.
        norm: optimizer of the normalisation layers; None leaves them to ``filters``.
        whitening: optimizer of the whitening bias; None leaves it to ``filters``, apart if it has its own schedule.
        head: optimizer of the last layer; None leaves it to ``filters``.
        whitening_epochs: epochs after which the whitening bias stays as it is; None trains it to the end.
        whitening_schedule: schedule of the whitening bias; None follows the recipe's, that is, that of ``filters``.

    Raises:
        InputError: a part cannot be built.
        ValueError: there is nothing to train, or ``whitening_epochs`` is negative.
    """
    if whitening_epochs is not None and whitening_epochs < 0:
        raise ValueError(f"whitening_epochs must not be negative, not {whitening_epochs}")
    given: dict[Role, Component | None] = {"norm": norm, "whitening": whitening, "head": head}
    apart = whitening_epochs is not None or whitening_schedule is not None
    if apart and whitening is None:
        given["whitening"] = filters
    own: dict[Role, Component] = {role: c for role, c in given.items() if c is not None and params.by_role[role]}
    first = tuple(role for role in ROLES if role not in own)
    plan = [(first, filters), *(((role,), component) for role, component in own.items())]
    chosen = [(roles, c, params.only(p for role in roles for p in params.by_role[role])) for roles, c in plan]
    built = [(roles, OPTIMIZERS.build(c, params=weights)) for roles, c, weights in chosen if weights]
    leader = built[0][1].param_groups[0]
    schedule = _whitening_schedule(whitening_epochs, whitening_schedule, leader) if apart else None
    # The linear schedule, too, stays at 0 after its epochs.
    linear = whitening_schedule is not None and whitening_schedule.name == "linear"
    spans = [whitening_epochs, whitening_schedule.options.get("epochs") if whitening_schedule and linear else None]
    end = min((span for span in spans if span is not None), default=None)
    alone = [roles == ("whitening",) for roles, _ in built]
    return ByRole(
        [part for _, part in built],
        [schedule if own else None for own in alone],
        [end if own else None for own in alone],
    )


def _whitening_schedule(epochs: float | None, component: Component | None, leader: dict[str, Any]) -> Schedule:
    peak = leader["lr"]
    own: Schedule | None = SCHEDULES.build(component) if component is not None else None

    def factor(step: int, total: int, per_epoch: int) -> float:
        if epochs is not None and step >= math.ceil(epochs * per_epoch):
            return 0.0
        if own is not None:
            return own(step, total, per_epoch)
        # The engine sets the learning rates of the groups in order, so that the leader's is already this step's.
        return leader["lr"] / peak if peak else 0.0

    return factor
