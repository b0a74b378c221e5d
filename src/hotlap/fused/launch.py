"""What the kernels can do, and how many programs they are started with."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import torch
import triton
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")

KINDS: dict[type[nn.Module], int] = {nn.ReLU: 1, nn.SiLU: 2, nn.GELU: 3, nn.CELU: 4}
"""Activations by class, and what the kernels call them."""

_TYPES = (torch.float32, torch.float16, torch.bfloat16)
LARGEST = 2**31
"""The kernels count pixels times channels in 32 bits."""

_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton's interpreter, for tests, runs kernels on a CPU."""


def suits(images: Tensor, activation: nn.Module) -> bool:
    """Tell whether the kernels know an activation and the images' device, type and layout."""
    known = type(activation) in KINDS and not (isinstance(activation, nn.GELU) and activation.approximate != "none")
    return (
        known
        and (images.is_cuda or (_INTERPRETED and images.device.type == "cpu"))
        and images.dtype in _TYPES
        and 0 < images.numel() < LARGEST
        and images.is_contiguous(memory_format=torch.channels_last)
    )


def named(name: str, module: str) -> str:
    """Return the name under which torch is to know an operation: another for every text of its module.

    Compiled code that torch keeps on the disk for later processes has an operation's gradient and the layout of its
    result in it, but is found again by the operation's name alone.

    Args:
        name: what the operation does.
        module: the module's ``__file__``.
    """
    return f"hotlap::{name}_{hashlib.sha256(Path(module).read_bytes()).hexdigest()[:12]}"


def on_their_gpu(launch: Callable[P, R]) -> Callable[P, R]:
    """Let a function run with the GPU of its first argument, a tensor, as the current one, which Triton asks for."""

    @functools.wraps(launch)
    def launched(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.cuda.device_of(args[0]):
            return launch(*args, **kwargs)

    return launched


def alpha_of(activation: nn.Module) -> float:
    """Return the constant of an activation that has one."""
    return float(getattr(activation, "alpha", 1.0))


class Block(NamedTuple):
    """What a program has in hand at a time, and how many programs there are.

    Attributes:
        rows: pixels.
        channels: of each pixel; 64 are 128 bytes in float16, which memory gives at once.
        warps: groups of 32 threads of a program.
        programs: most for each multiprocessor: enough that memory never waits, few enough that their sums are soon
            added.
        stages: blocks that are fetched ahead.
    """

    rows: int
    channels: int
    warps: int
    programs: int
    stages: int = 1

    @property
    def options(self) -> dict[str, int]:
        """What a kernel is started with."""
        return {"ROWS": self.rows, "CHANNELS": self.channels, "STAGES": self.stages, "num_warps": self.warps}

    def grid(self, rows: int, channels: int, device: torch.device) -> tuple[int, int]:
        """Return how many programs share all the rows, and how many the channels."""
        across = triton.cdiv(channels, self.channels)
        units = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
        return max(1, min(triton.cdiv(rows, self.rows), self.programs * units // across)), across
