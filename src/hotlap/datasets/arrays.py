"""The user's own arrays: an .npz file with x_train and y_train, and x_test and y_test or a held-out part."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hotlap.datasets.base import ARRAY_NAMES, CHUNK_BYTES, Array, Arrays, Progress, image_data, label_dtype
from hotlap.datasets.decode import one_line
from hotlap.datasets.own import check_memory, choice, existing_path, fraction, held_out, shuffled, whole
from hotlap.datasets.spec import Built, OwnSet, Seen
from hotlap.errors import DataError, InputError

_CHANNELS = (1, 3, 4)
_LAYOUTS = ("nhwc", "nchw")
# What zipfile and NumPy raise for damaged files and hostile headers.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    SyntaxError,
    KeyError,
    RuntimeError,
    MemoryError,
    OverflowError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
)


def read_npz(path: Path) -> tuple[Arrays, tuple[str, ...]]:
    """The arrays of an .npz file, and the names of those that are not used.

    Raises:
        DataError: not an .npz file, damaged, pickled, or without training data.
    """
    try:
        check_unpacked(path, ARRAY_NAMES)
        with np.load(path, allow_pickle=False) as file:
            names = tuple(file.files)
            if missing := [name for name in ("x_train", "y_train") if name not in names]:
                raise DataError(
                    f"{path.name} lacks {' and '.join(missing)} (it holds {', '.join(names) or 'nothing'})",
                    "save it with np.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)",
                )
            if ("x_test" in names) != ("y_test" in names):
                raise DataError(f"{path.name} has only one of x_test and y_test", "save both or neither")
            return {name: _member(file, name) for name in ARRAY_NAMES if name in names}, tuple(
                name for name in names if name not in ARRAY_NAMES
            )
    except _DAMAGE as error:
        raise DataError(f"{path.name} cannot be read as .npz ({one_line(error)})", "save it with np.savez") from error


def check_unpacked(path: Path, names: Sequence[str]) -> None:
    """Refuse an .npz file of which these arrays would not fit into the free memory, before anything is unpacked.

    Raises:
        DataError: too large.
        zipfile.BadZipFile: no .npz file.
        OSError: it cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        known = {name for array in names for name in (array, f"{array}.npy")}
        size = sum(member.file_size for member in archive.infolist() if member.filename in known)
    check_memory(size, path.name, "use a smaller file")


def _member(file: Any, name: str) -> Array:
    try:
        array = file[name]
    except ValueError as error:
        if "pickle" not in str(error):
            raise
        raise DataError(
            f"{name} holds Python objects, which are never unpickled", "save it as plain numbers, all images one size"
        ) from error
    if not isinstance(array, np.ndarray):  # a member that is no .npy file comes as its bytes
        raise DataError(f"{name} is not an array")
    return array


def to_nchw(images: Array, name: str, layout: str | None) -> Array:
    """Bring images into (N, C, H, W); a view where possible.

    Args:
        images: (N, H, W), (N, H, W, C) or (N, C, H, W).
        name: for errors.
        layout: ``"nhwc"``, ``"nchw"``, or None to tell by the side that is 1, 3 or 4.

    Raises:
        DataError: other dimensions, or neither side is a number of channels.
        InputError: both sides could be the channels.
    """
    if images.ndim == 3:
        return images[:, None]
    if images.ndim != 4:
        raise DataError(f"{name} has shape {images.shape}", "images must be (N, H, W), (N, H, W, C) or (N, C, H, W)")
    if layout is None:
        last, first = images.shape[3] in _CHANNELS, images.shape[1] in _CHANNELS
        if last and first:
            raise InputError(
                f"{name} of shape {images.shape} could be either layout", "pass layout=nhwc or layout=nchw"
            )
        if not last and not first:
            raise DataError(
                f"{name} of shape {images.shape} has no side of 1, 3 or 4 channels", "pass layout=nhwc or layout=nchw"
            )
        layout = "nhwc" if last else "nchw"
    return images if layout == "nchw" else images.transpose(0, 3, 1, 2)


def to_uint8(splits: dict[str, Array]) -> dict[str, Array]:
    """Convert all images with one and the same rule to uint8.

    Whole numbers must lie in 0 to 255; truth values become 0 and 255; fractions that reach no higher than 1 anywhere
    are scaled by 255, others are taken as 0 to 255; both are rounded to the nearest whole number, halves to even.

    Args:
        splits: name → images of any shape; not modified.

    Returns:
        The images by name; those that are uint8 already are returned themselves. Beside the result, only a little
        memory is used.

    Raises:
        DataError: values outside the range, not a number, infinite, or no numbers at all.
    """
    for name, images in splits.items():
        if images.dtype.kind not in "buif":
            raise DataError(f"{name} holds {images.dtype}", "images must be whole numbers 0 to 255 or fractions 0 to 1")
        if images.size == 0:
            raise DataError(f"{name} is empty {images.shape}")
        with np.errstate(invalid="ignore"):
            low, high = images.min(), images.max()
        # One that is not finite shows in the lowest or the highest.
        if images.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
            raise DataError(f"{name} holds values that are not finite numbers", "replace NaN and infinity")
        if images.dtype.kind != "b" and (low < 0 or high > 255):
            raise DataError(
                f"{name} holds values from {low:g} to {high:g}",
                "images must lie in 0 to 255, or 0 to 1 as fractions; undo any normalisation",
            )
    unit = all(images.dtype.kind not in "f" or images.max() <= 1 for images in splits.values())
    return {name: _one_to_uint8(images, unit) for name, images in splits.items()}


def _one_to_uint8(images: Array, unit: bool) -> Array:
    if images.dtype == np.uint8:
        return images
    out = np.empty(images.shape, np.uint8)
    for piece in _pieces(images, len(images)):
        some = images[piece]
        if images.dtype.kind == "f":
            wide = some.astype(np.float64 if images.dtype.itemsize > 4 else np.float32)
            some = np.rint(wide * 255 if unit else wide)
        out[piece] = some
        if images.dtype.kind == "b":
            out[piece] *= np.uint8(255)
    return out


def _picked(images: Array, order: Array) -> Array:
    """Some images in another order, a C-contiguous copy."""
    out = np.empty((len(order), *images.shape[1:]), images.dtype)
    for piece in _pieces(images, len(order)):
        out[piece] = images[order[piece]]
    return out


def _pieces(images: Array, count: int) -> Iterator[slice]:
    """Cut ``count`` images into pieces, since intermediate copies of all would take several times their memory."""
    step = max(1, CHUNK_BYTES // max(1, images[:1].nbytes))
    yield from (slice(start, start + step) for start in range(0, count, step))


def plain_labels(labels: Array, name: str) -> Array:
    """Labels as (N,) whole numbers or strings; DataError otherwise."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{name} has shape {labels.shape}", "labels must be (N,): one class per image, not one-hot")
    if labels.dtype.kind == "S":
        try:
            return np.asarray(np.char.decode(labels, "utf-8"))
        except UnicodeDecodeError as error:
            raise DataError(f"{name} holds text that is not UTF-8") from error
    if labels.dtype.kind not in "buiU":
        raise DataError(f"{name} holds {labels.dtype}", "labels must be whole numbers or strings")
    return labels


def _build(root: Any, progress: Progress, **options: Any) -> Built:
    path = existing_path("arrays", options["path"], "images.npz")
    layout = None if options["layout"] is None else choice("layout", options["layout"], _LAYOUTS)
    share = fraction("holdout", options["holdout"], 0, 1, ends=False)
    seed = whole("seed", options["seed"], 0)
    if path.is_dir():
        raise InputError(f"path {path} is a folder", "for a folder of images use the data set 'folder'")
    progress.start(f"reading {path.name}", None)
    try:
        return _from_arrays(path, *read_npz(path), layout, share, seed)
    finally:
        progress.done()


def _from_arrays(
    path: Path, found: Arrays, unused: tuple[str, ...], layout: str | None, share: float, seed: int
) -> Built:
    splits = [split for split in ("train", "test") if f"x_{split}" in found]
    # Beside what is read: the images as bytes, or, once that is let go, the shuffled ones.
    pixels = sum(found[f"x_{split}"].size for split in splits)
    check_memory(pixels, f"{path.name}, in addition to what it holds,", "use a smaller file")
    # Taken out, so that the images as they were stored are let go.
    images = to_uint8({f"x_{split}": to_nchw(found.pop(f"x_{split}"), f"x_{split}", layout) for split in splits})
    labels = {f"y_{split}": plain_labels(found[f"y_{split}"], f"y_{split}") for split in splits}
    for split in splits:
        if len(images[f"x_{split}"]) != len(labels[f"y_{split}"]):
            raise DataError(
                f"{len(images[f'x_{split}'])} images in x_{split} but {len(labels[f'y_{split}'])} labels in y_{split}"
            )
    known = np.unique(labels["y_train"])
    names = [str(value) for value in known.tolist()]
    if len(names) < 2:
        raise DataError(f"{path.name} has a single class, {names[0]!r}", "training needs at least two")
    dtype = label_dtype(len(names))
    arrays: Arrays = {**images, "y_train": np.searchsorted(known, labels["y_train"]).astype(dtype)}
    notes = [f"not used: {', '.join(unused)}"] if unused else []
    held = None
    if "y_test" in labels:
        if (labels["y_test"].dtype.kind == "U") != (known.dtype.kind == "U"):
            raise DataError("y_train and y_test are not of one kind", "use whole numbers or strings in both")
        new = np.setdiff1d(labels["y_test"], known)
        if len(new):
            raise DataError(f"y_test has classes that y_train lacks: {', '.join(map(str, new[:5].tolist()))}")
        arrays["y_test"] = np.searchsorted(known, labels["y_test"]).astype(dtype)
        train = np.arange(len(arrays["y_train"]))
    else:
        train, test = held_out(arrays["y_train"], names, share, seed)
        arrays |= {"x_test": _picked(arrays["x_train"], test), "y_test": arrays["y_train"][test]}
        held = len(test)
        notes.append(f"{held} of {len(train) + len(test)} images held out for testing")
    # A file may come sorted by class, as folders do.
    train = train[shuffled(len(train), seed)]
    arrays |= {"x_train": _picked(arrays["x_train"], train), "y_train": arrays["y_train"][train]}
    data = image_data(path.stem, arrays, names)
    seen = Seen(sizes=((data.size, len(data.x_train) + len(data.x_test)),), held_out=held)
    return Built(data, source=str(path), notes=tuple(notes), seen=seen)


DATASET = OwnSet(
    name="arrays",
    options={"path": None, "layout": None, "holdout": 0.2, "seed": 0},
    build=_build,
    order=60,
)
