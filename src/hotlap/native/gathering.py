"""Choosing training images, mirroring and shifting them in one pass, by the compiled kernels."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from hotlap.native import library as lib
from hotlap.native.forking import fork, threads
from hotlap.native.layouts import empty


def handles(images: Tensor) -> bool:
    """Tell whether ``gather`` can take images, by their device and layout."""
    return (
        images.device.type == "cpu"
        and images.numel() > 0
        and images.is_contiguous(memory_format=torch.channels_last)
        and not lib.missing()
    )


def gather(images: Tensor, which: Tensor, moves: Tensor) -> Tensor:
    """Copy chosen images, each shifted with what comes in reflected, and then mirrored or not.

    Args:
        images: (N, C, H, W) in channels-last memory, any type; not modified.
        which: (n,) int64.
        moves: (n, 3) int32 as ``techniques.moving.draw`` gives them.

    Returns:
        (n, C, H, W) of the same type and layout.

    Raises:
        IndexError: there is no such image.
        ValueError: a shift is not shorter than the images.
    """
    library = lib.kernels()
    assert isinstance(library, ctypes.CDLL)
    n, channels, height, width = len(which), *images.shape[1:]
    if n and not 0 <= int(which.min()) <= int(which.max()) < len(images):
        raise IndexError(f"there are {len(images)} images")
    out = empty((n, channels, height, width), images.dtype)
    which, moves = which.contiguous(), moves.contiguous()
    code = library.hl_gather(
        threads(), fork(), n, height, width, channels * images.element_size(), images.data_ptr(),
        which.data_ptr(), moves.data_ptr(), out.data_ptr(),
    )  # fmt: skip
    if code:
        raise ValueError("images are shifted by less than their size")
    return out
