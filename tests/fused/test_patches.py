"""A fixed convolution and its activation in one kernel against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

import triton_there

pytest.importorskip("triton", minversion=triton_there.OLDEST, reason=triton_there.LACKING)

from hotlap.fused import launch, patches

pytestmark = pytest.mark.gpu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# The interpreter cuts float32 off to bfloat16.
HALF = {torch.float16: 0.6 * 2**-10, torch.bfloat16: (0.6 if DEVICE == "cuda" else 1.1) * 2**-7}


def layer(channels: int, out: int, side: int, dtype: torch.dtype = torch.float32):  # type: ignore[no-untyped-def]
    rng = torch.Generator().manual_seed(channels + out)
    images = torch.randn((3, channels, 7, 6), generator=rng).to(DEVICE, dtype)
    weight = torch.randn((out, channels, side, side), generator=rng).to(DEVICE, dtype)
    bias = torch.randn(out, generator=rng).to(DEVICE, dtype)
    return images.contiguous(memory_format=torch.channels_last), weight, bias


@pytest.mark.parametrize("act", [nn.ReLU(), nn.SiLU(), nn.GELU(), nn.CELU(0.3)], ids=lambda act: type(act).__name__)
@pytest.mark.parametrize(("channels", "out", "side"), [(3, 24, 2), (1, 4, 2), (3, 27, 3), (2, 5, 1)])
def test_equals_convolution_and_activation(act: nn.Module, channels: int, out: int, side: int) -> None:
    images, weight, bias = layer(channels, out, side)
    for given in (bias, None):
        found = patches.convolve(images, weight, given, act, out + 5)
        assert found.shape[1] == out + 5 and not found[:, out:].any()
        found = patches.convolve(images, weight, given, act, out)
        expected = act(functional.conv2d(images.double(), weight.double(), None if given is None else given.double()))
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(dtype: torch.dtype) -> None:
    if dtype == torch.bfloat16 and DEVICE == "cpu":
        pytest.skip("Triton's interpreter multiplies the bits of bfloat16")
    images, weight, bias = layer(3, 24, 2, dtype)
    found = patches.convolve(images, weight, bias, nn.SiLU(), 24)
    expected = functional.silu(functional.conv2d(images.double(), weight.double(), bias.double()))
    assert found.dtype == dtype
    assert torch.allclose(found.double(), expected, rtol=HALF[dtype], atol=1e-5)


def test_leaves_alone_what_it_cannot_do() -> None:
    images, weight, _ = layer(3, 24, 2)
    assert patches.handles(images, weight, 0, nn.GELU(), 24)
    assert not patches.handles(images, weight, 1, nn.GELU(), 24)
    assert not patches.handles(images, weight, 0, nn.Tanh(), 24)
    assert not patches.handles(images.contiguous(), weight, 0, nn.GELU(), 24)
    assert not patches.handles(images, torch.zeros(65, 3, 2, 2), 0, nn.GELU(), 24)
    assert not patches.handles(images, torch.zeros(8, 3, 5, 5), 0, nn.GELU(), 24)
    assert not patches.handles(images.clone().requires_grad_(), weight, 0, nn.GELU(), 24)


def test_leaves_alone_more_numbers_than_it_can_count() -> None:
    with FakeTensorMode():
        weight = torch.empty(24, 3, 2, 2, device=DEVICE)
        images = torch.empty(10_000, 3, 128, 128, device=DEVICE).to(memory_format=torch.channels_last)
        assert patches.handles(images, weight, 0, nn.GELU(), 8)
        assert not patches.handles(images, weight, 0, nn.GELU(), 24)


def test_leaves_alone_images_on_a_cpu_without_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "_INTERPRETED", False)
    images, weight, _ = layer(3, 24, 2)
    assert not patches.handles(images.cpu(), weight, 0, nn.GELU(), 24)
