"""Parsers for the formats that image data sets are published in: IDX, CSV, CIFAR binary, PNG sheets, and archives.

Every parser takes bytes from anywhere and either returns arrays or raises DataError; none executes, unpickles or
writes anything, and each reads no more than a stated number of bytes.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

import numpy as np

from hotlap.datasets.base import CHUNK_BYTES, Array
from hotlap.errors import DataError

if TYPE_CHECKING:
    import tarfile

_IDX_UINT8 = 0x08
_MAX_MEMBERS = 10_000
_MAX_ARCHIVE_BYTES = 4 << 30


def parse_idx(data: bytes, ndim: int) -> Array:
    """Parse an IDX file of unsigned bytes.

    Args:
        data: the whole file, not compressed.
        ndim: how many dimensions it must have: 3 for images, 1 for labels.

    Returns:
        uint8 array with the shape of the header; read-only, shares ``data``.

    Raises:
        DataError: not IDX, other type or dimensions, or a length that does not match the header.

    Source: the format section of the MNIST page (LeCun, Cortes, Burges).
    """
    head = 4 + 4 * ndim
    if len(data) < head:
        raise DataError(f"IDX file of {len(data)} bytes is shorter than its {head}-byte header")
    if data[:2] != b"\0\0" or data[2] != _IDX_UINT8 or data[3] != ndim:
        raise DataError(f"not an IDX file of {ndim}-dimensional unsigned bytes (starts with {data[:4].hex()})")
    shape = struct.unpack(f">{ndim}I", data[4:head])
    expected = math.prod(shape)  # Python integers: a hostile header cannot overflow
    if expected == 0:
        raise DataError(f"IDX file holds nothing (shape {shape})")
    if len(data) - head != expected:
        raise DataError(f"IDX header promises {expected} bytes for {shape}, but {len(data) - head} follow")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def encode_idx(array: Array) -> bytes:
    """The IDX file of a uint8 array; the inverse of ``parse_idx``."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, _IDX_UINT8, array.ndim, *array.shape)
    return head + np.ascontiguousarray(array, np.uint8).tobytes()


def parse_csv(data: bytes, columns: int) -> Array:
    """Parse comma-separated whole numbers from 0 to 255 under one header line.

    Args:
        data: the whole file; lines end in LF or CR LF, the last one may lack its end.
        columns: numbers per line.

    Returns:
        (lines, columns) uint8.

    Raises:
        DataError: a line has another number of columns, or a field is not a whole number from 0 to 255.
    """
    start = data.find(b"\n") + 1
    if start == 0 or not data[start:].strip():
        raise DataError("CSV file has no line under its header")
    parts: list[Array] = []
    line = 2
    while start < len(data):
        # Whole lines at a time: NumPy works on some megabytes at once, and memory stays bounded.
        stop = data.rfind(b"\n", start, start + CHUNK_BYTES // 4) + 1
        if stop == 0:
            stop = data.find(b"\n", start) + 1 or len(data)
        rows = _csv_rows(data[start:stop].replace(b"\r\n", b"\n"), columns, line)
        parts.append(rows)
        line += len(rows)
        start = stop
    return np.concatenate(parts)


def _csv_rows(text: bytes, columns: int, line: int) -> Array:
    if not text.endswith(b"\n"):
        text += b"\n"
    raw = np.frombuffer(text, np.uint8)
    is_end = raw == ord("\n")
    ends = np.flatnonzero(is_end | (raw == ord(",")))
    if len(ends) % columns or not is_end[ends[columns - 1 :: columns]].all() or is_end.sum() * columns != len(ends):
        raise DataError(f"CSV lines from line {line} do not all have {columns} columns")
    length = np.diff(ends, prepend=-1) - 1
    digit = raw - ord("0")  # wraps: everything that is not a digit becomes larger than 9
    digit[ends] = 0
    if length.min() < 1 or length.max() > 3 or digit.max() > 9:
        raise DataError(f"CSV lines from line {line} hold something other than whole numbers from 0 to 255")
    value = digit[ends - 1].astype(np.int16)
    for place, weight in ((2, 10), (3, 100)):
        has = length >= place
        value[has] += digit[ends[has] - place] * np.int16(weight)
    if value.max() > 255:
        raise DataError(f"CSV lines from line {line} hold a number above 255")
    return value.astype(np.uint8).reshape(-1, columns)


CIFAR_RECORD = 1 + 3 * 32 * 32


def parse_cifar(data: bytes, classes: int = 10) -> tuple[Array, Array]:
    """Parse a CIFAR binary batch: per image one label byte, then the red, green and blue plane of 32x32.

    Returns:
        (N, 3, 32, 32) uint8 images and (N,) uint8 labels.

    Raises:
        DataError: the length is not a whole number of records, or a label is not below ``classes``.

    Source: https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
    """
    if not data or len(data) % CIFAR_RECORD:
        raise DataError(f"CIFAR batch of {len(data)} bytes is not a whole number of {CIFAR_RECORD}-byte records")
    records = np.frombuffer(data, np.uint8).reshape(-1, CIFAR_RECORD)
    labels = records[:, 0].copy()
    if labels.max() >= classes:
        raise DataError(f"CIFAR batch holds label {labels.max()}, but there are {classes} classes")
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, 3, 32, 32), labels


def encode_cifar(x: Array, y: Array) -> bytes:
    """The CIFAR binary batch of (N, 3, 32, 32) and (N,) uint8; the inverse of ``parse_cifar``."""
    return np.concatenate([y.astype(np.uint8)[:, None], x.reshape(len(x), -1)], axis=1).tobytes()


def git_blob_id(data: bytes) -> str:
    """The id (SHA-1, hex) that git gives a file with these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def parse_png_sheet(data: bytes, images: int, size: tuple[int, int]) -> Array:
    """Parse a PNG sheet of RGB images, one image per row of the sheet with its pixels in reading order.

    Args:
        data: the PNG file.
        images: rows of the sheet.
        size: height and width of each image; the sheet is height times width pixels wide.

    Returns:
        (images, 3, height, width) uint8, C-contiguous.

    Raises:
        DataError: not a PNG file, or not of this size and RGB.
    """
    from PIL import Image

    height, width = size
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as sheet:
            # Checked on the header, so that no other size is ever decoded.
            if sheet.size != (height * width, images) or sheet.mode != "RGB":
                raise DataError(f"PNG sheet is {sheet.mode} {sheet.size}, not RGB {(height * width, images)}")
            pixels = np.asarray(sheet)
    except DataError:
        raise
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise DataError(f"PNG sheet cannot be read: {one_line(error)}") from error
    return np.ascontiguousarray(pixels.reshape(images, height, width, 3).transpose(0, 3, 1, 2))


class Readable(Protocol):
    """Anything that bytes can be read from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; fewer only at the end."""


def gunzip(data: bytes, limit: int) -> bytes:
    """Decompress gzip data, refusing to produce more than ``limit`` bytes.

    Raises:
        DataError: damaged, cut off, or larger than the limit.
    """
    import gzip

    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return read_at_most(stream, limit)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"gzip data cannot be read: {one_line(error)}") from error


def read_at_most(stream: Readable, limit: int) -> bytes:
    """Read a stream to its end, refusing more than ``limit`` bytes (DataError)."""
    data = stream.read(limit + 1)
    if len(data) > limit:
        raise DataError(f"more than the expected {limit} bytes")
    return data


def read_tar(archive: Path | IO[bytes], wanted: Mapping[str, int]) -> dict[str, bytes]:
    """Read chosen members of a tar archive into memory; nothing is extracted to disk and no path in it is used.

    Args:
        archive: file (compressed or not), or an open stream of an uncompressed archive.
        wanted: member name → most bytes it may have; a leading ``./`` in the archive does not matter.

    Returns:
        The members' bytes by the wanted names.

    Raises:
        DataError: damaged, a member is missing, not a regular file or too large.
    """
    import tarfile

    found: dict[str, bytes] = {}
    passed = 0
    try:
        with _open_tar(archive) as stream:
            for count, member in enumerate(stream):
                name = member.name.removeprefix("./")
                passed += max(0, member.size)
                if count >= _MAX_MEMBERS or passed > _MAX_ARCHIVE_BYTES:
                    raise DataError("archive is far larger than expected")
                if name not in wanted or name in found:
                    continue
                content = stream.extractfile(member) if member.isreg() else None
                if content is None or member.size > wanted[name]:
                    raise DataError(f"archive member {name} is not a file of at most {wanted[name]} bytes")
                found[name] = read_at_most(content, wanted[name])
                if len(found) == len(wanted):
                    return found
    except (tarfile.TarError, OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"archive cannot be read: {one_line(error)}") from error
    raise DataError(f"archive lacks {', '.join(sorted(set(wanted) - set(found)))}")


def _open_tar(archive: Path | IO[bytes]) -> tarfile.TarFile:
    import tarfile

    # As a stream: members are met in order and none can point back.
    if isinstance(archive, Path):
        return tarfile.open(archive, mode="r|*")
    return tarfile.open(fileobj=archive, mode="r|")


def read_zip(archive: Path, wanted: Mapping[str, int]) -> dict[str, bytes]:
    """Read chosen members of a zip archive (a wheel is one) into memory; same contract as ``read_tar``."""
    import zipfile

    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(archive) as file:
            for name, limit in wanted.items():
                with file.open(name) as content:
                    found[name] = read_at_most(content, limit)
    except KeyError as error:
        raise DataError(f"archive lacks {name}") from error
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, RuntimeError, ValueError) as error:
        raise DataError(f"archive cannot be read: {one_line(error)}") from error
    return found


def one_line(error: object, limit: int = 160) -> str:
    """Any message as one line of at most ``limit`` characters, for use inside an error."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"
