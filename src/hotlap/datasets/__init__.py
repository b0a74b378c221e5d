"""Image data sets: published ones from a verified cache, and the user's own folders and arrays.

A data set is one module of this package with a ``DATASET`` in it; it is found by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from hotlap.datasets.base import (
    DataInfo,
    ImageData,
    NoProgress,
    Progress,
    VerifyReport,
    describe,
)
from hotlap.datasets.cache import cache_dir
from hotlap.datasets.inspection import Inspection, inspection_of
from hotlap.datasets.obtain import fetch_set, info_set, load_set, verify_set
from hotlap.datasets.spec import Built, DataSet, NamedSet, OwnSet, Seen
from hotlap.datasets.torch_sets import from_torch
from hotlap.errors import InputError, unknown_name

__all__ = [
    "DataInfo",
    "ImageData",
    "Inspection",
    "NoProgress",
    "Progress",
    "VerifyReport",
    "cache_dir",
    "fetch",
    "from_torch",
    "info",
    "inspect",
    "load",
    "look",
    "names",
    "options",
    "published_shape",
    "register",
    "verify",
]

_registry: dict[str, DataSet] = {}


def _all() -> dict[str, DataSet]:
    """Every data set by name, in the order they are listed; imports the modules once."""
    if not _registry:
        found = {}
        for module in pkgutil.iter_modules(__path__):
            dataset = getattr(importlib.import_module(f"{__name__}.{module.name}"), "DATASET", None)
            if isinstance(dataset, NamedSet | OwnSet):
                found[dataset.name] = dataset
        _registry.update(sorted(found.items(), key=lambda item: (item[1].order, item[0])))
    return _registry


def register(dataset: DataSet) -> None:
    """Add a data set that lives outside this package, or replace the one of that name."""
    _all()[dataset.name] = dataset


def names() -> tuple[str, ...]:
    """Names of all data sets."""
    return tuple(_all())


def _get(name: str) -> DataSet:
    try:
        return _all()[name]
    except KeyError:
        raise unknown_name("data set", name, names()) from None


def _get_named(name: str) -> NamedSet:
    spec = _get(name)
    if not isinstance(spec, NamedSet):
        raise InputError(f"{name} is the user's own data: there is nothing to fetch or verify")
    return spec


def options(name: str) -> dict[str, Any]:
    """The options that ``load`` and ``info`` take for this data set, with their defaults.

    Raises:
        InputError: no data set has this name.
    """
    spec = _get(name)
    return dict(spec.options) if isinstance(spec, OwnSet) else {}


def _build(spec: OwnSet, progress: Progress | None, given: dict[str, Any]) -> Built:
    return spec.build(root=cache_dir(), progress=progress or NoProgress(), **{**spec.options, **given})


def _check_options(name: str, given: dict[str, Any]) -> None:
    known = options(name)
    for key in given:
        if key not in known:
            raise unknown_name(f"option for {name}", key, known)


def load(name: str, *, progress: Progress | None = None, **options: Any) -> ImageData:
    """Load a data set.

    A published set comes memory-mapped from the cache, fetched first when it is absent. ``options`` are for own
    data; ``hotlap.datasets.options(name)`` lists them.

    Args:
        name: one of ``names()``.
        progress: told about anything that takes long.
        **options: how to make or read own data.

    Returns:
        (N, C, H, W) uint8 images and their labels.

    Raises:
        InputError: unknown name or option, or an option's value cannot be used.
        DataError: the data is damaged, unreachable or of the wrong shape.
    """
    spec = _get(name)
    _check_options(name, options)
    if isinstance(spec, NamedSet):
        return load_set(spec, cache_dir(), progress=progress)
    return _build(spec, progress, options).data


def fetch(name: str, *, progress: Progress | None = None, force: bool = False) -> Path:
    """Make sure that a published data set is in the cache, and return its folder there.

    Raises:
        InputError: unknown name, or own data.
        DataError: no source could be used, or the cache cannot be written.
    """
    return fetch_set(_get_named(name), cache_dir(), progress=progress, force=force)


def verify(name: str, *, progress: Progress | None = None) -> VerifyReport:
    """Hash a published data set's cached arrays again and compare them with the known SHA-256.

    Raises:
        InputError: unknown name, or own data.
        DataError: absent, damaged, or an array differs.
    """
    return verify_set(_get_named(name), cache_dir(), progress=progress)


def info(name: str, *, progress: Progress | None = None, **options: Any) -> DataInfo:
    """Facts about a data set: counts, shapes, classes, channel mean and std, size, origin, digest.

    Published sets are never fetched for this; own data is read with ``options`` as in ``load``.

    Raises:
        InputError: unknown name or option.
        DataError: the data is damaged or cannot be read.
    """
    spec = _get(name)
    _check_options(name, options)
    if isinstance(spec, NamedSet):
        return info_set(spec, cache_dir())
    built = _build(spec, progress, options)
    return describe(built.data, cached=built.cached, where=built.where, source=built.source, notes=built.notes)


def published_shape(name: str) -> tuple[int, int, int] | None:
    """Return (C, H, W) of a published set's images without reading them; None for own data.

    Raises:
        InputError: unknown name.
    """
    spec = _get(name)
    if not isinstance(spec, NamedSet):
        return None
    _, channels, height, width = spec.shapes["x_train"]
    return channels, height, width


def look(name: str, *, progress: Progress | None = None, **options: Any) -> Seen | None:
    """Return the sizes of the user's own encoded images, before they are decoded; None for any other data set.

    Raises:
        InputError: unknown name or option.
        DataError: the images cannot be listed or read.
    """
    spec = _get(name)
    _check_options(name, options)
    if not isinstance(spec, OwnSet) or spec.look is None:
        return None
    return spec.look(root=cache_dir(), progress=progress or NoProgress(), **{**spec.options, **options})


def inspect(name: str, *, progress: Progress | None = None, **options: Any) -> Inspection:
    """Load a data set and look for what its user should know: counts, balance, duplicates, what was left out.

    Raises:
        InputError: unknown name or option.
        DataError: the data is damaged or cannot be read.
    """
    spec = _get(name)
    _check_options(name, options)
    if isinstance(spec, NamedSet):
        return inspection_of(load_set(spec, cache_dir(), progress=progress), Seen())
    built = _build(spec, progress, options)
    return inspection_of(built.data, built.seen)
