"""Memory as the kernels want it: on the CPU, channels-last, whatever PyTorch's defaults are."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return memory for images (N, C, H, W), not filled."""
    return torch.empty(tuple(shape), dtype=dtype, device="cpu", memory_format=torch.channels_last)


def channels_last(x: Tensor) -> Tensor:
    """Return a tensor as (N, H, W, C) in memory, itself or a copy; strides of sides of length 1 say nothing."""
    _, c, h, w = x.shape
    return x if x.stride() == (h * w * c, 1, w * c, c) else empty(x.shape, x.dtype).copy_(x)
