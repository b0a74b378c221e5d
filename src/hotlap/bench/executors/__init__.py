"""Executors: where runs are trained. Each draws jobs and yields runs as they finish; the driver alone stores them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from hotlap.recipe import Recipe
from hotlap.result import Backend, Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a worker trains a job. Workers on CPUs of several kinds must all do the same, or runs cannot be pooled.

    Attributes:
        backend: as it was asked for.
        cpu_backend: what the backend ``auto`` is on a CPU; None leaves that to the worker.
        cpu_precision: what the precision ``auto`` is on a CPU, ``fp32`` or ``bf16``; None leaves that to the worker.
        log_accuracy: measure test accuracy after every epoch, outside of the time that counts.
    """

    backend: Backend = "auto"
    cpu_backend: Backend | None = None
    cpu_precision: Literal["fp32", "bf16", "fp16"] | None = None
    log_accuracy: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """One training to do. Two jobs with the same recipe digest and seed are the same work.

    The settings are those of the session that the job goes through.
    """

    recipe: Recipe
    seed: int
    settings: Settings = Settings()

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
            HotlapError: a recipe cannot be trained, which ``error.recipe`` then names; workers are lost again and
                again; or None is drawn while nothing is in flight.
        """
        ...
