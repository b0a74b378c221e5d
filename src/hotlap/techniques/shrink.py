"""Low resolution first: training images are shrunk for the first part of training."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Generator, Tensor
from torch.nn import functional

from hotlap.registry import Card
from hotlap.techniques import AUGMENTATIONS
from hotlap.techniques.base import Moment

_ROUNDING = 1e-9


def area_weights(before: int, after: int) -> Tensor:
    """Return how much of each old pixel goes into each new one, along one axis: (after, before) float32.

    A new pixel is the mean of the stretch of the image that it covers, parts of old pixels included; rows sum to one.
    """
    ends = torch.arange(after + 1, dtype=torch.float64) * before / after
    place = torch.arange(before, dtype=torch.float64)
    covered = torch.minimum(ends[1:, None], place + 1) - torch.maximum(ends[:-1, None], place)
    return (covered.clamp_min(0) * after / before).float()


@cache
def _weights_on(before: int, after: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The weights where they are needed; sending them there for every batch would stall a GPU."""
    return area_weights(before, after).to(device, dtype)


def shrink(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Make images smaller, each new pixel the mean of the area that it covers.

    Args:
        images: (N, C, H, W) float, any layout; not modified.
        size: (H', W') of the result, in pixels.

    Returns:
        (N, C, H', W'), same dtype and memory format; the input itself where the size stays.

    Raises:
        ValueError: a side is below 1 or longer than that of the images.
    """
    height, width = images.shape[2:]
    if size == (height, width):
        return images
    if not (1 <= size[0] <= height and 1 <= size[1] <= width):
        raise ValueError(f"images of {height}×{width} cannot be shrunk to {size[0]}×{size[1]}")
    rows = _weights_on(height, size[0], images.dtype, images.device)
    columns = _weights_on(width, size[1], images.dtype, images.device)
    # Along one axis after the other, each as one matrix product over all images.
    small = functional.linear(functional.linear(images, columns).mT, rows).mT
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return small.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


class Shrink:
    """Shrinks the images of whole epochs; those after the last stage, and of the last epoch, stay as they are.

    Args:
        until: for each stage, the share of training (0–1) until which it lasts; ascending. An epoch belongs to the
            stage in which it begins.
        sides: for each stage, the longer side of its images, in pixels.

    Raises:
        ValueError: lists of different lengths, shares that do not ascend from 0 to below 1, or a side below 1.
    """

    def __init__(self, until: Sequence[float], sides: Sequence[int]) -> None:
        if len(until) != len(sides) or not until:
            raise ValueError("shrink takes as many sides as shares, at least one")
        if any(a >= b for a, b in zip((0.0, *until), (*until, 1.0), strict=True)):
            raise ValueError(
                f"shares of training ascend between 0 and 1, not {tuple(until)}: the last epochs are whole"
            )
        if min(sides) < 1:
            raise ValueError(f"sides must be at least 1, not {min(sides)}")
        self.until, self.sides = tuple(until), tuple(sides)

    def size_at(self, epoch: int, epochs: float, size: tuple[int, int]) -> tuple[int, int]:
        """Return the size in an epoch; see ``Resizing``."""
        longest = max(size)
        passed = epoch / epochs + _ROUNDING if epoch + 1 < epochs else 1.0
        side = next((side for share, side in zip(self.until, self.sides, strict=True) if passed < share), longest)
        height, width = (max(1, round(length * side / longest)) for length in size)
        return height, width

    def __call__(self, images: Tensor, rng: Generator, moment: Moment) -> Tensor:
        """Shrink to the size of the epoch; nothing is drawn."""
        return shrink(images, self.size_at(moment.epoch, moment.epochs, (images.shape[2], images.shape[3])))


@AUGMENTATIONS.register(
    "shrink",
    Card(
        does="Trains on smaller images first: the arithmetic of convolutions falls with the area, and early training "
        "needs little detail.",
        effect="Not published for these recipes; what it was measured to give is in the ladder cifar10-cpu.",
        source="Progressive resizing: fast.ai's DAWNBench entries 2018; Tan and Le 2021 (EfficientNetV2).",
    ),
)
def build(*, until: Sequence[float], sides: Sequence[int]) -> Shrink:
    """Build the augmentation, which belongs after those that count in pixels; options are those of ``Shrink``."""
    return Shrink(until, sides)
