"""Feeds: where training and test batches come from, and in what order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hotlap.datasets import ImageData
from hotlap.datasets.base import channel_stats
from hotlap.datasets.cache import read_pages
from hotlap.engine.augmenting import Augment
from hotlap.engine.precision import precision_of, weights_dtype
from hotlap.engine.seeding import Streams, generator
from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.techniques.base import Moment

Batch: TypeAlias = tuple[Tensor, Tensor]

_CHUNK, _CPU_CHUNK = 16384, 512
"""Images that are normalised together: few calls on a GPU, and what fits into the cache on a CPU."""

_AHEAD = 64 * 2**20
"""Bytes of images that are augmented together on a GPU, where every call costs a launch."""

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Feed(Protocol):
    """Source of normalised batches on the run's device, float16 where weights are, else float32.

    Training batches are images (n, C, H, W) and labels (n,) int64, or shares (n, classes) where the recipe mixes
    images; of several seeds (n, seeds · C, H, W) and (n, seeds) or (n, classes, seeds). Test batches are the same for
    all seeds, without that axis.
    """

    steps_per_epoch: int

    def epoch(self) -> Iterator[Batch]:
        """Yield the training batches of the next epoch."""
        ...

    def test(self) -> Iterator[Batch]:
        """Yield every test image once, in order."""
        ...

    def test_set(self) -> Batch:
        """Return all test images and labels at once."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on with the next epoch after an interruption."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        ...


def in_memory(data: ImageData, device: torch.device) -> ImageData:
    """Read a data set's images into page-locked memory, from where a CUDA GPU copies fastest; others keep the map.

    Of a map every page is read, so that no later phase waits for the disk.
    """
    if device.type != "cuda":
        read_pages(data)
        return data
    held: dict[str, Any] = {}
    for name in ("x_train", "x_test"):
        images = getattr(data, name)
        held[name] = torch.empty(images.shape, dtype=torch.uint8, pin_memory=True).numpy()
        np.copyto(held[name], images)
    return replace(data, **held)


def first_images(recipe: Recipe, data: ImageData, device: torch.device, count: int) -> Tensor:
    """Return the first ``count`` training images, in the data set's own order, normalised: (n, C, H, W) float32."""
    mean, std = normalisation(recipe, data)
    images, labels = data.x_train[:count], data.y_train[:count]
    memory_format = MEMORY_FORMATS[recipe.engine.memory_format]
    return _upload(images, labels, mean, std, device, memory_format, torch.float32, None)[0]


def make_feed(recipe: Recipe, data: ImageData, streams: Sequence[Streams], device: torch.device) -> Feed:
    """Build the feed that a recipe asks for, for one seed or several; its time counts as ``prepare``.

    Raises:
        InputError: fewer training images than one batch while the last partial batch is dropped, or augmentation
            asked of the per-image feed.
    """
    check_batch(recipe, data)
    return (_PerImageFeed if recipe.feed.loading == "per-image" else _DeviceFeed)(recipe, data, streams, device)


def check_data(recipe: Recipe, data: ImageData) -> None:
    """Refuse data that does not go together with a recipe's feed.

    Raises:
        InputError: fewer training images than one batch while the last partial batch is dropped, or a mean or spread
            for another number of channels.
    """
    check_batch(recipe, data)
    _check_channels(recipe.feed.mean, recipe.feed.std, data)


def check_batch(recipe: Recipe, data: ImageData) -> None:
    """Refuse data that does not fill a batch.

    Raises:
        InputError: fewer training images than one batch while the last partial batch is dropped.
    """
    if recipe.feed.drop_last and len(data.x_train) < recipe.batch_size:
        raise InputError(
            f"{data.name} has {len(data.x_train)} training images, less than one batch of {recipe.batch_size}",
            "--set feed.drop_last=false, or a smaller --set batch_size=…",
        )


def normalisation(recipe: Recipe, data: ImageData) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std per channel, for pixels scaled to 0–1: the recipe's, or the training set's where it is None.

    Raises:
        InputError: the recipe's are for another number of channels.
    """
    mean, std = recipe.feed.mean, recipe.feed.std
    _check_channels(mean, std, data)
    if mean is None or std is None:
        own_mean, own_std = channel_stats(data.x_train)
        # A constant channel has no spread; dividing by one leaves it at zero.
        own_std = tuple(s or 1.0 for s in own_std)
        mean, std = mean if mean is not None else own_mean, std if std is not None else own_std
    return mean, std


def _check_channels(mean: tuple[float, ...] | None, std: tuple[float, ...] | None, data: ImageData) -> None:
    for key, values in (("mean", mean), ("std", std)):
        if values is not None and len(values) != data.channels:
            raise InputError(
                f"feed.{key} has {len(values)} values, {data.name} has {data.channels} channels",
                f"--set feed.mean=null --set feed.std=null takes them from {data.name}",
            )


class _DeviceFeed:
    """The whole normalised set as one tensor on the device; batches are slices, or gathered where orders differ."""

    def __init__(self, recipe: Recipe, data: ImageData, streams: Sequence[Streams], device: torch.device) -> None:
        count = len(data.x_train)
        self._batch = recipe.batch_size
        self._test_batch = recipe.evaluation.batch_size
        self._reshuffle = recipe.feed.shuffle == "every-epoch"
        self._epochs, self._classes, self._epoch = recipe.epochs, data.classes, 0
        # Orders are drawn on the CPU, so that a seed means the same order on every device.
        self._order = [generator(stream.order) for stream in streams]
        self._augment = [Augment(recipe, generator(stream.augment, device)) for stream in streams]
        self.steps_per_epoch = count // self._batch if recipe.feed.drop_last else -(-count // self._batch)
        mean, std = normalisation(recipe, data)
        memory_format = MEMORY_FORMATS[recipe.engine.memory_format]
        dtype = weights_dtype(precision_of(recipe, device))
        self._kept: list[Tensor | None] = [None] * len(streams)
        upload_order = None
        if not self._reshuffle:
            kept = [torch.randperm(count, generator=order) for order in self._order]
            if len(streams) == 1:
                # One order for the whole run: the images are laid out in it, and batches are slices.
                upload_order = kept[0].numpy()
            else:
                self._kept = [order.to(device) for order in kept]
        self._train = _upload(data.x_train, data.y_train, mean, std, device, memory_format, dtype, upload_order)
        self._test = _upload(data.x_test, data.y_test, mean, std, device, memory_format, dtype, None)
        of_a_batch = self._batch * self._train[0][0].nbytes
        self._together = max(1, _AHEAD // of_a_batch) if device.type == "cuda" else 1

    def epoch(self) -> Iterator[Batch]:
        orders = self._kept
        if self._reshuffle:
            count, device = len(self._train[1]), self._train[1].device
            orders = [_sent(torch.randperm(count, generator=order), device) for order in self._order]
        for first in range(0, self.steps_per_epoch, self._together):
            several = range(first, min(first + self._together, self.steps_per_epoch))
            of_seeds = [self._of_one_seed(*pair, several) for pair in zip(orders, self._augment, strict=True)]
            for batches in zip(*of_seeds, strict=True):
                yield batches[0] if len(batches) == 1 else _side_by_side(batches)
        self._epoch += 1

    def _of_one_seed(self, order: Tensor | None, augment: Augment, steps: range) -> Iterator[Batch]:
        """Yield the batches of some steps, augmented together and mixed one by one."""
        span = slice(steps.start * self._batch, steps.stop * self._batch)
        chosen = span if order is None else order[span]
        labels, count = self._train[1][chosen], len(self._train[1])
        index = torch.arange(*span.indices(count), device=labels.device) if order is None else order[span]
        images = augment(self._train[0], chosen, Moment(self._epoch, self._epochs, index, count))
        for place in range(0, len(images), self._batch):
            here = slice(place, place + self._batch)
            moment = Moment(self._epoch, self._epochs, index[here], count)
            yield augment.mix(images[here], labels[here], self._classes, moment)

    def test(self) -> Iterator[Batch]:
        images, labels = self._test
        for start in range(0, len(images), self._test_batch):
            yield images[start : start + self._test_batch], labels[start : start + self._test_batch]

    def test_set(self) -> Batch:
        return self._test

    def state_dict(self) -> dict[str, Any]:
        return {
            "epoch": self._epoch,
            "order": [order.get_state() for order in self._order],
            "augment": [augment.state_dict() for augment in self._augment],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._epoch = state["epoch"]
        for order, saved in zip(self._order, state["order"], strict=True):
            order.set_state(saved)
        for augment, kept in zip(self._augment, state["augment"], strict=True):
            augment.load_state_dict(kept)


def _sent(order: Tensor, device: torch.device) -> Tensor:
    """Copy an order of images to the device; from page-locked memory nothing waits for the copy."""
    return order.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else order.to(device)


def _side_by_side(batches: Sequence[Batch]) -> Batch:
    """Join the batches of several seeds along the channels; the seeds are the last axis of the labels."""
    return torch.cat([images for images, _ in batches], 1), torch.stack([labels for _, labels in batches], -1)


def _upload(
    images: NDArray[np.uint8],
    labels: NDArray[np.integer],
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    memory_format: torch.memory_format,
    dtype: torch.dtype,
    order: NDArray[np.int64] | None,
) -> Batch:
    """Move images and their labels to the device, the images normalised; see ``normalised``."""
    chosen = np.array(labels if order is None else labels[order], dtype=np.int64)
    return normalised(images, mean, std, device, memory_format, dtype, order), torch.from_numpy(chosen).to(device)


def normalised(
    images: NDArray[np.uint8],
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    memory_format: torch.memory_format,
    dtype: torch.dtype,
    order: NDArray[np.int64] | None = None,
) -> Tensor:
    """Move images to a device, normalised, in chunks so that no second copy of the set is ever held.

    Args:
        images: (N, C, H, W) uint8; not modified.
        mean: of each channel, for pixels scaled to 0–1; subtracted.
        std: of each channel; what is divided by.
        device: where to.
        memory_format: of the result.
        dtype: of the result; the arithmetic is float32.
        order: (N,) which image comes when; None keeps them as they are.

    Returns:
        (N, C, H, W) on the device.
    """
    if order is not None and device.type == "cuda":
        # There, a gather costs less than here.
        plain = normalised(images, mean, std, device, memory_format, dtype)
        return plain[torch.from_numpy(order).to(device)].contiguous(memory_format=memory_format)
    out = torch.empty(images.shape, dtype=dtype, device=device, memory_format=memory_format)
    shift = torch.tensor(mean, device=device).view(-1, 1, 1)
    scale = torch.tensor(std, device=device).view(-1, 1, 1)
    size = _CPU_CHUNK if device.type == "cpu" else _CHUNK
    for start in range(0, len(images), size):
        chosen = slice(start, start + size) if order is None else order[start : start + size]
        # A copy: the cache's arrays are read-only maps, which torch cannot hold without a warning.
        chunk = images[chosen] if images.flags.writeable and order is None else np.array(images[chosen])
        out[start : start + size] = (
            torch.from_numpy(chunk).to(device, non_blocking=True).float().div_(255).sub_(shift).div_(scale)
        )
    return out


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

    def __init__(self, recipe: Recipe, data: ImageData, streams: Sequence[Streams], device: torch.device) -> None:
        if recipe.augment or recipe.mixing:
            raise InputError("the per-image feed has no augmentation", "--set feed.loading=device")
        mean, std = normalisation(recipe, data)
        self._device, self._dtype = device, weights_dtype(precision_of(recipe, device))
        self._memory_format = MEMORY_FORMATS[recipe.engine.memory_format]
        reshuffle = recipe.feed.shuffle == "every-epoch"
        order = self._order = generator(streams[0].order)
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

    def test_set(self) -> Batch:
        batches = list(self.test())
        return torch.cat([images for images, _ in batches]), torch.cat([labels for _, labels in batches])

    def state_dict(self) -> dict[str, Any]:
        return {"order": self._order.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._order.set_state(state["order"])

    def _move(self, batch: Batch) -> Batch:
        images, labels = batch
        return images.to(self._device, self._dtype).contiguous(memory_format=self._memory_format), labels.to(
            self._device
        )
