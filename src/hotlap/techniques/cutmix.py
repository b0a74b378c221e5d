"""CutMix: a square of each image comes from another, and the targets are mixed by area."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from hotlap.registry import Card
from hotlap.techniques import MIXINGS
from hotlap.techniques.base import Moment
from hotlap.techniques.cutout import draw_corners, in_square


def cutmix(images: Tensor, targets: Tensor, partners: Tensor, corners: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Replace a square of each image by the same square of its partner, and mix the targets by area.

    Args:
        images: (N, C, H, W), any dtype and layout; not modified.
        targets: (N, classes) float, class shares that sum to one; not modified.
        partners: (N,) int64, which image of the batch each one's square comes from.
        corners: (N, 2) int64, row and column of the square's upper left corner.
        side: of the square, in pixels.

    Returns:
        Images (N, C, H, W) and targets (N, classes), same dtypes and memory format.

    Source: Yun et al. 2019, with squares of one size.
    """
    height, width = images.shape[2:]
    mixed = torch.where(in_square(corners, side, (height, width)), images[partners], images)
    return mixed, torch.lerp(targets, targets[partners], side * side / (height * width))


class CutMix:
    """Mixes each image of a batch with another one of it, from a certain epoch on."""

    def __init__(self, size: int, last_epochs: float | None) -> None:
        if size < 0:
            raise ValueError(f"size must not be negative, not {size}")
        if last_epochs is not None and last_epochs < 0:
            raise ValueError(f"last_epochs must not be negative, not {last_epochs}")
        self.side = size
        self.last_epochs = last_epochs

    def __call__(self, images: Tensor, targets: Tensor, rng: Generator, moment: Moment) -> tuple[Tensor, Tensor]:
        """Mix; before the last epochs, return the inputs themselves and draw nothing."""
        if self.last_epochs is not None and moment.epoch < moment.epochs - self.last_epochs:
            return images, targets
        n, _, height, width = images.shape
        partners = torch.randperm(n, generator=rng, device=rng.device)
        corners = draw_corners(n, self.side, (height, width), rng)
        return cutmix(images, targets, partners, corners, self.side)


@MIXINGS.register(
    "cutmix",
    Card(
        does="Replaces a square of each image by that of another of the batch and mixes the targets by area.",
        effect="Reported with 3×3 in the last 6 of 12.1 epochs as part of 94 % in 6.3 s, and with 10×10 in the last 80 "
        "of 90 epochs as part of 95.79 % in 110 s.",
        source="Yun et al. 2019; hlb-CIFAR10 2023.",
    ),
)
def build(*, size: int, last_epochs: float | None) -> CutMix:
    """Build the mixing.

    Args:
        size: side of the square in pixels, 0 does nothing. Its place is uniform over those where it fits.
        last_epochs: mix only in epochs that begin within so many of the end; None mixes in all.
    """
    return CutMix(size, last_epochs)
