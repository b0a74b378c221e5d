"""Pooling, normalising and activating in the compiled kernels against PyTorch's own layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hotlap.native import library as lib
from hotlap.native import norms
from normalising import ACTIVATIONS, both, both_added, check, defaults, images_of, norm_of

pytestmark = pytest.mark.skipif(lib.missing() is not None, reason="the package was installed without a C++ compiler")

# To the nearest number of 8 bits, and a little for what came before.
BFLOAT16 = 1.01 * 2**-8


@pytest.fixture(params=lib.instruction_sets())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set that is there, in use."""
    monkeypatch.setenv(lib.ISA_VARIABLE, request.param)
    return str(request.param)


@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda act: type(act).__name__)
@pytest.mark.parametrize("pool", [True, False])
def test_equals_the_layers_one_after_another(isa: str, act: nn.Module, pool: bool) -> None:
    check(both(norms, images_of(3, 5, 7, 6), norm_of(5), act, pool=pool), 1e-5)


@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda act: type(act).__name__)
def test_activations_are_exact_far_from_zero(isa: str, act: nn.Module) -> None:
    norm, images = norm_of(8), images_of(2, 8, 20, 20)
    with torch.no_grad():
        norm.weight.fill_(30)
    check(both(norms, images, norm, act, pool=False), 1e-5)


@given(
    n=st.integers(1, 9), channels=st.integers(1, 140), height=st.integers(2, 13), width=st.integers(2, 13),
    pool=st.booleans(), threads=st.integers(1, 3), half=st.booleans(), splits=st.integers(1, 4),
)  # fmt: skip
@example(n=9, channels=1, height=3, width=2, pool=True, threads=1, half=True, splits=3)
@settings(max_examples=40, deadline=None)
def test_any_number_of_images_channels_and_pixels(
    n: int, channels: int, height: int, width: int, pool: bool, threads: int, half: bool, splits: int
) -> None:
    pixels = (height // 2) * (width // 2) if pool else height * width
    if pixels < 6:
        # Of very few values, some channel's may be so close to each other that their gradient is nothing but rounding.
        n = 6 * splits
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        images = images_of(n, channels, height, width, dtype=torch.bfloat16 if half else torch.float32)
        pairs = both(norms, images, norm_of(channels, splits=splits), nn.SiLU(), pool=pool)
    finally:
        torch.set_num_threads(before)
    check(pairs[:2], BFLOAT16 if half else 1e-4)
    check(pairs[2:4], 1e-4)
    # Sums over all pixels of numbers around 1, which may well cancel each other.
    check(pairs[4:], 1e-4, usual=(pairs[0][0].numel() / channels) ** 0.5)


@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda act: type(act).__name__)
@pytest.mark.parametrize("splits", [1, 3])
def test_adds_before_the_activation(isa: str, act: nn.Module, splits: int) -> None:
    check(both_added(norms, norm_of(5, splits=splits), act), 1e-5)


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize(("n", "splits"), [(12, 4), (16, 16), (10, 4), (7, 4)])
def test_parts_of_a_batch_are_batches_of_their_own(isa: str, n: int, splits: int, pool: bool) -> None:
    check(both(norms, images_of(n, 20, 9, 8), norm_of(20, splits=splits), nn.CELU(0.3), pool=pool), 1e-5)


def test_a_mean_far_from_zero_costs_no_digits_of_the_variance() -> None:
    norm = norm_of(4)
    images = (images_of(4, 4, 6, 6).detach() + 3000).requires_grad_()
    norms.normalise(images, norm, nn.ReLU(), pool=False)
    assert torch.allclose(norm.running_var.double(), 0.6 + 0.4 * images.detach().double().var((0, 2, 3)), rtol=1e-4)


def test_a_scale_that_is_not_learned_gets_no_gradient() -> None:
    norm = norm_of(6, learned_scale=False)
    check(both(norms, images_of(2, 6, 4, 4), norm, nn.SiLU(), pool=True), 1e-5)
    assert norm.weight.grad is None


def test_of_equal_maxima_the_first_gets_the_gradient() -> None:
    images = torch.zeros(2, 2, 4, 4).contiguous(memory_format=torch.channels_last)
    images[1] = 1
    images.requires_grad_()
    norms.normalise(images, norm_of(2), nn.SiLU(), pool=True).square().sum().backward()
    assert images.grad is not None
    corners = images.grad.view(2, 2, 2, 2, 2, 2)
    assert corners[:, :, :, 0, :, 0].abs().min() > 0
    assert corners[:, :, :, 1].abs().max() == 0 and corners[..., 1].abs().max() == 0


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_a_number_stays_so(isa: str, pool: bool, dtype: torch.dtype) -> None:
    images = images_of(2, 3, 4, 4, dtype=dtype).detach()
    images[1, 2, 3, 3] = torch.nan
    result = norms.normalise(images, norm_of(3), nn.ReLU(), pool=pool)
    assert result[:, :2].isfinite().all() and not result[:, 2].isfinite().any()


def test_any_number_of_threads_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[Tensor]] = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(norms, "threads", lambda threads=threads: threads)
        images = images_of(70, 20, 9, 9)
        result = norms.normalise(images, norm_of(20), nn.GELU(), pool=True)
        result.backward(torch.ones_like(result))
        assert images.grad is not None
        found.append([result, images.grad])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_what_it_does_not_handle() -> None:
    images, norm = images_of(2, 4, 4, 4), norm_of(4)
    assert norms.handles(images, norm, nn.GELU(), pool=False)
    assert not norms.handles(images, norm, nn.GELU(approximate="tanh"), pool=False)
    assert not norms.handles(images, norm, nn.Tanh(), pool=False)
    assert not norms.handles(images.double(), norm, nn.GELU(), pool=False)
    assert not norms.handles(images.contiguous(), norm, nn.GELU(), pool=False)
    assert not norms.handles(images.to("meta"), norm, nn.GELU(), pool=False)
    assert not norms.handles(images, nn.GroupNorm(2, 4), nn.GELU(), pool=False)
    assert not norms.handles(images_of(1, 4, 1, 1), norm, nn.GELU(), pool=False)
    assert norms.handles(images_of(1, 4, 3, 3), norm, nn.GELU(), pool=False)
    assert not norms.handles(images_of(1, 4, 3, 3), norm, nn.GELU(), pool=True)
    assert not norms.handles(images, norm_of(3), nn.GELU(), pool=False)
    assert norms.handles(images, norm_of(4, splits=2), nn.GELU(), pool=False)
    assert not norms.handles(images_of(2, 4, 1, 1), norm_of(4, splits=2), nn.GELU(), pool=False)


def test_what_is_added_may_be_broadcast_but_not_the_other_way_round() -> None:
    images, norm = images_of(2, 4, 3, 3), norm_of(4)
    small, whole = (torch.ones(1, 4, 1, 1).expand(shape).requires_grad_() for shape in ((1, 4, 1, 1), (2, 4, 3, 3)))
    found, expected = (norms.normalise(images, norm, nn.ReLU(), pool=False, added=added) for added in (small, whole))
    assert torch.equal(found, expected)
    with pytest.raises(RuntimeError, match="expand"):
        norms.normalise(images, norm, nn.ReLU(), pool=False, added=torch.ones(2, 4, 3, 5))


def test_batches_are_counted_as_by_pytorch() -> None:
    norm = norm_of(4)
    for _ in range(3):
        norms.normalise(images_of(2, 4, 4, 4), norm, nn.ReLU(), pool=True)
    assert norm.num_batches_tracked == 3


def test_memory_is_on_the_cpu_whatever_the_defaults_are() -> None:
    images, norm = images_of(3, 40, 7, 6), norm_of(40)
    with defaults(torch.bfloat16, "meta"):
        found = norms.normalise(images, norm, nn.SiLU(), pool=True)
        found.backward(torch.ones_like(found, device="cpu"))
    first = images.grad
    images.grad = None
    again = norms.normalise(images, norm, nn.SiLU(), pool=True)
    again.backward(torch.ones_like(again))
    assert first is not None and images.grad is not None
    assert torch.equal(found, again) and torch.equal(first, images.grad)


def test_sizes_that_do_not_go_together_are_refused() -> None:
    library = lib.kernels()
    assert not isinstance(library, str)
    for wrong in (
        {"height": 3},
        {"n": 0},
        {"activation": 9},
        {"type": 2},
        {"channels": 0},
        {"splits": 0},
        {"splits": 2},
    ):
        fields = {"n": 1, "channels": 4, "height_in": 4, "width_in": 4, "height": 2, "width": 2}
        fields |= {"pool": 1, "activation": 1, "type": 0, "splits": 1}
        job = np.array((*(fields | wrong).values(), 1.0, 1e-5), lib.Norm)
        assert library.hl_norm_workspace(int(job.ctypes.data)) == -1
        assert library.hl_norm_forward(b"generic", 1, None, int(job.ctypes.data), *[None] * 9) == -1
