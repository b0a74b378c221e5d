"""The Python interface: train one network, or many seeds of a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hotlap.bench.session import Session, resolve_recipe
from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.result import Run, RunSet
from hotlap.store import Store


def train(
    recipe: str | Path | Recipe,
    seed: int = 0,
    *,
    changes: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    store: bool | Path | Store = False,
) -> Run:
    """Train one network from scratch and measure it.

    Args:
        recipe: a recipe, its name (``"mnist/8-final"``), a data set's name for its fastest recipe, or a JSON file.
        seed: the only source of randomness; the caller's global generators are left as they were.
        changes: dotted path → value, e.g. ``{"optimizer.lr": 0.02}``.
        data: another data set: a known name, a folder of images or an ``.npz`` file.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: threads of one operation; None leaves torch's choice.
        store: True stores the run in the default store, a path or a Store in that one.

    Returns:
        The run: accuracy (0–1), seconds by phase, and the trained network as ``.module``.

    Raises:
        HotlapError: the recipe, the data or the device cannot be used.
        DivergenceError: the loss stopped being a number; the run is stored as failed first.
    """
    from hotlap.errors import DivergenceError

    run_ = _run_all(recipe, [seed], changes, data, device, threads, store)[0]
    if run_.status == "failed":
        raise DivergenceError(run_.error or "the run failed")
    return run_


def run(
    recipe: str | Path | Recipe,
    seeds: int | Iterable[int] = 10,
    *,
    changes: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    store: bool | Path | Store = False,
) -> RunSet:
    """Train a recipe with several seeds, one after another.

    Args:
        recipe: as for ``train``.
        seeds: the seeds, or how many of them, counted from 0.
        changes: as for ``train``.
        data: as for ``train``.
        device: as for ``train``.
        threads: as for ``train``.
        store: as for ``train``.

    Returns:
        The runs, failed ones included; their networks are not kept.

    Raises:
        HotlapError: the recipe, the data or the device cannot be used, or there are no seeds.
    """
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not chosen:
        raise InputError("no seeds to run", "for example seeds=10")
    return RunSet(tuple(_run_all(recipe, chosen, changes, data, device, threads, store, keep_modules=False)))


def _run_all(
    recipe: str | Path | Recipe,
    seeds: list[int],
    changes: Mapping[str, Any] | None,
    data: str | Path | None,
    device: str,
    threads: int | None,
    store: bool | Path | Store,
    *,
    keep_modules: bool = True,
) -> list[Run]:
    from dataclasses import replace

    resolved = resolve_recipe(recipe, changes=changes, data=data)
    opened = store if isinstance(store, Store) else Store(store if isinstance(store, Path) else None) if store else None
    try:
        session = Session(device=device, threads=threads, store=opened)
        runs = (session.run(resolved, seed) for seed in seeds)
        return [run_ if keep_modules else replace(run_, module=None) for run_ in runs]
    finally:
        if opened is not None and opened is not store:
            opened.close()
