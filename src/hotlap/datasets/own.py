"""What data of the user's own has in common: checking options, splitting off a test set, naming labels."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hotlap.datasets.base import Array
from hotlap.errors import DataError, InputError, unknown_name

TEST_NAMES = ("test", "val", "validation", "valid")
"""What the user's own test set may be called; the first that exists is it."""


def whole(option: str, value: Any, low: int, high: int | None = None) -> int:
    """A whole-number option within bounds; InputError otherwise."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        bounds = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InputError(f"{option} must be a whole number {bounds}, not {value!r}")
    return number


def fraction(option: str, value: Any, low: float, high: float, *, ends: bool) -> float:
    """A numeric option between ``low`` and ``high``, with or without the ends; InputError otherwise."""
    number = value if isinstance(value, int | float | np.number) and not isinstance(value, bool) else math.nan
    if not (low <= number <= high if ends else low < number < high):
        bounds = f"from {low:g} to {high:g}" if ends else f"between {low:g} and {high:g}"
        raise InputError(f"{option} must be {bounds}, not {value!r}")
    return float(number)


def choice(option: str, value: Any, known: Sequence[str]) -> str:
    """An option that is one of some names; InputError with the nearest one otherwise."""
    if value not in known:
        raise unknown_name(option, str(value), known)
    return str(value)


def image_size(value: Any) -> tuple[int, int]:
    """Height and width from one number or a pair; InputError otherwise."""
    if isinstance(value, list | tuple) and len(value) == 2:
        return whole("size", value[0], 1, 65_535), whole("size", value[1], 1, 65_535)
    if isinstance(value, list | tuple | str | dict):
        raise InputError(f"size must be a whole number or [height, width], not {value!r}")
    side = whole("size", value, 1, 65_535)
    return side, side


def existing_path(name: str, value: Any, example: str) -> Path:
    """The ``path`` option as an absolute path that exists; InputError otherwise."""
    if value is None or not isinstance(value, str | Path) or not str(value):
        raise InputError(f"{name} data needs the option path", f"pass path={example}")
    path = Path(value).expanduser().absolute()
    try:
        found = path.exists()
    except OSError as error:
        raise InputError(f"path {path} cannot be read ({error.strerror})") from error
    if not found:
        raise InputError(f"path {path} does not exist")
    return path


def check_memory(needed: int, what: str, fix: str) -> None:
    """Refuse what would not fit into this machine's free memory, before it is asked for (DataError)."""
    import psutil

    free = psutil.virtual_memory().available
    if needed > free:
        raise DataError(f"{what} needs {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free", fix)


def check_numbers(pixels: int) -> None:
    """Refuse images that would not fit into the free memory as numbers of 4 bytes, as they are trained on (DataError).

    Args:
        pixels: of all images and channels.
    """
    check_memory(
        4 * pixels,
        "these images as numbers",
        "use smaller ones; of a folder: --set data.size=32 --set data.resize=crop",
    )


def generator(seed: int, stream: int) -> np.random.Generator:
    """A generator of its own for each use, so that changing one thing does not change the others."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, stream))))


SPLIT_STREAM, ORDER_STREAM = 0, 1


def held_out(labels: Array, class_names: Sequence[str], share: float, seed: int) -> tuple[Array, Array]:
    """Split off a test set that holds the same share of every class.

    Args:
        labels: (N,) labels from 0 to K-1.
        class_names: K names, for errors.
        share: part of each class to hold out; rounded, but at least one image and never all.
        seed: decides which images.

    Returns:
        Indices of the training and of the test images, both ascending.

    Raises:
        DataError: a class has a single image.
    """
    rng = generator(seed, SPLIT_STREAM)
    test = []
    for label, name in enumerate(class_names):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise DataError(
                f"class {name!r} has {len(members)} image, too few to hold one out for testing",
                "add images to it, or provide a test set",
            )
        count = min(max(1, round(len(members) * share)), len(members) - 1)
        test.append(rng.permutation(members)[:count])
    chosen = np.zeros(len(labels), bool)
    chosen[np.concatenate(test)] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def shuffled(count: int, seed: int) -> Array:
    """A fixed random order for training images.

    Files come sorted by class; a recipe that keeps the stored order would see one class after the other.
    """
    return generator(seed, ORDER_STREAM).permutation(count)
