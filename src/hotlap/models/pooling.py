"""Maximum over squares of 2×2 pixels, written so that a compiler makes one pass of each direction."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def pools_squares(pool: nn.Module | None) -> bool:
    """Tell whether a layer keeps the greatest of each 2×2 pixels and leaves out a last odd row or column."""
    return (
        isinstance(pool, nn.MaxPool2d)
        and (pool.kernel_size, pool.stride, pool.padding, pool.dilation) == (2, 2, 0, 1)
        and not pool.ceil_mode
        and not pool.return_indices
    )


class _MaxOfSquares(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        height, width = images.shape[2] // 2, images.shape[3] // 2
        greatest = images[:, :, : 2 * height : 2, : 2 * width : 2]
        place = torch.zeros_like(greatest, dtype=torch.int8)
        for corner in range(1, 4):
            row, column = divmod(corner, 2)
            here = images[:, :, row : 2 * height : 2, column : 2 * width : 2]
            place = torch.where(here > greatest, corner, place)
            greatest = torch.maximum(here, greatest)
        ctx.save_for_backward(place)
        ctx.size = images.shape[2:]
        return greatest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (place,) = ctx.saved_tensors
        n, channels, height, width = place.shape
        corners = torch.arange(4, dtype=torch.int8, device=place.device).view(2, 1, 2, 1)
        # Squares as axes of their own, so that what is one value for a square is only repeated; and channels last from
        # the start, since a compiler that has to merge these axes in another order writes everything twice.
        place, gradient = (t.permute(0, 2, 3, 1)[:, :, None, :, None] for t in (place, gradient))
        found = torch.where(place == corners, gradient, 0).reshape(n, 2 * height, 2 * width, channels)
        found = functional.pad(found, (0, 0, 0, ctx.size[1] - 2 * width, 0, ctx.size[0] - 2 * height))
        return found.permute(0, 3, 1, 2)


def max_of_squares(images: Tensor) -> Tensor:
    """Return the greatest pixel of each square of 2×2, as max-pooling does, gradient included.

    Which of the four pixels it was is kept as one byte, and the backward pass goes over the images' pixels and asks
    whether each was it. To a compiler that is one pass over memory, where scattering by indices takes several times as
    long. Of equal maxima the first counts.

    Args:
        images: (N, C, H, W); a last odd row or column is left out.

    Returns:
        (N, C, H // 2, W // 2).
    """
    pooled: Tensor = _MaxOfSquares.apply(images)  # type: ignore[no-untyped-call]
    return pooled
