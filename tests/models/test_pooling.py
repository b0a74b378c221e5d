"""Max-pooling by comparison."""

from __future__ import annotations

import pytest
import torch
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


def test_equal_maxima_each_get_the_gradient() -> None:
    images = torch.zeros(1, 1, 2, 2, requires_grad=True)
    max_of_squares(images).backward(torch.full((1, 1, 1, 1), 3.0))
    assert images.grad is not None and images.grad.flatten().tolist() == [3.0] * 4


@pytest.mark.parametrize("shape", [(4, 4, 3, 3), (6, 4, 3, 3), (4, 6, 3, 3), (5, 2, 1, 5)])
def test_identity_filters_are_those_of_torch(shape: tuple[int, ...]) -> None:
    filters = torch.randn(shape)
    assert torch.equal(identity_(filters), torch.nn.init.dirac_(torch.empty(shape)))
