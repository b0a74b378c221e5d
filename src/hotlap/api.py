"""The Python interface: train one network, or many seeds of a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hotlap.bench.executors import Job
from hotlap.bench.executors.choice import batched_or, choose_executor
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

    resolved = resolve_recipe(recipe, changes=changes, data=data)
    with _opened(store) as opened:
        run_ = Session(device=device, threads=threads, store=opened).run(resolved, seed)
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
    jobs: int = 1,
    batch_seeds: int | None = None,
    store: bool | Path | Store = False,
) -> RunSet:
    """Train a recipe with several seeds.

    Args:
        recipe: as for ``train``.
        seeds: the seeds, or how many of them, counted from 0.
        changes: as for ``train``.
        data: as for ``train``.
        device: as for ``train``.
        threads: as for ``train``.
        jobs: seeds at once, each in a process of its own; above 1 times do not count.
        batch_seeds: seeds in one program; then times do not count.
        store: as for ``train``.

    Returns:
        The runs in the order of their seeds, failed ones included; their networks are not kept.

    Raises:
        HotlapError: the recipe, the data or the device cannot be used, or there are no seeds.
    """
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    if not chosen:
        raise InputError("no seeds to run", "for example seeds=10")
    resolved = resolve_recipe(recipe, changes=changes, data=data)
    where_to = choose_executor(kind=None, jobs=jobs, address=None, threads=threads, device=device)
    with _opened(store) as opened:
        session = Session(device=device if where_to is None else "auto", threads=threads, store=opened)
        work = [Job(resolved, seed) for seed in chosen]
        runs = list(session.run_all(work, batched_or(where_to, batch_seeds, session.train_batch)))
    return RunSet(tuple(sorted(runs, key=lambda run_: chosen.index(run_.seed))))


@contextmanager
def _opened(store: bool | Path | Store) -> Iterator[Store | None]:
    """Lend the store that is meant, and close it afterwards unless it is the caller's."""
    if isinstance(store, Store):
        yield store
    elif not store:
        yield None
    else:
        with Store(store if isinstance(store, Path) else None) as opened:
            yield opened
