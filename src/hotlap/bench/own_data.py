"""Data sets as recipes write them: a known name, or the user's own folder or file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hotlap import datasets
from hotlap.datasets.huggingface import NAME as HUGGING_FACE
from hotlap.datasets.huggingface import is_saved_set
from hotlap.errors import DataError, InputError
from hotlap.recipe import Component, part

_NOT_NAMES = ("folder", HUGGING_FACE, "arrays", "held-out")


def data_component(data: str | Path) -> Component:
    """Write a data set as a recipe does: a known name, a folder of images, a saved Hugging Face set, an ``.npz`` file.

    Raises:
        InputError: none of these.
    """
    path = Path(data)
    if str(data) in datasets.names() and not path.exists():
        return _complete(str(data))
    try:
        str(path.resolve()).encode()
    except UnicodeEncodeError:
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        raise InputError(f"the path {shown} is not in UTF-8, so no recipe can name it", "rename it") from None
    if path.is_dir():
        return _complete(HUGGING_FACE if is_saved_set(path) else "folder", path=str(path.resolve()))
    if path.suffix == ".npz" and path.is_file():
        return _complete("arrays", path=str(path.resolve()))
    known = ", ".join(name for name in datasets.names() if name not in _NOT_NAMES)
    raise InputError(
        f"no data set at {str(data)!r}", f"give a folder with one sub-folder per class, an .npz file, or one of {known}"
    )


def _complete(name: str, **given: str) -> Component:
    """Write every option, as a complete recipe must; so each can be changed by ``--set data.…``."""
    return part(name, **{**datasets.options(name), **given})


@contextmanager
def options_written(how: str) -> Iterator[None]:
    """Add to errors that ask for an option of own data how one is written here, e.g. ``--set data.KEY=VALUE``."""
    try:
        yield
    except (DataError, InputError) as error:
        if error.fix and error.fix.startswith("pass "):
            raise type(error)(error.cause, f"{error.fix}, as {how}") from None
        raise
