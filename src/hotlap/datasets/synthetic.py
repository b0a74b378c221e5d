"""Images made on the spot: a pattern per class, moved a little and covered with noise. For trying things out.

The same options give the same bytes on every platform and NumPy version: everything is whole-number arithmetic on
the raw output of PCG64, whose stream NumPy guarantees.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hotlap.datasets.base import Array, Arrays, Progress, image_data, label_dtype
from hotlap.datasets.own import check_memory, fraction, image_size, whole
from hotlap.datasets.spec import Built, OwnSet

_CELLS = 5  # a pattern is a grid of this many cells a side, coarse enough to survive the shift
_MAX_SHIFT = 2
_CHUNK = 1024  # images made at a time
_PATTERN, _TRAIN, _TEST = range(3)


def _stream(seed: int, use: int, part: int = 0) -> np.random.PCG64:
    return np.random.PCG64(np.random.SeedSequence((seed, use, part)))


def _words(stream: np.random.PCG64, count: int) -> Array:
    return np.asarray(stream.random_raw(count), np.uint64)


def _bytes(stream: np.random.PCG64, count: int) -> Array:
    return _words(stream, -(-count // 8)).astype("<u8").view(np.uint8)[:count]


def patterns(classes: int, channels: int, size: tuple[int, int], seed: int) -> Array:
    """One (channels, height, width) pattern per class, each channel stretched to span 0 to 255.

    Returns:
        (classes, channels, height, width) int16.
    """
    height, width = size
    cells = _bytes(_stream(seed, _PATTERN), classes * channels * _CELLS * _CELLS).astype(np.int16)
    cells = cells.reshape(classes, channels, _CELLS, _CELLS)
    rows, columns = np.arange(height) * _CELLS // height, np.arange(width) * _CELLS // width
    image = cells[:, :, rows[:, None], columns[None, :]].astype(np.int32)
    low, high = image.min(axis=(2, 3), keepdims=True), image.max(axis=(2, 3), keepdims=True)
    stretched = (image - low) * 255 // np.maximum(high - low, 1)
    return np.where(high > low, stretched, image).astype(np.int16)  # a single pixel has nothing to stretch


def _split(pattern: Array, count: int, strength: int, seed: int, use: int) -> tuple[Array, Array]:
    classes, channels, height, width = pattern.shape
    # Sorting random words gives a random order of balanced labels.
    order = np.argsort(_words(_stream(seed, use), count), kind="stable")
    labels = (np.arange(count) % classes)[order]
    reach = min(_MAX_SHIFT, min(height, width) // 8)
    images = np.empty((count, channels, height, width), np.uint8)
    for part, begin in enumerate(range(0, count, _CHUNK)):
        chosen = labels[begin : begin + _CHUNK]
        stream = _stream(seed, use, part + 1)
        shift = (_words(stream, 2 * len(chosen)) % np.uint64(2 * reach + 1)).astype(np.int64).reshape(2, -1) - reach
        rows = (np.arange(height) - shift[0][:, None]) % height
        columns = (np.arange(width) - shift[1][:, None]) % width
        clean = pattern[chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (n, H, W, C)
        noise = _bytes(stream, clean.size).astype(np.int32).reshape(clean.shape)
        noisy = clean + ((2 * noise - 255) * strength >> 8)
        images[begin : begin + _CHUNK] = np.clip(noisy, 0, 255).transpose(0, 3, 1, 2)
    return images, labels.astype(label_dtype(classes))


def _build(root: Any, progress: Progress, **options: Any) -> Built:
    train = whole("train", options["train"], 1)
    test = whole("test", options["test"], 1)
    size = image_size(options["size"])
    channels = whole("channels", options["channels"], 1, 1024)
    classes = whole("classes", options["classes"], 2, 1 << 20)
    seed = whole("seed", options["seed"], 0)
    strength = round(256 * fraction("noise", options["noise"], 0, 4, ends=True))
    pixels = channels * size[0] * size[1]
    check_memory((train + test + 8 * _CHUNK + 8 * classes) * pixels, "this synthetic data", "ask for fewer images")
    pattern = patterns(classes, channels, size, seed)
    arrays: Arrays = {}
    arrays["x_train"], arrays["y_train"] = _split(pattern, train, strength, seed, _TRAIN)
    arrays["x_test"], arrays["y_test"] = _split(pattern, test, strength, seed, _TEST)
    return Built(image_data("synthetic", arrays, [str(label) for label in range(classes)]), source="made on the spot")


DATASET = OwnSet(
    name="synthetic",
    options={
        "train": 1000,
        "test": 200,
        "size": 28,
        "channels": 1,
        "classes": 10,
        "seed": 0,
        "noise": 0.5,  # amplitude as a share of the full range; 0 gives clean patterns
    },
    build=_build,
    order=40,
)
