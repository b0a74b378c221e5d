"""Each published MNIST rung trains as a plain reading of its description does."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from plain_mnist import losses

from hotlap.datasets import ImageData
from hotlap.engine.allocator import keeping_memory
from hotlap.engine.loop import train_once
from hotlap.engine.seeding import Streams, isolated
from hotlap.ladder import get_ladder, resolve
from hotlap.recipe import Recipe

STEPS = 20
IMAGES = 6_144
"""The first of MNIST: more than the largest batch needs, and a tenth of the preparation on both sides."""


class _EnoughError(Exception):
    """Ends a run after the steps that are compared."""


class _Losses:
    def __init__(self) -> None:
        self.losses: list[float] = []

    def begin(self, recipe: Recipe, seed: int, total_steps: int, images_per_step: int) -> None: ...

    def remark(self, text: str) -> None: ...

    def accuracy(self, epochs: float, accuracy: float) -> None: ...

    def step(self, done: int, loss: torch.Tensor) -> None:
        self.losses.append(loss.item())
        if done == STEPS:
            raise _EnoughError


@pytest.mark.parametrize("rung", range(9))
def test_the_first_losses_equal_those_of_a_plain_reading(rung: int, mnist: ImageData) -> None:
    few = replace(mnist, x_train=mnist.x_train[:IMAGES], y_train=mnist.y_train[:IMAGES], digest="few of MNIST")
    recipe = resolve(get_ladder("mnist"))[rung].recipe
    seed = 100 + rung
    streams = Streams.of(seed)
    observer = _Losses()
    with pytest.raises(_EnoughError):
        train_once(
            recipe,
            lambda: few,
            seed,
            device=torch.device("cpu"),
            observer=observer,
            timing_valid=False,
            backend="torch",
        )
    with isolated(torch.device("cpu")), keeping_memory():  # faster, and changes no figure
        plain = losses(
            rung, few.x_train, few.y_train, init=streams.init, order=streams.order, noise=streams.noise, count=STEPS
        )
    assert len(plain) == STEPS
    assert observer.losses == pytest.approx(plain, rel=1e-6)
    # Training really moved: equal constants would be equal too.
    assert min(plain) < 0.9 * plain[0]
