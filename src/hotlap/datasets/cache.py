"""The cache of decoded arrays: its layout, its lock, and an installation that is complete or absent, never half.

Layout: ``<cache>/<name>/{x_train,y_train,x_test,y_test}.npy`` and ``manifest.json``; ``<cache>/downloads`` holds
unfinished downloads, ``<cache>/locks`` one lock file per data set.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hotlap.datasets.base import (
    ARRAY_NAMES,
    CHUNK_BYTES,
    Array,
    Arrays,
    ImageData,
    Progress,
    combine_digest,
    label_dtype,
    raw_bytes,
)
from hotlap.datasets.decode import one_line
from hotlap.errors import DataError

FORMAT = 1
MANIFEST = "manifest.json"

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
ELSEWHERE = "set HOTLAP_DATA to a folder on a disk with room"


def cache_dir() -> Path:
    """Folder of the decoded data sets: HOTLAP_DATA, or ``data`` in the user's cache folder for hotlap."""
    chosen = os.environ.get("HOTLAP_DATA")
    if chosen:
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("hotlap")) / "data"


def offline() -> bool:
    """Whether HOTLAP_OFFLINE forbids the network."""
    return os.environ.get("HOTLAP_OFFLINE", "").strip().lower() not in ("", "0", "false", "no")


class CacheError(DataError):
    """This machine cannot store the data; another source would not help."""


@contextlib.contextmanager
def writing(root: Path) -> Iterator[None]:
    """Turn a failure to write under ``root`` into one CacheError with the cause and the way out."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or one_line(error)
        if error.errno in _FULL:
            raise CacheError(f"no room in the cache {root} ({reason})", f"free some space, or {ELSEWHERE}") from error
        raise CacheError(
            f"cannot write to the cache {root} ({reason})", "set HOTLAP_DATA to a folder you can write to"
        ) from error


@contextlib.contextmanager
def locked(root: Path, name: str, *, progress: Progress, timeout: float) -> Iterator[None]:
    """Hold the lock of one data set; released by the system even when the process is killed.

    Args:
        root: the cache folder, created when absent.
        name: data set; other names stay free.
        progress: told when another process has to be waited for.
        timeout: seconds to wait.

    Raises:
        DataError: the lock file cannot be written, or the other process did not finish in time.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(root / "locks" / f"{name}.lock")
    with writing(root):
        (root / "locks").mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.start(f"waiting for another process that fetches {name}", None)
            try:
                lock.acquire(timeout=timeout, poll_interval=0.05)
            except Timeout:
                raise DataError(
                    f"another process has been fetching {name} for over {timeout:.0f} s",
                    f"end it, then: hotlap data fetch {name}",
                ) from None
            finally:
                progress.done()
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True, slots=True)
class Entry:
    """A complete data set in the cache: where it lies and what its manifest says."""

    path: Path
    manifest: dict[str, Any]

    @property
    def source(self) -> str:
        """Where the arrays came from."""
        return str(self.manifest["source"])

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 (hex) of each array as it was when installed."""
        return {name: str(self.manifest["arrays"][name]["sha256"]) for name in ARRAY_NAMES}

    @property
    def notes(self) -> tuple[str, ...]:
        """What was worth telling when the data was read."""
        return tuple(self.manifest.get("notes", ()))


def find(path: Path, *, fix: str) -> Entry | None:
    """Look for a complete data set, checking everything but the pixels' hashes.

    Args:
        path: folder of the data set.
        fix: command that repairs a damaged one.

    Returns:
        The entry, or None when there is no such folder.

    Raises:
        DataError: a folder is there but damaged or unreadable.
    """
    try:
        text = (path / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        if not path.is_dir():
            return None
        raise DataError(f"{path} has no {MANIFEST}", fix) from None
    except NotADirectoryError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path / MANIFEST} cannot be read ({one_line(error)})", fix) from error
    try:
        manifest = json.loads(text)
        if manifest["format"] != FORMAT:
            raise DataError(f"{path} has cache format {manifest['format']}, this version reads {FORMAT}", fix)
        list(map(str, manifest["class_names"]))
        str(manifest["source"])
        for name in ARRAY_NAMES:
            _check_file(path / f"{name}.npy", manifest["arrays"][name], fix)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path / MANIFEST} is damaged ({one_line(error)})", fix) from error
    return Entry(path, manifest)


def _check_file(file: Path, expected: Mapping[str, Any], fix: str) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})", fix) from error
    if size != expected["file_bytes"]:
        raise DataError(f"{file} has {size} bytes instead of {expected['file_bytes']}", fix)


def open_entry(entry: Entry, name: str, *, fix: str) -> ImageData:
    """Memory-map a data set of the cache, read-only.

    Raises:
        DataError: a file is not the array that the manifest promises.
    """
    arrays: Arrays = {}
    for key in ARRAY_NAMES:
        file, expected = entry.path / f"{key}.npy", entry.manifest["arrays"][key]
        try:
            # A plain view of the map: the subclass would only slow every slice down.
            arrays[key] = np.asarray(np.load(file, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{file} is damaged ({one_line(error)})", fix) from error
        if list(arrays[key].shape) != list(expected["shape"]) or arrays[key].dtype.str != expected["dtype"]:
            raise DataError(f"{file} is {arrays[key].dtype.str} {arrays[key].shape}, not what was installed", fix)
    shapes = {key: arrays[key].shape for key in ARRAY_NAMES}
    names = tuple(map(str, entry.manifest["class_names"]))
    data = ImageData(name, **arrays, class_names=names, digest=combine_digest(entry.hashes, shapes))
    try:
        return data.validate()
    except DataError as error:
        raise DataError(error.cause, fix) from error


def read_pages(data: ImageData) -> None:
    """Read memory-mapped arrays from the disk now rather than when they are first used: a byte of every page."""
    for array in data.arrays.values():
        if isinstance(array.base, np.memmap):
            every = np.asarray(array).reshape(-1).view(np.uint8)
            every[:: mmap.PAGESIZE].max()
            every[-1:].max()  # the last page may hold less than a step


def install(
    target: Path,
    arrays: Mapping[str, Array],
    class_names: Sequence[str],
    *,
    root: Path,
    source: str,
    notes: Sequence[str] = (),
    origin: Mapping[str, Any] | None = None,
) -> Entry:
    """Write a data set so that a crash at any point leaves the old state or the new one.

    Everything goes to a temporary sibling first and is flushed to the disk; one rename then makes it visible.
    The caller holds the lock.

    Args:
        target: folder to create; an older one of that name is replaced.
        arrays: the four arrays; written, not kept.
        class_names: one name per label.
        root: the cache folder, named in errors.
        source: where the arrays came from.
        notes: lines to keep with the data.
        origin: further facts for the manifest, JSON-able.

    Raises:
        DataError: the disk is full or cannot be written; nothing half-written is left.
    """
    with writing(root):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=temporary_prefix(target), dir=target.parent))
        try:
            facts = {name: _write_array(temporary / f"{name}.npy", arrays[name]) for name in ARRAY_NAMES}
            manifest: dict[str, Any] = {
                "format": FORMAT,
                "source": source,
                "class_names": list(class_names),
                "arrays": facts,
                "notes": list(notes),
                "origin": dict(origin or {}),
            }
            with (temporary / MANIFEST).open("w", encoding="utf-8") as file:
                json.dump(manifest, file, indent=1)  # ASCII: file names need not be valid Unicode
                _flush(file.fileno(), file)
            temporary.chmod(0o755)
            _flush_folder(temporary)
            _swap(temporary, target)
            _flush_folder(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return Entry(target, manifest)


def temporary_prefix(target: Path) -> str:
    """Start of the names of all temporary folders that belong to ``target``; they lie beside it."""
    return f".{target.name}.tmp-"


def remove_stale(target: Path) -> None:
    """Remove what killed processes left beside ``target``; the caller holds the lock, so none is in use."""
    if target.parent.is_dir():
        for left in target.parent.glob(f"{temporary_prefix(target)}*"):
            shutil.rmtree(left, ignore_errors=True)


def _write_array(file: Path, array: Array) -> dict[str, Any]:
    """Write one .npy file, hashing on the way; ``np.save`` would hide the cause when the disk is full."""
    plain = np.ascontiguousarray(array)
    if plain.dtype.itemsize > 1:
        plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
    digest = hashlib.sha256()
    with file.open("wb") as out:
        np.lib.format.write_array_header_1_0(out, np.lib.format.header_data_from_array_1_0(plain))
        raw = raw_bytes(plain)
        for begin in range(0, len(raw), CHUNK_BYTES):
            piece = raw[begin : begin + CHUNK_BYTES]
            digest.update(piece)
            out.write(piece)
        _flush(out.fileno(), out)
    return {
        "shape": list(plain.shape),
        "dtype": plain.dtype.str,
        "sha256": digest.hexdigest(),
        "file_bytes": file.stat().st_size,
    }


def _flush(descriptor: int, file: Any) -> None:
    file.flush()
    os.fsync(descriptor)


def _flush_folder(folder: Path) -> None:
    """Make a folder's entries survive a power cut; systems that cannot flush folders lose nothing but that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _swap(temporary: Path, target: Path) -> None:
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.exists():
        # A folder cannot be renamed over a full one. Between the two renames there is no data set, never half of one.
        old = Path(tempfile.mkdtemp(prefix=temporary_prefix(target), dir=target.parent))
        target.rename(old / "old")
        temporary.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        return
    temporary.rename(target)


def check_known(entry: Entry, sha256: Mapping[str, str], classes: int, *, fix: str) -> None:
    """Compare the manifest's hashes (not the pixels) with the known ones; DataError when they differ."""
    for name in ARRAY_NAMES:
        if entry.hashes[name] != sha256[name]:
            raise DataError(f"{entry.path / name}.npy is not the published array (SHA-256 differs)", fix)
        if name.startswith("y") and entry.manifest["arrays"][name]["dtype"] != label_dtype(classes).str:
            raise DataError(f"{entry.path / name}.npy has labels of another type", fix)
