"""Pooling, normalising and activating in the kernels against PyTorch's own layers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import triton_there

pytest.importorskip("triton", minversion=triton_there.OLDEST, reason=triton_there.LACKING)

import normalising
from hotlap.fused import norms
from hotlap.fused.launch import KINDS
from hotlap.models.norms import GhostBatchNorm2d
from normalising import ACTIVATIONS, both, both_added, check

pytestmark = pytest.mark.gpu

# Without a GPU Triton's interpreter runs the kernels: tests/conftest.py asks for it.
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# The interpreter cuts float32 off to bfloat16.
HALF = {torch.float16: 0.6 * 2**-10, torch.bfloat16: (0.6 if DEVICE == "cuda" else 1.1) * 2**-7}


def images_of(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return normalising.images_of(*shape, dtype=dtype, device=DEVICE)


def norm_of(channels: int, *, learned_scale: bool = True) -> GhostBatchNorm2d:
    return normalising.norm_of(channels, learned_scale=learned_scale, device=DEVICE)


@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda act: type(act).__name__)
@pytest.mark.parametrize("pool", [True, False])
def test_equals_the_layers_one_after_another(act: nn.Module, pool: bool) -> None:
    check(both(norms, images_of(3, 5, 7, 6), norm_of(5), act, pool=pool), 1e-5)


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 70, 4, 5), (9, 3, 12, 12), (1, 64, 5, 5), (4, 2, 3, 2)])
@pytest.mark.parametrize("pool", [True, False])
def test_any_number_of_images_channels_and_pixels(shape: tuple[int, int, int, int], pool: bool) -> None:
    if pool and shape[0] * (shape[2] // 2) * (shape[3] // 2) == 1:
        pytest.skip("one value cannot be normalised")
    check(both(norms, images_of(*shape), norm_of(shape[1]), nn.SiLU(), pool=pool), 2e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("pool", [True, False])
def test_half_precision_rounds_once(dtype: torch.dtype, pool: bool) -> None:
    pairs = both(norms, images_of(4, 16, 6, 6, dtype=dtype), norm_of(16), nn.GELU(), pool=pool)
    check(pairs[:2], HALF[dtype])
    check(pairs[2:], 1e-5)


@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda act: type(act).__name__)
def test_adds_before_the_activation(act: nn.Module) -> None:
    check(both_added(norms, norm_of(5), act, DEVICE), 1e-5)


def test_a_mean_far_from_zero_costs_no_digits() -> None:
    norm = norm_of(4)
    images = (images_of(4, 4, 6, 6).detach() + 3000).requires_grad_()
    exact = images.detach().double()
    norms.normalise(images, norm, nn.ReLU(), pool=False)
    expected = 0.6 + 0.4 * exact.var((0, 2, 3))
    assert torch.allclose(norm.running_var.double(), expected, rtol=1e-4)


def test_a_scale_that_is_not_learned_gets_no_gradient() -> None:
    norm = norm_of(6, learned_scale=False)
    check(both(norms, images_of(2, 6, 4, 4), norm, nn.SiLU(), pool=True), 1e-5)
    assert norm.weight.grad is None


def test_of_equal_maxima_the_first_gets_the_gradient() -> None:
    norm = norm_of(2)
    images = torch.zeros(2, 2, 4, 4, device=DEVICE).contiguous(memory_format=torch.channels_last)
    images[1] = 1
    images.requires_grad_()
    norms.normalise(images, norm, nn.SiLU(), pool=True).square().sum().backward()
    assert images.grad is not None
    corners = images.grad.view(2, 2, 2, 2, 2, 2)
    assert corners[:, :, :, 0, :, 0].abs().min() > 0
    assert corners[:, :, :, 1].abs().max() == 0 and corners[..., 1].abs().max() == 0


@pytest.mark.parametrize("pool", [True, False])
def test_what_is_not_a_number_stays_so(pool: bool) -> None:
    images = images_of(2, 3, 4, 4).detach()
    images[1, 2, 3, 3] = torch.nan
    result = norms.normalise(images, norm_of(3), nn.ReLU(), pool=pool)
    assert result[:, :2].isfinite().all() and not result[:, 2].isfinite().any()


def test_compiles_whole() -> None:
    norm, norm2, act = norm_of(8), norm_of(8), nn.SiLU()
    images = images_of(3, 8, 6, 6)

    def run(x: Tensor) -> Tensor:
        assert norms.handles(x, norm, act, pool=True)
        return norms.normalise(x, norm, act, pool=True) * 2

    compiled = torch.compile(run, backend="aot_eager", fullgraph=True, dynamic=False)
    found = compiled(images)
    expected = 2 * norms.normalise(images.detach(), norm2, act, pool=True)
    assert torch.equal(found, expected)
    assert torch.equal(norm.running_mean, norm2.running_mean)
    found.sum().backward()
    assert images.grad is not None and images.grad.isfinite().all()


@pytest.mark.parametrize(
    "images", [images_of(2, 4, 4, 4).double(), images_of(2, 4, 4, 4).contiguous(), images_of(2, 4, 4, 4)[:0]]
)
def test_leaves_alone_what_it_cannot_do(images: Tensor) -> None:
    assert not norms.handles(images, norm_of(4), nn.ReLU(), pool=False)


def test_leaves_alone_layers_it_does_not_know() -> None:
    images = images_of(4, 4, 4, 4)
    ghost = GhostBatchNorm2d(4, splits=2, eps=1e-5, momentum=0.1, learned_scale=True)
    assert norms.handles(images, norm_of(4), nn.ReLU(), pool=False)
    assert not norms.handles(images, ghost, nn.ReLU(), pool=False)
    assert not norms.handles(images, nn.GroupNorm(2, 4), nn.ReLU(), pool=False)
    assert not norms.handles(images, nn.BatchNorm2d(4, affine=False), nn.ReLU(), pool=False)
    assert not norms.handles(images, nn.BatchNorm2d(4).half(), nn.ReLU(), pool=False)
    assert not norms.handles(images, norm_of(4), nn.Tanh(), pool=False)
    assert not norms.handles(images, norm_of(4), nn.GELU(approximate="tanh"), pool=False)
    assert {type(act) for act in ACTIVATIONS} == set(KINDS)
