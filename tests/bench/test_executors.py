from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from hotlap.bench.executors import Executor, Job
from hotlap.bench.executors.local import LocalExecutor
from hotlap.bench.executors.processes import ProcessExecutor
from hotlap.bench.session import Session
from hotlap.errors import HotlapError, InputError
from hotlap.store import Store
from tiny import tiny

EXECUTORS = [LocalExecutor(Session(threads=1).train), ProcessExecutor(2)]


@pytest.mark.parametrize("executor", EXECUTORS, ids=lambda e: type(e).__name__)
def test_the_contract(executor: Executor, own_store: Path) -> None:
    """Each distinct job once, failed ones too, no network, nothing stored, same results as in this process."""
    jobs = [Job(tiny(), 0), Job(tiny(), 1), Job(tiny(), 0), Job(tiny(optimizer__lr=1e30), 0)]
    runs = {(run.recipe.digest, run.seed): run for run in executor.run(jobs)}
    assert set(runs) == {job.key for job in jobs}
    assert [runs[job.key].status for job in jobs] == ["done", "done", "done", "failed"]
    assert all(run.module is None for run in runs.values())
    assert not own_store.exists()
    here = Session(threads=1).train(tiny(), 1)
    assert runs[jobs[1].key].accuracy == here.accuracy
    assert runs[jobs[1].key].loss_by_epoch == here.loss_by_epoch
    with pytest.raises(InputError, match="too small"):
        list(executor.run([Job(tiny(model__kernels=(11, 3)), 0)]))


def test_times_of_runs_that_share_the_machine_do_not_count() -> None:
    runs = list(ProcessExecutor(2).run([Job(tiny(), 0), Job(tiny(), 1)]))
    assert [run.timing_valid for run in runs] == [False, False]
    assert [run.environment.threads for run in runs] == [1, 1]


def test_a_lost_worker_is_replaced_and_no_run_is_lost_or_stored_twice(own_store: Path) -> None:
    with Store() as store:
        session = Session(store=store)
        running = session.run_all([Job(tiny(epochs=20), seed) for seed in range(6)], ProcessExecutor(2))
        first = next(running)
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
        rest = list(running)
        assert sorted(run.seed for run in (first, *rest)) == list(range(6))
        assert sorted(run.seed for run in store.runs()) == list(range(6))


def test_workers_that_are_always_lost_end_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = ProcessExecutor(1)
    monkeypatch.setattr(ProcessExecutor, "_run_in_one_pool", lambda self, jobs: iter(()))
    with pytest.raises(HotlapError, match="lost 3 times in a row without finishing a run \\(tiny seed 7"):
        list(executor.run([Job(tiny(), 7)]))


def test_leaving_early_ends_the_workers() -> None:
    running = ProcessExecutor(2).run([Job(tiny(epochs=4000), 0), Job(tiny(epochs=1), 1), Job(tiny(epochs=4000), 2)])
    assert next(running).seed == 1
    start = time.monotonic()
    running.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 10
    assert multiprocessing.active_children() == []


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        ProcessExecutor(0)
    with pytest.raises(InputError, match="at least 1"):
        ProcessExecutor(2, threads=0)
