"""Random brightness and contrast."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from hotlap.registry import Card
from hotlap.techniques import AUGMENTATIONS
from hotlap.techniques.base import Transform


def jitter(images: Tensor, shift: Tensor, factor: Tensor) -> Tensor:
    """Scale each image's pixels around its own mean, then add to them.

    Args:
        images: (N, C, H, W) float, normalised, any layout; not modified.
        shift: (N,) float, added to every pixel; in units of a normalised pixel.
        factor: (N,) float, by which pixels are scaled around the mean over all pixels and channels of the image.

    Returns:
        (N, C, H, W), same dtype and memory format.

    Source: Hiverge 2025 reports the ranges; what exactly is scaled and shifted is our reading of it.
    """
    mean = images.mean((1, 2, 3), dtype=torch.float32)
    offset = mean * (1 - factor) + shift
    scale = factor.to(images.dtype)[:, None, None, None]
    return torch.addcmul(offset.to(images.dtype)[:, None, None, None], images, scale)


class Jitter(Transform):
    """Changes brightness and contrast of each image at random."""

    def __init__(self, brightness: float, contrast: float) -> None:
        if brightness < 0:
            raise ValueError(f"brightness must not be negative, not {brightness}")
        if not 0 <= contrast <= 1:
            raise ValueError(f"contrast is a share between 0 and 1, not {contrast}")
        self.brightness = brightness
        self.contrast = contrast

    def draw(self, n: int, size: tuple[int, int], rng: Generator) -> Tensor:
        """Draw (n, 2) shifts and factors, each uniform."""
        shift, factor = 2 * torch.rand(2, n, generator=rng, device=rng.device) - 1
        return torch.stack((self.brightness * shift, 1 + self.contrast * factor), 1)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Scale and shift as drawn."""
        return jitter(images, drawn[:, 0], drawn[:, 1])


@AUGMENTATIONS.register(
    "jitter",
    Card(
        does="Makes each image brighter or darker, and its contrast stronger or weaker, at random.",
        effect="Reported with ±0.14 and ±0.13 as part of 94.01 % in 7.6 epochs.",
        source="Hiverge 2025.",
    ),
)
def build(*, brightness: float, contrast: float) -> Jitter:
    """Build the augmentation; each image and each epoch has draws of its own.

    Args:
        brightness: largest shift up or down, in units of a normalised pixel.
        contrast: largest relative change (0–1) of the distance of pixels from the image's mean.
    """
    return Jitter(brightness, contrast)
