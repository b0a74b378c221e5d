"""Executors: where runs are trained. Each draws jobs and yields runs as they finish; the driver alone stores them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from hotlap.recipe import Recipe
from hotlap.result import Backend, Run


@dataclass(frozen=True, slots=True)
class Job:
    """One training to do. Two jobs with the same recipe digest and seed are the same work.

    The backend is set by the session that the job goes through.
    """

    recipe: Recipe
    seed: int
    backend: Backend = "auto"

    @property
    def key(self) -> tuple[str, int]:
        """What makes a job the same work as another."""
        return self.recipe.digest, self.seed


class Executor(Protocol):
    """Trains jobs.

    Contract: every distinct job yields exactly one run, failed ones included, in any order and without its network; a
    job whose worker is lost is trained again; nothing is stored. Leaving the iteration early ends all workers.

    Jobs are drawn one at a time and only when a worker is free to start one, so that a study may choose its next job
    by the runs that have come in: a run that has come in is yielded before another job is drawn.
    """

    def run(self, jobs: Iterable[Job | None]) -> Iterator[Run]:
        """Train jobs and yield their runs as they finish.

        Args:
            jobs: None stands for "nothing can be started until a run in flight has finished": the next job is drawn
                after a run has been yielded and the consumer has asked for more.

        Raises:
            HotlapError: a recipe cannot be trained, workers are lost again and again, or None is drawn while
                nothing is in flight.
        """
        ...
