"""Training in this process, one run after another: the only executor whose times count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from hotlap.bench.executors import Job
from hotlap.bench.executors.pull import JobSource, naming
from hotlap.recipe import Recipe
from hotlap.result import Run


@dataclass(frozen=True)
class LocalExecutor:
    """Trains in this process.

    Args:
        train: trains one recipe with one seed, without storing the run.
    """

    train: Callable[[Recipe, int], Run]

    def run(self, jobs: Iterable[Job | None]) -> Iterator[Run]:
        """Train jobs in their order; see ``Executor``."""
        source = JobSource(jobs)
        while job := source.draw(in_flight=0):
            with naming(job):
                run = self.train(job.recipe, job.seed)
            yield replace(run, module=None)
            source.finished()
