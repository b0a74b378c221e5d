"""Single image files: orientation in every format, metadata that cannot be read, and extreme proportions."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from hotlap.datasets.images import fit_pixels, read_header, read_pixels
from hotlap.errors import DataError

NO_METADATA = b"Exif\0\0this is no metadata"

UPRIGHT: dict[int, Any] = {
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).T,
    8: np.rot90,
}
"""What a camera's orientation does to grey pixels (H, W)."""


def grey(height: int, width: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)


def with_chunk(png: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG with one more chunk, behind its pixels."""
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    end = png.rindex(b"IEND") - 4
    return png[:end] + chunk + png[end:]


def pixels_of(path: Path, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    return read_pixels(path, "x", channels=1, size=size, resize="refuse")[0]


def check(path: Path, expected: np.ndarray[Any, Any]) -> None:
    """Header, header with pixels, and pixels agree on what the file shows."""
    for whole in (False, True):
        assert read_header(path, "x", whole=whole).size == expected.shape
    assert np.array_equal(pixels_of(path, expected.shape), expected)


@pytest.mark.parametrize("orientation", list(UPRIGHT))
@pytest.mark.parametrize(
    ("name", "save"),
    [
        ("x.png", {}),
        ("x.tif", {}),
        ("packed.tif", {"compression": "tiff_lzw"}),
        ("deflated.tif", {"compression": "tiff_adobe_deflate"}),
        ("x.webp", {"lossless": True}),
    ],
)
@pytest.mark.parametrize("size", [(4, 6), (5, 5)])
def test_orientation_in_every_format(
    tmp_path: Path, name: str, save: dict[str, Any], size: tuple[int, int], orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = grey(*size)
    Image.fromarray(pixels).save(tmp_path / name, exif=exif, **save)
    check(tmp_path / name, UPRIGHT[orientation](pixels))


def test_orientation_behind_the_pixels_of_a_png(tmp_path: Path) -> None:
    path, pixels = tmp_path / "x.png", grey(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path)
    path.write_bytes(with_chunk(path.read_bytes(), b"eXIf", exif.tobytes()[6:]))
    check(path, UPRIGHT[6](pixels))


@pytest.mark.parametrize("size", [(4, 6), (5, 5)])
@pytest.mark.parametrize(("name", "save"), [("x.png", {}), ("x.jpg", {}), ("x.webp", {"lossless": True})])
def test_metadata_that_cannot_be_read_spoils_no_picture(
    tmp_path: Path, name: str, save: dict[str, Any], size: tuple[int, int]
) -> None:
    path, pixels = tmp_path / name, grey(*size)
    Image.fromarray(pixels).save(path, exif=NO_METADATA, **save)
    with Image.open(path) as image:
        plain = np.asarray(image.convert("L"))
    check(path, plain)
    if name != "x.jpg":
        assert np.array_equal(plain, pixels)


def test_bad_metadata_behind_the_pixels_of_a_png_spoils_no_picture(tmp_path: Path) -> None:
    path, pixels = tmp_path / "x.png", grey(4, 6)
    Image.fromarray(pixels).save(path)
    path.write_bytes(with_chunk(path.read_bytes(), b"eXIf", NO_METADATA[6:]))
    check(path, pixels)


def test_damaged_pixels_are_found_whatever_the_metadata(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(grey(60, 40)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    for whole in (False, True):
        with pytest.raises(DataError, match="cannot be read"):
            read_header(path, "x", whole=whole)
    with pytest.raises(DataError, match="cannot be read"):
        pixels_of(path, (60, 40))


@pytest.mark.parametrize("size", [(1, 2000), (2000, 1)])
@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_a_line_fits_into_a_square(tmp_path: Path, size: tuple[int, int], resize: str) -> None:
    path = tmp_path / "line.png"
    Image.fromarray(np.full(size, 200, np.uint8)).save(path)
    pixels = read_pixels(path, "x", channels=1, size=(32, 32), resize=resize)[0]
    assert pixels.shape == (32, 32)
    # Fitted into the frame, it is one pixel thick.
    assert (pixels == 200).sum() == (32 if resize == "pad" else 32 * 32)


@settings(deadline=None)
@given(size=st.tuples(st.integers(1, 40), st.integers(1, 40)), frame=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_padding_is_pillows_wherever_something_is_left_of_the_image(
    size: tuple[int, int], frame: tuple[int, int]
) -> None:
    image = Image.fromarray(grey(*size) | 1)
    found = fit_pixels(image, "x", channels=1, size=frame, resize="pad")[0]
    height, width = frame
    inside = (min(width, round(size[1] / size[0] * height)), min(height, round(size[0] / size[1] * width)))
    if min(inside) > 0:
        padded = ImageOps.pad(image, (width, height), Image.Resampling.BILINEAR, color=0)
        assert np.array_equal(found, np.asarray(padded))
    assert found.max() > 0
