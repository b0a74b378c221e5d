"""The package's own functions, the contract of ImageData, and the real data sets."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from dataset_helpers import ARRAYS, FILES, RAW, MemorySource, same, tiny_set
from PIL import Image

from hotlap import datasets
from hotlap.datasets import ImageData, cache
from hotlap.datasets.base import channel_stats, combine_digest, hashes_of, image_data
from hotlap.datasets.cifar10 import check_blobs
from hotlap.datasets.decode import encode_cifar
from hotlap.datasets.download import HttpSource
from hotlap.datasets.registries import NpmSource, PipSource
from hotlap.datasets.spec import NamedSet
from hotlap.errors import DataError, InputError


@pytest.fixture
def tiny() -> Iterator[MemorySource]:
    source = MemorySource()
    datasets.register(tiny_set(source))
    yield source
    del datasets._all()["tiny"]


def test_names() -> None:
    assert datasets.names() == (
        "mnist",
        "fashion-mnist",
        "cifar10",
        "synthetic",
        "folder",
        "huggingface",
        "arrays",
        "held-out",
    )


def test_importing_is_cheap() -> None:
    code = (
        "import sys, hotlap.datasets as d; d.names(); "
        "print([m for m in ('torch', 'httpx', 'PIL', 'filelock', 'psutil') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_registered_set_goes_through_every_verb(root: Path, tiny: MemorySource) -> None:
    assert not datasets.info("tiny").cached
    assert same(datasets.load("tiny"))  # fetched on the way
    assert datasets.fetch("tiny") == root / "tiny"
    assert datasets.verify("tiny").digest == datasets.info("tiny").digest == datasets.load("tiny").digest
    assert tiny.calls == 1
    datasets.fetch("tiny", force=True)
    assert tiny.calls == 2
    assert json.loads(json.dumps(datasets.info("tiny").as_dict()))["size"] == [9, 7]


def test_unknown_names_and_options(tiny: MemorySource) -> None:
    with pytest.raises(InputError, match="unknown data set 'cifar' → did you mean 'cifar10'"):
        datasets.load("cifar")
    with pytest.raises(InputError, match="unknown option for tiny 'size'"):
        datasets.load("tiny", size=3)
    with pytest.raises(InputError, match="did you mean 'resize'"):
        datasets.info("folder", resise="crop")
    for call in (datasets.fetch, datasets.verify):
        with pytest.raises(InputError, match="nothing to fetch or verify"):
            call("folder")
    assert datasets.options("mnist") == {}
    assert datasets.options("folder")["resize"] == "refuse"


def test_info_of_own_data() -> None:
    info = datasets.info("synthetic", train=40, classes=4)
    assert info.train_per_class == (10, 10, 10, 10) and info.source == "made on the spot" and not info.cached


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOTLAP_DATA", str(tmp_path / "x"))
    assert datasets.cache_dir() == tmp_path / "x"
    monkeypatch.setenv("HOTLAP_DATA", "~/y")
    assert datasets.cache_dir() == Path.home() / "y"
    monkeypatch.delenv("HOTLAP_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform.startswith("linux"):
        assert datasets.cache_dir() == tmp_path / "hotlap" / "data"


@pytest.mark.parametrize(("value", "off"), [("1", True), ("true", True), ("", False), ("0", False), ("no", False)])
def test_offline(monkeypatch: pytest.MonkeyPatch, value: str, off: bool) -> None:
    monkeypatch.setenv("HOTLAP_OFFLINE", value)
    assert cache.offline() is off


GOOD = image_data("good", ARRAYS, ["a", "b", "c"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": ARRAYS["x_train"].astype(np.float32)}, "uint8, not 300x1x9x7 float32"),
        ({"x_train": ARRAYS["x_train"][:, 0]}, r"must be \(N, C, H, W\)"),
        ({"x_test": ARRAYS["x_test"][:0], "y_test": ARRAYS["y_test"][:0]}, "x_test is empty"),
        ({"x_train": ARRAYS["x_train"][:, :, ::-1]}, "not C-contiguous"),
        ({"y_train": ARRAYS["y_train"].astype(np.int64)}, "y_train must be"),
        ({"y_train": ARRAYS["y_train"][:-1]}, "300 train images but 299 labels"),
        ({"y_test": ARRAYS["y_test"] + np.uint8(1)}, "labels 1 to 3, but there are 3"),
        ({"x_test": np.ascontiguousarray(ARRAYS["x_test"][..., :6])}, "test images 1x9x6"),
        ({"class_names": ()}, "no classes"),
    ],
)
def test_validate(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataclasses.replace(GOOD, **change).validate()  # type: ignore[arg-type]
    assert GOOD.validate() is GOOD


def test_the_digest_tells_arrays_and_shapes_apart() -> None:
    changed = {key: array.copy() for key, array in ARRAYS.items()}
    changed["y_test"][0] ^= 1
    assert image_data("good", changed, ["a", "b", "c"]).digest != GOOD.digest
    hashes, shapes = hashes_of(ARRAYS), {key: array.shape for key, array in ARRAYS.items()}
    assert combine_digest(hashes, shapes) == GOOD.digest
    assert combine_digest(hashes, {**shapes, "x_test": (40, 1, 7, 9)}) != GOOD.digest
    assert image_data("other name", ARRAYS, ["x", "y", "z"]).digest == GOOD.digest


def test_channel_stats_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(0, 256, (50, 3, 5, 4), np.uint8)
    for chunk in (1, 1000, 10**7):
        monkeypatch.setattr("hotlap.datasets.base.CHUNK_BYTES", chunk)
        mean, std = channel_stats(x)
        assert mean == pytest.approx((x / 255).mean(axis=(0, 2, 3)), abs=1e-12)
        assert std == pytest.approx((x / 255).std(axis=(0, 2, 3)), abs=1e-12)


# What is published about the real sets: first labels, and pixel means and deviations quoted all over the literature.
REAL = {
    "mnist": ([5, 0, 4, 1, 9], (0.1307,), (0.3081,)),
    "fashion-mnist": ([9, 0, 0, 3, 0], (0.2860,), (0.3530,)),
    "cifar10": ([6, 9, 9, 4, 1], (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_set(name: str, published: Callable[[str], ImageData], monkeypatch: pytest.MonkeyPatch) -> None:
    data = published(name)
    monkeypatch.setenv("HOTLAP_OFFLINE", "1")  # from here on there is no need of a network
    labels, mean, std = REAL[name]
    assert data.y_train[:5].tolist() == labels
    info = datasets.info(name)
    assert info.mean == pytest.approx(mean, abs=1e-4) and info.std == pytest.approx(std, abs=1e-4)
    report = datasets.verify(name)
    assert len(report.checks) == (5 if name == "cifar10" else 4)


def test_cifar_blob_check_refuses_other_arrays() -> None:
    from hotlap.datasets.cifar10 import DATASET

    assert isinstance(DATASET, NamedSet)
    blank = {key: np.zeros(shape, np.uint8) for key, shape in DATASET.shapes.items()}
    with pytest.raises(DataError, match=r"data_batch_1\.bin would have git id"):
        check_blobs(blank)


def test_image_data_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GOOD.name = "x"  # type: ignore[misc]
    assert isinstance(GOOD, ImageData) and GOOD.classes == 3


def test_mnist_from_csv() -> None:
    from hotlap.datasets.mnist import DATASET

    assert isinstance(DATASET, NamedSet)
    source = DATASET.sources[-1]
    assert isinstance(source, PipSource)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 784))
    lines = [",".join(map(str, (label, *row))) for label, row in zip((7, 0, 9), pixels.tolist(), strict=True)]
    text = "\r\n".join(["label," + ",".join(f"p{i}" for i in range(784)), *lines, ""]).encode()
    arrays = source.decode(dict.fromkeys(source.members, text))
    assert arrays["y_train"].tolist() == arrays["y_test"].tolist() == [7, 0, 9]
    assert np.array_equal(arrays["x_train"].reshape(3, 784), pixels) and arrays["x_test"].shape == (3, 1, 28, 28)


def test_cifar_from_sheets() -> None:
    from hotlap.datasets.cifar10 import DATASET

    assert isinstance(DATASET, NamedSet)
    source = DATASET.sources[-1]
    assert isinstance(source, NpmSource)
    sheet = np.zeros((10_000, 1024, 3), np.uint8)
    sheet[1, 33] = 10, 20, 30  # image 1, second row, second column
    out = io.BytesIO()
    Image.fromarray(sheet).save(out, "PNG", compress_level=1)
    labels = {"train": b"[" + b",".join([b"4"] * 50_000) + b"]", "test": b"[" + b",".join([b"3"] * 10_000) + b"]"}
    members = {
        name: out.getvalue() if name.endswith(".png") else labels["train" if "train" in name else "test"]
        for name in source.members
    }
    arrays = source.decode(members)
    assert {key: array.shape for key, array in arrays.items()} == DATASET.shapes
    assert arrays["x_train"][10_001, :, 1, 1].tolist() == [10, 20, 30] and arrays["x_train"].sum() == 5 * 60
    assert (arrays["y_train"] == 4).all() and (arrays["y_test"] == 3).all()


def test_cifar_from_the_publishers_archive(tmp_path: Path, published: Callable[[str], ImageData]) -> None:
    """The archive is built from the cached arrays, whose batches are known to be the publisher's byte for byte."""
    from hotlap.datasets.cifar10 import DATASET

    assert isinstance(DATASET, NamedSet)
    source = DATASET.sources[0]
    assert isinstance(source, HttpSource)
    data = published("cifar10")
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=0) as archive:
        for number in range(6):
            split, begin = ("train", number * 10_000) if number < 5 else ("test", 0)
            part = slice(begin, begin + 10_000)
            batch = encode_cifar(getattr(data, f"x_{split}")[part], getattr(data, f"y_{split}")[part])
            name = f"data_batch_{number + 1}" if number < 5 else "test_batch"
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            entry.size = len(batch)
            archive.addfile(entry, io.BytesIO(batch))
    assert hashes_of(source.decode({source.files[0].name: path})) == DATASET.sha256


def test_an_idx_file_that_is_not_the_original() -> None:
    raw = {FILES.files[key].name: data for key, data in RAW.items()}
    assert same(image_data("x", FILES.decode(raw), ["a", "b", "c"]))
    raw["te-lab"] = raw["te-lab"][:-1] + b"\2"
    with pytest.raises(DataError, match="te-lab: another MD5 than the original"):
        FILES.decode(raw)
