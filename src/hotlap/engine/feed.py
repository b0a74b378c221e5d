"""Feeds: where training and test batches come from, and in what order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from hotlap.datasets import ImageData
from hotlap.datasets.base import channel_stats
from hotlap.engine.seeding import Streams, generator
from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.techniques import AUGMENTATIONS

Batch: TypeAlias = tuple[Tensor, Tensor]
Augmentation: TypeAlias = Callable[[Tensor, Generator], Tensor]

_CHUNK = 4096
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Feed(Protocol):
    """Source of normalised float32 batches: images (n, C, H, W) and labels (n,) int64, both on the run's device."""

    steps_per_epoch: int

    def epoch(self) -> Iterator[Batch]:
        """Yield the training batches of the next epoch."""
        ...

    def test(self) -> Iterator[Batch]:
        """Yield every test image once, in order."""
        ...


def make_feed(recipe: Recipe, data: ImageData, streams: Streams, device: torch.device) -> Feed:
    """Build the feed that a recipe asks for; its time counts as ``prepare``.

    Raises:
        InputError: fewer training images than one batch while the last partial batch is dropped, or augmentation
            asked of the per-image feed.
    """
    if recipe.feed.drop_last and len(data.x_train) < recipe.batch_size:
        raise InputError(
            f"{data.name} has {len(data.x_train)} training images, less than one batch of {recipe.batch_size}",
            "--set feed.drop_last=false, or a smaller --set batch_size=…",
        )
    return (_PerImageFeed if recipe.feed.loading == "per-image" else _DeviceFeed)(recipe, data, streams, device)


def normalisation(recipe: Recipe, data: ImageData) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per channel, for pixels scaled to 0–1: the recipe's, or the training set's where it is None.

    Raises:
        InputError: the recipe's are for another number of channels.
    """
    mean, std = recipe.feed.mean, recipe.feed.std
    if mean is None or std is None:
        own_mean, own_std = channel_stats(data.x_train)
        # A constant channel has no spread; dividing by one leaves it at zero.
        own_std = tuple(s or 1.0 for s in own_std)
        mean, std = mean if mean is not None else own_mean, std if std is not None else own_std
    for key, values in (("mean", mean), ("std", std)):
        if len(values) != data.channels:
            raise InputError(
                f"feed.{key} has {len(values)} values, {data.name} has {data.channels} channels",
                f"--set feed.mean=null --set feed.std=null takes them from {data.name}",
            )
    return mean, std


class _DeviceFeed:
    """The whole normalised set as one tensor on the device; batches are slices, or gathered when shuffled anew."""

    def __init__(self, recipe: Recipe, data: ImageData, streams: Streams, device: torch.device) -> None:
        count = len(data.x_train)
        self._batch = recipe.batch_size
        self._test_batch = recipe.evaluation.batch_size
        self._reshuffle = recipe.feed.shuffle == "every-epoch"
        # Orders are drawn on the CPU, so that a seed means the same order on every device.
        self._order = generator(streams.order)
        self._augment_rng = generator(streams.augment, device)
        self._augment: list[Augmentation] = [AUGMENTATIONS.build(part) for part in recipe.augment]
        self.steps_per_epoch = count // self._batch if recipe.feed.drop_last else -(-count // self._batch)
        mean, std = normalisation(recipe, data)
        memory_format = MEMORY_FORMATS[recipe.engine.memory_format]
        once = None if self._reshuffle else torch.randperm(count, generator=self._order).numpy()
        self._train = _upload(data.x_train, data.y_train, mean, std, device, memory_format, once)
        self._test = _upload(data.x_test, data.y_test, mean, std, device, memory_format, None)

    def epoch(self) -> Iterator[Batch]:
        images, labels = self._train
        order = torch.randperm(len(images), generator=self._order).to(images.device) if self._reshuffle else None
        for step in range(self.steps_per_epoch):
            span = slice(step * self._batch, (step + 1) * self._batch)
            chosen = span if order is None else order[span]
            batch = images[chosen]
            for augment in self._augment:
                batch = augment(batch, self._augment_rng)
            yield batch, labels[chosen]

    def test(self) -> Iterator[Batch]:
        images, labels = self._test
        for start in range(0, len(images), self._test_batch):
            yield images[start : start + self._test_batch], labels[start : start + self._test_batch]


def _upload(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    memory_format: torch.memory_format,
    order: NDArray[np.int64] | None,
) -> Batch:
    """Move images to the device as normalised float32, in chunks so that no second copy of the set is ever held."""
    out = torch.empty(images.shape, dtype=torch.float32, device=device).to(memory_format=memory_format)
    shift = torch.tensor(mean, device=device).view(-1, 1, 1)
    scale = torch.tensor(std, device=device).view(-1, 1, 1)
    for start in range(0, len(images), _CHUNK):
        chosen = slice(start, start + _CHUNK) if order is None else order[start : start + _CHUNK]
        # A copy: the cache's arrays are read-only maps, which torch cannot hold without a warning.
        chunk = torch.from_numpy(np.array(images[chosen]))
        out[start : start + _CHUNK] = chunk.to(device).float().div_(255).sub_(shift).div_(scale)
    chosen_labels = np.array(labels if order is None else labels[order], dtype=np.int64)
    return out, torch.from_numpy(chosen_labels).to(device)


class _Images(Dataset[tuple[Tensor, int]]):
    """One image at a time: read, turned into a picture, scaled, normalised, as PyTorch's example does."""

    def __init__(
        self, images: NDArray[np.uint8], labels: NDArray[np.integer], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        self._images, self._labels = images, labels
        self._mean = torch.tensor(mean).view(-1, 1, 1)
        self._std = torch.tensor(std).view(-1, 1, 1)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        pixels = np.array(self._images[index]).transpose(1, 2, 0)
        picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        image = torch.from_numpy(np.array(picture)).view(*pixels.shape).permute(2, 0, 1).contiguous()
        return image.float().div(255).sub_(self._mean).div_(self._std), int(self._labels[index])


class _PerImageFeed:
    """A DataLoader with one worker for training images and one for test images."""

    def __init__(self, recipe: Recipe, data: ImageData, streams: Streams, device: torch.device) -> None:
        if recipe.augment:
            raise InputError("the per-image feed has no augmentation", "--set feed.loading=device")
        mean, std = normalisation(recipe, data)
        self._device = device
        self._memory_format = MEMORY_FORMATS[recipe.engine.memory_format]
        reshuffle = recipe.feed.shuffle == "every-epoch"
        order = generator(streams.order)
        sampler = None if reshuffle else torch.randperm(len(data.x_train), generator=order).tolist()
        self._train = DataLoader(
            _Images(data.x_train, data.y_train, mean, std),
            batch_size=recipe.batch_size,
            shuffle=reshuffle,
            sampler=sampler,
            drop_last=recipe.feed.drop_last,
            num_workers=1,
            generator=order,
        )
        self._test = DataLoader(
            _Images(data.x_test, data.y_test, mean, std), batch_size=recipe.evaluation.batch_size, num_workers=1
        )
        self.steps_per_epoch = len(self._train)

    def epoch(self) -> Iterator[Batch]:
        yield from map(self._move, self._train)

    def test(self) -> Iterator[Batch]:
        yield from map(self._move, self._test)

    def _move(self, batch: Batch) -> Batch:
        images, labels = batch
        return images.to(self._device).contiguous(memory_format=self._memory_format), labels.to(self._device)
