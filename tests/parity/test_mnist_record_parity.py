"""The own MNIST records train and are measured as a plain reading of their description is.

A pooling window whose two largest values are all but equal sends its gradient to either, as rounding has it. At the
full learning rates that moves the losses of two correct programs apart by more than 1 % within ten steps, so that only
the first ones are compared there, and all with learning rates of a tenth.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import plain_mnist_record as plain
import pytest
import torch
from torch import nn

from hotlap.datasets import ImageData
from hotlap.engine.loop import Silent, train_once
from hotlap.engine.seeding import Streams, isolated
from hotlap.ladder import get_recipe, own_records
from hotlap.recipe import Recipe

STEPS = 20
BATCH = {"mnist/record": 192, "mnist/record-plain": 192}
TOTAL = {"mnist/record": 176, "mnist/record-plain": 288}


def test_none_is_left_out() -> None:
    assert {recipe.name for recipe in own_records() if recipe.data.name == "mnist"} == set(BATCH)


class _EnoughError(Exception):
    """Ends a run after the steps that are compared."""


@dataclass(frozen=True)
class _Losses(Silent):
    last: int
    seen: list[float] = field(default_factory=list)

    def step(self, done: int, loss: torch.Tensor) -> None:
        self.seen.append(loss.item())
        if done == self.last:
            raise _EnoughError


def at_a_tenth(name: str) -> Recipe:
    recipe = get_recipe(name)
    lr = {path: recipe.optimizer.options[path].options["lr"] / 10 for path in ("matrices", "rest")}
    return recipe.with_changes({f"optimizer.{path}.lr": value for path, value in lr.items()})


def read(
    name: str, data: ImageData, seed: int, *, total: int, gain: float, count: int
) -> tuple[nn.Sequential, list[float]]:
    streams = Streams.of(seed)
    with isolated(torch.device("cpu")):
        return plain.train(
            data.x_train, data.y_train, batch=BATCH[name], total=total, gain=gain, init=streams.init,
            order=streams.order, shifts=streams.augment, count=count,
        )  # fmt: skip


@pytest.mark.parametrize(("gain", "count", "rel"), [(1.0, 4, 1e-4), (0.1, STEPS, 2e-4)])
@pytest.mark.parametrize("name", list(BATCH))
def test_the_first_losses_equal_those_of_a_plain_reading(
    name: str, gain: float, count: int, rel: float, mnist: ImageData
) -> None:
    recipe = get_recipe(name) if gain == 1 else at_a_tenth(name)
    observer = _Losses(count)
    with pytest.raises(_EnoughError):
        train_once(recipe, lambda: mnist, 8, device=torch.device("cpu"), observer=observer, backend="torch")
    _, losses = read(name, mnist, 8, total=TOTAL[name], gain=gain, count=count)
    assert len(losses) == count
    assert observer.seen == pytest.approx(losses, rel=rel)
    # Training really moved: equal constants would be equal too.
    assert losses[-1] < (1 - 10 * rel) * losses[0]


@pytest.mark.parametrize("name", list(BATCH))
def test_accuracy_is_measured_as_in_a_plain_reading(name: str, mnist: ImageData) -> None:
    data = replace(mnist, x_test=mnist.x_test[:2000], y_test=mnist.y_test[:2000])
    recipe = get_recipe(name).with_changes({"epochs": STEPS * BATCH[name] / len(data.x_train)})
    run = train_once(recipe, lambda: data, 7, device=torch.device("cpu"), backend="torch")
    model = plain.network()
    for own, trained in zip(model.parameters(), run.module.parameters(), strict=True):
        own.data.copy_(trained.data)
    once, again = (plain.accuracy(model, data.x_test, data.y_test, look_again=look) for look in (False, True))
    assert abs(once - again) > 2 / 2000, "the second look makes a difference"
    # One image may lie between two classes.
    assert run.accuracy == pytest.approx(again if name == "mnist/record" else once, abs=1 / 2000 + 1e-9)
