"""Data sets published as four IDX files, the way MNIST was: what Fashion-MNIST and MNIST have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hotlap.datasets.base import Arrays
from hotlap.datasets.decode import gunzip, parse_idx
from hotlap.datasets.download import RemoteFile
from hotlap.errors import DataError


@dataclass(frozen=True, slots=True)
class IdxFile:
    """One IDX file: its name, its length in bytes, its MD5, and the MD5 of the .gz file that the publisher lists."""

    name: str
    size: int
    md5: str
    gz_md5: str


@dataclass(frozen=True, slots=True)
class IdxFiles:
    """The four IDX files of a data set, by array name."""

    files: Mapping[str, IdxFile]

    def remote(self) -> tuple[RemoteFile, ...]:
        """The .gz files as they lie on a publisher's host."""
        # gzip never makes a file longer by more than a few bytes per block.
        return tuple(RemoteFile(f"{f.name}.gz", f"md5:{f.gz_md5}", f.size + 4096) for f in self.files.values())

    def members(self, folder: str = "", suffix: str = "") -> dict[str, int]:
        """Paths of the files in an archive, each with the most bytes it may have."""
        return {f"{folder}{f.name}{suffix}": f.size + 4096 for f in self.files.values()}

    def decode(self, raw: Mapping[str, bytes]) -> Arrays:
        """Four arrays from four files' bytes.

        Args:
            raw: file name, in any folder and with or without ``.gz`` → its bytes.

        Returns:
            (N, 1, H, W) uint8 images and (N,) uint8 labels.

        Raises:
            DataError: a file is damaged or is not the original.
        """
        by_name = {Path(path).name: data for path, data in raw.items()}
        arrays: Arrays = {}
        for key, file in self.files.items():
            try:
                packed = by_name.get(f"{file.name}.gz")
                data = by_name[file.name] if packed is None else gunzip(packed, file.size)
                if hashlib.md5(data, usedforsecurity=False).hexdigest() != file.md5:
                    raise DataError("another MD5 than the original")
                arrays[key] = parse_idx(data, 3)[:, None] if key.startswith("x") else parse_idx(data, 1)
            except DataError as error:
                raise DataError(f"{file.name}: {error.cause}") from error
        return arrays

    def decode_paths(self, paths: Mapping[str, Path]) -> Arrays:
        """Four arrays from four files on disk, given by file name."""
        return self.decode({name: path.read_bytes() for name, path in paths.items()})
