"""Runs of other stores and of records, e.g. of other machines, copied into this one."""

from __future__ import annotations

import filecmp
import json
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from hotlap.errors import StoreError
from hotlap.store.sqlite import Store

_ATTEMPTS = 20
_PAUSE_S = 0.1
_PARTS = ("", "-wal", "-journal")
"""Endings of the files that hold a store: SQLite keeps what it has not moved into the main file beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What merging one store did: how many runs were added, and how many were there already."""

    source: Path
    added: int
    present: int


def merge(into: Store, source: str | Path) -> Merged:
    """Copy the runs of another store that this one lacks; all of them or, on an error, none.

    Runs are told apart by their ids. The same recipe and seed under two ids are two observations, and both are kept.
    The source is only read: it may lie where nothing can be written, be in use, or be of an older version.

    Args:
        into: the store that grows.
        source: SQLite file of the other store, a record's folder, or its ``runs.jsonl``.

    Raises:
        StoreError: the source is missing, damaged, no run store or of a newer version; it holds another run under an
            id of this store; or this store cannot be written.
    """
    path = Path(source).expanduser()
    lines = path / "runs.jsonl" if (path / "runs.jsonl").exists() else path
    documents = _documents_of_record(lines) if lines.suffix == ".jsonl" else _documents(path)
    try:
        added = into.add_documents(documents)
    except StoreError as error:
        raise StoreError(f"{path} cannot be merged: {error.cause}", error.fix) from error
    return Merged(source=path, added=added, present=len(documents) - added)


def _documents_of_record(path: Path) -> dict[str, str]:
    """Every document of a record's raw runs, a line each."""
    documents: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    documents[str(json.loads(line)["id"])] = line.strip()
                except (ValueError, KeyError, TypeError):
                    raise StoreError(f"line {number} of {path} is no stored run", "name another file") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise StoreError(f"the raw runs {path} cannot be read: {reason}", "name a record's folder") from None
    return documents


def _documents(path: Path) -> dict[str, str]:
    """Every document of a store, read from a copy: opening a store writes beside it, and to migrate it, into it."""
    with tempfile.TemporaryDirectory(prefix="hotlap-merge-") as folder:
        copy = _copy(path, Path(folder))
        try:
            with Store(copy, create=False) as opened:
                return opened.documents()
        except StoreError as error:
            # The user knows the original.
            fix = error.fix and error.fix.replace(str(copy), str(path))
            raise StoreError(error.cause.replace(str(copy), str(path)), fix) from error


def _copy(path: Path, folder: Path) -> Path:
    """Copy a store that others may be writing to, as it was at one moment."""
    if not path.exists():
        raise StoreError(f"there is no run store at {path}", "name the file of another run store, e.g. runs.sqlite")
    try:
        for attempt in range(_ATTEMPTS):
            target = folder / str(attempt) / "runs.sqlite"
            target.parent.mkdir()
            if _copied_unchanged(path, target):
                return target
            shutil.rmtree(target.parent)
            time.sleep(_PAUSE_S)
    except OSError as error:
        raise StoreError(f"the run store {path} cannot be read: {error.strerror}", "name another file") from None
    raise StoreError(f"the run store {path} keeps changing while it is read", "wait for the runs that are stored in it")


def _copied_unchanged(path: Path, target: Path) -> bool:
    """Copy every part, then compare: what is equal afterwards did not change in between."""
    pairs = [(Path(f"{path}{end}"), Path(f"{target}{end}")) for end in _PARTS]
    try:
        for original, copied in pairs:
            if original.exists():
                shutil.copyfile(original, copied)
        return all(
            filecmp.cmp(original, copied, shallow=False) if copied.exists() else not original.exists()
            for original, copied in pairs
        )
    except FileNotFoundError:  # whoever closes a store removes what lies beside it
        return False
