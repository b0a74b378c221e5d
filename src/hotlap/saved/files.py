"""Saved models as files: one safetensors file, weights beside a header of plain text. Nothing in it is executed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hotlap._files import replace_file
from hotlap.errors import InputError

if TYPE_CHECKING:
    from hotlap.result import Run
    from hotlap.saved.model import SavedModel

_AGAIN = "make it again: hotlap train RECIPE --save FILE"


def save(run: Run, path: str | Path) -> Path:
    """Save a run's network, so that it can be loaded without its data.

    The data set is read once more, for the names of its classes and its normalisation.

    Args:
        run: finished, with its network (``Run.module``), as ``hotlap.train`` returns it.
        path: of the file; one that is there is replaced, as a whole or not at all.

    Returns:
        The path.

    Raises:
        InputError: the run failed or has no network, its data set is another by now, or the file cannot be written.
        DataError: the data set cannot be read.
    """
    from hotlap import datasets
    from hotlap.saved.model import SavedModel

    data = datasets.load(run.recipe.data.name, **run.recipe.data.options)
    return write(SavedModel.of(run, data), path)


def load(path: str | Path, *, device: str = "auto") -> SavedModel:
    """Load a saved model.

    Args:
        path: of the file.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: the file cannot be read, is no saved model, is damaged or newer than this hotlap, or the device is
            not there.
    """
    from hotlap.saved.model import SavedModel

    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            # A glance at the beginning, so that a film is not read as a whole first.
            begin = file.read(9)
            if size < 10 or not 2 <= int.from_bytes(begin[:8], "little") <= size - 8 or begin[8:] != b"{":
                raise InputError(f"{path} is not a safetensors file, or not all of one", _AGAIN)
            content = begin + file.read()
    except OSError as error:
        raise InputError(f"cannot read the model {path}: {error.strerror or error}", "check the path") from None
    return SavedModel.from_bytes(content, device=device, name=str(path))


def write(model: SavedModel, path: str | Path) -> Path:
    """Write a model to a file, as a whole or not at all.

    Raises:
        InputError: the file cannot be written.
    """
    path = Path(path)
    return replace_file(path, model.to_bytes())
