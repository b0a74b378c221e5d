"""What every test-time augmentation does, and views as data; each augmentation has a module of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional


class Views(Protocol):
    """Averages a network's logits over several views of each test image.

    Attributes:
        per_image: whether which views an image gets depends on the network's answer, so that several networks in one
            program cannot share them.
    """

    per_image: bool

    def logits(self, forward: Callable[[Tensor], Tensor], images: Tensor, batch_size: int) -> Tensor:
        """Return logits (N, classes) float32 of all test images.

        Args:
            forward: the network in evaluation mode, from (n, C, H, W) to (n, classes).
            images: (N, C, H, W), every test image; not modified.
            batch_size: images given to ``forward`` at once, at most.
        """
        ...

    def check(self, size: tuple[int, int]) -> None:
        """Raise ValueError where images of ``size`` (H, W) cannot have these views."""
        ...


@dataclass(frozen=True, slots=True)
class Term:
    """One view of an image and its weight in the mean.

    Pixel (y, x) of the view is pixel (reflect(y + dy), reflect(x + dx)) of the image, mirrored left to right
    afterwards. Reflection is at the border's pixels, which do not come twice.

    Attributes:
        weight: share of the mean; the shares of an image's views sum to one.
        dy: rows by which the content moves up.
        dx: columns by which the content moves to the left.
        mirrored: whether left and right are exchanged after the shift.
    """

    weight: float
    dy: int
    dx: int
    mirrored: bool


PLAIN = (Term(1.0, 0, 0, False),)
"""The image itself and nothing else."""


class WeightedViews(ABC):
    """A test-time augmentation that gives every image the same views, listed as terms."""

    per_image = False

    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """Return the views and their weights, the image itself first."""

    def logits(self, forward: Callable[[Tensor], Tensor], images: Tensor, batch_size: int) -> Tensor:
        """Return the weighted mean of the logits (N, classes) float32; see ``Views``."""
        return averaged(forward, images, batch_size, self.terms())

    def check(self, size: tuple[int, int]) -> None:
        """Raise ValueError where a shift is not smaller than the images; see ``Views``."""
        border_of(self.terms(), size)


def border_of(terms: Sequence[Term], size: tuple[int, int]) -> int:
    """Return by how many pixels images of ``size`` (H, W) must be continued for the views, and refuse too many.

    Raises:
        ValueError: a shift is not smaller than H and W.
    """
    height, width = size
    border = max(max(abs(term.dy), abs(term.dx)) for term in terms)
    if border >= min(height, width):
        raise ValueError(f"shift is below {min(height, width)} for images of {height}×{width}, not {border}")
    return border


def views_of(images: Tensor, terms: Sequence[Term]) -> Iterator[tuple[float, Tensor]]:
    """Yield the weight of each term and its view of the images.

    Args:
        images: (n, C, H, W) float, any layout; not modified.
        terms: which views, at least one.

    Returns:
        Pairs of a weight and a view (n, C, H, W) in the layout of the images.

    Raises:
        ValueError: a shift is not smaller than H and W.
    """
    height, width = images.shape[2:]
    border = border_of(terms, (height, width))
    padded = functional.pad(images, (border,) * 4, mode="reflect") if border else images
    for (dy, dx), same_shift in groupby(terms, key=lambda term: (term.dy, term.dx)):
        shifted = images
        if dy or dx:
            top, left = border + dy, border + dx
            # A copy in the layout of the images: to a compiled network, a window into the padded ones is another input.
            shifted = torch.empty_like(images).copy_(padded[:, :, top : top + height, left : left + width])
        for term in same_shift:
            yield term.weight, shifted.flip(-1) if term.mirrored else shifted


def averaged(
    forward: Callable[[Tensor], Tensor],
    images: Tensor,
    batch_size: int,
    terms: Sequence[Term],
) -> Tensor:
    """Average a network's logits over weighted views of each image.

    Args:
        forward: from (n, C, H, W) to (n, classes).
        images: (N, C, H, W); not modified.
        batch_size: images given to ``forward`` at once, at most.
        terms: the views and their weights, which sum to one.

    Returns:
        (N, classes) float32, whatever the precision of the network.

    Raises:
        ValueError: a shift is not smaller than H and W.
    """
    return torch.cat(
        [
            torch.stack([weight * forward(view).float() for weight, view in views_of(batch, terms)]).sum(0)
            for batch in images.split(batch_size)
        ]
    )
