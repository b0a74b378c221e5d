"""Choosing training images, mirroring and shifting them in one pass over a GPU's memory."""

from __future__ import annotations

import torch
import triton
from torch import Tensor

from hotlap.fused import kernels
from hotlap.fused.launch import LARGEST, on_their_gpu

_BLOCK = 1024


def handles(images: Tensor) -> bool:
    """Tell whether ``gather`` can take images, by their layout; a batch of them has fewer than 2³¹ numbers."""
    return images.numel() > 0 and images.is_contiguous(memory_format=torch.channels_last)


@on_their_gpu
def gather(images: Tensor, which: Tensor, moves: Tensor) -> Tensor:
    """Copy chosen images, each shifted with what comes in reflected, and then mirrored or not.

    Args:
        images: (N, C, H, W) in channels-last memory, any type; not modified.
        which: (n,) int64.
        moves: (n, 3) int32 as ``techniques.moving.draw`` gives them; shifts are shorter than the images.

    Returns:
        (n, C, H, W) of the same type and layout.

    Raises:
        ValueError: so many images that their numbers cannot be counted in 32 bits.
    """
    shape = (len(which), *images.shape[1:])
    out = torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=torch.channels_last)
    if out.numel() >= LARGEST:
        raise ValueError("too many numbers at once for 32 bits")
    channels, height, width = images.shape[1:]
    if out.numel():
        kernels.move[(triton.cdiv(out.numel(), _BLOCK),)](
            images, which, moves, out, out.numel(), HEIGHT=height, WIDTH=width, C=channels, BLOCK=_BLOCK
        )
    return out
