"""Another data set's training images, split into images to train on and images held out to test on.

What is tuned or compared while searching is measured on the held-out images; the other data set's own test images are
not part of it.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np

from hotlap.datasets.base import Array, Progress, image_data
from hotlap.datasets.own import check_memory, whole
from hotlap.datasets.spec import Built, OwnSet
from hotlap.errors import InputError
from hotlap.recipe import Component, part

NAME = "held-out"

_STREAM = 2  # apart from the streams that split and order the user's own data under the same seed


def held_out(data: Component, images: int, seed: int) -> Component:
    """Write a data set whose test images are held out of another's training images.

    Args:
        data: the other data set with its options.
        images: how many training images to hold out, the same share of every class.
        seed: decides which.

    Raises:
        InputError: ``images`` or ``seed`` is not a whole number it can be, or ``data`` is held out already.
    """
    of = _unnested(data)
    return part(NAME, of=of, images=whole("images", images, 1), seed=whole("seed", seed, 0))


def original(data: Component) -> Component:
    """Return the data set that images are held out of; any other data set is returned as it is."""
    of = data.options.get("of") if data.name == NAME else data
    if not isinstance(of, Component):
        raise InputError("held-out data needs the option of", 'pass of={"name": "mnist"}')
    return of


def split(labels: Array, images: int, seed: int) -> Array:
    """Choose which images are held out, the same share of every class.

    A class's share is rounded by largest remainder (the lower label first where remainders tie), so that the total is
    exact; then a class of two or more images keeps at least one on both sides, and a single image stays for training.

    Args:
        labels: (N,) labels from 0; not modified.
        images: how many to hold out.
        seed: one 64-bit word of PCG64(SeedSequence((seed, 2))) is drawn per image, in the stored order; of each class
            the images with the smallest words are held out. So holding out more keeps those held out before wherever
            the class's share grows, and the choice is the same on every platform and NumPy version.

    Returns:
        (N,) bool, True where held out.

    Raises:
        InputError: so many images, or so few, that a class would be missing on one side.
    """
    sizes = np.bincount(labels)
    shares = _shares(sizes, images)
    words = np.random.PCG64(np.random.SeedSequence((seed, _STREAM))).random_raw(len(labels))
    order = np.lexsort((words, labels))
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    chosen = np.empty(len(labels), bool)
    chosen[order] = rank < np.repeat(shares, sizes)
    return chosen


def _shares(sizes: Array, images: int) -> Array:
    """How many images each class gives, of (K,) class sizes."""
    total = int(sizes.sum())
    low, high = (sizes >= 2).astype(np.int64), np.maximum(sizes - 1, 0)
    least, most = max(1, int(low.sum())), int(high.sum())
    if not least <= images <= most:
        if most == 0:
            raise InputError("no class has two images, so none can be held out", "add images to the classes")
        raise InputError(
            f"images must be from {least} to {most}, so that every class has images on both sides, not {images}"
        )
    shares: Array = np.clip(sizes * images // total, low, high)
    # Exact whole numbers: how far a class is below its proportional share, times the number of images.
    lacking = sizes * images - shares * total
    missing = images - int(shares.sum())
    step = 1 if missing > 0 else -1
    heap = [(-step * int(lack), label) for label, lack in enumerate(lacking)]
    heapq.heapify(heap)
    while missing:
        lack, label = heapq.heappop(heap)
        if low[label] <= shares[label] + step <= high[label]:
            shares[label] += step
            missing -= step
            heapq.heappush(heap, (lack + total, label))
    return shares


def _unnested(of: Any) -> Component:
    if of is None:
        raise InputError("held-out data needs the option of", 'pass of={"name": "mnist"}')
    if isinstance(of, Mapping):
        of = part(NAME, of=of).options["of"]
    if not isinstance(of, Component):
        raise InputError(f"of must be a data set with its options, not {of!r}", 'for example {"name": "mnist"}')
    if of.name == NAME:
        raise InputError(
            "images cannot be held out of a set they are already held out of", "hold them out of the original set"
        )
    return of


def _build(root: Any, progress: Progress, *, of: Any, images: Any, seed: Any) -> Built:
    from hotlap import datasets

    of = _unnested(of)
    images, seed = whole("images", images, 1), whole("seed", seed, 0)
    inner = datasets.load(of.name, progress=progress, **of.options)
    chosen = split(inner.y_train, images, seed)
    check_memory(inner.x_train.nbytes, f"holding out images of {inner.name}", f"train on {inner.name} itself")
    kept = ~chosen
    arrays = {
        "x_train": inner.x_train[kept],
        "y_train": inner.y_train[kept],
        "x_test": inner.x_train[chosen],
        "y_test": inner.y_train[chosen],
    }
    data = image_data(f"{inner.name} (held out)", arrays, inner.class_names)
    note = f"{images:,} of {len(chosen):,} training images of {inner.name} held out for testing, seed {seed}"
    return Built(data, source=f"the training images of {of!r}", notes=(note,))


DATASET = OwnSet(name=NAME, options={"of": None, "images": None, "seed": 0}, build=_build, order=70)
