"""Training several seeds of a recipe in one program: fewer and larger operations, and times that do not count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from hotlap.bench.executors import Job
from hotlap.bench.executors.pull import JobSource, naming
from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.result import Run


@dataclass(frozen=True)
class BatchedExecutor:
    """Trains up to ``seeds`` seeds of one recipe at once, in this process.

    Args:
        train: trains a recipe with several seeds in one program, without storing the runs.
        seeds: how many at most.

    Raises:
        InputError: ``seeds`` is below 2.
    """

    train: Callable[[Recipe, Sequence[int]], list[Run]]
    seeds: int

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise InputError(f"--batch-seeds trains at least 2 seeds at once, not {self.seeds}", "leave it out for one")

    def run(self, jobs: Iterable[Job | None]) -> Iterator[Run]:
        """Train jobs, gathering those of one recipe that can be had now; see ``Executor``."""
        source = JobSource(jobs)
        batch: list[Job] = []
        while True:
            if not batch:
                if (first := source.draw(0)) is None:
                    return
                batch = [first]
            held: list[Job] = []
            while len(batch) < self.seeds and not held and (job := source.draw(len(batch))):
                # One program trains one recipe: a job of another waits for the next.
                (batch if job.recipe.digest == batch[0].recipe.digest else held).append(job)
            with naming(batch[0]):
                runs = self.train(batch[0].recipe, [job.seed for job in batch])
            for run in runs:
                # A seed left over on its own is no time to set beside the others.
                yield replace(run, module=None, timing_valid=False)
            source.finished()
            batch = held
