"""What a worker does with a job, in a process of its own on this machine or another."""

from __future__ import annotations

from dataclasses import replace

from hotlap.bench.executors import Settings
from hotlap.errors import HotlapError
from hotlap.recipe import Recipe
from hotlap.result import Run


def train_job(recipe: Recipe, seed: int, settings: Settings, *, device: str, threads: int) -> Run:
    """Train as the settings say; the run comes without its network, and its times do not count.

    Args:
        recipe: what to do.
        seed: the run's only source of randomness.
        settings: of the session that the job comes from.
        device: as for ``Session``.
        threads: threads of one operation.

    Raises:
        HotlapError: the recipe and the data do not go together, or the backend cannot train it here.
    """
    from hotlap.bench.session import Session
    from hotlap.engine.precision import auto_on_cpu
    from hotlap.native.library import missing

    session = Session(
        device=device,
        threads=threads,
        timing_valid=False,
        backend=settings.backend,
        log_accuracy=settings.log_accuracy,
    )
    if session.device.type == "cpu" and settings.cpu_backend is not None:
        session.backend = settings.cpu_backend
        if session.backend == "native" and (reason := missing()):
            # Not the recipe's fault, so no study may go on without the recipe.
            raise HotlapError(
                f"a machine cannot do what the others do, train in the compiled kernels: {reason}",
                "install g++ or clang there, then reinstall hotlap; or use PyTorch everywhere: --backend torch",
            )
    with auto_on_cpu(settings.cpu_precision):
        return replace(session.train(recipe, seed), module=None)
