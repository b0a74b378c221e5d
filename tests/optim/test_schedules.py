from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hotlap.errors import InputError
from hotlap.optim import OPTIMIZERS, SCHEDULES
from hotlap.optim.weights import Weights
from hotlap.recipe import part


def torch_factors(make, total: int) -> list[float]:  # type: ignore[no-untyped-def]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(total):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(found) < total:
            scheduler.step()
    return found


@given(
    total=st.integers(2, 300),
    warmup=st.floats(0.0, 1.0),
    shape=st.sampled_from(["cos", "linear"]),
    start=st.floats(1.0, 50.0),
    end=st.floats(1.0, 1e4),
)
def test_one_cycle_is_pytorchs(total: int, warmup: float, shape: str, start: float, end: float) -> None:
    # Where the peak falls on no step or the first one, PyTorch divides by zero.
    if not 1 < warmup * total < total - 1:
        return
    ours = SCHEDULES.build(
        part("one-cycle", warmup=warmup, shape=shape, start_factor=1 / start, end_factor=1 / start / end)
    )
    theirs = torch_factors(
        lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, 1.0, total_steps=total, pct_start=warmup, div_factor=start, final_div_factor=end,
            anneal_strategy=shape, cycle_momentum=False,
        ),
        total,
    )  # fmt: skip
    assert [ours(step, total, 10) for step in range(total)] == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@given(total=st.integers(1, 50), warmup=st.floats(0, 1), shape=st.sampled_from(["cos", "linear"]))
def test_one_cycle_is_finite_and_bounded_for_any_length(total: int, warmup: float, shape: str) -> None:
    factor = SCHEDULES.build(part("one-cycle", warmup=warmup, shape=shape, start_factor=0.1, end_factor=0.0))
    assert all(-1e-12 <= factor(step, total, 7) <= 1 + 1e-12 for step in range(total))


def test_step_is_pytorchs() -> None:
    ours = SCHEDULES.build(part("step", every_epochs=2, factor=0.7))
    theirs = torch_factors(lambda o: torch.optim.lr_scheduler.StepLR(o, step_size=20, gamma=0.7), 100)
    assert [ours(step, 100, 10) for step in range(100)] == pytest.approx(theirs)


def test_piecewise_goes_through_its_knots() -> None:
    factor = SCHEDULES.build(part("piecewise", epochs=(0, 5, 24), factors=(0.0, 0.4, 0.0)))
    # As Page counts, the step that ends at a knot has the knot's factor.
    assert [factor(step, 240, 10) for step in (24, 49, 239, 300)] == pytest.approx([0.2, 0.4, 0, 0])
    assert factor(0, 240, 10) == pytest.approx(0.4 / 50)


@pytest.mark.parametrize(("warmup", "end", "total"), [(0.23, 0.07, 476), (0.1, 0.0, 1776), (0.0, 0.0, 7)])
def test_triangle_is_airbenchs(warmup: float, end: float, total: int) -> None:
    rising = int(total * warmup)

    def published(step: int) -> float:
        if step < rising:
            done = step / rising
            return 0.2 * (1 - done) + done
        done = (step - rising) / (total - rising)
        return 1 - done + end * done

    ours = SCHEDULES.build(part("triangle", warmup=warmup, start_factor=0.2, end_factor=end))
    assert [ours(step, total, 48) for step in range(total)] == pytest.approx([published(s) for s in range(total)])


def test_linear_is_airbenchs() -> None:
    whole, first = (SCHEDULES.build(part("linear", epochs=epochs)) for epochs in (None, 3))
    assert [whole(step, 200, 25) for step in range(200)] == pytest.approx([1 - s / 200 for s in range(200)])
    assert [first(step, 200, 25) for step in range(200)] == pytest.approx([max(0, 1 - s / 75) for s in range(200)])


def test_constant() -> None:
    assert SCHEDULES.build(part("constant"))(3, 10, 5) == 1.0


@pytest.mark.parametrize(
    "component",
    [
        part("one-cycle", warmup=1.5, shape="cos", start_factor=0.1, end_factor=0.0),
        part("one-cycle", warmup=0.5, shape="round", start_factor=0.1, end_factor=0.0),
        part("step", every_epochs=0, factor=0.7),
        part("piecewise", epochs=(0, 5), factors=(1.0,)),
        part("piecewise", epochs=(5, 0), factors=(1.0, 0.0)),
        part("one-cycle", warmup=0.5),
        part("one-cicle"),
        part("triangle", warmup=1.5, start_factor=0.2, end_factor=0.07),
        part("linear", epochs=0),
    ],
    ids=repr,
)
def test_bad_schedules_are_refused(component) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="schedule"):
        SCHEDULES.build(component)


@pytest.mark.parametrize(
    "component",
    [
        part("adam", lr=0.01, betas=(0.7, 0.9), eps=1e-8),
        part("adadelta", lr=1.0, rho=0.9, eps=1e-6),
        part("sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0),
    ],
    ids=lambda c: c.name,
)
def test_every_optimizer_lowers_a_parabola(component) -> None:  # type: ignore[no-untyped-def]
    weight = torch.nn.Parameter(torch.tensor([3.0]))
    optimizer = OPTIMIZERS.build(component, params=Weights({}, [weight], 1))
    for _ in range(20):
        optimizer.zero_grad()
        (weight**2).sum().backward()
        optimizer.step()
    assert abs(weight.item()) < 3.0


def test_bad_optimizer_options_are_refused() -> None:
    with pytest.raises(InputError, match="cannot be built"):
        OPTIMIZERS.build(
            part("adam", lr=-1.0, betas=(0.7, 0.9), eps=1e-8),
            params=Weights({}, [torch.nn.Parameter(torch.zeros(1))], 1),
        )
    with pytest.raises(InputError, match="did you mean 'betas'"):
        OPTIMIZERS.build(part("adam", lr=1.0, beta=(0.7, 0.9), eps=1e-8), params=Weights({}, [], 1))
