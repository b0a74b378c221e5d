"""Training in several processes of this machine at once: more runs per minute, and times that do not count."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace

from hotlap.bench.executors import Job, distinct
from hotlap.errors import HotlapError, InputError
from hotlap.recipe import Recipe
from hotlap.result import Run

ATTEMPTS = 3
"""Pools that may break in a row without a finished run before the study is given up."""


@dataclass(frozen=True)
class ProcessExecutor:
    """Trains in ``processes`` worker processes, each with ``threads`` threads of its own.

    On small networks two processes of one thread do more than one process of two, because no thread waits for another.

    Args:
        processes: how many at once.
        threads: threads of one operation in each worker.
        device: as for ``Session``.

    Raises:
        InputError: ``processes`` or ``threads`` is below 1.
    """

    processes: int
    threads: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.processes < 1 or self.threads < 1:
            raise InputError(f"processes and threads are at least 1, not {self.processes} and {self.threads}")

    def run(self, jobs: Sequence[Job]) -> Iterator[Run]:
        """Train jobs as workers get free; see ``Executor``. Runs come with ``timing_valid`` false."""
        waiting = {job.key: job for job in distinct(jobs)}
        fruitless = 0
        while waiting:
            before = len(waiting)
            # A worker that dies breaks its pool: what had not finished goes to a new one.
            for run in self._run_in_one_pool(list(waiting.values())):
                del waiting[run.recipe.digest, run.seed]
                yield run
            fruitless = fruitless + 1 if len(waiting) == before else 0
            if waiting and fruitless >= ATTEMPTS:
                names = ", ".join(f"{job.recipe.name} seed {job.seed}" for job in list(waiting.values())[:3])
                raise HotlapError(
                    f"workers were lost {ATTEMPTS} times in a row without finishing a run ({names}, …)",
                    "is memory short? try fewer --jobs",
                )

    def _run_in_one_pool(self, jobs: Sequence[Job]) -> Iterator[Run]:
        """Yield runs until all are done or a worker is lost."""
        # spawn: a forked child would share the parent's started thread pools, which do not survive a fork.
        context = multiprocessing.get_context("spawn")
        others = set(multiprocessing.active_children())
        pool = ProcessPoolExecutor(self.processes, mp_context=context, initializer=_ignore_interrupts)
        finished = False
        try:
            pending: set[Future[Run]] = {
                pool.submit(_train, job.recipe, job.seed, self.device, self.threads) for job in jobs
            }
            while pending:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    try:
                        run = future.result()
                    except BrokenProcessPool:
                        continue
                    yield run
            finished = True
        finally:
            if not finished:
                # Interrupted, or a run was refused: what the workers are at is of no use any more.
                for worker in set(multiprocessing.active_children()) - others:
                    worker.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


def _ignore_interrupts() -> None:
    """Leave Ctrl-C, which a terminal sends to every process, to the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _train(recipe: Recipe, seed: int, device: str, threads: int) -> Run:
    """Train in a worker process."""
    from hotlap.bench.session import Session

    session = Session(device=device, threads=threads, timing_valid=False)
    return replace(session.train(recipe, seed), module=None)
