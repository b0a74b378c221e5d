"""The user's own .npz files: layouts, types, labels, and everything that is refused."""

from __future__ import annotations

import contextlib
import tracemalloc
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotlap import datasets
from hotlap.datasets import ImageData
from hotlap.datasets.arrays import _picked, to_nchw, to_uint8
from hotlap.errors import DataError, HotlapError, InputError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (30, 6, 5), np.uint8)
Y = np.arange(30) % 3
TEST = {"x_test": X[:9], "y_test": Y[:9]}


def save(tmp_path: Path, **arrays: Any) -> Path:
    path = tmp_path / "own.npz"
    np.savez(path, **arrays)
    return path


def load(path: Path, **options: Any) -> ImageData:
    return datasets.load("arrays", path=path, **options)


def pairs_of(images: np.ndarray, labels: np.ndarray) -> dict[bytes, int]:
    return {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}


def test_grey_without_channel_axis(tmp_path: Path) -> None:
    data = load(save(tmp_path, x_train=X, y_train=Y, **TEST))
    assert data.name == "own" and data.class_names == ("0", "1", "2")
    assert pairs_of(data.x_train[:, 0], data.y_train) == pairs_of(X, Y)
    assert np.array_equal(data.x_test[:, 0], X[:9]) and np.array_equal(data.y_test, Y[:9])
    assert data.y_train.dtype == np.uint8 and data.x_train.flags.c_contiguous


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_both_layouts(tmp_path: Path, channels: int) -> None:
    nhwc = RNG.integers(0, 256, (30, 6, 5, channels), np.uint8)
    nchw = np.ascontiguousarray(nhwc.transpose(0, 3, 1, 2))
    one = load(save(tmp_path, x_train=nhwc, y_train=Y, x_test=nhwc, y_test=Y))
    two = load(save(tmp_path, x_train=nchw, y_train=Y, x_test=nchw, y_test=Y))
    assert np.array_equal(one.x_test, nchw) and one.digest == two.digest
    assert pairs_of(one.x_train, one.y_train) == pairs_of(nchw, Y)


def test_an_ambiguous_layout_is_asked_for(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (30, 3, 5, 3), np.uint8)
    path = save(tmp_path, x_train=x, y_train=Y)
    with pytest.raises(InputError, match="could be either layout → pass layout=nhwc or layout=nchw"):
        load(path)
    assert load(path, layout="nhwc").size == (3, 5)
    assert load(path, layout="nchw").size == (5, 3)
    with pytest.raises(InputError, match="did you mean 'nhwc'"):
        load(path, layout="nhwcc")


def test_any_number_of_channels_when_the_layout_is_given(tmp_path: Path) -> None:
    x = RNG.integers(0, 256, (30, 6, 5, 2), np.uint8)
    path = save(tmp_path, x_train=x, y_train=Y)
    with pytest.raises(DataError, match="no side of 1, 3 or 4 channels"):
        load(path)
    assert load(path, layout="nhwc").channels == 2


def test_fractions_are_scaled_by_what_the_whole_file_holds(tmp_path: Path) -> None:
    unit = np.linspace(0, 1, 30 * 30, dtype=np.float32).reshape(30, 6, 5)
    data = load(save(tmp_path, x_train=unit, y_train=Y, x_test=unit[:9] / 2, y_test=Y[:9]))
    assert pairs_of(data.x_train[:, 0], data.y_train) == pairs_of(np.rint(unit * 255).astype(np.uint8), Y)
    dark = load(save(tmp_path, x_train=unit * 255, y_train=Y, x_test=unit[:9], y_test=Y[:9]))
    assert dark.x_train.max() == 255 and dark.x_test.max() <= 1  # not scaled on its own


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, ">f4"])
def test_every_byte_survives_as_a_fraction(kind: Any) -> None:
    values = np.arange(256).reshape(1, 16, 16)
    assert np.array_equal(to_uint8({"x": (values / 255).astype(kind)})["x"], values)
    assert np.array_equal(to_uint8({"x": values.astype(kind)})["x"], values)


@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint16, ">i2"])
def test_whole_numbers(kind: Any) -> None:
    values = np.arange(100).reshape(1, 10, 10)
    out = to_uint8({"x": values.astype(kind)})["x"]
    assert out.dtype == np.uint8 and np.array_equal(out, values)


def test_truth_values() -> None:
    assert to_uint8({"x": np.array([[[True, False]]])})["x"].tolist() == [[[255, 0]]]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.full((30, 6, 5), np.nan), "not finite"),
        (np.full((30, 6, 5), np.inf), "not finite"),
        (np.full((30, 6, 5), -0.5), r"values from -0\.5 to -0\.5 .*undo any normalisation"),
        (np.full((30, 6, 5), 256), "values from 256 to 256"),
        (np.full((30, 6, 5), -1), "values from -1"),
        (np.full((30, 6, 5), 1j), "holds complex128"),
        (np.full((30, 6, 5), "a"), "holds <U1"),
        (np.zeros((30, 0, 5)), "x_train is empty"),
        (np.zeros((30, 5)), r"shape \(30, 5\)"),
        (np.zeros((30, 1, 2, 3, 4)), r"shape \(30, 1, 2, 3, 4\)"),
        (np.zeros((29, 6, 5), np.uint8), "29 images in x_train but 30 labels in y_train"),
        (np.array([{"a": 1}] * 30, object), "x_train holds Python objects, which are never unpickled"),
    ],
)
def test_images_that_cannot_be_used(tmp_path: Path, x: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(save(tmp_path, x_train=x, y_train=Y))


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (np.where(Y == 0, -7, Y * 1000), ("-7", "1000", "2000")),
        (np.array(["cat", "dog", "äh"])[Y], ("cat", "dog", "äh")),
        (np.array([b"cat", b"dog", "äh".encode()])[Y], ("cat", "dog", "äh")),
        (Y.astype(np.uint64)[:, None], ("0", "1", "2")),
        (Y > 0, ("False", "True")),
    ],
)
def test_labels_are_numbered_and_their_names_kept(tmp_path: Path, y: np.ndarray, names: tuple[str, ...]) -> None:
    data = load(save(tmp_path, x_train=X, y_train=y, x_test=X[:9], y_test=y[:9]))
    assert data.class_names == names
    numbers = np.minimum(Y, len(names) - 1)
    assert pairs_of(data.x_train[:, 0], data.y_train) == pairs_of(X, numbers)
    assert data.y_test.tolist() == numbers[:9].tolist()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y.astype(float), "y_train holds float64"),
        (np.eye(3)[Y], r"y_train has shape \(30, 3\) .*not one-hot"),
        (np.array([b"\xff"] * 30), "not UTF-8"),
        (np.zeros(30, int), "single class, '0'"),
        (np.array([[1], {}] * 15, object), "y_train holds Python objects"),
        (np.where(np.arange(30) == 4, 9, 0), "class '9' has 1 image"),
    ],
)
def test_labels_that_cannot_be_used(tmp_path: Path, y: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(save(tmp_path, x_train=X, y_train=y))


@pytest.mark.parametrize("own_test", [True, False])
def test_training_images_sorted_by_class_are_shuffled_and_test_images_stay(tmp_path: Path, own_test: bool) -> None:
    x, y = RNG.integers(0, 256, (60, 6, 5), np.uint8), np.repeat(np.arange(3), 20)
    path = save(tmp_path, x_train=x, y_train=y, **({"x_test": x, "y_test": y} if own_test else {}))
    data = load(path)
    assert set(data.y_train[:20].tolist()) == {0, 1, 2}
    assert data.y_test.tolist() == sorted(data.y_test.tolist())
    assert load(path).digest == data.digest != load(path, seed=1).digest
    if own_test:
        assert np.array_equal(data.x_test[:, 0], x)
        assert pairs_of(data.x_train[:, 0], data.y_train) == pairs_of(x, y)


@settings(deadline=None)
@given(
    kind=st.sampled_from([np.bool_, np.uint8, np.int32, np.float16, np.float32, np.float64]),
    count=st.integers(1, 9),
    at_once=st.integers(1, 500),
    turned=st.booleans(),
)
def test_pieces_of_any_size_make_the_same_whole(kind: Any, count: int, at_once: int, turned: bool) -> None:
    fractions = np.random.default_rng(count).random((count, 3, 4, 3))
    images = (fractions if kind().dtype.kind == "f" else fractions * 2).astype(kind)
    images = images.transpose(0, 3, 1, 2) if turned else images
    scale = 255 if kind().dtype.kind in "fb" else 1
    expected = np.rint(images.astype(np.float64 if kind is np.float64 else np.float32) * scale).astype(np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hotlap.datasets.arrays.CHUNK_BYTES", at_once)
        assert np.array_equal(to_uint8({"x": images})["x"], expected)
        order = np.random.default_rng(0).permutation(count)
        assert np.array_equal(_picked(images, order), images[order])


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_reading_takes_no_more_memory_than_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.setattr("hotlap.datasets.arrays.CHUNK_BYTES", 2**18)
    pixels = 6_000_000
    path = save(tmp_path, x_train=np.zeros((1000, 100, 20, 3), kind), y_train=np.arange(1000) % 2)
    tracemalloc.start()
    try:
        load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # As stored and as bytes, or as bytes twice; pieces and labels are little.
    assert peak < max(np.dtype(kind).itemsize + 1, 2) * pixels + 4_000_000


@pytest.mark.parametrize(("free", "message"), [(30 * 30, "own.npz needs"), (2000, "in addition to what it holds")])
def test_more_than_the_memory_is_refused_before_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, message: str
) -> None:
    path = save(tmp_path, x_train=X, y_train=Y, unused=np.zeros(10**6))
    left = iter([free, 30 * 30 - 1])
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=next(left)))
    with pytest.raises(DataError, match=message):
        load(path)


def test_held_out_when_there_is_no_test_set(tmp_path: Path) -> None:
    path = save(tmp_path, x_train=X, y_train=Y, weights=np.ones(3))
    data = load(path, holdout=0.3)
    assert np.bincount(data.y_test).tolist() == [3, 3, 3] and len(data.x_train) == 21
    whole = {image.tobytes(): label for image, label in zip(X, Y, strict=True)}
    for image, label in zip(
        np.concatenate([data.x_train, data.x_test]), np.concatenate([data.y_train, data.y_test]), strict=True
    ):
        assert whole.pop(image.tobytes()) == label
    assert not whole
    assert load(path, holdout=0.3).digest == data.digest != load(path, holdout=0.3, seed=1).digest
    info = datasets.info("arrays", path=path, holdout=0.3)
    assert info.notes == ("not used: weights", "9 of 30 images held out for testing") and info.source == str(path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X, "y": Y}, r"lacks x_train and y_train \(it holds x, y\)"),
        ({"x_train": X}, "lacks y_train"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "only one of x_test and y_test"),
        ({"x_train": X, "y_train": Y, "x_test": X[:3], "y_test": np.array([7, 0, 1])}, "y_train lacks: 7"),
        ({"x_train": X, "y_train": Y, "x_test": X[:2], "y_test": np.array(["0", "1"])}, "not of one kind"),
        ({"x_train": X, "y_train": Y, "x_test": X[:3, :4], "y_test": Y[:3]}, "test images 1x4x5"),
        ({"x_train": X, "y_train": Y, "x_test": X[:0], "y_test": Y[:0]}, "x_test is empty"),
    ],
)
def test_files_that_do_not_fit_together(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(save(tmp_path, **arrays))


def test_paths_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs the option path → pass path=images\.npz"):
        datasets.load("arrays")
    with pytest.raises(InputError, match="does not exist"):
        load(tmp_path / "gone.npz")
    with pytest.raises(InputError, match="is a folder → for a folder of images use the data set 'folder'"):
        load(tmp_path)


def test_other_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "text.npz").write_text("hello")
    for name in ("x.npy", "text.npz"):
        with pytest.raises(DataError, match=r"cannot be read as \.npz"):
            load(tmp_path / name)
    import zipfile

    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("x_train", b"no array")
        archive.writestr("y_train.npy", b"no array")
    with pytest.raises(DataError):
        load(tmp_path / "zip.npz")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=120)
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 3000),
)
def test_damage_is_never_another_exception(tmp_path: Path, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(save(tmp_path, x_train=X, y_train=Y).read_bytes())
    for at, value in changes:
        data[at % len(data)] = value
    path = tmp_path / "bad.npz"
    path.write_bytes(data[: max(1, len(data) - cut)] if cut > 1500 else data)
    with warnings.catch_warnings(), contextlib.suppress(HotlapError):
        warnings.simplefilter("ignore")
        load(path)


def test_three_axes_are_grey() -> None:
    assert to_nchw(X, "x", None).shape == (30, 1, 6, 5)
    assert np.shares_memory(to_nchw(X, "x", "nchw"), X)
