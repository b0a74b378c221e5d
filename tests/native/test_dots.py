"""Convolutions by products of bfloat16 tiles, forwards and backwards, against float64, and networks that use them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from hotlap.engine.network import forward_of
from hotlap.engine.precision import context
from hotlap.engine.program import Program
from hotlap.engine.updates import Updates
from hotlap.ladder import get_recipe
from hotlap.models import layers
from hotlap.native import library as lib
from hotlap.native.convolutions import TiledConvolutions
from hotlap.native.convolver import Convolution, Convolver
from hotlap.native.forking import fork
from hotlap.native.library import POOL_IN, POOL_NONE, POOL_OUT
from hotlap.recipe import Recipe

pytestmark = pytest.mark.skipif(lib.missing() is not None, reason="the package was installed without a C++ compiler")

CPU = torch.device("cpu")
TILES = ["plain", pytest.param("amx", marks=pytest.mark.skipif(not lib.has_amx(), reason="no matrix registers"))]


def images_of(*shape: int) -> Tensor:
    """Random numbers of bfloat16 in channels-last memory."""
    rng = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=rng).bfloat16().to(memory_format=torch.channels_last)


def sums(
    tiles: str, x: Tensor, dy: Tensor, pad: int, threads: int, *, own_threads: bool = False, index: Tensor | None = None
) -> Tensor:
    """The gradients of the filters as the kernels find them; with an index, dy is pooled."""
    n, channels, height, width = x.shape
    x, dy = x.permute(0, 2, 3, 1).contiguous(), dy.permute(0, 2, 3, 1).contiguous()
    index = None if index is None else index.permute(0, 2, 3, 1).contiguous()
    dw = torch.full((dy.shape[3], 9, channels), torch.nan)
    conv = Convolution(n, height, width, channels, dy.shape[3], pad, POOL_NONE if index is None else POOL_OUT)
    Convolver(None if own_threads else fork(), tiles).filters(
        conv, (9 * channels, 1, channels), x.data_ptr(), dy.data_ptr(), None if index is None else index.data_ptr(),
        dw.data_ptr(), threads,
    )  # fmt: skip
    return dw.view(-1, 3, 3, channels).permute(0, 3, 1, 2)


def exact_sums(x: Tensor, dy: Tensor, pad: int) -> Tensor:
    """The same by PyTorch in float64."""
    filters = torch.zeros(dy.shape[1], x.shape[1], 3, 3, dtype=torch.float64)
    found: Tensor = torch.ops.aten.convolution_backward(
        dy.double(), x.double(), filters, None, (1, 1), (pad, pad), (1, 1), False, (0, 0), 1, (False, True, False)
    )[1]
    return found


@pytest.mark.parametrize("tiles", TILES)
@given(
    n=st.integers(1, 12), channels=st.integers(1, 70), out=st.integers(1, 70), height=st.integers(3, 17),
    width=st.integers(3, 17), pad=st.integers(0, 2), threads=st.integers(1, 3),
)  # fmt: skip
@example(n=3, channels=24, out=64, height=31, width=31, pad=1, threads=2)
@example(n=150, channels=33, out=8, height=3, width=3, pad=1, threads=2)
@example(n=2, channels=8, out=8, height=50, width=60, pad=0, threads=3)
@settings(max_examples=25, deadline=None)
def test_equals_float64(
    tiles: str, n: int, channels: int, out: int, height: int, width: int, pad: int, threads: int
) -> None:
    x, dy = images_of(n, channels, height, width), images_of(n, out, height + 2 * pad - 2, width + 2 * pad - 2)
    found, exact = sums(tiles, x, dy, pad, threads), exact_sums(x, dy, pad)
    # Products of bfloat16 are exact in float32; only the sums are rounded.
    usual = (n * (height + 2 * pad - 2) * (width + 2 * pad - 2)) ** 0.5
    assert float((found - exact).abs().max()) < 1e-5 * max(usual, float(exact.abs().max()))


@pytest.mark.parametrize("tiles", TILES)
@given(
    n=st.integers(1, 5), channels=st.integers(1, 40), out=st.integers(1, 70), height=st.integers(4, 17),
    width=st.integers(4, 17), pad=st.integers(0, 2),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_pooled_gradients_belong_to_one_pixel_of_four(
    tiles: str, n: int, channels: int, out: int, height: int, width: int, pad: int
) -> None:
    x, rows, columns = images_of(n, channels, height, width), height + 2 * pad - 2, width + 2 * pad - 2
    pooled = images_of(n, out, rows // 2, columns // 2)
    index = index_of(*pooled.shape)
    dy = spread(pooled, index, rows, columns)
    found, exact = sums(tiles, x, pooled, pad, 2, index=index), exact_sums(x, dy, pad)
    assert float((found - exact).abs().max()) < 1e-5 * max(dy.numel() ** 0.5, float(exact.abs().max()))


@pytest.mark.parametrize("tiles", TILES)
def test_the_same_threads_give_the_same_bits_whoever_runs_them(tiles: str) -> None:
    x, dy = images_of(70, 40, 7, 7), images_of(70, 48, 7, 7)
    first = sums(tiles, x, dy, 1, 2)
    for own in (False, True):
        assert torch.equal(first, sums(tiles, x, dy, 1, 2, own_threads=own))


def convolved(
    tiles: str, x: Tensor, filters: Tensor, pad: int, pool: int, threads: int, *,
    size: tuple[int, int] | None = None, index: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """Outputs as the kernels find them; with an index and a size, x is pooled from images of that size."""
    n, channels, *sides = x.shape
    height, width = size or sides
    conv = Convolution(n, height, width, channels, len(filters), pad, pool)
    x, filters = x.permute(0, 2, 3, 1).contiguous(), filters.permute(0, 2, 3, 1).contiguous()
    y = torch.full((n, *conv.out_size, len(filters)), torch.nan, dtype=torch.bfloat16)
    if pool == POOL_OUT:
        index = torch.empty(y.shape, dtype=torch.uint8)
    elif index is not None:
        index = index.permute(0, 2, 3, 1).contiguous()
    Convolver(fork(), tiles).forward(
        conv, (9 * channels, 1, channels), x.data_ptr(), filters.data_ptr(), y.data_ptr(),
        None if index is None else index.data_ptr(), threads,
    )  # fmt: skip
    return y.permute(0, 3, 1, 2), None if index is None else index.permute(0, 3, 1, 2)


def exact_convolution(x: Tensor, filters: Tensor, pad: int) -> Tensor:
    """The same by PyTorch in float64, of filters rounded to bfloat16."""
    return functional.conv2d(x.double(), filters.bfloat16().double(), padding=pad)


def spread(pooled: Tensor, index: Tensor, rows: int, columns: int) -> Tensor:
    """Put each number into the place in its window that the index names."""
    whole = torch.zeros(*pooled.shape[:2], rows, columns, dtype=pooled.dtype)
    for corner in range(4):
        part = whole[:, :, corner // 2 : rows // 2 * 2 : 2, corner % 2 : columns // 2 * 2 : 2]
        part.copy_(pooled * (index == corner))
    return whole


@pytest.mark.parametrize("tiles", TILES)
@given(
    n=st.integers(1, 9), channels=st.integers(1, 70), out=st.integers(1, 70), height=st.integers(4, 17),
    width=st.integers(4, 17), pad=st.integers(0, 2), threads=st.integers(1, 3), seed=st.integers(0, 99),
)  # fmt: skip
@example(n=3, channels=24, out=64, height=31, width=31, pad=1, threads=2, seed=0)
@example(n=40, channels=33, out=32, height=4, width=4, pad=1, threads=2, seed=0)
@example(n=1, channels=8, out=8, height=50, width=60, pad=0, threads=3, seed=0)
@settings(max_examples=25, deadline=None)
def test_outputs_equal_float64(
    tiles: str, n: int, channels: int, out: int, height: int, width: int, pad: int, threads: int, seed: int
) -> None:
    x = images_of(n, channels, height, width)
    filters = torch.randn(out, channels, 3, 3, generator=torch.Generator().manual_seed(seed))
    exact = exact_convolution(x, filters, pad)
    # Rounded once, to 8 bits.
    near = {"rtol": 1.01 * 2**-8, "atol": 1e-5 * float(exact.abs().max())}
    found, _ = convolved(tiles, x, filters, pad, POOL_NONE, threads)
    assert torch.allclose(found.double(), exact, **near)
    pooled, index = convolved(tiles, x, filters, pad, POOL_OUT, threads)
    assert torch.allclose(pooled.double(), functional.max_pool2d(exact, 2), **near)
    assert index is not None
    chosen = spread(torch.ones_like(pooled), index, *exact.shape[2:]).double() * exact
    assert torch.allclose(4 * functional.avg_pool2d(chosen, 2), functional.max_pool2d(exact, 2), **near)
    back = index_of(n, channels, height // 2, width // 2)
    x = images_of(n, channels, height // 2, width // 2)
    found, _ = convolved(tiles, x, filters, pad, POOL_IN, threads, size=(height, width), index=back)
    exact = exact_convolution(spread(x, back, height, width), filters, pad)
    assert torch.allclose(found.double(), exact, rtol=1.01 * 2**-8, atol=1e-5 * float(exact.abs().max().clamp_min(1)))


def index_of(*shape: int) -> Tensor:
    """Random places in windows of 2×2."""
    return torch.randint(4, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("tiles", TILES)
def test_of_equal_outputs_the_first_is_chosen_and_no_nan_is_lost(tiles: str) -> None:
    x, filters = torch.zeros(1, 8, 6, 6, dtype=torch.bfloat16), torch.ones(8, 8, 3, 3)
    pooled, index = convolved(tiles, x, filters, 1, POOL_OUT, 1)
    assert index is not None and not index.any() and not pooled.any()
    x[0, 0, 5, 5] = torch.nan
    pooled, _ = convolved(tiles, x, filters, 1, POOL_OUT, 1)
    assert pooled[0, :, 2, 2].isnan().all() and pooled[0, :, :2, :2].isfinite().all()


def test_what_is_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    at = np.empty(9, np.float32).ctypes.data
    for tiles, conv, index in (
        ("plain", Convolution(1, 2, 2, 8, 8, 0, POOL_NONE), None),
        ("plain", Convolution(1, 8, 8, 8, 8, 3, POOL_NONE), None),
        ("plain", Convolution(1, 8, 8, 8, 8, 1, POOL_OUT), None),
        ("plain", Convolution(1, 8, 8, 8, 8, 1, POOL_NONE), at),
        ("mmx", Convolution(1, 8, 8, 8, 8, 1, POOL_NONE), None),
    ):
        for work in (Convolver(None, tiles).filters, Convolver(None, tiles).forward):
            with pytest.raises(ValueError, match="do not fit"):
                work(conv, (72, 1, 8), at, at, *((index, at) if "filters" in work.__name__ else (at, index)), 1)
    monkeypatch.setenv(lib.ISA_VARIABLE, "generic")
    assert not lib.has_amx()


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles in plain C++, wherever this runs."""
    monkeypatch.setattr("hotlap.native.convolutions.TILES", "plain")


def rounded(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Outputs and gradients of a network, computed with autocast, of a loss that is not linear."""
    images = images.detach().requires_grad_()
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = network(images)
    out.float().square().sum().backward()
    assert images.grad is not None
    return [out.detach(), images.grad, *(p.grad.clone() for p in network.parameters() if p.grad is not None)]


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pool", [True, False])
def test_a_convolution_is_that_of_autocast(channels_last: bool, dtype: torch.dtype, pool: bool) -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.MaxPool2d(2)

        def forward(self, images: Tensor) -> Tensor:
            convolved: Tensor = layers.convolve_and_pool(self.conv, self.pool, images) if pool else self.conv(images)
            return convolved

    torch.manual_seed(2)
    layer, images = Layer(), torch.randn(6, 16, 9, 9, dtype=dtype)
    if channels_last:
        layer, images = layer.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    expected = rounded(layer, images)
    with TiledConvolutions() as tiled:
        found = rounded(layer, images)
    assert tiled.used == 1
    # PyTorch chooses among rounded outputs, of which several may be the greatest.
    near = [1e-2, 0.1, 0.1] if pool else [1e-2] * 3
    for a, b, tolerance in zip(found, expected, near, strict=True):
        assert a.dtype is b.dtype
        assert float((a.float() - b.float()).norm()) < tolerance * float(b.float().norm())


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(16, 16, 5, padding=2, bias=False),
        nn.Conv2d(16, 16, 3, padding=1, stride=2, bias=False),
        nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(16, 16, 3, padding=1),
    ],
)
def test_other_convolutions_stay_with_pytorch(conv: nn.Conv2d) -> None:
    images = torch.randn(2, 16, 8, 8)
    with TiledConvolutions() as tiled:
        conv(images)
        nn.Conv2d(16, 16, 3, bias=False)(images)  # without autocast
        with torch.autocast("cpu", torch.bfloat16):
            conv(images)
    assert tiled.used == 0


@pytest.mark.usefixtures("plain")
def test_other_channels_and_no_images_are_left_to_pytorch() -> None:
    conv = nn.Conv2d(16, 24, 3, padding=1, bias=False)
    with TiledConvolutions() as tiled, torch.autocast("cpu", torch.bfloat16):
        assert conv(torch.zeros(0, 16, 8, 8)).shape == (0, 24, 8, 8)
        with pytest.raises(RuntimeError, match="channels"):
            conv(torch.zeros(2, 32, 8, 8))
    assert tiled.used == 0


def small(**changes: object) -> Recipe:
    """The record for a CPU with narrow layers."""
    return get_recipe("cifar10/record-cpu").with_changes(
        {"engine.precision": "bf16", "model.widths": (16, 24, 16), "batch_size": 20, **changes}
    )


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.usefixtures("plain")
def test_a_network_learns_the_same_with_and_without(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotlap.engine.network.has_amx", lambda: True)
    torch.manual_seed(1)
    images, labels = torch.randn(20, 3, 32, 32), torch.arange(20) % 10
    losses: list[list[float]] = []
    for on in (True, False):
        torch.manual_seed(0)
        recipe = small(**{"engine.amx": on, "engine.fused": fused and on})
        program = Program(recipe, (3, 32, 32), 10, CPU, 1)
        updates = Updates(recipe, program.weights(recipe))
        losses.append([])
        for step in range(5):
            updates.zero_grad()
            with context(program.precision, CPU):
                loss = program.losses(images, labels)
            program.backward(loss)
            updates.step(step, 20, 5)
            losses[-1].append(float(loss.detach()))
        assert (program.forward is program.network) is not on
    np.testing.assert_allclose(losses[0], losses[1], rtol=0.02)
    assert losses[0][-1] < losses[0][0]


def test_modules_of_others_keep_what_they_call_fused() -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    network.fused = nn.Conv2d(1, 1, 1)
    forward_of(network, small(), "bf16")
    assert isinstance(network.fused, nn.Conv2d)


def test_used_only_where_it_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotlap.engine.network.has_amx", lambda: True)
    network = nn.Linear(2, 2)
    assert forward_of(network, small(), "bf16") is not network
    assert forward_of(network, small(**{"engine.amx": False}), "bf16") is network
    assert forward_of(nn.Linear(2, 2).to("meta"), small(), "bf16").__class__ is nn.Linear
    monkeypatch.setattr("hotlap.engine.network.has_amx", lambda: False)
    assert forward_of(network, small(), "bf16") is network
