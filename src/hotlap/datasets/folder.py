"""The user's own images: one folder per class, with or without ``train`` and ``test`` above them."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hotlap.datasets.base import Progress
from hotlap.datasets.images import SUFFIXES
from hotlap.datasets.own import TEST_NAMES, existing_path
from hotlap.datasets.pictures import OPTIONS, Picture, Reading, Scan, build, digest_of, look, reading
from hotlap.datasets.spec import Built, OwnSet, Seen
from hotlap.errors import DataError, InputError

_LAYOUT = "put the images into CLASS/… or train/CLASS/… and test/CLASS/…"

_PARTS = frozenset(("train", "training", *TEST_NAMES, "testing", "tests", "eval", "evaluation"))
"""What parts of a set are called, numbers after it left out; a set whose classes all are called so is none."""


def scan(root: Path, *, tolerant: bool = False) -> Scan:
    """List the images of a folder by class; hidden files are passed over, other files counted.

    Args:
        root: the folder.
        tolerant: pass over broken links.

    Raises:
        DataError: no classes, a single one, one without images, parts that have none, or a test class that is not
            among the training ones.
    """
    result = Scan(tolerant=tolerant)
    folders, files = _list(root)
    parts = {name.casefold(): path for name, path in folders.items()}
    spelt = [name for name in folders if name.casefold() in ("train", *TEST_NAMES)]
    if len({name.casefold() for name in spelt}) < len(spelt):
        raise DataError(f"{root} has a part twice, spelt in two ways: {', '.join(spelt)}", "put them together")
    train = parts.get("train")
    # A folder called "train" with pictures right in it is a class (of vehicles, say), not the training part.
    split = train is not None and bool(_list(train)[0]) and not any(_is_image(f) for f in _list(train)[1])
    if not split:
        _check_no_parts(root, folders, parts)
        result.class_names, result.train = _classes(root, root, result, None)
        return result
    assert train is not None
    result.ignored += len(files)
    result.class_names, result.train = _classes(root, train, result, None)
    test = next((parts[name] for name in TEST_NAMES if name in parts), None)
    if test is not None:
        result.test = _classes(root, test, result, result.class_names)[1]
    result.unused = [f"{name}/" for name, path in folders.items() if path not in (train, test)]
    return result


def _check_no_parts(root: Path, folders: dict[str, Path], parts: dict[str, Path]) -> None:
    """Refuse folders that are the parts of a set, since they would be trained on as if they were its classes."""
    if not parts or not (
        all(name.rstrip("0123456789_- ") in _PARTS for name in parts)
        or ("train" in parts and parts.keys() & TEST_NAMES)
    ):
        return
    if parts.keys() <= set(TEST_NAMES):
        raise DataError(f"{root} has {', '.join(folders)} but no train folder", _LAYOUT)
    if "train" not in parts:
        way_out = "call them train and test, each with one folder per class"
        raise DataError(f"{root} has {', '.join(folders)}: parts of a set, not its classes", way_out)
    flat = "images that are in no class folder" if any(map(_is_image, _list(parts["train"])[1])) else "no class folders"
    raise DataError(f"{parts['train']} has {flat}", f"{_LAYOUT}, or rename what is a class")


def _list(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """Sub-folders by name and other entries of a folder, sorted, without hidden ones; links are followed."""
    try:
        with os.scandir(folder) as entries:
            seen = sorted((e for e in entries if not e.name.startswith((".", "__MACOSX"))), key=lambda e: e.name)
            # One form of accented letters, so that folders from different systems have the same class name.
            folders: dict[str, Path] = {}
            for entry in filter(_is_folder, seen):
                name = unicodedata.normalize("NFC", entry.name)
                if name in folders:
                    raise DataError(f"{folder} has two folders called {name}, spelt in two ways", "put them together")
                folders[name] = Path(entry.path)
            return folders, [Path(e.path) for e in seen if not _is_folder(e)]
    except OSError as error:
        raise DataError(
            f"folder {folder} cannot be read ({error.strerror})", "make it readable, or remove it"
        ) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False  # a link that leads to itself


def files_below(top: Path) -> Iterator[Path]:
    """Yield all files below a folder, hidden ones left out; links are followed, and each real folder is read once.

    Raises:
        DataError: a folder cannot be read.
    """
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
        yield from files


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
    """Images under a class folder at any depth, in the order of their paths."""
    pictures: list[Picture] = []
    for file in files_below(top):
        if not _is_image(file):
            result.ignored += 1
            continue
        shown = str(file.relative_to(root))
        if not file.is_file():
            problem = f"{shown} is not a file (a broken link?)"
            if not result.tolerant:
                raise DataError(problem, "replace or remove it")
            result.broken.append(problem)
            continue
        facts = file.stat()
        pictures.append(Picture(file, shown, label, facts.st_size, max(facts.st_mtime_ns, facts.st_ctime_ns)))
    return sorted(pictures, key=lambda picture: picture.shown)


def _found(options: dict[str, Any]) -> tuple[Path, Scan, Reading]:
    path = existing_path("folder", options["path"], "images/")
    if not path.is_dir():
        raise InputError(f"path {path} is a file", "for an .npz file use the data set 'arrays'")
    how = reading(options)
    return path, scan(path, tolerant=how.skip), how


def _look(root: Path, progress: Progress, **options: Any) -> Seen:
    return look(_found(options)[1], progress)


def _build(root: Path, progress: Progress, **options: Any) -> Built:
    path, found, how = _found(options)
    facts = [(p.shown, p.length, p.changed) for p in found.pictures]
    files = digest_of([str(path.resolve()), facts, found.broken, *found.unused])
    return build(found, how, kind="folder", path=path, root=root, files=files, progress=progress)


DATASET = OwnSet(name="folder", options={"path": None, **OPTIONS}, build=_build, order=50, look=_look)
