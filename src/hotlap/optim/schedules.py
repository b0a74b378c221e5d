"""Learning-rate schedules as closed-form factors of the optimizer's ``lr``, so that every backend computes the same.

A schedule maps (step, total steps, steps per epoch) to a factor; steps count from 0. No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

from hotlap.optim import SCHEDULES
from hotlap.registry import Card

Schedule: TypeAlias = Callable[[int, int, int], float]


@SCHEDULES.register(
    "constant",
    Card(does="Keeps the learning rate.", effect="None; the baseline of every other schedule.", source="—"),
)
def constant() -> Schedule:
    """Build the schedule that is 1 at every step."""
    return lambda step, total, per_epoch: 1.0


@SCHEDULES.register(
    "step",
    Card(
        does="Multiplies the learning rate by a factor every few epochs.",
        effect="The schedule of PyTorch's MNIST example.",
        source="torch.optim.lr_scheduler.StepLR.",
    ),
)
def step(*, every_epochs: int, factor: float) -> Schedule:
    """Build a staircase: ``factor`` to the power of the number of whole ``every_epochs`` passed.

    Raises:
        ValueError: ``every_epochs`` is below 1.
    """
    if every_epochs < 1:
        raise ValueError(f"every_epochs must be at least 1, not {every_epochs}")
    return lambda step, total, per_epoch: factor ** (step // per_epoch // every_epochs)


@SCHEDULES.register(
    "one-cycle",
    Card(
        does="Raises the learning rate to its peak over the first part of training, then lowers it to almost nothing.",
        effect="MNIST to 99 % in 2 fixed epochs instead of 3 to 5 (Oikarinen 2021: 4.66 s to 3.14 s).",
        source="Smith 2018; torch.optim.lr_scheduler.OneCycleLR.",
    ),
)
def one_cycle(*, warmup: float, shape: Literal["cos", "linear"], start_factor: float, end_factor: float) -> Schedule:
    """Build the two-phase one-cycle schedule, whose peak is the optimizer's ``lr``.

    Args:
        warmup: share of all steps spent rising (0–1).
        shape: form of both phases.
        start_factor: factor at the first step.
        end_factor: factor at the last step.

    Raises:
        ValueError: ``warmup`` is not a share, or the shape is unknown.
    """
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup is a share of the steps between 0 and 1, not {warmup}")
    if shape not in ("cos", "linear"):
        raise ValueError(f"shape is cos or linear, not {shape!r}")

    def between(start: float, end: float, share: float) -> float:
        if shape == "cos":
            return end + (start - end) / 2 * (1 + math.cos(math.pi * share))
        return start + (end - start) * share

    def factor(step: int, total: int, per_epoch: int) -> float:
        # As in PyTorch, the first phase ends one step early, so that its last step is the peak itself.
        peak, last = max(warmup * total - 1, 0.0), max(total - 1, 1)
        if step <= peak and peak > 0:
            return between(start_factor, 1.0, step / peak)
        return between(1.0, end_factor, min((step - peak) / max(last - peak, 1e-9), 1.0))

    return factor


@SCHEDULES.register(
    "piecewise",
    Card(
        does="Interpolates linearly between given factors at given epochs.",
        effect="The schedule of the cifar10-fast ladder.",
        source="Page 2018.",
    ),
)
def piecewise(*, epochs: Sequence[float], factors: Sequence[float]) -> Schedule:
    """Build linear interpolation over (epoch, factor) knots; constant outside of them.

    A step takes the value at its end, as in Page's code, which counts steps from 1: the first step is not lost to a
    factor of 0 at epoch 0, while a factor of 0 at the last epoch is that of the last step.

    Raises:
        ValueError: lists of different lengths or knots that do not ascend.
    """
    if len(epochs) != len(factors) or len(epochs) < 2 or any(a >= b for a, b in pairwise(epochs)):
        raise ValueError("piecewise takes as many factors as epochs, at least two, with epochs ascending")

    def factor(step: int, total: int, per_epoch: int) -> float:
        now = (step + 1) / per_epoch
        if now <= epochs[0]:
            return factors[0]
        for (e0, e1), (f0, f1) in zip(pairwise(epochs), pairwise(factors), strict=True):
            if now <= e1:
                return f0 + (f1 - f0) * (now - e0) / (e1 - e0)
        return factors[-1]

    return factor


@SCHEDULES.register(
    "triangle",
    Card(
        does="Raises the learning rate linearly to its peak over a share of the steps, then lowers it linearly.",
        effect="The schedule of airbench94, 95 and 96.",
        source="Jordan 2024 (airbench).",
    ),
)
def triangle(*, warmup: float, start_factor: float, end_factor: float) -> Schedule:
    """Build the two ramps, whose peak is the optimizer's ``lr``.

    A step takes the value at its beginning, as in airbench: the first step has ``start_factor``, the first one after
    the whole warm-up steps the peak, and the step after the last one would have ``end_factor``. ``one-cycle`` differs
    in that its peak comes a step earlier and its last step has ``end_factor``.

    Args:
        warmup: share of all steps spent rising (0–1), rounded down to whole steps.
        start_factor: factor at the first step, unless nothing is spent rising.
        end_factor: factor that the end of the last step reaches.

    Raises:
        ValueError: ``warmup`` is not a share.
    """
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup is a share of the steps between 0 and 1, not {warmup}")

    def factor(step: int, total: int, per_epoch: int) -> float:
        rising = int(total * warmup)
        if step < rising:
            return start_factor + (1 - start_factor) * step / rising
        return 1 + (end_factor - 1) * (step - rising) / (total - rising)

    return factor


@SCHEDULES.register(
    "linear",
    Card(
        does="Lowers the learning rate linearly to 0, over all steps or over the first epochs.",
        effect="The schedule of airbench94_muon.",
        source="Jordan 2024 (airbench94_muon).",
    ),
)
def linear(*, epochs: float | None) -> Schedule:
    """Build the ramp from 1 to 0, then 0.

    A step takes the value at its beginning, as in airbench94_muon: the first step has 1, and the step after the last
    one would have 0.

    Args:
        epochs: length of the ramp, rounded up to whole steps; None for all of training.

    Raises:
        ValueError: ``epochs`` is not positive.
    """
    if epochs is not None and epochs <= 0:
        raise ValueError(f"epochs must be positive, not {epochs}")
    return lambda step, total, per_epoch: max(0.0, 1 - step / (math.ceil(epochs * per_epoch) if epochs else total))
