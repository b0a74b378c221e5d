"""Training in float64 where the engine trains in float32: what is left between two readings is no rounding.

Rounding errors grow from step to step, threefold or faster, once two nearly equal values change places in a maximum.
In float32 a few steps can be compared so; in float64 dozens can, to more digits than float32 has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor


@contextmanager
def in_float64() -> Iterator[None]:
    """Make every float32 that Python code asks for a float64; kernels, which are compiled for float32, must be off."""
    default = torch.get_default_dtype()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "float32", torch.float64)
        patch.setattr(Tensor, "float", Tensor.double)
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(default)
