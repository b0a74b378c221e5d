"""The Python interface: train one network, or many seeds of a recipe."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

from hotlap.bench.executors import Job
from hotlap.bench.executors.choice import backend_for, batched_or, choose_executor, device_here
from hotlap.bench.session import Session, resolve_recipe
from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.result import Backend, Run, RunPairs, RunSet, check_seed
from hotlap.store import Store
from hotlap.trackers import Tracker, log_run


def train(
    recipe: str | Path | Recipe | None = None,
    seed: int = 0,
    *,
    changes: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    backend: Backend = "auto",
    store: bool | str | Path | Store = False,
    trackers: Sequence[Tracker] = (),
) -> Run:
    """Train one network from scratch and measure it.

    Args:
        recipe: a recipe, its name (``"mnist/8-final"``), a data set's name for its fastest recipe, or a JSON file;
            None chooses one for ``data`` and adapts it, as ``hotlap train --data`` does.
        seed: the only source of randomness, from 0 on; the caller's global generators are left as they were.
        changes: dotted path → value, e.g. ``{"optimizer.lr": 0.02}``.
        data: another data set: a known name, a folder of images, a saved Hugging Face set or an ``.npz`` file.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: threads of one operation; None leaves torch's choice.
        backend: ``torch``; ``native``, compiled kernels for small networks on a CPU; ``auto`` for them where they can.
        store: True stores the run in the default store, a path or a Store in that one.
        trackers: told of the run when it has ended (``hotlap.trackers``); they are not closed.

    Returns:
        The run: accuracy (0–1), seconds by phase, and the trained network as ``.module``.

    Raises:
        HotlapError: the recipe, the seed, the data or the device cannot be used.
        DivergenceError: the loss stopped being a number; the run is stored as failed first.
    """
    from hotlap.errors import DivergenceError

    seed = check_seed(seed)
    resolved = _resolve(recipe, changes, data, device)
    with _opened(store) as opened:
        run_ = Session(device=device, threads=threads, backend=backend, store=opened).run(resolved, seed)
    _log(run_, trackers)
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
    gpus: str | None = None,
    batch_seeds: int | None = None,
    backend: Backend = "auto",
    store: bool | str | Path | Store = False,
    trackers: Sequence[Tracker] = (),
) -> RunSet:
    """Train a recipe with several seeds.

    With ``jobs`` or ``gpus`` every worker reads the calling script again: a script makes the call below
    ``if __name__ == "__main__":``.

    Args:
        recipe: as for ``train``.
        seeds: the seeds, or how many of them, counted from 0.
        changes: as for ``train``.
        data: as for ``train``.
        device: as for ``train``.
        threads: as for ``train``.
        jobs: seeds at once, each in a process of its own; above 1 times do not count.
        gpus: ``all`` or numbers such as ``0,2``: a seed at a time on each of these CUDA GPUs; times do not count.
        batch_seeds: seeds in one program; then times do not count.
        backend: as for ``train``; ``torch`` with ``batch_seeds``.
        store: as for ``train``.
        trackers: as for ``train``.

    Returns:
        The runs in the order of their seeds, failed ones included; their networks are not kept.

    Raises:
        HotlapError: the recipe, the data or the device cannot be used, there are no seeds, one comes twice, or one is
            no whole number from 0 on.
    """
    chosen = _seeds(seeds)
    resolved = resolve_recipe(recipe, changes=changes, data=data, device="cuda" if gpus else device)
    where_to = choose_executor(kind=None, jobs=jobs, address=None, threads=threads, device=device, gpus=gpus)
    with _opened(store) as opened:
        session = Session(
            device=device_here(where_to, device),
            threads=threads,
            backend=backend_for(backend, batch_seeds),
            store=opened,
        )
        work = [Job(resolved, seed) for seed in chosen]
        runs = []
        for run_ in session.run_all(work, batched_or(where_to, batch_seeds, session.train_batch)):
            _log(run_, trackers)
            runs.append(run_)
    return RunSet(tuple(sorted(runs, key=lambda run_: chosen.index(run_.seed))))


def compare(
    a: str | Path | Recipe,
    b: str | Path | Recipe | None = None,
    seeds: int | Iterable[int] = 10,
    *,
    changes: Mapping[str, Any] | None = None,
    until: float | None = None,
    max_minutes: float | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    backend: Backend = "auto",
    store: bool | str | Path | Store = False,
) -> RunPairs:
    """Train two recipes in turn (A B B A …), both with the same seeds, and compare them.

    Args:
        a: the baseline, as for ``train``.
        b: the candidate; ``a`` itself when None, to which ``changes`` are then made.
        seeds: the seeds, or how many of them, counted from 0.
        changes: what makes the candidate of ``b``, dotted path → value; those of ``data`` are made to both.
        until: error rate at which to stop as soon as the difference of accuracy is settled; holds over all looks.
        max_minutes: no pair is begun that is expected to end later than this.
        data: as for ``train``, for both.
        device: as for ``train``.
        threads: as for ``train``.
        backend: one for both; ``auto`` is ``native`` where both can.
        store: as for ``train``.

    Returns:
        The runs of both, without their networks, with ``sentence()`` and ``figures()``.

    Raises:
        HotlapError: a recipe, the data or the device cannot be used, the two recipes are one, or there are no
            seeds or one comes twice.
    """
    from hotlap.bench.compare_run import CompareRun, resolve_pair

    chosen = _seeds(seeds)
    baseline, candidate = resolve_pair(a, b, changes=changes or {}, data=data, device=device)
    if baseline.digest == candidate.digest:
        raise InputError(f"both are the recipe {baseline.name}", 'give another, or changes={"optimizer.lr": 0.02}')
    if until is not None and not 0 < until < 1:
        raise InputError(f"until is an error rate between 0 and 1, not {until}", "for example until=0.05")
    with _opened(store) as opened:
        measured = CompareRun(
            session=Session(device=device, threads=threads, backend=backend, store=opened),
            a=baseline,
            b=candidate,
            seeds=chosen,
            until=until,
            max_seconds=None if max_minutes is None else 60 * max_minutes,
        )
        for _ in measured.execute():
            pass
    return RunPairs(RunSet(tuple(measured.runs_a)), RunSet(tuple(measured.runs_b)), alpha=until)


def _seeds(seeds: int | Iterable[int]) -> list[int]:
    if isinstance(seeds, Integral):
        chosen = list(range(seeds))
    elif isinstance(seeds, Iterable):
        chosen = [check_seed(seed) for seed in seeds]
    else:
        raise InputError(f"seeds are whole numbers, or how many of them, not {seeds!r}", "for example seeds=10")
    if not chosen:
        raise InputError("no seeds to run", "for example seeds=10")
    if len(set(chosen)) < len(chosen):
        raise InputError("a seed that comes twice is no second observation", "give each seed once")
    return chosen


def _log(run_: Run, trackers: Sequence[Tracker]) -> None:
    """Tell the trackers of a finished run; one that fails is a warning, since the run is done."""
    for problem in log_run(run_, trackers):
        warnings.warn(problem, RuntimeWarning, stacklevel=3)


def _resolve(
    recipe: str | Path | Recipe | None, changes: Mapping[str, Any] | None, data: str | Path | None, device: str
) -> Recipe:
    if recipe is not None:
        return resolve_recipe(recipe, changes=changes, data=data, device=device)
    if data is None:
        raise InputError("nothing to train", 'give a recipe, or your own images: data="FOLDER"')
    from hotlap.bench.own_images import choose

    return choose(data, changes=changes, device=device).recipe


@contextmanager
def _opened(store: bool | str | Path | Store) -> Iterator[Store | None]:
    """Lend the store that is meant, and close it afterwards unless it is the caller's."""
    if isinstance(store, Store):
        yield store
    elif not store:
        yield None
    else:
        with Store(None if store is True else Path(store)) as opened:
            yield opened
