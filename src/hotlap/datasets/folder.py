"""The user's own images: one folder per class, with or without ``train`` and ``test`` above them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hotlap.datasets import cache
from hotlap.datasets.base import Array, Arrays, ImageData, Progress, image_data, label_dtype
from hotlap.datasets.images import RESIZE, SUFFIXES, Header, read_header, read_pixels
from hotlap.datasets.own import check_memory, choice, existing_path, fraction, held_out, image_size, shuffled, whole
from hotlap.datasets.spec import Built, OwnSet
from hotlap.errors import DataError, InputError

_TEST_FOLDERS = ("test", "val", "validation", "valid")  # the first that exists is the test set
_LAYOUT = "put the images into CLASS/… or train/CLASS/… and test/CLASS/…"
_LOCK_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Picture:
    """One image file: where it is, its name for errors, its label, its length in bytes and time of change in ns."""

    path: Path
    shown: str
    label: int
    length: int
    changed: int


@dataclass(slots=True)
class Scan:
    """What lies in the user's folder, before any image is opened; ``test`` is None where there is no such folder."""

    class_names: list[str] = field(default_factory=list)
    train: list[Picture] = field(default_factory=list)
    test: list[Picture] | None = None
    ignored: int = 0

    @property
    def pictures(self) -> list[Picture]:
        """All images, training first."""
        return self.train + (self.test or [])


def scan(root: Path) -> Scan:
    """List the images of a folder by class; hidden files are passed over, other files counted.

    Raises:
        DataError: no classes, a single one, one without images, or a test class that is not among the training ones.
    """
    result = Scan()
    folders, files = _list(root)
    train = folders.get("train")
    # A folder called "train" with pictures right in it is a class (of vehicles, say), not the training part.
    split = train is not None and bool(_list(train)[0]) and not any(_is_image(f) for f in _list(train)[1])
    if not split:
        if folders and set(folders) <= set(_TEST_FOLDERS):
            raise DataError(f"{root} has {', '.join(folders)} but no train folder", _LAYOUT)
        result.class_names, result.train = _classes(root, root, result, None)
        return result
    assert train is not None
    result.ignored += len(files)
    result.class_names, result.train = _classes(root, train, result, None)
    test = next((folders[name] for name in _TEST_FOLDERS if name in folders), None)
    if test is not None:
        result.test = _classes(root, test, result, result.class_names)[1]
    return result


def _list(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Sub-folders by name and other entries of a folder, sorted, without hidden ones; links are followed."""
    try:
        with os.scandir(folder) as entries:
            seen = sorted((e for e in entries if not e.name.startswith((".", "__MACOSX"))), key=lambda e: e.name)
            # One form of accented letters, so that folders from different systems have the same class name.
            folders = {unicodedata.normalize("NFC", e.name): Path(e.path) for e in seen if e.is_dir()}
            return folders, [Path(e.path) for e in seen if not e.is_dir()]
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read ({error.strerror})") from error


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _classes(root: Path, above: Path, result: Scan, known: list[str] | None) -> tuple[list[str], list[Picture]]:
    """Class names and images of the class folders in ``above``; labels follow ``known`` where it is given."""
    folders, files = _list(above)
    if known is None and not folders:
        flat = "images but no class folders" if any(map(_is_image, files)) else "no class folders"
        raise DataError(f"{above} has {flat}", _LAYOUT)
    if known is None and len(folders) == 1:
        raise DataError(f"{above} has a single class, {next(iter(folders))!r}", "training needs at least two")
    if known is not None and (new := [name for name in folders if name not in known]):
        raise DataError(f"{above} has classes that the training images lack: {', '.join(new)}", _LAYOUT)
    result.ignored += len(files)
    names = list(folders) if known is None else known
    pictures: list[Picture] = []
    for name, folder in folders.items():
        found = _pictures(root, folder, names.index(name), result)
        if not found:
            raise DataError(f"class folder {folder} has no images", "add images, or remove the folder")
        pictures += found
    if not pictures:
        raise DataError(f"{above} has no class folders", _LAYOUT)
    return names, pictures


def _pictures(root: Path, top: Path, label: int, result: Scan) -> list[Picture]:
    """Images under a class folder at any depth, in the order of their paths; each real folder is read once."""
    pictures: list[Picture] = []
    visited: set[tuple[int, int]] = set()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        place = folder.stat()
        if (place.st_dev, place.st_ino) in visited:  # a link that leads back up
            continue
        visited.add((place.st_dev, place.st_ino))
        folders, files = _list(folder)
        waiting += folders.values()
        for file in files:
            if not _is_image(file):
                result.ignored += 1
                continue
            shown = str(file.relative_to(root))
            if not file.is_file():
                raise DataError(f"{shown} is not a file (a broken link?)", "replace or remove it")
            facts = file.stat()
            pictures.append(Picture(file, shown, label, facts.st_size, facts.st_mtime_ns))
    return sorted(pictures, key=lambda picture: picture.shown)


def _build(root: Path, progress: Progress, **options: Any) -> Built:
    path = existing_path("folder", options["path"], "images/")
    if not path.is_dir():
        raise InputError(f"path {path} is a file", "for an .npz file use the data set 'arrays'")
    size = None if options["size"] is None else image_size(options["size"])
    resize = choice("resize", options["resize"], RESIZE)
    share = fraction("holdout", options["holdout"], 0, 1, ends=False)
    seed = whole("seed", options["seed"], 0)
    channels = options["channels"]
    if channels is not None and whole("channels", channels, 1, 3) == 2:
        raise InputError("channels must be 1, 3 or left out, not 2")

    name = path.resolve().name or "folder"
    found = scan(path)
    files = _digest([str(path.resolve()), [(p.shown, p.length, p.changed) for p in found.pictures]])
    holdout = None if found.test is not None else share
    key = _digest([cache.FORMAT, files, size, resize, holdout, seed, channels, found.ignored])
    target = root / "folder" / key
    if (stored := _stored(target, name)) is not None:
        return stored

    arrays, class_names, notes = _read(found, size, resize, channels, share, seed, progress)
    try:
        with cache.locked(root, "folder", progress=progress, timeout=_LOCK_SECONDS):
            _clean(target, str(path), files)
            cache.install(
                target,
                arrays,
                class_names,
                root=root,
                source=str(path),
                notes=notes,
                origin={"path": str(path), "files": files},
            )
    except DataError as error:
        # The images are read; a cache that cannot be written only makes the next load as slow as this one.
        return Built(image_data(name, arrays, class_names), str(path), notes=(*notes, f"not cached: {error.cause}"))
    return _stored(target, name) or Built(image_data(name, arrays, class_names), str(path), notes=tuple(notes))


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, ensure_ascii=True).encode()).hexdigest()[:32]


def _stored(target: Path, name: str) -> Built | None:
    """The data from the cache; None when it is absent or damaged, since it can always be read again."""
    try:
        entry = cache.find(target, fix="")
        if entry is None:
            return None
        data: ImageData = cache.open_entry(entry, name, fix="")
    except DataError:
        return None
    return Built(data, entry.source, cached=True, where=str(entry.path), notes=entry.notes)


def _clean(target: Path, path: str, files: str) -> None:
    """Remove what killed processes left, and the data of earlier states of the same folder."""
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
        origin = entry.manifest["origin"] if entry is not None else {}
        if origin.get("path") == path and origin.get("files") != files:
            shutil.rmtree(other, ignore_errors=True)


def _read(
    found: Scan,
    size: tuple[int, int] | None,
    resize: str,
    channels: int | None,
    share: float,
    seed: int,
    progress: Progress,
) -> tuple[Arrays, list[str], list[str]]:
    """Decode every image and split; returns the arrays, the class names and the notes."""
    pictures = found.pictures
    headers = _headers(pictures, progress)
    size = _common_size(pictures, headers, size, resize)
    depth = channels or (1 if all(header.grey for header in headers) else 3)
    needed = 2 * len(pictures) * depth * size[0] * size[1]  # twice: the split copies
    check_memory(needed, f"{len(pictures)} images of {size[0]}x{size[1]}", "pass a smaller size with resize=crop")

    labels = np.array([picture.label for picture in pictures], label_dtype(len(found.class_names)))
    notes = [f"{found.ignored} files ignored that are not images"] if found.ignored else []
    if found.test is None:
        train, test = held_out(labels, found.class_names, share, seed)
        notes.append(f"{len(test)} of {len(pictures)} images held out for testing")
    else:
        train, test = np.arange(len(found.train)), np.arange(len(found.train), len(pictures))
        if missing := len(found.class_names) - len(np.unique(labels[test])):
            notes.append(f"{missing} of {len(found.class_names)} classes have no test image")
    train = train[shuffled(len(train), seed)]
    arrays = {
        "x_train": np.empty((len(train), depth, *size), np.uint8),
        "y_train": labels[train],
        "x_test": np.empty((len(test), depth, *size), np.uint8),
        "y_test": labels[test],
    }
    progress.start("reading images", sum(picture.length for picture in pictures))
    try:
        for split, chosen in (("x_train", train), ("x_test", test)):
            _fill(arrays[split], [pictures[index] for index in chosen], resize, progress)
    finally:
        progress.done()
    return arrays, found.class_names, notes


def _fill(out: Array, pictures: list[Picture], resize: str, progress: Progress) -> None:
    _, channels, height, width = out.shape
    for index, picture in enumerate(pictures):
        out[index] = read_pixels(picture.path, picture.shown, channels=channels, size=(height, width), resize=resize)
        progress.advance(picture.length)


def _headers(pictures: list[Picture], progress: Progress) -> list[Header]:
    progress.start("looking at images", sum(picture.length for picture in pictures))
    try:
        headers = []
        for picture in pictures:
            headers.append(read_header(picture.path, picture.shown))
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


DATASET = OwnSet(
    name="folder",
    options={"path": None, "size": None, "resize": "refuse", "holdout": 0.2, "seed": 0, "channels": None},
    build=_build,
    order=50,
)
