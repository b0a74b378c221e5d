"""The own MNIST records train and are measured as a plain reading of their description is.

A pooling window whose two largest values are all but equal sends its gradient to either, as rounding has it. In float32
that moves the losses of two correct programs apart by more than 1 % within ten steps, so that only the first ones are
compared there, and twenty in float64.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import plain_mnist_record as plain
import pytest
import torch
from doubled import in_float64

from hotlap.datasets import ImageData
from hotlap.engine.loop import Silent, train_once
from hotlap.engine.seeding import Streams, isolated
from hotlap.ladder import get_recipe, own_records
from hotlap.recipe import Recipe

STEPS, EARLY = 20, 4
BATCH = 192
TOTAL = {"mnist/record": 176, "mnist/record-plain": 288, "mnist/record-gpu": 202}


def the_recipe(name: str) -> Recipe:
    """The recipe, without what only a GPU has a use for: code compiled for it, and many images at a time."""
    if name != "mnist/record-gpu":
        return get_recipe(name)
    return get_recipe(name).with_changes({"engine.compile": False, "engine.precision": "fp32", "batch_size": BATCH})


def kind(name: str) -> plain.Kind:
    return plain.FOR_GPU if name == "mnist/record-gpu" else plain.FOR_CPU


def test_none_is_left_out() -> None:
    assert {recipe.name for recipe in own_records() if recipe.data.name == "mnist"} == set(TOTAL)


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


def read(name: str, data: ImageData, seed: int, *, total: int, count: int) -> list[float]:
    streams = Streams.of(seed)
    with isolated(torch.device("cpu")):
        _, losses = plain.train(
            data.x_train, data.y_train, kind=kind(name), batch=BATCH, total=total, init=streams.init,
            order=streams.order, shifts=streams.augment, count=count,
        )  # fmt: skip
    return losses


def found(recipe: Recipe, data: ImageData, seed: int, count: int) -> list[float]:
    observer = _Losses(count)
    with pytest.raises(_EnoughError):
        train_once(recipe, lambda: data, seed, device=torch.device("cpu"), observer=observer, backend="torch")
    return observer.seen


@pytest.mark.parametrize("name", list(TOTAL))
def test_the_first_losses_equal_those_of_a_plain_reading(name: str, mnist: ImageData) -> None:
    losses = read(name, mnist, 8, total=TOTAL[name], count=EARLY)
    assert found(the_recipe(name), mnist, 8, EARLY) == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("name", list(TOTAL))
def test_twenty_are_equal_to_more_digits_than_float32_has(name: str, mnist: ImageData) -> None:
    recipe = the_recipe(name).with_changes({"engine.fused": False})
    with in_float64():
        losses = read(name, mnist, 8, total=TOTAL[name], count=STEPS)
        assert found(recipe, mnist, 8, STEPS) == pytest.approx(losses, rel=1e-8)
    # Training really moved: equal constants would be equal too.
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", list(TOTAL))
def test_accuracy_is_measured_as_in_a_plain_reading(name: str, mnist: ImageData) -> None:
    data = replace(mnist, x_test=mnist.x_test[:2000], y_test=mnist.y_test[:2000])
    recipe = the_recipe(name).with_changes({"epochs": STEPS * BATCH / len(data.x_train)})
    run = train_once(recipe, lambda: data, 7, device=torch.device("cpu"), backend="torch")
    model = plain.network(kind(name))
    for own, trained in zip(model.parameters(), run.module.parameters(), strict=True):
        own.data.copy_(trained.data)
    once, again = (plain.right(model, data.x_test, data.y_test, look_again=look) for look in (False, True))
    assert (once != again).sum() > 2, "the second look makes a difference"
    # One image may lie between two classes.
    expected = (again if name == "mnist/record" else once).double().mean().item()
    assert run.accuracy == pytest.approx(expected, abs=1 / 2000 + 1e-9)
