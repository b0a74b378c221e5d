"""Executors: where runs are trained. Each takes jobs and yields runs as they finish; the driver alone stores them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from hotlap.recipe import Recipe
from hotlap.result import Run


@dataclass(frozen=True, slots=True)
class Job:
    """One training to do. Two jobs with the same recipe digest and seed are the same work."""

    recipe: Recipe
    seed: int

    @property
    def key(self) -> tuple[str, int]:
        """What makes a job the same work as another."""
        return self.recipe.digest, self.seed


class Executor(Protocol):
    """Trains jobs.

    Contract: every distinct job yields exactly one run, failed ones included, in any order and without its network; a
    job whose worker is lost is trained again; nothing is stored. Leaving the iteration early ends all workers.
    """

    def run(self, jobs: Sequence[Job]) -> Iterator[Run]:
        """Train jobs and yield their runs as they finish.

        Raises:
            HotlapError: a recipe cannot be trained, or workers are lost again and again.
        """
        ...


def distinct(jobs: Sequence[Job]) -> list[Job]:
    """Leave out jobs that come again."""
    return list({job.key: job for job in jobs}.values())
