"""Kernels alone: gradients against float64, views, state, and what they refuse."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from hotlap.engine.feed import normalised
from hotlap.errors import InputError
from hotlap.models import MODELS
from hotlap.native import library as lib
from hotlap.native.family import Stack, stack_of
from hotlap.recipe import part
from hotlap.techniques.views import Term, views_of
from rounding import decides

pytestmark = pytest.mark.skipif(lib.missing() is not None, reason="the package was installed without a C++ compiler")

MEAN, STD = (0.3, 0.1, 0.5), (0.3, 0.5, 0.2)


@st.composite
def networks(draw: st.DrawFn) -> tuple[tuple[int, int, int], int, nn.Sequential]:
    """A shape of images, a number of classes, and a stack that goes with them."""
    shape = draw(st.sampled_from((1, 2, 3))), draw(st.integers(11, 17)), draw(st.integers(11, 17))
    count = draw(st.integers(1, 2))
    kernels = [draw(st.integers(1, 7 if i == 0 else 3)) for i in range(count)]
    pools = [draw(st.sampled_from((1, 2, 2, 3) if i == 0 else (1, 2))) for i in range(count)]
    options: dict[str, Any] = {
        "crop": draw(st.sampled_from((None, 10, 11))),
        "widths": [draw(st.integers(1, 37)) for _ in range(count)],
        "kernels": kernels,
        "padding": [draw(st.integers(0, kernel - 1)) for kernel in kernels],
        "pools": pools,
        "pooling": draw(st.sampled_from(("max", "average"))),
        "order": draw(st.sampled_from(("pool-activation", "activation-pool"))),
        "hidden": draw(st.lists(st.integers(1, 40), max_size=2)),
    }
    classes = draw(st.integers(2, 21))
    torch.manual_seed(draw(st.integers(0, 100)))
    try:
        return shape, classes, MODELS.build(part("lean-stack", **options), shape=shape, classes=classes)
    except InputError:
        options |= {"pools": [1] * count, "crop": None}
        return shape, classes, MODELS.build(part("lean-stack", **options), shape=shape, classes=classes)


def made(
    stack: Stack,
    shape: tuple[int, int, int],
    classes: int,
    threads: int,
    smoothing: float = 0.1,
    zero_mean: bool = False,
) -> lib.Network:
    mean = (0.0,) * shape[0] if zero_mean else MEAN[: shape[0]]
    rules = np.zeros(2 * len(stack.layers), lib.Rule)
    net = lib.Network(shape, stack.crop, classes, stack.layers, rules, mean, STD[: shape[0]], smoothing, threads)
    net.parameters = stack.gathered()
    return net


def some_images(shape: tuple[int, int, int], count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random images of which a third of the pixels is 0, whole corners among them."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    images[rng.random(images.shape) < 0.2] = 0
    images[:, :, :6, :6] = 0
    return images


def in_float64(images: NDArray[np.uint8], zero_mean: bool = False) -> torch.Tensor:
    channels = images.shape[1]
    mean = (0.0,) * channels if zero_mean else MEAN[:channels]
    return normalised(
        images, mean, STD[:channels], torch.device("cpu"), torch.contiguous_format, torch.float32
    ).double()


@given(networks(), st.integers(1, 3), st.booleans(), st.integers(1, 60))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_gradients_equal_those_in_float64(
    network: tuple[tuple[int, int, int], int, nn.Sequential], threads: int, zero_mean: bool, count: int
) -> None:
    shape, classes, module = network
    stack = stack_of(module)
    net = made(stack, shape, classes, threads, zero_mean=zero_mean)
    images = some_images(shape, count)
    labels = np.random.default_rng(1).integers(0, classes, count, np.int32)
    every, still = np.arange(count, dtype=np.int64), np.zeros((count, 3), np.int16)
    loss, gradients = net.gradients(images, labels, every, still)

    def in_pytorch() -> tuple[float, NDArray[np.float64]]:
        exact = copy.deepcopy(module).double()
        expected = functional.cross_entropy(
            exact(in_float64(images, zero_mean)), torch.from_numpy(labels).long(), label_smoothing=0.1
        )
        expected.backward()
        flat = torch.cat([p.grad.reshape(-1) for p in exact.parameters() if p.grad is not None])
        return expected.item(), flat.numpy()

    expected, flat = in_pytorch()
    assert loss == pytest.approx(expected, rel=1e-5)
    most = 1e-3 * np.linalg.norm(flat) + 1e-7
    if np.linalg.norm(gradients - flat) > most:
        assume(not decides(lambda: float(np.linalg.norm(in_pytorch()[1] - flat)), float(most)))
    # Of two fields that differ by less than rounding either may be the larger one, hence not element by element.
    assert np.linalg.norm(gradients - flat) <= most
    assert np.array_equal(net.parameters, stack.gathered())


@given(networks(), st.integers(1, 3))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_logits_of_views_equal_the_networks_own(
    network: tuple[tuple[int, int, int], int, nn.Sequential], threads: int
) -> None:
    shape, classes, module = network
    net = made(stack_of(module), shape, classes, threads)
    images = some_images(shape, 30)
    terms = (Term(0.5, 0, 0, False), Term(0.2, -2, 1, False), Term(0.2, 1, -2, True), Term(0.1, 0, 3, True))
    views = np.array([(t.dy, t.dx, t.mirrored, 0, t.weight) for t in terms], lib.View)
    which = np.array([29, 3, 3, 0, 17], np.int64)
    with torch.no_grad():
        expected = sum(w * module.double()(view) for w, view in views_of(in_float64(images[which]), terms))
    found = net.logits(images, which, views)
    assert torch.allclose(torch.from_numpy(found).double(), expected, rtol=1e-4, atol=1e-5)
    again = net.logits(images, which, views, found.copy())
    assert np.allclose(again, 2 * found, rtol=1e-5, atol=1e-5)


def plain_network() -> tuple[nn.Sequential, Stack]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(100, 3))
    return module, stack_of(module)


def test_parameters_go_in_and_out_unchanged() -> None:
    module, stack = plain_network()
    net = made(stack, (1, 12, 12), 3, 1)
    values = np.random.default_rng(0).standard_normal(len(stack.gathered())).astype(np.float32)
    net.parameters = values
    assert np.array_equal(net.parameters, values)
    stack.put_back(values)
    assert np.array_equal(stack.gathered(), values)
    assert np.array_equal(next(module.parameters()).detach().numpy().ravel(), values[:36])
    with pytest.raises(ValueError, match="parameters"):
        net.parameters = values[:-1]


def test_a_missing_bias_stays_zero() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3, bias=False))
    stack = stack_of(module)
    net = made(stack, (1, 12, 12), 3, 2)
    images = some_images((1, 12, 12), 5)
    found = net.logits(images, np.arange(5, dtype=np.int64), np.array([(0, 0, 0, 0, 1.0)], lib.View))
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(found), module(in_float64(images).float()), atol=1e-5)


def test_what_does_not_fit_together_is_refused() -> None:
    _, stack = plain_network()
    net = made(stack, (1, 12, 12), 3, 1)
    images = some_images((1, 12, 12), 4)
    view = np.array([(0, 0, 0, 0, 1.0)], lib.View)
    with pytest.raises(ValueError, match="no such images"):
        net.logits(images, np.array([4], np.int64), view)
    with pytest.raises(ValueError, match="images are"):
        net.logits(some_images((1, 12, 13), 4), np.array([0], np.int64), view)
    with pytest.raises(ValueError, match="contiguous"):
        net.logits(images[:, :, ::-1], np.array([0], np.int64), view)
    with pytest.raises(ValueError, match="do not fit together"):
        made(stack, (1, 2, 2), 3, 1)
    with pytest.raises(ValueError, match="do not fit together"):
        made(stack, (1, 12, 12), 3, 1000)
    with pytest.raises(ValueError, match="each channel"):
        lib.Network((1, 12, 12), 0, 3, stack.layers, np.zeros(4, lib.Rule), MEAN, STD, 0.0, 1)
    with pytest.raises(ValueError, match="other kernels"):
        net.restore(np.zeros(3, np.float32), 0)


def test_the_best_instruction_set_is_used_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    there = lib.instruction_sets()
    assert there[-1] == "generic"
    monkeypatch.delenv(lib.ISA_VARIABLE, raising=False)
    assert lib.chosen_instruction_set() == there[0]
    monkeypatch.setenv(lib.ISA_VARIABLE, "generic")
    assert lib.chosen_instruction_set() == "generic"
    monkeypatch.setenv(lib.ISA_VARIABLE, "mmx")
    with pytest.raises(InputError, match=f"HOTLAP_ISA=mmx, but there is only {', '.join(there)} → unset HOTLAP_ISA"):
        lib.chosen_instruction_set()


@pytest.mark.parametrize("instruction_set", ["generic", "avx2", "avx512"])
def test_every_instruction_set_computes_the_same(instruction_set: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if instruction_set not in lib.instruction_sets():
        pytest.skip(f"this processor has no {instruction_set}, or the compiler had not")
    monkeypatch.setenv(lib.ISA_VARIABLE, instruction_set)
    torch.manual_seed(0)
    module: nn.Sequential = MODELS.build(
        part(
            "lean-stack", crop=22, widths=(13, 20), kernels=(3, 3), padding=(0, 1), pools=(2, 2), pooling="max",
            order="pool-activation", hidden=(33,),
        ),
        shape=(1, 28, 28),
        classes=10,
    )  # fmt: skip
    net = made(stack_of(module), (1, 28, 28), 10, 2, zero_mean=True)
    images = some_images((1, 28, 28), 40)
    labels = np.arange(40, dtype=np.int32) % 10
    loss, gradients = net.gradients(images, labels, np.arange(40, dtype=np.int64), np.zeros((40, 3), np.int16))
    exact = copy.deepcopy(module).double()
    expected = functional.cross_entropy(
        exact(in_float64(images, zero_mean=True)), torch.from_numpy(labels).long(), label_smoothing=0.1
    )
    expected.backward()
    flat = torch.cat([p.grad.reshape(-1) for p in exact.parameters() if p.grad is not None]).numpy()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert np.linalg.norm(gradients - flat) <= 1e-3 * np.linalg.norm(flat)


def test_without_a_library_there_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib, "kernels", lambda: "the package was installed without a C++ compiler")
    assert lib.missing() == "the package was installed without a C++ compiler"
    assert lib.instruction_sets() == ()
    with pytest.raises(InputError, match="no compiled kernels: the package was installed without a C\\+\\+ compiler"):
        lib.chosen_instruction_set()
