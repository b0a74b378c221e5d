"""Training in several processes of this machine at once: more runs per minute, and times that do not count."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue

from hotlap.bench.executors import Job
from hotlap.bench.executors.pull import JobSource, naming
from hotlap.bench.executors.worker import train_job
from hotlap.errors import InputError
from hotlap.result import Run

_WAY_OUT = (
    "is memory short? try fewer --jobs; a script must make its calls below if __name__ == '__main__':, "
    "for every worker reads it again"
)


@dataclass(frozen=True)
class ProcessExecutor:
    """Trains in ``processes`` worker processes, each with ``threads`` threads of its own.

    Args:
        processes: how many at once.
        threads: threads of one operation in each worker.
        device: as for ``Session``.
        devices: a device for each of the processes, which it keeps; all ``device`` when empty.

    Raises:
        InputError: ``processes`` or ``threads`` is below 1, or there are not as many devices as processes.
    """

    processes: int
    threads: int = 1
    device: str = "auto"
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.processes < 1 or self.threads < 1:
            raise InputError(f"processes and threads are at least 1, not {self.processes} and {self.threads}")
        if self.devices and len(self.devices) != self.processes:
            raise InputError(f"{self.processes} processes take as many devices, not {len(self.devices)}")

    def run(self, jobs: Iterable[Job | None]) -> Iterator[Run]:
        """Train jobs as workers get free; see ``Executor``. Runs come with ``timing_valid`` false."""
        source = JobSource(jobs)
        # A worker that dies breaks its pool: what had not finished goes to a new one.
        while lost := (yield from self._run_in_one_pool(source)):
            source.lost(lost, "a worker process ended on its own", _WAY_OUT)

    def _run_in_one_pool(self, source: JobSource) -> Generator[Run, None, list[Job]]:
        """Yield runs until all are done or a worker is lost; return the jobs that had not finished then."""
        # spawn: a forked child would share the parent's started thread pools, which do not survive a fork.
        context = multiprocessing.get_context("spawn")
        devices = context.SimpleQueue()
        for device in self.devices or (self.device,) * self.processes:
            devices.put(device)
        pool = ProcessPoolExecutor(
            self.processes, mp_context=context, initializer=_begin_worker, initargs=(devices,)
        )  # fmt: skip
        workers: set[BaseProcess] = set()
        in_flight: dict[Future[Run], Job] = {}
        lost: list[Job] = []
        finished = False
        try:
            while True:
                while not lost and len(in_flight) < self.processes and (job := source.draw(len(in_flight))):
                    before = set(multiprocessing.active_children())
                    try:
                        in_flight[pool.submit(_train, job, self.threads)] = job
                    except BrokenProcessPool:
                        lost.append(job)
                    workers |= set(multiprocessing.active_children()) - before
                if not in_flight:
                    finished = True
                    return lost
                done, _ = wait(in_flight, return_when=FIRST_COMPLETED)
                # Errors last: they end the study, and what has been trained is to be kept.
                for future in sorted(done, key=lambda f: f.exception() is not None):
                    job = in_flight.pop(future)
                    try:
                        with naming(job):
                            run = future.result()
                    except BrokenProcessPool:
                        lost.append(job)
                        continue
                    yield run
                    source.finished()
        finally:
            if not finished:
                # Interrupted, or a run was refused: what the workers are at is of no use any more.
                for worker in workers:
                    worker.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


_device = "auto"
"""Of this worker process: always the same, since what has been warmed up on a GPU serves the next run on it."""


def _begin_worker(devices: SimpleQueue[str]) -> None:
    """Take a device; leave Ctrl-C, which a terminal sends to every process, to the driver; end when the driver does."""
    global _device
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    _device = devices.get()


def _end_with_driver() -> None:
    """Wait for the driver to end; killed outright, it cannot tell its workers, and they would wait for ever."""
    driver = multiprocessing.parent_process()
    assert driver is not None
    driver.join()
    os._exit(1)


def _train(job: Job, threads: int) -> Run:
    """Train in a worker process."""
    return train_job(job.recipe, job.seed, job.settings, device=_device, threads=threads)
