from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.recipe import part
from hotlap.techniques import AVERAGINGS
from hotlap.techniques.averaging import Action
from hotlap.techniques.ema import MovingAverage

PAGE = {"decay": 0.9, "every": 1, "power": 0.0, "start": 0.0, "copy_back": False}


class Scalar(nn.Module):
    """A network of one weight and one statistic, so that averages can be worked out by hand."""

    running: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.register_buffer("running", torch.zeros((), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def set(self, value: float) -> None:
        with torch.no_grad():
            self.weight.fill_(value)
            self.running.fill_(-value)


def follow(values: list[float], **options: Any) -> tuple[Scalar, MovingAverage]:
    """Set the weight to each value in turn, as an optimizer would, and return network and average."""
    network = Scalar()
    average = MovingAverage(network, **{**PAGE, **options})
    for done, value in enumerate(values, 1):
        network.set(value)
        average.update(done, len(values))
    return network, average


def averaged(values: list[float], **options: Any) -> float:
    network, average = follow(values, **options)
    average.finish()
    assert network.running.item() == -network.weight.item()
    return network.weight.item()


VALUES = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0, -6.0]


def test_closed_form() -> None:
    expected = sum(0.1 * 0.9 ** (8 - k) * value for k, value in enumerate(VALUES, 1))
    assert averaged(VALUES) == pytest.approx(expected, rel=1e-12)


def test_closed_form_with_stride_and_ramp() -> None:
    # Updates after steps 3 and 6 only; the first rate falls out, since the average begins at zero.
    rates = [0.9**3 * (done / 8) ** 2 for done in (3, 6)]
    expected = rates[1] * (1 - rates[0]) * VALUES[2] + (1 - rates[1]) * VALUES[5]
    assert averaged(VALUES, every=3, power=2.0) == pytest.approx(expected, rel=1e-12)


def test_a_late_start_copies_the_weights_of_the_first_update() -> None:
    assert averaged(VALUES, start=0.4, every=2) == pytest.approx(
        0.81 * (0.81 * VALUES[3] + 0.19 * VALUES[5]) + 0.19 * VALUES[7], rel=1e-12
    )
    network, average = follow(VALUES[:3], start=0.99, every=2)
    average.finish()
    assert network.weight.item() == VALUES[2], "until it begins, the weights themselves count"


def test_copying_back_goes_on_from_the_average() -> None:
    network = Scalar()
    average = MovingAverage(network, **{**PAGE, "every": 2, "copy_back": True})
    expected_slow = weight = 0.0
    for done in range(1, 7):
        weight += done
        network.set(network.weight.item() + done)
        average.update(done, 6)
        if done % 2 == 0:
            weight = expected_slow = 0.81 * expected_slow + 0.19 * weight
        assert network.weight.item() == pytest.approx(weight, rel=1e-12)


def test_the_plan_says_when_the_average_begins_and_how_fast_it_moves() -> None:
    options = {**PAGE, "every": 2, "power": 1.0, "start": 0.4, "copy_back": True}
    plans = [MovingAverage(Scalar(), **options).plan(done, 10) for done in range(1, 11)]
    assert plans[:5] == [None] * 5
    assert plans[5] == Action("begin", 0.0, copy_back=False)
    assert plans[7] == Action("blend", 0.9**2 * 0.8, copy_back=True)
    assert plans[9] == Action("blend", 0.9**2, copy_back=True)
    assert plans[6] is plans[8] is None


@pytest.mark.parametrize("start", [0.0, 0.1, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("every", [1, 3, 4])
def test_the_plan_begins_once(start: float, every: int) -> None:
    average = MovingAverage(Scalar(), **{**PAGE, "every": every, "start": start})
    plans = [plan for done in range(1, 25) if (plan := average.plan(done, 24)) is not None]
    after = [done for done in range(every, 25, every) if done > start * 24]
    assert [plan.kind for plan in plans] == ["blend" if start == 0 or done > after[0] else "begin" for done in after]


def network_and_images() -> tuple[nn.Module, Tensor]:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)
    )
    images = torch.randn(16, 3, 6, 6, generator=generator(0))
    network(images)
    return network, images


def train(network: nn.Module, images: Tensor, average: MovingAverage, steps: range) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for done in steps:
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()
        average.update(done, 10)


@pytest.mark.parametrize("copy_back", [False, True])
def test_weights_come_back_exactly_after_evaluation(copy_back: bool) -> None:
    network, images = network_and_images()
    average = MovingAverage(network, **{**PAGE, "every": 2, "copy_back": copy_back})
    train(network, images, average, range(1, 6))
    before = copy.deepcopy(network.state_dict())
    with average.evaluating():
        inside = copy.deepcopy(network.state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    for name, tensor in inside.items():
        assert torch.equal(tensor, before[name]) != tensor.is_floating_point(), name
    with pytest.raises(RuntimeError, match="on purpose"), average.evaluating():
        raise RuntimeError("on purpose")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    average.finish()
    assert all(torch.equal(tensor, inside[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("start", [0.0, 0.6])
def test_goes_on_exactly_after_an_interruption(start: float) -> None:
    whole, images = network_and_images()
    options = {**PAGE, "every": 2, "power": 3.0, "start": start, "copy_back": True}
    average = MovingAverage(whole, **options)
    train(whole, images, average, range(1, 6))
    saved, state = copy.deepcopy(whole), average.state_dict()
    assert bool(state["average"]) == (start == 0)
    train(whole, images, average, range(6, 11))
    average.finish()
    resumed = MovingAverage(saved, **options)
    resumed.load_state_dict(state)
    train(saved, images, resumed, range(6, 11))
    resumed.finish()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, saved.state_dict()[name]), name


def test_frozen_weights_do_not_drift_and_layout_is_kept() -> None:
    network, images = network_and_images()
    network.to(memory_format=torch.channels_last)
    frozen = next(network.parameters()).requires_grad_(False)
    before = frozen.clone()
    average = MovingAverage(network, **{**PAGE, "copy_back": True, "power": 3.0})
    train(network, images, average, range(1, 11))
    average.finish()
    assert torch.equal(frozen, before)
    assert frozen.is_contiguous(memory_format=torch.channels_last)


def test_what_cannot_be_is_refused() -> None:
    for bad in ({"decay": 1.1}, {"every": 0}, {"power": -1}, {"start": 1.0}):
        with pytest.raises(InputError, match=f"{next(iter(bad))} "):
            AVERAGINGS.build(part("ema", **{**PAGE, **bad}), network=Scalar())
    with pytest.raises(ValueError, match="other weights"):
        MovingAverage(Scalar(), **PAGE).load_state_dict({"average": {"other": torch.zeros(())}})
