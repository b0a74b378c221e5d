"""The own MNIST records train and are measured as a plain reading of their description is.

A pooling window whose two largest values are all but equal sends its gradient to either, as rounding has it. At the
full learning rates that moves the losses of two correct programs apart by more than 1 % within ten steps, so that only
the first ones are compared there, and all with learning rates of a tenth; of a fiftieth in the network for a GPU, which
has four times as many windows: at a twentieth, a change of the first weights by 2e-7 moves the last loss by 5e-4.
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


def with_gain(name: str, gain: float) -> Recipe:
    recipe = the_recipe(name)
    lr = {path: recipe.optimizer.options[path].options["lr"] * gain for path in ("matrices", "rest")}
    return recipe.with_changes({f"optimizer.{path}.lr": value for path, value in lr.items()})


def read(
    name: str, data: ImageData, seed: int, *, total: int, gain: float, count: int
) -> tuple[nn.Sequential, list[float]]:
    streams = Streams.of(seed)
    with isolated(torch.device("cpu")):
        return plain.train(
            data.x_train, data.y_train, kind=kind(name), batch=BATCH, total=total, gain=gain, init=streams.init,
            order=streams.order, shifts=streams.augment, count=count,
        )  # fmt: skip


@pytest.mark.parametrize(("slow", "count", "rel"), [(False, 4, 1e-4), (True, STEPS, 2e-4)])
@pytest.mark.parametrize("name", list(TOTAL))
def test_the_first_losses_equal_those_of_a_plain_reading(
    name: str, slow: bool, count: int, rel: float, mnist: ImageData
) -> None:
    gain = (0.02 if name == "mnist/record-gpu" else 0.1) if slow else 1.0
    recipe = with_gain(name, gain)
    observer = _Losses(count)
    with pytest.raises(_EnoughError):
        train_once(recipe, lambda: mnist, 8, device=torch.device("cpu"), observer=observer, backend="torch")
    _, losses = read(name, mnist, 8, total=TOTAL[name], gain=gain, count=count)
    assert len(losses) == count
    assert observer.seen == pytest.approx(losses, rel=rel)
    # Training really moved: equal constants would be equal too.
    assert losses[-1] < (1 - 10 * rel) * losses[0]


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
