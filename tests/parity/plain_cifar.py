"""What the plain readings of the CIFAR-10 recipes share, straight from the published descriptions, without hotlap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Batches: TypeAlias = Iterable[tuple[Tensor, Tensor]]

PAGE_PIXELS = ((125.31, 122.95, 113.87), (62.99, 62.09, 66.70))
"""Mean and standard deviation of the channels, of pixels from 0 to 255."""

PIXELS = tuple(tuple(255 * x for x in row) for row in ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)))
"""The same for hlb-CIFAR10 and airbench, which publish them for pixels from 0 to 1."""


def normalised(images: np.ndarray, pixels: tuple[tuple[float, ...], ...]) -> Tensor:
    mean, std = (torch.tensor(row, dtype=torch.float32).view(3, 1, 1) for row in pixels)
    return (torch.from_numpy(images.astype(np.float32)) - mean) / std


# Augmentations: what is done to one image (C, H, W) for the numbers drawn for it.


def shifted(image: Tensor, row: int, column: int, border: int) -> Tensor:
    """The window with its corner at (row, column) of the image with a reflected border."""
    height, width = image.shape[1:]
    padded = functional.pad(image[None], (border,) * 4, mode="reflect")[0]
    return padded[:, row : row + height, column : column + width]


def mirrored(image: Tensor) -> Tensor:
    return image.flip(2)


def blanked(image: Tensor, row: int, column: int, side: int) -> Tensor:
    image = image.clone()
    image[:, row : row + side, column : column + side] = 0
    return image


def patched(image: Tensor, other: Tensor, row: int, column: int, side: int) -> Tensor:
    image = image.clone()
    square = (slice(None), slice(row, row + side), slice(column, column + side))
    image[square] = other[square]
    return image


# Loss, whitening and test-time augmentation.


def summed_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy with smoothed targets, summed over the batch; targets are classes or shares of them."""
    return each_loss(logits, targets, smoothing).sum()


def each_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    classes = logits.shape[1]
    shares = functional.one_hot(targets, classes).float() if targets.ndim == 1 else targets
    shares = (1 - smoothing) * shares + smoothing / classes
    return -(shares * logits.log_softmax(1)).sum(1)


def whitening(images: Tensor, kernel: int, eps: float, *, parts: int, centred: bool) -> Tensor:
    """Eigenvectors of the covariance of patches, largest eigenvalue first, each over sqrt(eigenvalue + eps).

    Returns:
        (C·kernel², C, kernel, kernel) float64. The sign of each is whatever comes out; those of all parts agree.
    """
    values, vectors = [], []
    size = len(images) // parts
    for part in range(parts):
        of_part = images[part * size : (part + 1) * size]
        covariance, mean, count = 0.0, 0.0, 0
        for some in of_part.split(1000):
            patches = some.unfold(2, kernel, 1).unfold(3, kernel, 1).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
            covariance = covariance + patches.T.double() @ patches.double()
            mean = mean + patches.double().sum(0)
            count += len(patches)
        if centred:
            covariance = covariance - torch.outer(mean, mean) / count
        value, vector = torch.linalg.eigh(covariance / count)
        for k in range(vector.shape[1]):
            if vectors and vectors[0][:, k] @ vector[:, k] < 0:
                vector[:, k] *= -1
        values.append(value)
        vectors.append(vector)
    value, vector = sum(values) / parts, sum(vectors) / parts
    filters = [vector[:, k] / (value[k] + eps) ** 0.5 for k in reversed(range(len(value)))]
    return torch.stack(filters).view(-1, images.shape[1], kernel, kernel)


Net: TypeAlias = Callable[[Tensor], Tensor]


def plain_view(net: Net, images: Tensor) -> Tensor:
    return net(images)


def mirror_views(net: Net, images: Tensor) -> Tensor:
    return 0.5 * net(images) + 0.5 * net(images.flip(3))


def six_views(net: Net, images: Tensor) -> Tensor:
    padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
    up_left, down_right = padded[:, :, 0:32, 0:32], padded[:, :, 2:34, 2:34]
    return 0.5 * mirror_views(net, images) + 0.25 * mirror_views(net, up_left) + 0.25 * mirror_views(net, down_right)


def six_views_of_a_quarter(net: Net, images: Tensor) -> Tensor:
    logits = net(images)
    first_two = logits.sort(1, descending=True).values[:, :2]
    doubtful = (first_two[:, 0] - first_two[:, 1]).argsort()[: len(images) // 4]
    logits[doubtful] = six_views(net, images[doubtful])
    return logits


# Averages of weights.


class Average:
    """A copy of all floating-point weights and statistics, moved towards those of the network now and then."""

    def __init__(self, net: nn.Module) -> None:
        self.weights = {k: v.clone() for k, v in net.state_dict().items() if v.is_floating_point()}

    def update(self, net: nn.Module, decay: float, *, copy_back: bool) -> None:
        now = net.state_dict()
        for name, own in self.weights.items():
            own.copy_(decay * own + (1 - decay) * now[name])
            if copy_back:
                now[name].copy_(own)


def numbered(batches: Batches, count: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    for step, (images, labels) in enumerate(islice(batches, count)):
        yield step, images, labels
