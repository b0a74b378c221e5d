"""Choosing where to train from what a user asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hotlap.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hotlap.bench.executors import Executor
    from hotlap.bench.executors.processes import ProcessExecutor
    from hotlap.bench.executors.ray import RayExecutor
    from hotlap.recipe import Recipe
    from hotlap.result import Run

Kind = Literal["local", "processes", "ray"]


def choose_executor(
    *, kind: Kind | None, jobs: int, address: str | None, threads: int | None, device: str, gpus: str | None = None
) -> ProcessExecutor | RayExecutor | None:
    """Choose an executor.

    Args:
        kind: None for processes with several jobs, Ray with an address, and this process otherwise.
        jobs: runs at once, at least 1; with Ray, 1 stands for as many as the cluster holds.
        address: of a Ray cluster; None for one of its own.
        threads: of each worker; None gives each of ``jobs`` its share of this machine's cores, and one with Ray where
            that share is not known.
        device: as for ``Session``.
        gpus: ``all`` or numbers such as ``0,2``: a process for each of these CUDA GPUs of this machine.

    Returns:
        The executor; None to train in this process, where alone times count.

    Raises:
        InputError: what is asked for contradicts itself.
    """
    if gpus is not None:
        if kind not in (None, "processes") or jobs > 1 or address is not None or device != "auto":
            raise InputError(
                "--gpus trains one run on each GPU of this machine",
                "leave out --jobs, --device, --address and --executor",
            )
        from hotlap.bench.executors.processes import ProcessExecutor
        from hotlap.engine.devices import choose_gpus

        chosen = choose_gpus(gpus)
        return ProcessExecutor(len(chosen), threads=threads or _share(len(chosen)), devices=chosen)
    if address is not None and kind not in (None, "ray"):
        raise InputError(f"--address names a Ray cluster, --executor {kind} uses none", "leave one of them out")
    if kind == "local" and jobs > 1:
        raise InputError(f"--executor local trains one run at a time, not {jobs}", "use --executor processes")
    if kind == "ray" or address is not None:
        from hotlap.bench.executors.ray import RayExecutor

        workers = jobs if jobs > 1 else None
        share = _share(workers if address is None else None)
        return RayExecutor(address, threads=threads or share, device=device, workers=workers)
    if kind == "processes" or jobs > 1:
        from hotlap.bench.executors.processes import ProcessExecutor

        return ProcessExecutor(jobs, threads=threads or _share(jobs), device=device)
    return None


def batched_or(
    executor: Executor | None, batch_seeds: int | None, train: Callable[[Recipe, Sequence[int]], list[Run]]
) -> Executor | None:
    """Choose to train several seeds in one program where that is asked for, and ``executor`` otherwise.

    Args:
        executor: as ``choose_executor`` gave it.
        batch_seeds: seeds in one program; None for one after another.
        train: trains several seeds of a recipe in one program.

    Raises:
        InputError: both are asked for, or ``batch_seeds`` is below 2.
    """
    if batch_seeds is None:
        return executor
    if executor is not None:
        raise InputError("--batch-seeds trains in this process", "leave out --jobs, --gpus, --executor and --address")
    from hotlap.bench.executors.batched import BatchedExecutor

    return BatchedExecutor(train, batch_seeds)


def _share(workers: int | None) -> int:
    """Return the threads of one of so many workers on this machine; one thread where their number is not known."""
    if workers is None:
        return 1
    from hotlap.engine.environment import available_cores

    return max(1, available_cores() // workers)
