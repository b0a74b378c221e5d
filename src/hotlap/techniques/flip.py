"""Random horizontal flip."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from hotlap.registry import Card
from hotlap.techniques import AUGMENTATIONS
from hotlap.techniques.base import Transform


def flip(images: Tensor, mirrored: Tensor) -> Tensor:
    """Mirror the chosen images left to right.

    Args:
        images: (N, C, H, W), any dtype and layout; not modified.
        mirrored: (N,) bool, which ones.

    Returns:
        (N, C, H, W), same dtype and memory format.

    Source: Krizhevsky et al. 2012.
    """
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


class Flip(Transform):
    """Mirrors each image with its own chance."""

    def __init__(self, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share is a probability between 0 and 1, not {share}")
        self.share = share

    def draw(self, n: int, size: tuple[int, int], rng: Generator) -> Tensor:
        """Draw (n, 1) numbers, 1 for images to mirror."""
        return (torch.rand(n, generator=rng, device=rng.device) < self.share)[:, None].long()

    def choices(self, size: tuple[int, int], device: torch.device) -> Tensor | None:
        """List 0 and 1 where both are equally likely."""
        return torch.arange(2, device=device)[:, None] if self.share == 0.5 else None

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Mirror the images whose number is 1."""
        return flip(images, drawn[:, 0] == 1)


@AUGMENTATIONS.register(
    "flip",
    Card(
        does="Mirrors images left to right at random.",
        effect="Part of every CIFAR-10 ladder; useless where mirror images mean something else, as with digits.",
        source="Krizhevsky et al. 2012.",
    ),
)
def build(*, share: float) -> Flip:
    """Build the augmentation; ``share`` is the probability (0–1) of mirroring an image."""
    return Flip(share)
