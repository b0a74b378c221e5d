"""Convolutions of batches: forwards and backwards against float64, and what they leave to PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from hotlap.engine.network import forward_of
from hotlap.engine.program import Program
from hotlap.engine.updates import Updates
from hotlap.errors import InputError
from hotlap.ladder import get_recipe
from hotlap.models import layers
from hotlap.native import convolutions as made
from hotlap.native import forking
from hotlap.native import library as lib
from hotlap.native.convolver import Convolution, Convolver
from hotlap.native.library import POOL_NONE, POOL_OUT
from hotlap.recipe import Recipe
from normalising import defaults

pytestmark = pytest.mark.skipif(lib.missing() is not None, reason="the package was installed without a C++ compiler")

CPU = torch.device("cpu")


class Calls(made.WinogradConvolutions):
    """Counts what the kernels are asked to do."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        forward = self._convolver.forward

        def counted(*args: object) -> None:
            self.count += 1
            forward(*args)  # type: ignore[arg-type]

        self._convolver.forward = counted  # type: ignore[method-assign, assignment]


def layer(channels: int, out: int, pad: int, pool: bool) -> nn.Module:
    """A convolution without bias, or one with pooling behind it."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(channels, out, 3, padding=pad, bias=False), nn.MaxPool2d(2)

        def forward(self, images: Tensor) -> Tensor:
            return layers.convolve_and_pool(self.conv, self.pool, images)

    return Pooled() if pool else nn.Conv2d(channels, out, 3, padding=pad, bias=False)


def passes(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Outputs, and gradients of images and filters, of a loss that is not linear."""
    images = images.detach().requires_grad_()
    network.zero_grad()
    out = network(images)
    out.square().sum().backward()
    assert images.grad is not None
    return [out.detach(), images.grad, *(p.grad.clone() for p in network.parameters() if p.grad is not None)]


EXACT = {2: 1e-6, 3: 5e-6, 4: 1e-5, 5: 2e-5, 6: 2e-5, 7: 5e-5, 8: 7e-5}
"""Most that rounding may change outputs and gradients by, by the side of the tiles."""


def relative(found: Tensor, exact: Tensor, usual: float = 1e-30) -> float:
    """Error relative to the size of ``exact``, or to its ``usual`` size where that is larger."""
    return float((found.double() - exact).norm() / exact.norm().clamp_min(usual))


def usual_size(images: Tensor, filters: Tensor, pad: int, count: int) -> float:
    """The size of ``count`` outputs if terms have random signs: a few outputs may by chance be much smaller.

    Rounding is as large as the terms, however much they cancel one another.
    """
    each = filters.square().mean((2, 3), keepdim=True).expand_as(filters)
    return float((functional.conv2d(images.square(), each, padding=pad).mean() * count).sqrt())


class ChosenMax(nn.Module):
    """Max-pooling in which ``index`` says, as the kernels do, which of the four outputs of each window passes.

    Of two outputs that differ by less than rounding either may be the larger one, and the whole gradient of a window
    goes to the one that is: gradients can be compared only where both choose alike. A choice that rounding, ``within``
    of the largest output, does not explain fails.
    """

    def __init__(self, index: Tensor, within: float) -> None:
        super().__init__()
        self.index, self.within = index.long(), within

    def forward(self, outputs: Tensor) -> Tensor:
        windows = outputs.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
        chosen = windows.gather(4, self.index.unsqueeze(4)).squeeze(4)
        assert (windows.amax(4) - chosen).max() <= self.within * outputs.abs().max()
        return chosen


@pytest.mark.parametrize("name", lib.instruction_sets())
@given(
    n=st.integers(1, 7), channels=st.integers(8, 37), out=st.integers(8, 37), height=st.integers(2, 14),
    width=st.integers(2, 14), pad=st.integers(0, 2), pool=st.booleans(), last=st.booleans(), threads=st.integers(1, 3),
    seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_outputs_and_gradients_are_those_of_float64(
    name: str, n: int, channels: int, out: int, height: int, width: int, pad: int, pool: bool, last: bool,
    threads: int, seed: int,
) -> None:  # fmt: skip
    if min(height, width) + 2 * pad - 2 < (2 if pool else 1):
        return
    torch.manual_seed(seed)
    network = layer(channels, out, pad, pool)
    images = torch.randn(n, channels, height, width)
    if last:
        network, images = (x.to(memory_format=torch.channels_last) for x in (network, images))
    kept: list[Tensor] = []
    before = torch.get_num_threads()

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(lib.ISA_VARIABLE, name)
        torch.set_num_threads(threads)
        try:
            with Calls() as calls, saved_tensors_hooks(keep, lambda tensor: tensor):
                found = passes(network, images)
        finally:
            torch.set_num_threads(before)
    assert calls.count == 2
    network, images = network.double(), images.double()
    if pool:
        with torch.no_grad():
            assert relative(found[0], network(images)) < EXACT[8]
        (index,) = (x for x in kept if x.dtype is torch.uint8)
        network.pool = ChosenMax(index, EXACT[8])
    for now, exact in zip(found, passes(network, images), strict=True):
        assert now.shape == exact.shape
        assert relative(now, exact) < EXACT[8]


@pytest.mark.parametrize("name", lib.instruction_sets())
@pytest.mark.parametrize("tile", EXACT)
@given(
    n=st.integers(1, 4), channels=st.integers(1, 37), out=st.integers(1, 37), height=st.integers(1, 19),
    width=st.integers(1, 19), pad=st.integers(0, 2), pool=st.booleans(), threads=st.integers(1, 2),
    seed=st.integers(0, 99),
)  # fmt: skip
# The two largest outputs of one of its windows are 6.27923 and 6.27949, which tiles of 8 take for one another.
@example(n=4, channels=11, out=3, height=5, width=17, pad=2, pool=True, threads=1, seed=57)
# The terms of its only output cancel one another: it is -0.0002, where some 10 is usual.
@example(n=1, channels=34, out=1, height=2, width=3, pad=1, pool=True, threads=1, seed=64921)
@settings(max_examples=15, deadline=None)
def test_tiles_of_every_size_are_as_exact_as_they_should_be(
    name: str, tile: int, n: int, channels: int, out: int, height: int, width: int, pad: int, pool: bool, threads: int,
    seed: int,
) -> None:  # fmt: skip
    if min(height, width) + 2 * pad - 2 < (2 if pool else 1):
        return
    torch.manual_seed(seed)
    last = torch.channels_last
    images = torch.randn(n, channels, height, width).contiguous(memory_format=last)
    filters = torch.randn(out, channels, 3, 3).contiguous(memory_format=last)
    exact_images, exact_filters = (x.double().requires_grad_() for x in (images, filters))
    outputs = functional.conv2d(exact_images, exact_filters, padding=pad)
    exact = functional.max_pool2d(outputs, 2) if pool else outputs
    gradient = torch.randn(exact.shape).contiguous(memory_format=last)
    conv = Convolution(n, height, width, channels, out, pad, POOL_OUT if pool else POOL_NONE, tile)
    found = torch.empty(exact.shape, memory_format=last)
    index, of_filters = torch.empty(found.shape, dtype=torch.uint8, memory_format=last), torch.empty_like(filters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(lib.ISA_VARIABLE, name)
        convolver = Convolver(None)
    strides, at = (9 * channels, 1, channels), [x.data_ptr() for x in (images, filters, found, index, of_filters)]
    # A window of the pooling may not lie in two tiles.
    if pool and tile % 2 and max(exact.shape[2:]) * 2 > tile:
        with pytest.raises(ValueError, match="do not fit"):
            convolver.forward(conv, strides, *at[:4], threads)
        return
    convolver.forward(conv, strides, *at[:4], threads)
    convolver.filters(conv, strides, at[0], gradient.data_ptr(), at[3], at[4], threads)
    usual = usual_size(images, filters, pad, found.numel())
    assert relative(found, exact.detach(), usual) < EXACT[tile]
    (ChosenMax(index, EXACT[tile])(outputs) if pool else outputs).backward(gradient.double())
    assert exact_filters.grad is not None and relative(of_filters, exact_filters.grad) < EXACT[tile]


@pytest.mark.parametrize(
    ("sizes", "side"),
    # Of 94-muon: 30 rows behind pooling are five tiles of 6 and four of 8; 15 are two of 8; 7 and 3 fit into one tile.
    [((31, POOL_OUT), 6), ((15, POOL_NONE), 8), ((7, POOL_NONE), 7), ((7, POOL_OUT), 6), ((3, 0), 3)],
)
def test_the_tiles_are_those_with_the_fewest_products(sizes: tuple[int, int], side: int) -> None:
    rng, (size, pool) = np.random.default_rng(0), sizes
    x, filters = (rng.normal(size=shape).astype(np.float32) for shape in ((300, size, size, 8), (8, 9, 8)))
    found = []
    for tile in (0, side):
        conv = Convolution(300, size, size, 8, 8, 1, pool, tile)
        y = np.empty((300, *conv.out_size, 8), np.float32)
        index = np.empty(y.shape, np.uint8)
        at = [array.ctypes.data for array in (x, filters, y, index)]
        Convolver(None).forward(conv, (72, 1, 8), *at, 2)
        found.append(y)
    np.testing.assert_array_equal(*found)


def test_pooling_keeps_the_first_of_equals_as_pytorch_does() -> None:
    network = layer(8, 8, 1, pool=True).to(memory_format=torch.channels_last)
    torch.nn.init.dirac_(network.conv.weight)  # type: ignore[arg-type]
    images = torch.ones(2, 8, 6, 6)
    with Calls() as calls:
        found = passes(network, images)
    assert calls.count == 2
    for now, exact in zip(found, passes(network, images), strict=True):
        torch.testing.assert_close(now, exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_same_threads_give_the_same_bits_whoever_runs_them(threads: int) -> None:
    rng = np.random.default_rng(3)
    x, filters = rng.normal(size=(9, 11, 10, 24)), rng.normal(size=(16, 9, 24))
    x, filters = x.astype(np.float32), filters.astype(np.float32)
    conv = Convolution(9, 11, 10, 24, 16, 1, POOL_OUT)
    results = []
    for fork in (forking.fork(), None, None):
        y = np.empty((9, 5, 5, 16), np.float32)
        index, dw = np.empty(y.shape, np.uint8), np.empty_like(filters)
        convolver = Convolver(fork)
        at = [array.ctypes.data for array in (x, filters, y, index, dw)]
        convolver.forward(conv, (9 * 24, 1, 24), at[0], at[1], at[2], at[3], threads)
        convolver.filters(conv, (9 * 24, 1, 24), at[0], at[2], at[3], at[4], threads)
        results.append((y, index, dw))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("conv", "images"),
    [
        (nn.Conv2d(16, 16, 5, padding=2, bias=False), torch.ones(2, 16, 8, 8)),
        (nn.Conv2d(16, 16, 3, padding=1, stride=2, bias=False), torch.ones(2, 16, 8, 8)),
        (nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False), torch.ones(2, 16, 8, 8)),
        (nn.Conv2d(16, 16, 3, padding=1), torch.ones(2, 16, 8, 8)),
        (nn.Conv2d(16, 16, 3, padding=1, dilation=2, bias=False), torch.ones(2, 16, 8, 8)),
        (nn.Conv2d(16, 16, 3, padding="same", bias=False), torch.ones(2, 16, 8, 8)),
        (nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect", bias=False), torch.ones(2, 16, 8, 8)),
        (nn.Conv2d(3, 16, 3, padding=1, bias=False), torch.ones(2, 3, 8, 8)),
        (nn.Conv2d(16, 16, 3, padding=1, bias=False).double(), torch.ones(2, 16, 8, 8).double()),
        (nn.Conv2d(16, 16, 3, padding=1, bias=False), torch.ones(16, 8, 8)),
    ],
)
def test_other_convolutions_stay_with_pytorch(conv: nn.Conv2d, images: Tensor) -> None:
    with Calls() as calls:
        found = conv(images)
    assert calls.count == (1 if conv.padding_mode == "reflect" else 0)
    torch.testing.assert_close(found, conv(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3), nn.MaxPool2d(2, ceil_mode=True), nn.AvgPool2d(2)])
def test_other_pooling_is_done_by_pytorch(pool: nn.Module) -> None:
    conv, images = nn.Conv2d(16, 16, 3, padding=1, bias=False), torch.randn(2, 16, 9, 9)
    with Calls() as calls:
        found = layers.convolve_and_pool(conv, pool, images)
    assert calls.count == 1
    torch.testing.assert_close(found, pool(conv(images)), atol=1e-5, rtol=1e-5)


def test_sizes_out_of_range_are_refused() -> None:
    at = np.empty(9, np.float32).ctypes.data
    for conv in (
        Convolution(1, 1, 1, 8, 8, 0, 0),
        Convolution(1, 8, 8, 8, 8, 3, 0),
        Convolution(1, 8, 8, 8, 8, 1, 0, 9),
    ):
        with pytest.raises(ValueError, match="do not fit"):
            Convolver(None).forward(conv, (72, 1, 8), at, at, at, None, 1)


def small(**changes: object) -> Recipe:
    """94-muon with narrow layers."""
    recipe = get_recipe("cifar10-airbench/94-muon")
    return recipe.with_changes(
        {"engine.precision": "fp32", "model.widths": (16, 24, 16), "batch_size": 20, "engine.winograd": True, **changes}
    )


@pytest.mark.parametrize("fused", [True, False])
def test_a_network_learns_the_same_with_and_without(fused: bool) -> None:
    torch.manual_seed(1)
    images, labels = torch.randn(20, 3, 32, 32), torch.arange(20) % 10
    losses: list[list[float]] = []
    for on in (True, False):
        torch.manual_seed(0)
        recipe = small(**{"engine.winograd": on, "engine.fused": fused and on})
        program = Program(recipe, (3, 32, 32), 10, CPU, 1)
        updates = Updates(recipe, program.weights(recipe))
        losses.append([])
        for step in range(5):
            updates.zero_grad()
            loss = program.losses(images, labels)
            program.backward(loss)
            updates.step(step, 20, 5)
            losses[-1].append(float(loss.detach()))
        assert (program.forward is program.network) is not on
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-3)
    assert losses[0][-1] < losses[0][0]


def test_without_kernels_or_float32_the_network_itself_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, network = small(), nn.Linear(2, 2)
    assert forward_of(network, recipe, "fp32") is not network
    assert forward_of(network, recipe.with_changes({"engine.amx": False}), "bf16") is network
    assert forward_of(network.to("meta"), recipe, "fp32") is network
    monkeypatch.setattr("hotlap.engine.network.missing", lambda: "no compiler")
    assert forward_of(nn.Linear(2, 2), recipe, "fp32").__class__ is nn.Linear


def test_compiled_networks_do_not_go_with_them() -> None:
    with pytest.raises(InputError, match=r"torch\.compile"):
        forward_of(nn.Linear(2, 2), small(**{"engine.compile": True}), "fp32")


def test_functional_calls_with_names_stay_with_pytorch() -> None:
    images, filters = torch.randn(1, 16, 8, 8), torch.randn(16, 16, 3, 3)
    with Calls() as calls:
        functional.conv2d(images, filters, padding=1)
    assert calls.count == 0


@pytest.mark.parametrize("sizes", [(1, 1, 1), ((1, 1), [1], (1,)), ([1, 1], (1, 1), [1, 1])])
def test_sizes_as_pytorch_takes_them(sizes: tuple[Any, Any, Any]) -> None:
    images, filters = torch.randn(1, 16, 8, 8), torch.randn(16, 16, 3, 3)
    with Calls():
        found = functional.conv2d(images, filters, None, *sizes)
    torch.testing.assert_close(found, functional.conv2d(images, filters, None, *sizes), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("channels", [8, 32])
@pytest.mark.parametrize("pool", [True, False])
def test_other_channels_than_the_filters_are_refused_in_pytorchs_words(channels: int, pool: bool) -> None:
    network = layer(16, 24, 1, pool)
    with made.WinogradConvolutions(), pytest.raises(RuntimeError, match="channels"):
        network(torch.randn(2, channels, 8, 8).to(memory_format=torch.channels_last))


@pytest.mark.parametrize("shape", [(0, 16, 8, 8), (2, 16, 1, 1), (2, 16, 2, 1)])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("pad", [0, 1])
def test_images_that_leave_nothing_are_treated_as_pytorch_does(shape: tuple[int, ...], pool: bool, pad: int) -> None:
    network, images = layer(16, 24, pad, pool), torch.randn(shape)

    def outcome() -> Tensor | type[Exception]:
        try:
            return passes(network, images)[0]
        except RuntimeError as error:
            return type(error)

    with made.WinogradConvolutions():
        found = outcome()
    expected = outcome()
    if isinstance(expected, Tensor):
        assert isinstance(found, Tensor)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    else:
        assert found is expected


def test_the_kernels_take_memory_on_the_cpu_whatever_the_defaults_are() -> None:
    network, images = layer(16, 24, 1, pool=True), torch.randn(2, 16, 8, 8)
    with made.WinogradConvolutions():
        expected = passes(network, images)
        with defaults(torch.bfloat16, "meta"):
            found = passes(network, images)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
