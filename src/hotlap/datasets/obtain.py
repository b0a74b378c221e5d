"""Gets a published data set into the cache: sources in order, every result verified, one process at a time."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hotlap.datasets import cache
from hotlap.datasets.base import (
    ARRAY_NAMES,
    Arrays,
    DataInfo,
    ImageData,
    NoProgress,
    Progress,
    VerifyReport,
    describe,
    hashes_of,
    sha256_of,
)
from hotlap.datasets.decode import one_line
from hotlap.datasets.spec import Context, Limits, NamedSet, Source, SourceError
from hotlap.errors import DataError


def fetch_set(
    spec: NamedSet,
    root: Path,
    *,
    progress: Progress | None = None,
    force: bool = False,
    limits: Limits | None = None,
) -> Path:
    """Make sure that a data set is in the cache.

    Args:
        spec: what to fetch, and from where.
        root: the cache folder.
        progress: told about downloads, package clients and waiting.
        force: fetch even when a complete one is there; a damaged one is always replaced.
        limits: time-outs.

    Returns:
        Folder of the data set.

    Raises:
        DataError: no source could be used (each is named with its reason), or the cache cannot be written.
    """
    progress, limits = progress or NoProgress(), limits or Limits()
    target = root / spec.name
    if not force and _complete(spec, root):
        return target
    with cache.locked(root, spec.name, progress=progress, timeout=limits.lock):
        cache.remove_stale(target)
        if not force and _complete(spec, root):  # another process was faster
            return target
        with cache.writing(root):
            scratch = Path(tempfile.mkdtemp(prefix=cache.temporary_prefix(target), dir=root))
        try:
            context = Context(root / "downloads" / spec.name, scratch, progress, limits)
            source, arrays = _first_good(spec, context)
            cache.install(target, arrays, spec.class_names, root=root, source=source)
            shutil.rmtree(context.downloads, ignore_errors=True)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def load_set(
    spec: NamedSet, root: Path, *, progress: Progress | None = None, limits: Limits | None = None
) -> ImageData:
    """Memory-map a data set from the cache, fetching it first when it is not there.

    Raises:
        DataError: the cached one is damaged, or it is absent and cannot be fetched.
    """
    entry = find_set(spec, root)
    if entry is None:
        fetch_set(spec, root, progress=progress, limits=limits)
        entry = find_set(spec, root)
        if entry is None:
            raise DataError(f"{spec.name} vanished from the cache {root}", _command(spec))
    return cache.open_entry(entry, spec.name, fix=_command(spec))


def find_set(spec: NamedSet, root: Path) -> cache.Entry | None:
    """The data set's entry in the cache, or None; a damaged or foreign one raises DataError."""
    entry = cache.find(root / spec.name, fix=_command(spec))
    if entry is not None:
        cache.check_known(entry, spec.sha256, len(spec.class_names), fix=_command(spec))
    return entry


def verify_set(spec: NamedSet, root: Path, *, progress: Progress | None = None) -> VerifyReport:
    """Hash the cached arrays again and compare them with the published ones.

    Raises:
        DataError: absent, damaged, or an array differs.
    """
    entry = find_set(spec, root)
    if entry is None:
        raise DataError(f"{spec.name} is not in the cache {root}", f"hotlap data fetch {spec.name}")
    data = cache.open_entry(entry, spec.name, fix=_command(spec))
    progress = progress or NoProgress()
    found = {}
    progress.start(f"verifying {spec.name}", spec.nbytes)
    try:
        for name, array in data.arrays.items():
            found[name] = sha256_of(array)
            if found[name] != spec.sha256[name]:
                raise DataError(f"{entry.path / name}.npy is damaged (SHA-256 differs)", _command(spec))
            progress.advance(array.nbytes)
    finally:
        progress.done()
    checks = tuple(f"{name}: SHA-256 as published" for name in ARRAY_NAMES)
    if spec.cross_check is not None:
        checks += spec.cross_check(data.arrays)
    return VerifyReport(spec.name, str(entry.path), entry.source, data.digest, found, checks)


def info_set(spec: NamedSet, root: Path) -> DataInfo:
    """Facts about a data set; what needs its pixels is None while it is not in the cache. Never fetches."""
    entry = find_set(spec, root)
    if entry is not None:
        data = cache.open_entry(entry, spec.name, fix=_command(spec))
        return describe(data, cached=True, where=str(entry.path), source=entry.source)
    _, channels, height, width = spec.shapes["x_train"]
    return DataInfo(
        name=spec.name,
        train=spec.shapes["x_train"][0],
        test=spec.shapes["x_test"][0],
        channels=channels,
        size=(height, width),
        classes=len(spec.class_names),
        class_names=spec.class_names,
        train_per_class=None,
        test_per_class=None,
        mean=None,
        std=None,
        bytes=spec.nbytes,
        cached=False,
        where=None,
        source=None,
        digest=spec.digest,
    )


def _command(spec: NamedSet) -> str:
    return f"hotlap data fetch {spec.name} --force"


def _complete(spec: NamedSet, root: Path) -> bool:
    try:
        return find_set(spec, root) is not None
    except DataError:
        return False  # damaged: fetching is what repairs it


def _first_good(spec: NamedSet, context: Context) -> tuple[str, Arrays]:
    """Try the sources in order; the first whose arrays are the published ones wins."""
    offline = cache.offline()
    tried: list[str] = []
    for source in spec.sources:
        if offline and source.needs_network:
            continue
        try:
            arrays = source.read(context)
            _check(spec, arrays)
            return source.label, arrays
        except cache.CacheError:
            raise
        except DataError as error:
            tried.append(_reason(source, error))
            if isinstance(error, _OtherContentError):
                shutil.rmtree(context.downloads, ignore_errors=True)
    if offline:
        also = f" ({'; '.join(tried)})" if tried else ""
        raise DataError(
            f"{spec.name} is not in the cache and HOTLAP_OFFLINE forbids the network{also}",
            f"HOTLAP_OFFLINE=0 hotlap data fetch {spec.name}",
        )
    raise DataError(
        f"{spec.name} cannot be fetched: {'; '.join(tried)}",
        f"once one of these can be reached: hotlap data fetch {spec.name}",
    )


def _reason(source: Source, error: DataError) -> str:
    return f"{source.label}: {one_line(error.cause)}"


class _OtherContentError(SourceError):
    """Everything could be read, but it is not the data set; what was downloaded is of no use to other mirrors."""


def _check(spec: NamedSet, arrays: Arrays) -> None:
    for name in ARRAY_NAMES:
        if arrays[name].shape != spec.shapes[name]:
            raise _OtherContentError(f"{name} is {arrays[name].shape}, not {spec.shapes[name]}")
    found = hashes_of(arrays)
    for name in ARRAY_NAMES:
        if found[name] != spec.sha256[name]:
            raise _OtherContentError(f"{name} is not the published array (SHA-256 differs)")
