"""Mirrorings and shifts of a batch put together, for kernels that do them all while they copy the images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from hotlap.techniques.alternating_flip import AlternatingFlip
from hotlap.techniques.base import Augmentation, Moment
from hotlap.techniques.flip import Flip
from hotlap.techniques.translate import Translate, check_shift


def leading(augmentations: Sequence[Augmentation]) -> int:
    """Return how many augmentations, from the first on, ``draw`` can put together: mirrorings, and one shift."""
    shifted = False
    for count, one in enumerate(augmentations):
        if type(one) not in (AlternatingFlip, Flip, Translate) or (shifted and type(one) is Translate):
            return count
        shifted = shifted or type(one) is Translate
    return len(augmentations)


def draw(augmentations: Sequence[Augmentation], size: tuple[int, int], rng: Generator, moment: Moment) -> Tensor:
    """Draw for each image of a batch how it is shifted, and whether it is mirrored afterwards.

    Args:
        augmentations: those that ``leading`` counted.
        size: (H, W) of the images.
        rng: moved as the augmentations themselves would move it.
        moment: which images, and when.

    Returns:
        (n, 3) int32 on the generator's device: rows, columns, and 1 for images to mirror.

    Raises:
        ValueError: images would be shifted by their height or width, or more.
    """
    n, device = len(moment.index), rng.device
    mirrored = torch.zeros(n, dtype=torch.bool, device=device)
    shifts = torch.zeros((n, 2), dtype=torch.int64, device=device)
    turned = mirrored
    for one in augmentations:
        if isinstance(one, Translate):
            check_shift(one.max_px, *size)
            drawn = one.draw(n, size, rng)
            shifts, turned = (drawn - one.max_px, mirrored) if one.max_px else (shifts, mirrored)
        elif isinstance(one, Flip):
            mirrored = mirrored ^ (one.draw(n, size, rng)[:, 0] == 1)
        else:
            # Asked of the augmentation itself: an image whose left pixel is 0 and right one 1.
            probe = torch.arange(2.0, device=device).expand(n, 1, 1, 2)
            mirrored = mirrored ^ (one(probe, rng, moment)[:, 0, 0, 0] == 1)
    # Mirrored before it is shifted: the same as shifted the other way and then mirrored.
    columns = torch.where(turned, -shifts[:, 1], shifts[:, 1])
    return torch.stack((shifts[:, 0], columns, mirrored), 1).to(torch.int32)
