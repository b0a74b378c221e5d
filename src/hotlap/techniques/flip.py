"""Random horizontal flip."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from hotlap.registry import Card
from hotlap.techniques import AUGMENTATIONS


def flip(images: Tensor, share: float, *, rng: Generator) -> Tensor:
    """Mirror each image left to right with its own chance.

    Args:
        images: (N, C, H, W), any dtype and layout; not modified.
        share: probability of mirroring one image (0–1).
        rng: generator on images.device; the only randomness used.

    Returns:
        (N, C, H, W), same dtype and memory format.

    Raises:
        ValueError: share is not a probability.

    Source: Krizhevsky et al. 2012.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is a probability between 0 and 1, not {share}")
    mirrored = torch.rand(len(images), generator=rng, device=images.device) < share
    return torch.where(mirrored[:, None, None, None], images.flip(-1), images)


@AUGMENTATIONS.register(
    "flip",
    Card(
        does="Mirrors images left to right at random.",
        effect="Part of every CIFAR-10 ladder; useless where mirror images mean something else, as with digits.",
        source="Krizhevsky et al. 2012.",
    ),
)
def build(*, share: float) -> Callable[[Tensor, Generator], Tensor]:
    """Build the augmentation; see ``flip``."""
    return lambda images, rng: flip(images, share, rng=rng)
