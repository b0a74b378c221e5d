"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hotlap.registry import Card
from hotlap.techniques import AVERAGINGS
from hotlap.techniques.averaging import Action


class MovingAverage:
    """Averages all floating-point parameters and buffers, in their own type, every few steps.

    An update moves the average towards the weights: average ← rate · average + (1 - rate) · weights, where
    rate = decay ** every · (done / total) ** power. The average begins as a copy of the weights; until it begins, the
    weights themselves are evaluated. No call waits for the device.

    Args:
        network: whose weights to follow; with ``copy_back``, modified at every update.
        decay: share (0–1) of the average that is left after one step.
        every: steps from one update to the next; updates are made after steps that it divides.
        power: exponent of a ramp that lets the average move fast at first; 0 for no ramp.
        start: share (0–1) of the training after which the average begins; 0 begins with the network as it is now,
            otherwise with the first update after ``start``.
        copy_back: set the weights to the average after every update, so that training goes on from there.
    """

    def __init__(
        self, network: nn.Module, *, decay: float, every: int, power: float, start: float, copy_back: bool
    ) -> None:
        if not 0 <= decay <= 1:
            raise ValueError(f"decay is a share between 0 and 1, not {decay}")
        if every < 1:
            raise ValueError(f"every is a number of steps, at least 1, not {every}")
        if power < 0:
            raise ValueError(f"power must not be negative, not {power}")
        if not 0 <= start < 1:
            raise ValueError(f"start is a share of the training, at least 0 and below 1, not {start}")
        self._rate = decay**every
        self._every, self._power, self._start, self._copy_back = every, power, start, copy_back
        found = {
            name: tensor.detach()
            for name, tensor in (*network.named_parameters(), *network.named_buffers())
            if tensor.is_floating_point()
        }
        self._names, self._weights = list(found), list(found.values())
        self._average = _copies(self._weights) if start == 0 else []

    @property
    def begins_at_once(self) -> bool:
        """Whether the average begins with the network as it is built, before the first step."""
        return self._start == 0

    def plan(self, done: int, total: int) -> Action | None:
        """Say what ``update`` does after ``done`` of ``total`` steps; None where it does nothing.

        It depends on nothing else, given that ``update`` is called after every step, so that another implementation
        can follow it.
        """
        if done % self._every:
            return None
        if self._start == 0 or done - self._every > self._start * total:
            return Action("blend", self._rate * (done / total) ** self._power, self._copy_back)
        return Action("begin", 0.0, copy_back=False) if done > self._start * total else None

    @torch.no_grad()
    def update(self, done: int, total: int) -> None:
        """Do what is planned after ``done`` of ``total`` steps."""
        action = self.plan(done, total)
        if action is None:
            return
        if action.kind == "begin":
            self._average = _copies(self._weights)
            return
        torch._foreach_lerp_(self._average, self._weights, 1 - action.rate)
        if action.copy_back:
            torch._foreach_copy_(self._weights, self._average)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Put the average into the network for the block, then exactly the trained weights back."""
        trained = _copies(self._weights)
        self.finish()
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(self._weights, trained)

    @torch.no_grad()
    def finish(self) -> None:
        """Set the weights to the average as it stands; weights after its last update do not count."""
        if self._average:
            torch._foreach_copy_(self._weights, self._average)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of the average, by the names of the weights; empty until it has begun."""
        copies = _copies(self._average)
        return {"average": dict(zip(self._names, copies, strict=True)) if copies else {}}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the average, on the device of the weights.

        Raises:
            ValueError: it is that of a network with other weights.
        """
        average = state["average"]
        if average and list(average) != self._names:
            raise ValueError("the stored average is of a network with other weights")
        self._average = _copies(self._weights) if average else []
        for own, stored in zip(self._average, average.values(), strict=True):
            own.copy_(stored)


def _copies(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.clone() for tensor in tensors]


@AVERAGINGS.register(
    "ema",
    Card(
        does="Evaluates an exponential moving average of the weights in their place.",
        effect="Reported with decay 0.99 every 5 steps and a floor under the learning rate: 94.1 % in 13 epochs, not "
        "14. With power 3 and copied back it is part of 94 % in 12.1 epochs.",
        source="Polyak and Juditsky 1992; Page 2019; hlb-CIFAR10 2023.",
    ),
)
def build(
    *, network: nn.Module, decay: float, every: int, power: float, start: float, copy_back: bool
) -> MovingAverage:
    """Build the average; the options are those of ``MovingAverage``."""
    return MovingAverage(network, decay=decay, every=every, power=power, start=start, copy_back=copy_back)
