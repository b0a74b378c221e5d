"""Watching training losses: the mean of each epoch, and whether they are still numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hotlap.errors import DivergenceError


class LossWatch:
    """Mean loss of every epoch for each seed, and the check that it is still a finite number.

    On a CPU reading a loss costs nothing, so every step is checked; elsewhere it would stall the device, so the sum
    is checked at the end of the epoch.

    Args:
        seeds: how many losses a step has.
        device: where they are.

    Attributes:
        by_epoch: mean losses of each epoch begun, one for each seed.
        errors: for each seed what went wrong, or None.
    """

    def __init__(self, seeds: int, device: torch.device) -> None:
        self.by_epoch: list[list[float]] = []
        self.errors: list[str | None] = [None] * seeds
        self._every_step = device.type == "cpu"
        self._sum: Tensor | None = None
        self._sums = [0.0] * seeds
        self._count = 0

    @property
    def some_finite(self) -> bool:
        """Whether there is a seed to go on with."""
        return None in self.errors

    def see(self, losses: Tensor, step: int) -> None:
        """Add the losses of a step, () or (seeds,); waits for the device on a CPU only."""
        self._count += 1
        if self._every_step:
            values = losses.tolist()
            values = values if isinstance(values, list) else [values]
            self._sums = [total + value for total, value in zip(self._sums, values, strict=True)]
            self._check(step)
        else:
            detached = losses.detach()
            self._sum = detached if self._sum is None else self._sum + detached

    def end_epoch(self, step: int) -> None:
        """Note the means of the epoch and begin another; waits for the device."""
        if self._sum is not None:
            self._sums = self._sum.reshape(-1).tolist()
            self._check(step)
        self.by_epoch.append([total / self._count for total in self._sums])
        self._sum, self._sums, self._count = None, [0.0] * len(self._sums), 0

    def state_dict(self) -> dict[str, Any]:
        """Return the means and errors so far; to be called between epochs."""
        return {"by_epoch": self.by_epoch, "errors": self.errors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.by_epoch, self.errors = state["by_epoch"], state["errors"]

    def _check(self, step: int) -> None:
        self.errors = _noting(self.errors, self._sums, step)


def _noting(errors: Sequence[str | None], sums: Sequence[float], step: int) -> list[str | None]:
    return [
        error if error or math.isfinite(total) else str(_divergence(step))
        for error, total in zip(errors, sums, strict=True)
    ]


def _divergence(step: int) -> DivergenceError:
    return DivergenceError(
        f"the loss stopped being a finite number at step {step}", "lower optimizer.lr, e.g. --set optimizer.lr=…"
    )
