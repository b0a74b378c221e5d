"""Watching training losses: the mean of each epoch, and whether they are still numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hotlap.errors import DivergenceError


class _Sent(NamedTuple):
    """Sums of an epoch's losses, on their way from the device."""

    sums: Tensor
    arrived: torch.cuda.Event | None
    steps: int
    at: int


class LossWatch:
    """Mean loss of every epoch for each seed, and the check that it is still a finite number.

    On a CPU reading a loss costs nothing, so every step is checked; elsewhere it would stall the device, so sums are
    sent here at the end of an epoch and looked at in the next one, or when they are asked for.

    Args:
        seeds: how many losses a step has.
        device: where they are.
    """

    def __init__(self, seeds: int, device: torch.device) -> None:
        self._by_epoch: list[list[float]] = []
        self._errors: list[str | None] = [None] * seeds
        self._every_step = device.type == "cpu"
        self._sum: Tensor | None = None
        self._sums = [0.0] * seeds
        self._count = 0
        self._sent: list[_Sent] = []

    @property
    def by_epoch(self) -> list[list[float]]:
        """Mean losses of each epoch begun, one for each seed; waits for the device."""
        self._receive(wait=True)
        return self._by_epoch

    @property
    def errors(self) -> list[str | None]:
        """For each seed what went wrong, or None; waits for the device."""
        self._receive(wait=True)
        return self._errors

    @property
    def some_finite(self) -> bool:
        """Whether there is a seed to go on with, as far as is known here."""
        return None in self._errors

    def see(self, losses: Tensor, step: int) -> None:
        """Add the losses of a step, () or (seeds,); waits for the device on a CPU only."""
        self._count += 1
        if self._every_step:
            values = losses.tolist()
            values = values if isinstance(values, list) else [values]
            self._sums = [total + value for total, value in zip(self._sums, values, strict=True)]
            self._check(self._sums, step)
        else:
            # A copy: the tensor may be that of the next step's losses too.
            self._sum = losses.detach().clone() if self._sum is None else self._sum.add_(losses.detach())

    def end_epoch(self, step: int) -> None:
        """Note the means of the epoch and begin another; never waits for a GPU."""
        if self._sum is not None:
            self._receive(wait=False)
            self._sent.append(_send(self._sum.reshape(-1), self._count, step))
        else:
            self._by_epoch.append([total / self._count for total in self._sums])
        self._sum, self._sums, self._count = None, [0.0] * len(self._sums), 0

    def _receive(self, *, wait: bool) -> None:
        while self._sent and (wait or self._sent[0].arrived is None or self._sent[0].arrived.query()):
            sent = self._sent.pop(0)
            if sent.arrived is not None:
                sent.arrived.synchronize()
            sums = sent.sums.tolist()
            self._check(sums, sent.at)
            self._by_epoch.append([total / sent.steps for total in sums])

    def state_dict(self) -> dict[str, Any]:
        """Return the means and errors so far; to be called between epochs."""
        return {"by_epoch": self.by_epoch, "errors": self.errors}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self._by_epoch, self._errors = state["by_epoch"], state["errors"]

    def _check(self, sums: Sequence[float], step: int) -> None:
        self._errors = _noting(self._errors, sums, step)


def _send(sums: Tensor, count: int, step: int) -> _Sent:
    if sums.device.type != "cuda":
        return _Sent(sums, None, count, step)
    here = torch.empty(sums.shape, dtype=sums.dtype, pin_memory=True)
    here.copy_(sums, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(sums.device))
    return _Sent(here, arrived, count, step)


def _noting(errors: Sequence[str | None], sums: Sequence[float], step: int) -> list[str | None]:
    return [
        error if error or math.isfinite(total) else str(_divergence(step))
        for error, total in zip(errors, sums, strict=True)
    ]


def _divergence(step: int) -> DivergenceError:
    return DivergenceError(
        f"the loss stopped being a finite number at step {step}", "lower optimizer.lr, e.g. --set optimizer.lr=…"
    )
