"""A Hugging Face data set that lies on this machine, as ``Dataset.save_to_disk`` wrote it.

Images stay encoded in its Arrow files and are decoded here, as those of a folder are. Nothing is fetched, and no code
that comes with a data set is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from hotlap.datasets.base import Array, Progress
from hotlap.datasets.decode import one_line
from hotlap.datasets.own import TEST_NAMES, existing_path
from hotlap.datasets.pictures import OPTIONS, Picture, Reading, Scan, build, digest_of, look, reading
from hotlap.datasets.spec import Built, OwnSet, Seen
from hotlap.errors import DataError, InputError

NAME = "huggingface"


def is_saved_set(path: Path) -> bool:
    """Whether a folder is what ``save_to_disk`` writes: a data set, or several splits of one."""
    single = (path / "dataset_info.json").is_file() and (path / "state.json").is_file()
    return single or (path / "dataset_dict.json").is_file()


@dataclass(frozen=True, slots=True)
class _Cell:
    """An encoded image in a row of a data set whose images are not decoded."""

    rows: Any
    column: str
    at: int
    shown: str

    def open(self) -> BytesIO:
        """Return its bytes; a row that only names a file is read from this machine's disk."""
        cell = self.rows[self.at][self.column]
        if cell is None:
            raise DataError(f"{self.shown} has no image", "remove the row")
        if cell["bytes"] is not None:
            return BytesIO(cell["bytes"])
        file = Path(cell["path"] or "")
        if not file.is_file():
            raise DataError(f"{self.shown} names a file that is not here ({cell['path']})", "save it with its images")
        return BytesIO(file.read_bytes())


def _load(path: Path) -> Mapping[str, Any]:
    """The splits by name."""
    try:
        import datasets as hf
    except ImportError:
        raise InputError("Hugging Face data needs datasets", "pip install 'hotlap[hf]'") from None
    try:
        found = hf.load_from_disk(str(path))
    except Exception as error:  # damaged JSON and Arrow files raise many kinds
        raise DataError(f"{path} cannot be read ({one_line(error)})", "save it again with save_to_disk") from error
    return dict(found) if isinstance(found, hf.DatasetDict) else {"train": found}


def _column(features: Mapping[str, Any], given: Any, what: str, kinds: tuple[str, ...]) -> str:
    """The column named by an option, or the only one of the given types of feature, the first type first."""
    named = {name: _kind(feature) for name, feature in features.items()}
    listed = ", ".join(f"{name} ({kind})" for name, kind in named.items())
    if given is not None:
        if given not in named:
            raise InputError(f"the data has no column {given!r}", f"its columns: {listed}")
        if named[given] not in kinds:
            raise InputError(f"column {given!r} holds {named[given]}, not {' or '.join(kinds)}", f"columns: {listed}")
        return str(given)
    for kind in kinds:
        fitting = [name for name in named if named[name] == kind]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise InputError(f"the data has {len(fitting)} columns of {kind}", f"pass {what}={fitting[0]}")
    raise InputError(f"the data has no column of {' or '.join(kinds)}, only {listed}")


def _kind(feature: Any) -> str:
    """Image, ClassLabel, or the type of a plain value."""
    name = type(feature).__name__
    return str(feature.dtype) if name == "Value" else name


_LABELS = ("ClassLabel", "string", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64", "bool")


def _scan(path: Path, options: Mapping[str, Any], *, tolerant: bool) -> Scan:
    splits = _load(path)
    if "train" not in splits:
        raise DataError(f"{path} has {', '.join(splits)} but no train split", "rename one of them to train")
    train = splits["train"]
    image = _column(train.features, options["image"], "image", ("Image",))
    label = _column(train.features, options["label"], "label", _LABELS)
    stored = {name: np.asarray(rows[label][:]) for name, rows in splits.items() if name in ("train", *TEST_NAMES)}
    feature = train.features[label]
    if _kind(feature) == "ClassLabel":
        names, known = list(feature.names), np.arange(len(feature.names))
    else:
        known = np.unique([value for value in stored["train"].tolist() if value is not None])
        names = [str(value) for value in known.tolist()]
    if len(names) < 2:
        raise DataError(f"{path} has a single class", "training needs at least two")
    found = Scan(class_names=names, tolerant=tolerant)
    found.train = _pictures(train, "train", image, _labels(stored["train"], known, "train"))
    test = next((name for name in TEST_NAMES if name in splits), None)
    if test is not None:
        if not {image, label} <= set(splits[test].features):
            raise DataError(f"the {test} split has other columns than train", "save both with the same columns")
        found.test = _pictures(splits[test], test, image, _labels(stored[test], known, test))
    found.unused = [name for name in splits if name not in ("train", test)]
    return found


def _labels(stored: Array, known: Array, split: str) -> list[int]:
    strange = [value for value in stored.tolist() if value is None] or np.setdiff1d(stored, known).tolist()
    if strange:
        raise DataError(f"the {split} split has images labelled {strange[0]!r}, which is no class", "remove those rows")
    places: list[int] = np.searchsorted(known, stored).tolist()
    return places


def _pictures(rows: Any, split: str, image: str, labels: list[int]) -> list[Picture]:
    from datasets import Image

    encoded = rows.select_columns([image]).cast_column(image, Image(decode=False))
    length = max(1, round((encoded.data.nbytes or 0) / max(1, len(labels))))
    files = _files(encoded, image)
    return [
        Picture(
            _Cell(encoded, image, at, f"{split} image {at}"), f"{split} image {at}", label, *files.get(at, (length, 0))
        )
        for at, label in enumerate(labels)
    ]


def _files(encoded: Any, image: str) -> dict[int, tuple[int, int]]:
    """Length in bytes and time of change in ns of the files that rows only name, by row; zeros where there is none."""
    found: dict[int, tuple[int, int]] = {}
    first = 0
    for chunk in encoded.data.column(image).chunks:
        missing = np.flatnonzero(chunk.field("bytes").is_null().to_numpy(zero_copy_only=False))
        for at, name in zip(missing.tolist(), chunk.field("path").take(missing).to_pylist(), strict=True):
            found[first + at] = _length_and_change(name)
        first += len(chunk)
    return found


def _length_and_change(name: str | None) -> tuple[int, int]:
    try:
        facts = Path(name).stat() if name else None
    except (OSError, ValueError):  # no such file, or no name of one
        facts = None
    if facts is None:
        return 0, 0
    return facts.st_size, max(facts.st_mtime_ns, facts.st_ctime_ns)


def _found(options: Mapping[str, Any]) -> tuple[Path, Scan, Reading]:
    path = existing_path(NAME, options["path"], "saved-data-set/")
    if not is_saved_set(path):
        raise InputError(f"{path} is not what save_to_disk writes", "it has dataset_dict.json, or state.json")
    how = reading(options)
    return path, _scan(path, options, tolerant=how.skip), how


def _look(root: Path, progress: Progress, **options: Any) -> Seen:
    return look(_found(options)[1], progress)


def _build(root: Path, progress: Progress, **options: Any) -> Built:
    path, found, how = _found(options)
    state = [
        (str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns)
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.name.startswith("cache-")
    ]
    files = digest_of([str(path.resolve()), state, [(p.length, p.changed) for p in found.pictures], found.unused])
    chosen = (options["image"], options["label"])
    return build(found, how, kind=NAME, path=path, root=root, files=files, progress=progress, chosen=chosen)


DATASET = OwnSet(
    name=NAME, options={"path": None, "image": None, "label": None, **OPTIONS}, build=_build, order=55, look=_look
)
