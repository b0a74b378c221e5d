"""Data sets as recipes write them: a known name, or the user's own folder or file."""

from __future__ import annotations

from pathlib import Path

from hotlap import datasets
from hotlap.errors import InputError
from hotlap.recipe import Component, part


def data_component(data: str | Path) -> Component:
    """Write a data set as a recipe does: a known name, a folder of images, or an ``.npz`` file.

    Raises:
        InputError: none of these.
    """
    path = Path(data)
    if str(data) in datasets.names() and not path.exists():
        return part(str(data))
    if path.is_dir():
        return part("folder", path=str(path.resolve()))
    if path.suffix == ".npz" and path.is_file():
        return part("arrays", path=str(path.resolve()))
    known = ", ".join(name for name in datasets.names() if name not in ("folder", "arrays"))
    raise InputError(
        f"no data set at {str(data)!r}", f"give a folder with one sub-folder per class, an .npz file, or one of {known}"
    )
