"""Drawing jobs one at a time, as workers get free, and sending out again those whose worker was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from hotlap.bench.executors import Job
from hotlap.errors import HotlapError, InputError

ATTEMPTS = 3
"""Workers that a job may lose, while no run finishes, before the study is given up."""


@contextmanager
def naming(job: Job) -> Iterator[None]:
    """Note in what training a job raises which recipe it was, so that a study can go on without it."""
    try:
        yield
    except InputError as error:
        error.recipe = job.recipe.digest
        raise


class JobSource:
    """The side of an executor that knows which job to start next.

    Args:
        jobs: drawn one at a time, only by ``draw``; None stands for "nothing until another run has finished".
    """

    def __init__(self, jobs: Iterable[Job | None]) -> None:
        self._jobs = iter(jobs)
        self._drawn: set[tuple[str, int]] = set()
        self._again: list[Job] = []
        self._losses: Counter[tuple[str, int]] = Counter()
        self._paused = False
        self._ended = False

    def draw(self, in_flight: int) -> Job | None:
        """Return the next job to start; None while there is none.

        Args:
            in_flight: jobs started and not finished.

        Raises:
            HotlapError: the jobs wait for a run to finish, but nothing is in flight.
        """
        if self._again:
            return self._again.pop(0)
        while not self._paused and not self._ended:
            try:
                job = next(self._jobs)
            except StopIteration:
                self._ended = True
            else:
                if job is None:
                    if not in_flight:
                        raise HotlapError(
                            "internal error: the study waits for a run to finish, but none is in flight",
                            "report it with the command that you ran",
                        )
                    self._paused = True
                elif job.key not in self._drawn:
                    self._drawn.add(job.key)
                    return job
        return None

    def finished(self) -> None:
        """Note that a run has been yielded and its consumer has asked for more."""
        self._paused = False
        self._losses.clear()

    def lost(self, jobs: Sequence[Job], reason: str, way_out: str = "is memory short? try fewer --jobs") -> None:
        """Take back jobs whose worker was lost; they are drawn again before any other.

        Args:
            jobs: started, and not finished.
            reason: what became of the worker.
            way_out: what to try where that goes on.

        Raises:
            HotlapError: a job has lost ``ATTEMPTS`` workers while no run finished.
        """
        self._again.extend(jobs)
        self._losses.update(job.key for job in jobs)
        hopeless = [f"{job.recipe.name} seed {job.seed}" for job in jobs if self._losses[job.key] >= ATTEMPTS]
        if hopeless:
            names = ", ".join(hopeless[:3]) + (", …" if len(hopeless) > 3 else "")
            raise HotlapError(
                f"workers were lost {ATTEMPTS} times in a row without finishing a run ({names}): {reason}", way_out
            )
