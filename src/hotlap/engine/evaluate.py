"""Accuracy of a network on the test images."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from hotlap.engine.feed import Batch


@torch.no_grad()
def evaluate(network: nn.Module, forward: Callable[[Tensor], Tensor], batches: Iterable[Batch]) -> float:
    """Return the share of images whose largest logit is at the right class.

    Args:
        network: set to evaluation mode for the call, then back to training mode.
        forward: the network or its compiled form, from (n, C, H, W) to (n, classes).
        batches: test images and labels.

    Raises:
        ValueError: there are no images.
    """
    network.eval()
    correct: Tensor | int = 0
    count = 0
    for images, labels in batches:
        correct = correct + (forward(images).argmax(1) == labels).sum()
        count += len(labels)
    network.train()
    if count == 0:
        raise ValueError("no test images")
    # The only wait for the device: the counts are added up there.
    return int(correct) / count
