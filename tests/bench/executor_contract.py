"""What every executor does: tests that a class for each executor inherits, which adds the fixture ``executor``."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotlap.bench.executors import Executor, Job
from hotlap.bench.session import Session
from hotlap.errors import HotlapError, InputError
from hotlap.result import Run
from tiny import tiny


class ExecutorContract:
    capacity: int
    """How many runs it makes at once."""

    def test_the_contract(self, executor: Executor, own_store: Path) -> None:
        """Each distinct job once, failed ones too, no network, nothing stored, same results as in this process."""
        jobs = [Job(tiny(), 0), Job(tiny(), 1), Job(tiny(), 0), Job(tiny(optimizer__lr=1e30), 0)]
        came: list[Run] = []

        def study() -> Iterator[Job | None]:
            yield from jobs
            while len(came) < 3:
                yield None
            yield Job(tiny(model__kernels=(11, 3)), 0)

        with pytest.raises(InputError, match="too small") as refused:
            for run in executor.run(study()):
                came.append(run)  # noqa: PERF402 (the study reads it meanwhile)
        assert type(refused.value) is InputError
        assert "too small" in refused.value.cause
        assert refused.value.recipe == tiny(model__kernels=(11, 3)).digest, "a study can go on without it"
        runs = {(run.recipe.digest, run.seed): run for run in came}
        assert len(came) == 3
        assert set(runs) == {job.key for job in jobs}
        assert [runs[job.key].status for job in jobs] == ["done", "done", "done", "failed"]
        assert all(run.module is None for run in runs.values())
        assert all(run.environment.threads == 1 for run in runs.values())
        assert self.capacity == 1 or not any(run.timing_valid for run in came), "they shared the machine"
        assert not own_store.exists()
        here = Session(threads=1).train(tiny(), 1)
        assert runs[jobs[1].key].accuracy == here.accuracy
        assert runs[jobs[1].key].loss_by_epoch == here.loss_by_epoch

    def test_a_study_chooses_by_the_runs_that_have_come_in(self, executor: Executor) -> None:
        """Jobs are drawn no further ahead than workers are free, and after None only when another run has come in."""
        came: list[int] = []
        ahead: list[int] = []
        asked_in_vain: list[int] = []

        def study() -> Iterator[Job | None]:
            for seed in range(4):
                ahead.append(seed + 1 - len(came))
                yield Job(tiny(epochs=1), seed)
            while len(came) < 4:
                asked_in_vain.append(len(came))
                yield None
            yield Job(tiny(epochs=1), 10 + sum(came))

        for run in executor.run(study()):
            came.append(run.seed)  # noqa: PERF401 (the study reads it meanwhile)
        assert sorted(came[:4]) == list(range(4))
        assert came[4:] == [16]
        assert max(ahead) == self.capacity
        assert len(asked_in_vain) == len(set(asked_in_vain))

    def test_a_study_that_waits_for_nothing_is_told_so(self, executor: Executor) -> None:
        with pytest.raises(
            HotlapError, match="internal error: the study waits for a run to finish, but none is in flight"
        ):
            next(iter(executor.run([None])))

    def test_an_error_in_the_study_ends_it(self, executor: Executor) -> None:
        def study() -> Iterator[Job]:
            yield Job(tiny(epochs=1), 0)
            raise LookupError("no more ideas")

        with pytest.raises(LookupError, match="no more ideas"):
            list(executor.run(study()))
        assert multiprocessing.active_children() == []
