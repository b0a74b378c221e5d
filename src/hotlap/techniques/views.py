"""What every test-time augmentation does; each has a module of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor


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


def averaged(
    forward: Callable[[Tensor], Tensor],
    images: Tensor,
    batch_size: int,
    views: Callable[[Tensor], Iterable[tuple[float, Tensor]]],
) -> Tensor:
    """Average a network's logits over weighted views of each image.

    Args:
        forward: from (n, C, H, W) to (n, classes).
        images: (N, C, H, W); not modified.
        batch_size: images given to ``forward`` at once, at most.
        views: from images (n, C, H, W) to weights, which sum to one, and views (n, C, H, W).

    Returns:
        (N, classes) float32, whatever the precision of the network.
    """
    return torch.cat(
        [
            torch.stack([weight * forward(view).float() for weight, view in views(batch)]).sum(0)
            for batch in images.split(batch_size)
        ]
    )
