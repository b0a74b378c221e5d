"""Whether rounding alone changes a result: of two fields that nearly tie, either may be the larger one in float32.

The whole gradient of the field goes to another place then, so that one near tie can change the gradients of a small
network, and all that follows, by more than a tolerance for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

SHARE = 3e-7
"""Standard deviation of rounding, of outputs with a standard deviation of 1: a few times that of float32, so as to meet
every near tie in a few trials."""
TRIALS = 10


def decides(distance: Callable[[], float], most: float) -> bool:
    """Whether rounding takes a result as far as ``most`` from what it is without.

    Args:
        distance: computes the result with PyTorch anew, and returns how far it is from that without rounding.
        most: where results count as different.
    """
    for trial in range(TRIALS):
        with rounding(trial):
            # A distance that is just below would be above with a little more rounding.
            if distance() >= most / 2:
                return True
    return False


def decides_weights(train: Callable[[], Tensor], most: float) -> bool:
    """``decides``, of the weights that ``train`` ends with, by the largest difference of any of them."""
    exact = train()
    return decides(lambda: float((train() - exact).abs().max()), most)


@contextmanager
def rounding(seed: int) -> Iterator[None]:
    """Add the rounding of float32 to what convolutions and linear layers of PyTorch compute."""
    generator = torch.Generator().manual_seed(seed)
    with pytest.MonkeyPatch.context() as patch:
        for layer in (nn.Conv2d, nn.Linear):
            patch.setattr(layer, "forward", _rounded(layer.forward, generator))
        yield


def _rounded(forward: Callable[[Any, Tensor], Tensor], generator: torch.Generator) -> Callable[[Any, Tensor], Tensor]:
    def rounded(self: nn.Module, x: Tensor) -> Tensor:
        out = forward(self, x)
        noise = torch.randn(out.shape, generator=generator, dtype=out.dtype)
        return out + SHARE * out.detach().std(correction=0) * noise

    return rounded
