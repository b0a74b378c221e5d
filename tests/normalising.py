"""Pooling, normalising and activating at once, as any kernels do it, against PyTorch's own layers in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hotlap.models.norms import GhostBatchNorm2d

ACTIVATIONS = [nn.ReLU(), nn.SiLU(), nn.GELU(), nn.CELU(0.3)]


@contextmanager
def defaults(dtype: torch.dtype, device: str) -> Iterator[None]:
    """Other global defaults for new tensors."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        # Not to the CPU, which would be a choice, and a detour through Python for every new tensor of later tests.
        torch.set_default_device(None)


def images_of(*shape: int, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Tensor:
    """Random images in channels-last memory that ask for their gradient."""
    rng = torch.Generator().manual_seed(sum(shape))
    images = torch.randn(shape, generator=rng).to(device, dtype)
    return images.contiguous(memory_format=torch.channels_last).requires_grad_()


def norm_of(channels: int, *, splits: int = 1, learned_scale: bool = True, device: str = "cpu") -> GhostBatchNorm2d:
    """A normalisation with random scales and biases."""
    torch.manual_seed(channels)
    norm = GhostBatchNorm2d(channels, splits=splits, eps=1e-5, momentum=0.4, learned_scale=learned_scale)
    with torch.no_grad():
        norm.weight.normal_(1, 0.5)
        norm.bias.normal_()
    return norm.to(device)


def both(
    norms: Any, images: Tensor, norm: GhostBatchNorm2d, act: nn.Module, *, pool: bool
) -> list[tuple[Tensor, Tensor]]:
    """Results, gradients and statistics: those of ``norms.normalise``, and PyTorch's in float64."""
    exact, norm64 = images.detach().double().requires_grad_(), copy.deepcopy(norm).double()
    expected = act(norm64(functional.max_pool2d(exact, 2) if pool else exact))
    found = norms.normalise(images, norm, act, pool=pool)
    gradient = torch.linspace(-1, 2, found.numel(), device=images.device).sin().view(found.shape).to(found.dtype)
    found.backward(gradient)
    expected.backward(gradient.double())
    pairs = [(found, expected), (images.grad, exact.grad), (norm.running_mean, norm64.running_mean),
             (norm.running_var, norm64.running_var), (norm.bias.grad, norm64.bias.grad)]  # fmt: skip
    if norm.weight.requires_grad:
        pairs.append((norm.weight.grad, norm64.weight.grad))
    return pairs


def both_added(norms: Any, norm: GhostBatchNorm2d, act: nn.Module, device: str = "cpu") -> list[tuple[Tensor, Tensor]]:
    """As ``both``, with something added before the activation that lies otherwise in memory."""
    images = images_of(3, 5, 4, 6, device=device)
    added = images_of(3, 5, 6, 4, device=device).detach().mT.requires_grad_()
    norm64 = copy.deepcopy(norm).double()
    exact, added64 = (t.detach().double().requires_grad_() for t in (images, added))
    found = norms.normalise(images, norm, act, pool=False, added=added)
    expected = act(norm64(exact) + added64)
    gradient = torch.linspace(-1, 2, found.numel(), device=device).sin().view(found.shape)
    found.backward(gradient)
    expected.backward(gradient.double())
    return [(found, expected), (images.grad, exact.grad), (added.grad, added64.grad),
            (norm.bias.grad, norm64.bias.grad), (norm.weight.grad, norm64.weight.grad),
            (norm.running_mean, norm64.running_mean)]  # fmt: skip


def check(pairs: list[tuple[Tensor, Tensor]], tolerance: float, usual: float = 0.0) -> None:
    """Compare what was found to what was expected, relative to its largest number or to what is usual for a sum."""
    for found, expected in pairs:
        scale = max(usual, float(expected.detach().abs().max()))
        assert torch.allclose(found.double(), expected, rtol=tolerance, atol=tolerance * scale)
