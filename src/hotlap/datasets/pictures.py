"""Encoded images and their labels, wherever they lie, read into arrays: one size, a test set, and the cache of both."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hotlap.datasets import cache
from hotlap.datasets.base import Array, Arrays, ImageData, Progress, image_data, label_dtype
from hotlap.datasets.images import RESIZE, File, Header, read_header, read_pixels
from hotlap.datasets.own import check_memory, choice, fraction, held_out, image_size, shuffled, whole
from hotlap.datasets.spec import Built, Seen
from hotlap.errors import DataError, InputError

OPTIONS: Mapping[str, Any] = {
    "size": None,
    "resize": "refuse",
    "holdout": 0.2,
    "seed": 0,
    "channels": None,
    "unreadable": "refuse",
}
"""The options that every set of encoded images takes, with their defaults."""

_LOCK_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Picture:
    """One image file: where it is, its name for errors, its label, its length in bytes and time of change in ns."""

    path: File
    shown: str
    label: int
    length: int
    changed: int = 0


@dataclass(slots=True)
class Scan:
    """What there is, before any image is opened; ``test`` is None where there is no test set.

    ``broken`` has a line for each entry that is no file; ``tolerant`` says to write them there instead of raising.
    ``unused`` names parts that are neither the training nor the test part.
    """

    class_names: list[str] = field(default_factory=list)
    train: list[Picture] = field(default_factory=list)
    test: list[Picture] | None = None
    ignored: int = 0
    broken: list[str] = field(default_factory=list)
    tolerant: bool = False
    unused: list[str] = field(default_factory=list)

    @property
    def pictures(self) -> list[Picture]:
        """All images, training first."""
        return self.train + (self.test or [])


@dataclass(frozen=True, slots=True)
class Reading:
    """The checked options of ``OPTIONS``."""

    size: tuple[int, int] | None
    resize: str
    holdout: float
    seed: int
    channels: int | None
    skip: bool


def reading(options: Mapping[str, Any]) -> Reading:
    """Check the options that every set of encoded images takes.

    Raises:
        InputError: a value cannot be used.
    """
    channels = options["channels"]
    how = Reading(
        size=None if options["size"] is None else image_size(options["size"]),
        resize=choice("resize", options["resize"], RESIZE),
        holdout=fraction("holdout", options["holdout"], 0, 1, ends=False),
        seed=whole("seed", options["seed"], 0),
        channels=channels,
        skip=choice("unreadable", options["unreadable"], ("refuse", "skip")) == "skip",
    )
    if channels is not None and whole("channels", channels, 1, 3) == 2:
        raise InputError("channels must be 1, 3 or left out, not 2")
    return how


def look(found: Scan, progress: Progress) -> Seen:
    """Return the sizes of the images and what cannot be read, from the headers alone."""
    headers = _headers(found.pictures, progress, skip=found.tolerant)
    return _seen(found, headers)


def _seen(found: Scan, headers: Mapping[int, Header | DataError], held: int | None = None) -> Seen:
    counts = Counter(header.size for header in headers.values() if isinstance(header, Header))
    unreadable = [*found.broken, *(header.cause for header in headers.values() if isinstance(header, DataError))]
    return Seen(tuple(counts.most_common()), found.ignored, tuple(unreadable), held, tuple(found.unused))


def build(
    found: Scan,
    how: Reading,
    *,
    kind: str,
    path: Path,
    root: Path,
    files: str,
    progress: Progress,
    chosen: Sequence[str | None] = (),
) -> Built:
    """Read images, or take them from the cache where nothing has changed.

    Args:
        found: the images.
        how: the options.
        kind: name of the data set module, whose folder of the cache is used.
        path: where the user keeps the images.
        root: the cache.
        files: digest of the state of the user's files.
        progress: told about reading.
        chosen: what was chosen of these files; each choice is cached beside the others.

    Raises:
        DataError: an image cannot be read or has another size, or there are too few.
    """
    name = path.resolve().name or kind
    holdout = None if found.test is not None else how.holdout
    key = digest_of(
        [cache.FORMAT, files, how.size, how.resize, holdout, how.seed, how.channels, found.ignored, how.skip, *chosen]
    )
    target = root / kind / key
    if (stored := _stored(target, name)) is not None:
        return stored

    arrays, class_names, seen = _read(found, how, progress)
    notes = _notes(seen, class_names, arrays)
    try:
        with cache.locked(root, kind, progress=progress, timeout=_LOCK_SECONDS):
            origin = {"path": str(path), "files": files, "chosen": list(chosen), "seen": asdict(seen)}
            _clean(target, origin)
            cache.install(target, arrays, class_names, root=root, source=str(path), notes=notes, origin=origin)
    except DataError as error:
        # The images are read; a cache that cannot be written only makes the next load as slow as this one.
        notes = (*notes, f"not cached: {error.cause}")
        return Built(image_data(name, arrays, class_names), str(path), notes=notes, seen=seen)
    return _stored(target, name) or Built(image_data(name, arrays, class_names), str(path), notes=notes, seen=seen)


def digest_of(facts: Any) -> str:
    """Return a short digest (32 hex digits) of JSON-able facts."""
    return hashlib.sha256(json.dumps(facts, ensure_ascii=True).encode()).hexdigest()[:32]


def _notes(seen: Seen, class_names: list[str], arrays: Arrays) -> tuple[str, ...]:
    notes = [f"{seen.ignored} files ignored that are not images"] if seen.ignored else []
    if seen.unused:
        notes.append(f"neither trained nor tested on: {', '.join(seen.unused)}")
    if seen.unreadable:
        notes.append(f"{len(seen.unreadable)} left out that cannot be read, e.g. {seen.unreadable[0]}")
    if seen.held_out is not None:
        total = len(arrays["y_train"]) + len(arrays["y_test"])
        notes.append(f"{seen.held_out} of {total} images held out for testing")
    elif missing := len(class_names) - len(np.unique(arrays["y_test"])):
        notes.append(f"{missing} of {len(class_names)} classes have no test image")
    return tuple(notes)


def _stored(target: Path, name: str) -> Built | None:
    """The data from the cache; None when it is absent or damaged, since it can always be read again."""
    try:
        entry = cache.find(target, fix="")
        if entry is None:
            return None
        data: ImageData = cache.open_entry(entry, name, fix="")
        seen = _seen_of(entry.manifest["origin"]["seen"])
    except (DataError, KeyError, TypeError, ValueError):
        return None
    return Built(data, entry.source, cached=True, where=str(entry.path), notes=entry.notes, seen=seen)


def _seen_of(document: Mapping[str, Any]) -> Seen:
    sizes = tuple(((int(height), int(width)), int(count)) for (height, width), count in document["sizes"])
    unused = tuple(document.get("unused", ()))
    return Seen(sizes, document["ignored"], tuple(document["unreadable"]), document["held_out"], unused)


def _clean(target: Path, new: Mapping[str, Any]) -> None:
    """Remove what killed processes left, and the data of earlier states of the folder that ``new`` comes from."""
    if not target.parent.is_dir():
        return
    for other in target.parent.iterdir():
        if other.name.startswith("."):
            shutil.rmtree(other, ignore_errors=True)
            continue
        try:
            entry = cache.find(other, fix="")
        except DataError:
            continue
        old = entry.manifest["origin"] if entry is not None else {}
        same = old.get("path") == new["path"] and old.get("chosen", new["chosen"]) == new["chosen"]
        if same and old.get("files") != new["files"]:
            shutil.rmtree(other, ignore_errors=True)


def _read(found: Scan, how: Reading, progress: Progress) -> tuple[Arrays, list[str], Seen]:
    """Decode every image and split; returns the arrays, the class names and what was met."""
    # Where damage is passed over, it must be known before the split: every image is decoded once for that.
    headers = _headers(found.pictures, progress, skip=how.skip, whole=how.skip)
    while True:
        arrays, held, failed = _decoded(found, how, headers, progress)
        if not failed:
            return arrays, found.class_names, _seen(found, headers, held)
        # Rare: an image that decodes but cannot be brought to its size. Without it the split is another.
        del arrays
        headers.update(failed)


def _decoded(
    found: Scan, how: Reading, headers: Mapping[int, Header | DataError], progress: Progress
) -> tuple[Arrays, int | None, dict[int, DataError]]:
    """Split the images whose headers are known and decode them.

    Returns:
        The arrays; how many images were held out, None where there is a test part; and the errors of images that
        are to be passed over, by their place.
    """
    readable = {at: header for at, header in headers.items() if isinstance(header, Header)}
    pictures = [found.pictures[at] for at in readable]
    if not pictures:
        raise DataError("none of the images can be read", "replace them")
    size = _common_size(pictures, list(readable.values()), how.size, how.resize)
    depth = how.channels or (1 if all(header.grey for header in readable.values()) else 3)
    needed = 2 * len(pictures) * depth * size[0] * size[1]  # twice: the split copies
    check_memory(needed, f"{len(pictures)} images of {size[0]}x{size[1]}", "pass a smaller size with resize=crop")

    labels = np.array([picture.label for picture in pictures], label_dtype(len(found.class_names)))
    if found.test is None:
        train, test = held_out(labels, found.class_names, how.holdout, how.seed)
    else:
        trains = sum(at < len(found.train) for at in readable)
        train, test = np.arange(trains), np.arange(trains, len(pictures))
    for name, indices in (("training", train), ("test", test)):
        if not len(indices):
            raise DataError(f"none of the {name} images can be read", "replace them")
    train = train[shuffled(len(train), how.seed)]
    arrays = {
        "x_train": np.empty((len(train), depth, *size), np.uint8),
        "y_train": labels[train],
        "x_test": np.empty((len(test), depth, *size), np.uint8),
        "y_test": labels[test],
    }
    places, failed = list(readable), dict[int, DataError]()
    progress.start("reading images", sum(picture.length for picture in pictures))
    try:
        for split, chosen in (("x_train", train), ("x_test", test)):
            errors = _fill(arrays[split], [pictures[index] for index in chosen], how, progress)
            failed |= {places[chosen[index]]: error for index, error in errors.items()}
    finally:
        progress.done()
    return arrays, len(test) if found.test is None else None, failed


def _fill(out: Array, pictures: list[Picture], how: Reading, progress: Progress) -> dict[int, DataError]:
    """Read images one after another; returns the errors of those that are passed over, by their place."""
    _, channels, height, width = out.shape
    errors: dict[int, DataError] = {}
    for index, picture in enumerate(pictures):
        try:
            out[index] = read_pixels(
                picture.path, picture.shown, channels=channels, size=(height, width), resize=how.resize
            )
        except DataError as error:
            if not how.skip:
                raise
            errors[index] = error
        progress.advance(picture.length)
    return errors


def _headers(
    pictures: list[Picture], progress: Progress, *, skip: bool, whole: bool = False
) -> dict[int, Header | DataError]:
    """The header of each image by its place; with ``skip`` the error of one that cannot be read, else it is raised."""
    progress.start("looking at images", sum(picture.length for picture in pictures))
    try:
        headers: dict[int, Header | DataError] = {}
        for at, picture in enumerate(pictures):
            try:
                headers[at] = read_header(picture.path, picture.shown, whole=whole)
            except DataError as error:
                if not skip:
                    raise DataError(error.cause, "pass unreadable=skip to leave it out") from error
                headers[at] = error
            progress.advance(picture.length)
        return headers
    finally:
        progress.done()


def _common_size(
    pictures: list[Picture], headers: list[Header], size: tuple[int, int] | None, resize: str
) -> tuple[int, int]:
    """The size of the result; DataError when it cannot be had without resizing."""
    counts = Counter(header.size for header in headers)
    if size is not None and (resize != "refuse" or set(counts) == {size}):
        return size
    if size is None and len(counts) == 1:
        return next(iter(counts))
    listed = []
    for found, count in counts.most_common(4):
        example = next(p.shown for p, header in zip(pictures, headers, strict=True) if header.size == found)
        listed.append(f"{found[0]}x{found[1]} ({count}, e.g. {example})")
    more = f" and {len(counts) - 4} more" if len(counts) > 4 else ""
    text = ", ".join(listed) + more
    if size is not None:
        raise DataError(f"images are not all {size[0]}x{size[1]}: {text}", "pass resize=stretch, crop or pad")
    usual = counts.most_common(1)[0][0]
    raise DataError(
        f"images have {len(counts)} sizes (height x width): {text}",
        f"pass size=[{usual[0]}, {usual[1]}] and resize=stretch, crop or pad",
    )
