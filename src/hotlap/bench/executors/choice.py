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
    from hotlap.result import Backend, Run

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
        from hotlap.engine.devices import choose_device

        choose_device(device)  # says here, and once, if it is not there
        return ProcessExecutor(jobs, threads=threads or _share(jobs), device=device)
    return None


def device_here(executor: Executor | None, device: str) -> str:
    """Return the device of the session on this machine whose jobs an executor trains.

    Args:
        executor: as ``choose_executor`` gave it.
        device: as it was asked for. A cluster's GPUs need not be on this machine too.
    """
    if executor is None or device == "cpu":
        return device
    from hotlap.bench.executors.processes import ProcessExecutor

    return device if isinstance(executor, ProcessExecutor) else "auto"


def backend_for(backend: Backend, batch_seeds: int | None) -> Backend:
    """Return the backend to train with: several seeds in one program are PyTorch's.

    Raises:
        InputError: another one is asked for.
    """
    if batch_seeds is None:
        return backend
    if backend == "native":
        raise InputError("--batch-seeds trains in PyTorch, not in the compiled kernels", "leave out --backend native")
    return "torch"


def only_here(option: str, executor: Executor | None) -> None:
    """Refuse an option that needs runs in this process, one after another.

    Raises:
        InputError: they are trained elsewhere, or several in one program.
    """
    if executor is not None:
        raise InputError(
            f"{option} needs the runs in this process, one after another",
            "leave out --jobs, --executor, --address, --gpus and --batch-seeds",
        )


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
