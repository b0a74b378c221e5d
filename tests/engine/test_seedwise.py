"""Convolutions of several seeds as matrix products equal grouped convolutions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from hotlap.engine import seedwise


@settings(max_examples=25, deadline=None)
@given(
    seeds=st.integers(1, 3),
    images=st.integers(1, 4),
    channels=st.integers(1, 3),
    out=st.integers(1, 4),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    size=st.tuples(st.integers(4, 7), st.integers(4, 7)),
    biased=st.booleans(),
    at_once=st.sampled_from([1, 2**28]),
)
def test_values_and_gradients_are_those_of_a_grouped_convolution(
    seeds: int, images: int, channels: int, out: int, kernel: tuple[int, int], padding: tuple[int, int],
    size: tuple[int, int], biased: bool, at_once: int,
) -> None:  # fmt: skip
    rng = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64).requires_grad_()

    x, weight = drawn(images, seeds * channels, *size), drawn(seeds, out, channels, *kernel)
    bias = drawn(seeds, out) if biased else None
    weights = [weight] if bias is None else [weight, bias]
    expected = functional.conv2d(
        x, weight.flatten(0, 1), None if bias is None else bias.flatten(), padding=padding, groups=seeds
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seedwise, "_MOST", at_once)
        got = seedwise.convolve(x, weight, bias, padding)
    torch.testing.assert_close(got, expected)
    upstream = torch.randn(expected.shape, generator=rng, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(got, [x, *weights], upstream),
        torch.autograd.grad(expected, [x, *weights], upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_images_in_channels_last_and_weights_that_are_not_trained() -> None:
    x = torch.randn(2, 4, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(2, 3, 2, 3, 3)
    out = seedwise.convolve(x, weight, None, (1, 1))
    torch.testing.assert_close(out, functional.conv2d(x, weight.flatten(0, 1), padding=1, groups=2))
    out.sum().backward()
    assert x.grad is not None and weight.grad is None


def test_under_autocast_it_is_done_in_its_type_backwards_too() -> None:
    x = torch.randn(3, 4, 6, 6).requires_grad_()
    weight, bias = torch.randn(2, 3, 2, 3, 3).requires_grad_(), torch.randn(2, 3).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = seedwise.convolve(x, weight, bias, (1, 1))
        expected = functional.conv2d(x, weight.flatten(0, 1), bias.flatten(), padding=1, groups=2)
    assert found.dtype is expected.dtype is torch.bfloat16
    upstream = torch.randn_like(expected)
    ours = [found, *torch.autograd.grad(found, [x, weight, bias], upstream)]
    theirs = [expected, *torch.autograd.grad(expected, [x, weight, bias], upstream)]
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype is b.dtype
        assert float((a - b).detach().float().norm()) < 0.02 * float(b.detach().float().norm())
