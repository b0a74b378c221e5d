"""What a data set is once decoded: four arrays, their class names and a digest that goes with every run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import numpy as np

from hotlap.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]
else:
    Array = np.ndarray  # numpy.typing is slow to import

Arrays: TypeAlias = dict[str, Array]

ARRAY_NAMES = ("x_train", "y_train", "x_test", "y_test")

# Bounds the temporary memory of hashing, counting and writing, whatever the size of the data set.
CHUNK_BYTES = 16 << 20


class Progress(Protocol):
    """What a caller passes to follow a long step; every method must be cheap and must not raise."""

    def start(self, label: str, total_bytes: int | None) -> None:
        """Begin a step; ``total_bytes`` is None when the length is not known."""

    def advance(self, n: int) -> None:
        """Add ``n`` bytes to the step that was started last."""

    def done(self) -> None:
        """End the step, whether it succeeded or not."""


class NoProgress:
    """The default progress: says nothing."""

    def start(self, label: str, total_bytes: int | None) -> None:
        """Ignore the step."""

    def advance(self, n: int) -> None:
        """Ignore the bytes."""

    def done(self) -> None:
        """Ignore the end."""


def label_dtype(classes: int) -> np.dtype[Any]:
    """The type that labels are stored in: uint8 up to 256 classes, int32 above."""
    return np.dtype(np.uint8) if classes <= 256 else np.dtype(np.int32)


def raw_bytes(array: Array) -> memoryview:
    """The bytes of a C-contiguous, non-empty array, in memory order; nothing is copied."""
    return memoryview(cast(Any, array.reshape(-1))).cast("B")


def sha256_of(array: Array) -> str:
    """SHA-256 (hex) of an array's elements in C order, without its shape; labels wider than a byte as little-endian."""
    plain = np.ascontiguousarray(array)
    if plain.dtype.itemsize > 1:
        plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(raw_bytes(plain)).hexdigest() if plain.size else _EMPTY


_EMPTY = hashlib.sha256(b"").hexdigest()


def hashes_of(arrays: Mapping[str, Array]) -> dict[str, str]:
    """SHA-256 (hex) of each of the four arrays, by array name."""
    return {name: sha256_of(arrays[name]) for name in ARRAY_NAMES}


def combine_digest(hashes: Mapping[str, str], shapes: Mapping[str, Sequence[int]]) -> str:
    """One SHA-256 (hex) for the whole data set, from the hashes and shapes of its four arrays.

    The shape is part of it because the same bytes cut differently are other images.
    """
    lines = [f"{name} {'x'.join(map(str, shapes[name]))} {hashes[name]}" for name in ARRAY_NAMES]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


# eq=False: comparing by value would compare arrays; two data sets are the same when their digests are.
@dataclass(frozen=True, slots=True, eq=False)
class ImageData:
    """A decoded data set.

    ``x`` are (N, C, H, W) uint8, C-contiguous, memory-mapped read-only where they come from the cache; ``y`` are (N,),
    uint8 up to 256 classes and int32 above. ``digest`` is the SHA-256 that identifies the four arrays.
    """

    name: str
    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    class_names: tuple[str, ...]
    digest: str

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def channels(self) -> int:
        """Number of image channels."""
        return int(self.x_train.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """Image height and width in pixels."""
        return int(self.x_train.shape[2]), int(self.x_train.shape[3])

    @property
    def arrays(self) -> Arrays:
        """The four arrays by name; nothing is copied."""
        return {name: getattr(self, name) for name in ARRAY_NAMES}

    def validate(self) -> ImageData:
        """Check the contract that all other parts rely on, and return the data set itself.

        Raises:
            DataError: a shape, a type, a label or a length breaks the contract.
        """
        if not self.class_names:
            raise DataError(f"{self.name}: no classes")
        for split in ("train", "test"):
            _check_split(self.name, split, getattr(self, f"x_{split}"), getattr(self, f"y_{split}"), self.classes)
        if self.x_train.shape[1:] != self.x_test.shape[1:]:
            raise DataError(
                f"{self.name}: training images are {_by(self.x_train.shape[1:])}, "
                f"test images {_by(self.x_test.shape[1:])} (channels x height x width)"
            )
        return self


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _check_split(name: str, split: str, x: Array, y: Array, classes: int) -> None:
    if x.ndim != 4 or x.dtype != np.uint8:
        raise DataError(f"{name}: x_{split} must be (N, C, H, W) uint8, not {_by(x.shape)} {x.dtype}")
    if x.size == 0:
        raise DataError(f"{name}: x_{split} is empty ({_by(x.shape)})")
    if not x.flags.c_contiguous:
        raise DataError(f"{name}: x_{split} is not C-contiguous")
    if y.ndim != 1 or y.dtype != label_dtype(classes):
        raise DataError(f"{name}: y_{split} must be (N,) {label_dtype(classes)}, not {_by(y.shape)} {y.dtype}")
    if len(x) != len(y):
        raise DataError(f"{name}: {len(x)} {split} images but {len(y)} labels")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        raise DataError(f"{name}: y_{split} holds labels {low} to {high}, but there are {classes} classes")


def image_data(name: str, arrays: Mapping[str, Array], class_names: Sequence[str]) -> ImageData:
    """Build a checked data set from arrays in memory, hashing them.

    Args:
        name: shown to the user and stored with runs.
        arrays: the four arrays by name; made C-contiguous, otherwise not copied.
        class_names: one name per label.

    Raises:
        DataError: the arrays break the contract of ImageData.
    """
    ready = {key: np.ascontiguousarray(arrays[key]) for key in ARRAY_NAMES}
    digest = combine_digest(hashes_of(ready), {key: ready[key].shape for key in ARRAY_NAMES})
    return ImageData(name, **ready, class_names=tuple(class_names), digest=digest).validate()


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What ``verify`` re-computed; it exists only when everything agreed."""

    name: str
    where: str
    source: str
    digest: str
    sha256: dict[str, str]
    checks: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        return _jsonable(asdict(self))


@dataclass(frozen=True, slots=True)
class DataInfo:
    """Facts about a data set; the fields that need its pixels are None while it is not in the cache.

    ``mean`` and ``std`` are per channel over the training images, on the scale 0 to 1.
    """

    name: str
    train: int
    test: int
    channels: int
    size: tuple[int, int]
    classes: int
    class_names: tuple[str, ...]
    train_per_class: tuple[int, ...] | None
    test_per_class: tuple[int, ...] | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    bytes: int
    cached: bool
    where: str | None
    source: str | None
    digest: str
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The facts as JSON-able values."""
        return _jsonable(asdict(self))


def _jsonable(values: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(values))
    return plain


def channel_stats(x: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel on the scale 0 to 1, exact up to the last division.

    Args:
        x: (N, C, H, W) uint8; read in slices, not modified.

    Returns:
        C means and C (population) standard deviations.
    """
    step = max(1, CHUNK_BYTES // max(1, int(np.prod(x.shape[2:]))) // 8)  # bincount widens to 8 bytes
    counts = np.zeros((x.shape[1], 256), np.int64)
    for begin in range(0, len(x), step):
        for channel in range(x.shape[1]):
            counts[channel] += np.bincount(x[begin : begin + step, channel].ravel(), minlength=256)
    value = np.arange(256) / 255
    weight = counts / counts.sum(axis=1, keepdims=True)
    mean = weight @ value
    std = np.sqrt((weight * (value[None] - mean[:, None]) ** 2).sum(axis=1))
    return tuple(map(float, mean)), tuple(map(float, std))


def describe(
    data: ImageData, *, cached: bool, where: str | None, source: str | None, notes: tuple[str, ...] = ()
) -> DataInfo:
    """Gather the facts about a loaded data set; reads every training pixel once."""
    mean, std = channel_stats(data.x_train)
    return DataInfo(
        name=data.name,
        train=len(data.x_train),
        test=len(data.x_test),
        channels=data.channels,
        size=data.size,
        classes=data.classes,
        class_names=data.class_names,
        train_per_class=tuple(np.bincount(data.y_train, minlength=data.classes).tolist()),
        test_per_class=tuple(np.bincount(data.y_test, minlength=data.classes).tolist()),
        mean=mean,
        std=std,
        bytes=sum(array.nbytes for array in data.arrays.values()),
        cached=cached,
        where=where,
        source=source,
        digest=data.digest,
        notes=notes,
    )
