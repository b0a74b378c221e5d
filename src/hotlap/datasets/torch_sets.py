"""PyTorch data sets of the user's own, written once to a file that a recipe can name."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hotlap.datasets import cache
from hotlap.datasets.arrays import plain_labels, to_uint8
from hotlap.datasets.base import Array, Arrays
from hotlap.datasets.own import check_memory
from hotlap.errors import DataError


def from_torch(
    train: Any, test: Any | None = None, *, class_names: Sequence[str] | None = None, path: str | Path | None = None
) -> Path:
    """Write data sets of (image, label) pairs to an ``.npz`` file, which ``data=`` and ``--data`` take.

    Runs are identified by the digest of their images, so what is trained on must not change from one reading to the
    next: each pair is read once, here. Leave random augmentation and normalisation out of the data sets' transforms;
    recipes have their own.

    Args:
        train: a sequence of pairs (``len`` and indexing), such as a ``torch.utils.data.Dataset``. Images are tensors
            (C, H, W) or (H, W), arrays (H, W, C) or (H, W), or Pillow images, all of one size; whole numbers 0 to 255,
            or fractions 0 to 1. Labels are whole numbers or strings.
        test: the test set; None lets a share of ``train`` be held out when it is loaded.
        class_names: one name per label, for labels that are whole numbers, in both sets. When None, the names that
            each set has as ``classes``, if the training set has them; so sets that number their classes in two ways
            are matched by name.
        path: where to write; a file in the cache, named by its content, when None.

    Returns:
        The file's path.

    Raises:
        DataError: no pairs, images of several sizes or out of range, two classes of one name, ``class_names`` for sets
            that number their classes in two ways, or the file cannot be written.
    """
    names = {"train": _names_of(train)}
    parts = {"train": train}
    if test is not None:
        parts["test"] = test
        names["test"] = (_names_of(test) or names["train"]) if names["train"] else []
    if class_names is not None:
        if len(set(map(tuple, names.values()))) > 1:
            raise DataError(
                "the test set has other classes than the train set, so one list cannot name both",
                "leave class_names out: the sets' own classes are matched by name",
            )
        names = {split: list(map(str, class_names)) for split in parts}
    images, labels = {}, {}
    for split, pairs in parts.items():
        _check_distinct(names[split])
        images[f"x_{split}"], labels[f"y_{split}"] = _read(pairs, split, names[split])
    arrays: Arrays = {**to_uint8(images), **labels}
    if path is None:
        return _write(cache.cache_dir() / "torch", None, arrays)
    target = Path(path).expanduser().absolute()
    return _write(target.parent, target.stem + ".npz", arrays)


def _names_of(pairs: Any) -> list[str]:
    """The names that a data set has for its labels; a class of several synonyms is called by all of them."""
    names = getattr(pairs, "classes", None)
    if not isinstance(names, Sequence) or isinstance(names, str):
        return []
    return [", ".join(map(str, name)) if isinstance(name, tuple | list) else str(name) for name in names]


def _check_distinct(names: list[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"two classes are called {twice!r}, which would make them one", "pass class_names, one for each class"
        )


def _read(pairs: Any, split: str, names: list[str]) -> tuple[Array, Array]:
    """Images (N, C, H, W) and labels (N,) of one split."""
    if not len(pairs):
        raise DataError(f"the {split} set has no pairs")
    first, _ = _pair(pairs, 0, split)
    check_memory(2 * len(pairs) * first.nbytes, f"the {split} set", "write it in smaller images")
    images, labels = np.empty((len(pairs), *first.shape), first.dtype), []
    for at in range(len(pairs)):
        image, label = _pair(pairs, at, split)
        if image.shape != first.shape or image.dtype != first.dtype:
            raise DataError(
                f"{split} image {at} is {image.dtype} {image.shape}, the first one {first.dtype} {first.shape}",
                "resize them in the data set's transform",
            )
        images[at] = image
        labels.append(label)
    found = plain_labels(np.asarray(labels), f"the labels of the {split} set")
    if names and found.dtype.kind in "ui":
        if found.min() < 0 or found.max() >= len(names):
            raise DataError(f"the {split} set has labels {found.min()} to {found.max()} for {len(names)} class names")
        found = np.asarray(names, str)[found]
    return images, found


def _pair(pairs: Any, at: int, split: str) -> tuple[Array, Any]:
    try:
        image, label = pairs[at]
    except (TypeError, ValueError) as error:
        raise DataError(f"item {at} of the {split} set is no pair of an image and a label") from error
    # A tensor is (C, H, W) by PyTorch's convention, everything else (H, W, C).
    tensor = hasattr(image, "detach")
    pixels = image.detach().cpu().numpy() if tensor else np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[None] if tensor else pixels[..., None]
    if pixels.ndim != 3:
        raise DataError(f"{split} image {at} has shape {pixels.shape}", "images must have height, width and channels")
    return pixels if tensor else pixels.transpose(2, 0, 1), label.item() if hasattr(label, "item") else label


def _write(folder: Path, name: str | None, arrays: Arrays) -> Path:
    """Write the file, named by its content where there is no name; it appears whole or not at all."""
    with cache.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".torch.tmp-", suffix=".npz", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, allow_pickle=False, **arrays)
            if name is None:
                with Path(temporary).open("rb") as file:
                    name = f"{hashlib.file_digest(file, 'sha256').hexdigest()[:32]}.npz"
            return Path(temporary).replace(folder / name)
        finally:
            Path(temporary).unlink(missing_ok=True)
