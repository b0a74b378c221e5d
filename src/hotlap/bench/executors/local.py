"""Training in this process, one run after another: the only executor whose times count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from hotlap.bench.executors import Job, distinct
from hotlap.recipe import Recipe
from hotlap.result import Run


@dataclass(frozen=True)
class LocalExecutor:
    """Trains in this process.

    Args:
        train: trains one recipe with one seed, without storing the run.
    """

    train: Callable[[Recipe, int], Run]

    def run(self, jobs: Sequence[Job]) -> Iterator[Run]:
        """Train jobs in their order; see ``Executor``."""
        for job in distinct(jobs):
            yield replace(self.train(job.recipe, job.seed), module=None)
