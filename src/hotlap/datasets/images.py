"""Reads one image file of the user's into uint8 pixels, whatever its colour mode and size.

Transparent pixels are laid on white; 16-bit grey is scaled by its full range, 65535; the orientation that a camera
wrote into the file is applied, where it can be read; of an animation the first frame is read; colour profiles are
ignored.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from hotlap.datasets.base import Array
from hotlap.datasets.decode import one_line
from hotlap.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm", ".pnm")
)
RESIZE = ("refuse", "stretch", "crop", "pad")
MAX_PIXELS = 64_000_000  # of one file; anything larger is a mistake or an attack in a set for small classifiers

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_ORIENTATION = 0x0112
_TURNS = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
"""What brings an image of orientation 2 to 8 upright; from 5 on width and height change places."""
_GREY_MODES = ("1", "L", "LA", "La", "I")


class Encoded(Protocol):
    """An image file that lies inside another file."""

    def open(self) -> BytesIO:
        """Return its bytes."""
        ...


File: TypeAlias = Path | Encoded


@dataclass(frozen=True, slots=True)
class Header:
    """What can be told about an image before its pixels are needed: (height, width) as shown, and if it is grey."""

    size: tuple[int, int]
    grey: bool


@contextmanager
def _opened(path: File, shown: str) -> Iterator[Image]:
    """Open an image file; every failure inside becomes a DataError that names the file as ``shown``."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns about odd metadata, which nobody can act on, and about sizes, which are checked below.
            warnings.simplefilter("ignore")
            # Opened here: files that Pillow opens it may map, and then it takes turned TIFFs for upright ones.
            opened = path.open("rb") if isinstance(path, Path) else path.open()
            with opened as file, Image.open(file, formats=_FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"{shown} is {image.height}x{image.width}, more than {MAX_PIXELS} pixels", "shrink or remove it"
                    )
                yield image
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{shown} has far more than {MAX_PIXELS} pixels", "shrink or remove it") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{shown} is not an image of a known format", "replace or remove it") from error
    except Exception as error:  # Pillow raises many kinds for damaged files, down to struct.error and SyntaxError
        raise DataError(f"{shown} cannot be read ({one_line(error)})", "replace or remove it") from error


def read_header(path: File, shown: str, *, whole: bool = False) -> Header:
    """Size and colour of an image file; pixels are decoded only where nothing else tells.

    Args:
        path: the file.
        shown: its name for errors.
        whole: decode the pixels too, so that damage behind the header is found.

    Raises:
        DataError: not an image, damaged, or far too large.
    """
    with _opened(path, shown) as image:
        if whole:
            _plain(_upright(image), shown)
        width, height = image.size
        # Asking a PNG for its orientation may decode it; a square one need not be asked.
        if width != height and _orientation(image) >= 5:
            width, height = height, width
        return Header((height, width), _is_grey(image))


def _orientation(image: Image) -> int:
    """How the camera was held, 1 to 8; 1 where that cannot be told, since odd metadata spoils no picture."""
    late = image.format == "PNG" and "exif" not in image.info
    # Pillow turns a TIFF while it decodes it, and no longer says how it was.
    if late or (image.format == "TIFF" and _asked(image) != 1):
        image.load()
    return _asked(image)


def _asked(image: Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # the kinds are as many as for damaged files
        return 1
    return found if isinstance(found, int) and 2 <= found <= 8 else 1


def _upright(image: Image) -> Image:
    """Decode an image and turn it as the camera was held."""
    from PIL.Image import Transpose

    image.load()
    found = _orientation(image)
    return image if found == 1 else image.transpose(Transpose[_TURNS[found - 2]])


def _is_grey(image: Image) -> bool:
    if image.mode in ("P", "PA"):  # a palette may hold greys only
        pixels = np.asarray(image.convert("RGB"))
        return bool((pixels == pixels[..., :1]).all())
    return image.mode in _GREY_MODES or image.mode.startswith("I;16")


def read_pixels(path: File, shown: str, *, channels: int, size: tuple[int, int], resize: str) -> Array:
    """Decode one image.

    Args:
        path: the file.
        shown: its name for errors.
        channels: 1 for grey (colours weighted as in ITU-R 601), 3 for RGB.
        size: height and width of the result.
        resize: how to get there: ``stretch`` changes the proportions, ``crop`` fills the frame and cuts what sticks
            out evenly, ``pad`` fits inside and adds black evenly, ``refuse`` takes only this size. Bilinear, averaging
            over all source pixels when shrinking.

    Returns:
        (channels, height, width) uint8.

    Raises:
        DataError: the file cannot be read, or has another size and ``resize`` is ``refuse``.
    """
    with _opened(path, shown) as file:
        return fit_pixels(_upright(file), shown, channels=channels, size=size, resize=resize)


def fit_pixels(image: Image, shown: str, *, channels: int, size: tuple[int, int], resize: str) -> Array:
    """Bring an image in memory to a number of channels and a size, as ``read_pixels`` does.

    Args:
        image: of any mode; not modified.
        shown: its name for errors.
        channels: as for ``read_pixels``.
        size: as for ``read_pixels``.
        resize: as for ``read_pixels``.

    Returns:
        (channels, height, width) uint8.

    Raises:
        DataError: it cannot be converted, or has another size and ``resize`` is ``refuse``.
    """
    from PIL import Image, ImageOps

    image = _plain(image, shown).convert("L" if channels == 1 else "RGB")
    target = (size[1], size[0])
    bilinear = Image.Resampling.BILINEAR
    if image.size != target:
        if resize == "stretch":
            image = image.resize(target, bilinear)
        elif resize == "crop":
            image = ImageOps.fit(image, target, bilinear)
        elif resize == "pad":
            image = ImageOps.pad(_not_too_thin(image, target), target, bilinear, color=0)
        else:
            raise DataError(f"{shown} is {image.height}x{image.width}, not {size[0]}x{size[1]}")
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _not_too_thin(image: Image, frame: tuple[int, int]) -> Image:
    """An image that would vanish when it is fitted into the frame is one pixel thick there."""
    from PIL.Image import Resampling

    if round(image.height / image.width * frame[0]) == 0:
        return image.resize((frame[0], 1), Resampling.BILINEAR)
    if round(image.width / image.height * frame[1]) == 0:
        return image.resize((1, frame[1]), Resampling.BILINEAR)
    return image


def _plain(image: Image, shown: str) -> Image:
    """The image without transparency and with 8 bits per channel."""
    from PIL import Image

    if image.mode == "I" or image.mode.startswith("I;16"):
        wide: Any = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise DataError(f"{shown} holds values beyond 16 bits", "save it as 8-bit or 16-bit grey")
        return Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode == "F":
        raise DataError(f"{shown} holds floating-point values, whose range is unknown", "save it as 8-bit grey")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image
