"""What the kernels can do, and how many programs they are started with."""

from __future__ import annotations

import torch
import triton
from torch import Tensor, nn

KINDS: dict[type[nn.Module], int] = {nn.ReLU: 1, nn.SiLU: 2, nn.GELU: 3, nn.CELU: 4}
"""Activations by class, and what the kernels call them."""

_TYPES = (torch.float32, torch.float16, torch.bfloat16)
_LARGEST = 2**31
"""The kernels count pixels times channels in 32 bits."""

_PROGRAMS_PER_UNIT = 8
"""Programs for each multiprocessor: enough that memory never waits, few enough that their sums are soon added."""


def suits(images: Tensor, activation: nn.Module) -> bool:
    """Tell whether the kernels know an activation and the images' type and layout."""
    known = type(activation) in KINDS and not (isinstance(activation, nn.GELU) and activation.approximate != "none")
    return (
        known
        and images.dtype in _TYPES
        and 0 < images.numel() < _LARGEST
        and images.is_contiguous(memory_format=torch.channels_last)
    )


def alpha_of(activation: nn.Module) -> float:
    """Return the constant of an activation that has one."""
    return float(getattr(activation, "alpha", 1.0))


def grid_of(rows: int, at_once: int, channels: int, beside: int, device: torch.device) -> tuple[int, int]:
    """Return how many programs share the rows, and how many the channels.

    Args:
        rows: pixels of all images.
        at_once: rows of a block.
        channels: of a pixel.
        beside: channels of a block.
        device: where they run; their number depends on its multiprocessors.
    """
    across = triton.cdiv(channels, beside)
    units = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    return max(1, min(triton.cdiv(rows, at_once), _PROGRAMS_PER_UNIT * units // across)), across
