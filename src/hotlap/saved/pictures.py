"""Images to ask a saved model about: files, folders and .npz files, brought to the size and colours it knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np

from hotlap.datasets.arrays import check_unpacked, to_nchw, to_uint8
from hotlap.datasets.base import Array
from hotlap.datasets.decode import one_line
from hotlap.datasets.folder import files_below
from hotlap.datasets.images import SUFFIXES, fit_pixels, read_header, read_pixels
from hotlap.datasets.own import check_memory
from hotlap.errors import DataError, InputError

Named: TypeAlias = tuple[str, Array]
"""The name of an image, and its pixels (C, H, W) uint8."""

_ARRAYS = ("x", "images", "x_test")
"""Names under which the images of an .npz file are looked for, in this order; a single array may have any name."""


@dataclass(slots=True)
class Pictures:
    """Reads images for a model, noting what had to be done to them.

    Attributes:
        shape: (C, H, W) that the model takes; C is 1 or 3 but for arrays that have this shape already.
        resize: how other sizes are brought to it: ``stretch``, ``crop`` or ``pad``.
        resized: images of another size so far.
        recoloured: images that were turned from colour to grey or the other way so far.
        unreadable: files that could not be read so far, and why.
    """

    shape: tuple[int, int, int]
    resize: str = "stretch"
    resized: int = 0
    recoloured: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)

    def batches(self, files: Iterable[Path], size: int) -> Iterator[tuple[list[str], Array]]:
        """Read images, ``size`` at once.

        Args:
            files: images, and .npz files with many.
            size: images in a batch; the last has fewer.

        Yields:
            Names, and pixels (n, H, W, C) uint8.
        """
        waiting: list[Named] = []
        for named in self._each(files):
            waiting.append(named)
            if len(waiting) == size:
                yield _together(waiting)
                waiting = []
        if waiting:
            yield _together(waiting)

    def remark(self) -> str | None:
        """Say in a line what was done to the images; None when nothing was."""
        channels, height, width = self.shape
        done = []
        if self.resized:
            done.append(f"{self.resized} resized to {height}×{width} ({self.resize})")
        if self.recoloured:
            done.append(f"{self.recoloured} turned to {'grey' if channels == 1 else 'RGB'}")
        return f"images changed to suit the model: {', '.join(done)}" if done else None

    def _each(self, files: Iterable[Path]) -> Iterator[Named]:
        for file in files:
            try:
                if file.suffix.lower() == ".npz":
                    yield from self._of_arrays(file)
                else:
                    yield str(file), self._of_file(file)
            except (DataError, InputError) as error:
                self.unreadable[str(file)] = str(error)

    def _of_file(self, file: Path) -> Array:
        self._check_channels()
        header = read_header(file, str(file))
        channels, *size = self.shape
        pixels = read_pixels(file, str(file), channels=channels, size=(size[0], size[1]), resize=self.resize)
        self._note(header.size, grey=header.grey)
        return pixels

    def _check_channels(self) -> None:
        if self.shape[0] not in (1, 3):
            raise InputError(f"the model takes {self.shape[0]} channels, image files have 1 or 3", "give an .npz file")

    def _of_arrays(self, file: Path) -> Iterator[Named]:
        from PIL import Image

        images = to_uint8({file.name: self._nchw(_array(file), file.name)})[file.name]
        as_it_is = images.shape[1:] == self.shape
        if not as_it_is:
            self._check_channels()
            if images.shape[1] not in (1, 3, 4):
                raise DataError(f"{file.name} has images of {images.shape[1]} channels", "give 1, 3 or 4")
        channels, height, width = self.shape
        for index, pixels in enumerate(images):
            name = f"{file}[{index}]"
            if as_it_is:
                yield name, pixels
                continue
            flat = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
            picture = Image.fromarray(np.ascontiguousarray(flat))
            yield name, fit_pixels(picture, name, channels=channels, size=(height, width), resize=self.resize)
            self._note(pixels.shape[1:], grey=len(pixels) == 1)

    def _nchw(self, images: Array, name: str) -> Array:
        channels, *size = self.shape
        # What the model takes decides where the sides alone would not tell.
        known = {(channels, *size): "nchw", (*size, channels): "nhwc"}
        try:
            return to_nchw(images, name, known.get(images.shape[1:]))
        except (DataError, InputError) as error:
            raise InputError(error.cause, "save the images as (N, H, W) or (N, H, W, C)") from None

    def _note(self, size: Sequence[int], *, grey: bool) -> None:
        self.resized += tuple(size) != self.shape[1:]
        self.recoloured += grey != (self.shape[0] == 1)


def _together(waiting: list[Named]) -> tuple[list[str], Array]:
    return [name for name, _ in waiting], np.stack([pixels for _, pixels in waiting]).transpose(0, 2, 3, 1)


def _array(file: Path) -> Array:
    """The images of an .npz file, as they are stored; nothing is unpickled."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            names = archive.files
            chosen = names[0] if len(names) == 1 else next((name for name in _ARRAYS if name in names), None)
            if chosen is None:
                raise DataError(
                    f"{file} holds {', '.join(names) or 'nothing'}", f"save the images as {' or '.join(_ARRAYS)}"
                )
            check_unpacked(file, [chosen])
            images = archive[chosen]
    except DataError:
        raise
    except Exception as error:  # zipfile and NumPy raise many kinds for damaged files
        raise DataError(f"{file} cannot be read as .npz ({one_line(error)})", "save it with np.savez") from error
    if not isinstance(images, np.ndarray):  # a member that is no .npy file comes as its bytes
        raise DataError(f"{chosen} in {file} is not an array", "save it with np.savez")
    if images.dtype != np.uint8:
        check_memory(images.size, f"{file}, turned into bytes,", "use a smaller file")
    return images


def find_files(paths: Sequence[Path]) -> list[Path]:
    """List files and the images of folders at any depth, in the order of their paths; hidden ones are passed over.

    Folders are searched as for training: links are followed, and each real folder is read once.

    Raises:
        InputError: nothing is there, or a folder has no images.
        DataError: a folder, or one in it, cannot be read.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in files_below(path) if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise InputError(f"folder {path} has no images", f"known endings: {', '.join(sorted(SUFFIXES))}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"there is no file or folder {path}", "check the path")
    return found
