"""Several seeds of a recipe in one program, as an executor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from hotlap.bench.executors import Job
from hotlap.bench.executors.batched import BatchedExecutor
from hotlap.bench.session import Session
from hotlap.errors import HotlapError, InputError
from hotlap.recipe import Recipe
from hotlap.result import Run
from hotlap.store import Store
from tiny import tiny

A, B = tiny(epochs=1), tiny(epochs=1, optimizer__lr=0.02)


class Spy:
    """Trains and notes what it was given together."""

    def __init__(self) -> None:
        self.batches: list[tuple[Recipe, list[int]]] = []
        self._session = Session(threads=1)

    def __call__(self, recipe: Recipe, seeds: Sequence[int]) -> list[Run]:
        self.batches.append((recipe, list(seeds)))
        return self._session.train_batch(recipe, seeds)


def test_jobs_of_one_recipe_are_gathered_and_each_is_trained_once() -> None:
    spy = Spy()
    jobs = [Job(A, 0), Job(A, 1), Job(A, 0), Job(A, 2), Job(A, 3), Job(B, 0), Job(B, 1), Job(A, 9)]
    runs = list(BatchedExecutor(spy, 3).run(jobs))
    assert spy.batches == [(A, [0, 1, 2]), (A, [3]), (B, [0, 1]), (A, [9])]
    assert [(run.recipe, run.seed) for run in runs] == [(r, s) for r, seeds in spy.batches for s in seeds]
    assert all(run.module is None and not run.timing_valid for run in runs)


def test_it_waits_where_the_study_does() -> None:
    spy = Spy()
    seen: list[int] = []

    def study() -> Iterator[Job | None]:
        yield Job(A, 0)
        yield Job(A, 1)
        while len(seen) < 2:
            yield None
        yield Job(A, 2)

    for run in BatchedExecutor(spy, 4).run(study()):
        seen += [run.seed]
    assert seen == [0, 1, 2]
    assert [seeds for _, seeds in spy.batches] == [[0, 1], [2]]
    with pytest.raises(HotlapError, match="none is in flight"):
        list(BatchedExecutor(spy, 2).run([None]))


def test_its_runs_are_stored_and_marked() -> None:
    with Store() as store:
        session = Session(threads=1, store=store)
        list(session.run_all([Job(A, seed) for seed in range(3)], BatchedExecutor(session.train_batch, 2)))
        assert sorted((run.seed, run.seeds_at_once) for run in store.runs()) == [(0, 2), (1, 2), (2, 1)]


def test_one_at_a_time_is_no_batch() -> None:
    with pytest.raises(InputError, match="at least 2 seeds at once, not 1"):
        BatchedExecutor(Spy(), 1)
