"""What augmentations are made of: random choices drawn for each image, and pure functions that apply them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class Moment:
    """Where in training a batch is drawn.

    Attributes:
        epoch: whole epochs passed.
        epochs: epochs of the whole training; may have a fraction.
        index: (n,) int64, which images of the training set the batch holds, on the batch's device.
        count: number of images in the training set.
    """

    epoch: int
    epochs: float
    index: Tensor
    count: int


class Augmentation(Protocol):
    """Changes training images; one object serves one run.

    What it keeps from one epoch to the next, if anything, is a tensor or None in its attribute ``kept``, so that an
    interrupted run can go on.
    """

    def __call__(self, images: Tensor, rng: Generator, moment: Moment) -> Tensor:
        """Return changed images (n, C, H, W) of the same type and layout; the input is not modified.

        Their size stays too, unless the augmentation is a ``Resizing``.
        """
        ...


@runtime_checkable
class Resizing(Protocol):
    """An augmentation that changes the size of the images, at the beginning of an epoch only, and says so.

    In the last epoch images have their own size, so that statistics taken while training fit the test images.
    """

    def size_at(self, epoch: int, epochs: float, size: tuple[int, int]) -> tuple[int, int]:
        """Return (H, W) of images in an epoch, counted from 0 of ``epochs``, that come in with ``size``."""
        ...

    def __call__(self, images: Tensor, rng: Generator, moment: Moment) -> Tensor:
        """Change the images; see ``Augmentation``."""
        ...


class Mixing(Protocol):
    """Changes training images together with their targets, after all augmentations."""

    def __call__(self, images: Tensor, targets: Tensor, rng: Generator, moment: Moment) -> tuple[Tensor, Tensor]:
        """Return images (n, C, H, W) and targets (n, classes), class shares that sum to one; inputs not modified."""
        ...


class Transform(ABC):
    """An augmentation that draws some whole numbers for each image and then is a pure function of them.

    Separating the two lets ``grouped`` draw few sets of numbers and share them between many images.
    """

    @abstractmethod
    def draw(self, n: int, size: tuple[int, int], rng: Generator) -> Tensor:
        """Draw what ``apply`` needs for n images of ``size`` (H, W).

        Returns:
            (n, k) on the generator's device, for a k of the transform's own; float for shares and shifts in value,
            int64 for positions.
        """
        ...

    @abstractmethod
    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Change images (n, C, H, W) as drawn (n, k); same type and layout, the input not modified."""
        ...

    def choices(self, size: tuple[int, int], device: torch.device) -> Tensor | None:
        """List everything that ``draw`` may give an image of ``size`` (H, W), where each is equally likely.

        Returns:
            (m, k) on ``device``, like what ``draw`` returns, no row twice; None where they cannot be listed.
        """
        return None

    def __call__(self, images: Tensor, rng: Generator, moment: Moment) -> Tensor:
        """Draw for each image of the batch and apply; see ``Augmentation``."""
        return self.apply(images, self.draw(len(images), (images.shape[2], images.shape[3]), rng))
