"""Augmentations as the kernels take them: whole-pixel shifts and mirroring, drawn exactly as the augmentations draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hotlap.native.family import OutsideFamilyError
from hotlap.techniques.alternating_flip import AlternatingFlip
from hotlap.techniques.base import Moment
from hotlap.techniques.flip import Flip
from hotlap.techniques.translate import Translate


class Moves:
    """Draws the moves of training images.

    Args:
        augmentations: in order; at most one that shifts and any number that mirror.
        size: (H, W) of the images.

    Raises:
        OutsideFamilyError: an augmentation of another kind, or two that shift.
    """

    def __init__(self, augmentations: Sequence[Any], size: tuple[int, int]) -> None:
        for one in augmentations:
            if type(one) not in (Translate, Flip, AlternatingFlip):
                raise OutsideFamilyError(f"it has an augmentation {type(one).__name__}")
        if sum(type(one) is Translate for one in augmentations) > 1:
            raise OutsideFamilyError("it shifts images twice")
        if any(type(one) is Translate and one.max_px >= min(size) for one in augmentations):
            raise OutsideFamilyError("it shifts images by more than their size")
        self.augmentations = list(augmentations)
        self._size = size

    def draw(self, rng: torch.Generator, moment: Moment) -> NDArray[np.int16]:
        """Draw for the images of a batch: rows and columns to shift by, and whether to mirror afterwards.

        Args:
            rng: moved as the augmentations themselves would move it.
            moment: which images, and when.

        Returns:
            (n, 3).
        """
        n = len(moment.index)
        moves = np.zeros((n, 3), np.int16)
        for one in self.augmentations:
            if isinstance(one, Translate):
                # Nothing is drawn for a shift of nothing either, only not used.
                moves[:, :2] = one.draw(n, self._size, rng).numpy() - one.max_px
                # Mirrored before it is shifted: the same as shifted the other way and then mirrored.
                moves[:, 1] = np.where(moves[:, 2] == 1, -moves[:, 1], moves[:, 1])
            elif isinstance(one, Flip):
                moves[:, 2] ^= one.draw(n, self._size, rng)[:, 0].numpy().astype(np.int16)
            else:
                moves[:, 2] ^= _alternating(one, rng, moment).numpy().astype(np.int16)
        return moves


def _alternating(one: AlternatingFlip, rng: torch.Generator, moment: Moment) -> Tensor:
    """Which images it mirrors, asked of the augmentation itself: an image whose left pixel is 0 and right one 1."""
    probe = torch.tensor([0.0, 1.0]).expand(len(moment.index), 1, 1, 2)
    return one(probe, rng, moment)[:, 0, 0, 0]
