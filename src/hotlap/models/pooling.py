"""Maximum over squares of 2×2 pixels, with a backward pass that reads where the maxima were off the images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


class _MaxOfSquares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        pooled = functional.max_pool2d(images, 2)
        ctx.save_for_backward(images, pooled)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        images, pooled = ctx.saved_tensors
        n, channels, height, width = pooled.shape
        # Squares as axes of their own, so that what is one value for a square is only repeated.
        squares = images[:, :, : 2 * height, : 2 * width].unflatten(3, (width, 2)).unflatten(2, (height, 2))
        greatest, coming = (t[:, :, :, None, :, None] for t in (pooled, gradient))
        found = torch.where(squares == greatest, coming, 0).reshape(n, channels, 2 * height, 2 * width)
        return functional.pad(found, (0, images.shape[3] - 2 * width, 0, images.shape[2] - 2 * height))


def max_of_squares(images: Tensor) -> Tensor:
    """Return the greatest pixel of each square of 2×2, as max-pooling does.

    Instead of where the maxima are, the backward pass keeps the images, and compares. To a compiler that is one pass
    over memory, where scattering by indices takes several times as long. Equal maxima each get the whole gradient,
    where max-pooling picks one.

    Args:
        images: (N, C, H, W); a last odd row or column is left out.

    Returns:
        (N, C, H // 2, W // 2).
    """
    pooled: Tensor = _MaxOfSquares.apply(images)  # type: ignore[no-untyped-call]
    return pooled
