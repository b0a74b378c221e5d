"""Max-pooling by comparison."""

from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn import functional

from hotlap.models.layers import identity_
from hotlap.models.pooling import max_of_squares


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (31, 2), (2, 3)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_value_and_gradient_are_those_of_max_pooling(size: tuple[int, int], memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    images = torch.randn(3, 5, *size).contiguous(memory_format=memory_format).requires_grad_()
    coming = torch.randn(3, 5, size[0] // 2, size[1] // 2)
    found = max_of_squares(images)
    [gradient] = torch.autograd.grad(found, images, coming)
    expected = functional.max_pool2d(images, 2)
    assert torch.equal(found, expected)
    assert torch.equal(gradient, torch.autograd.grad(expected, images, coming)[0])


def test_the_gradient_is_written_once_in_channels_last() -> None:
    """To a compiler: no copy in between, which doubles what goes through memory."""

    def gradient(images: torch.Tensor, coming: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(max_of_squares(images), images, coming)[0]

    images = torch.randn(2, 3, 7, 7).contiguous(memory_format=torch.channels_last).requires_grad_()
    coming = torch.randn(2, 3, 3, 3).contiguous(memory_format=torch.channels_last)
    steps = make_fx(gradient, tracing_mode="fake")(images, coming)
    assert not [node for node in steps.graph.nodes if "clone" in node.name or "unsafe_view" in node.name]
    assert gradient(images, coming).is_contiguous(memory_format=torch.channels_last)


def test_of_equal_maxima_the_first_counts_as_in_max_pooling() -> None:
    images = torch.randint(3, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0)).float().requires_grad_()
    coming = torch.randn(4, 3, 4, 4)
    [gradient] = torch.autograd.grad(max_of_squares(images), images, coming)
    assert torch.equal(gradient, torch.autograd.grad(functional.max_pool2d(images, 2), images, coming)[0])


@pytest.mark.parametrize("shape", [(4, 4, 3, 3), (6, 4, 3, 3), (4, 6, 3, 3), (5, 2, 1, 5)])
def test_identity_filters_are_those_of_torch(shape: tuple[int, ...]) -> None:
    filters = torch.randn(shape)
    assert torch.equal(identity_(filters), torch.nn.init.dirac_(torch.empty(shape)))
