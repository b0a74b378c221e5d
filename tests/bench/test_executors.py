from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest
from executor_contract import ExecutorContract
from hypothesis import given
from hypothesis import strategies as st

from hotlap.bench.executors import Executor, Job, Settings
from hotlap.bench.executors.local import LocalExecutor
from hotlap.bench.executors.processes import ProcessExecutor
from hotlap.bench.executors.pull import ATTEMPTS, JobSource
from hotlap.bench.executors.worker import train_job
from hotlap.bench.session import Session
from hotlap.errors import HotlapError, InputError
from hotlap.result import Backend, Run
from hotlap.store import Store
from tiny import tiny


class TestLocal(ExecutorContract):
    capacity = 1

    @pytest.fixture
    def executor(self) -> Executor:
        return LocalExecutor(Session(threads=1).train)


class TestProcesses(ExecutorContract):
    capacity = 2

    @pytest.fixture
    def executor(self) -> Executor:
        return ProcessExecutor(2)


def test_each_process_has_a_device_of_its_own() -> None:
    runs = list(ProcessExecutor(2, devices=("cpu:0", "cpu:1")).run(Job(tiny(), seed) for seed in range(4)))
    assert {run.device for run in runs} == {"cpu:0", "cpu:1"}
    assert len({(run.seed, run.accuracy) for run in runs}) == 4
    assert next(run for run in runs if run.seed == 3).accuracy == Session(threads=1).train(tiny(), 3).accuracy
    with pytest.raises(InputError, match="2 processes take as many devices, not 1"):
        ProcessExecutor(2, devices=("cpu",))


def test_a_session_stores_each_run_before_the_next_is_drawn() -> None:
    with Store() as store:
        stored: list[int] = []

        def study() -> Iterator[Job]:
            for seed in range(3):
                stored.append(len(store.runs()))
                yield Job(tiny(epochs=1), seed)

        assert [run.seed for run in Session(store=store).run_all(study())] == [0, 1, 2]
        assert stored == [0, 1, 2]


def test_a_lost_worker_is_replaced_and_no_run_is_lost_or_stored_twice(own_store: Path) -> None:
    with Store() as store:
        session = Session(store=store)
        running = session.run_all([Job(tiny(epochs=10), seed) for seed in range(4)], ProcessExecutor(2))
        first = next(running)
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
        rest = list(running)
        assert sorted(run.seed for run in (first, *rest)) == list(range(4))
        assert sorted(run.seed for run in store.runs()) == list(range(4))


def test_workers_that_are_always_lost_end_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(self: ProcessExecutor, source: JobSource) -> Iterator[None]:
        return [source.draw(0)]  # type: ignore[return-value]
        yield

    monkeypatch.setattr(ProcessExecutor, "_run_in_one_pool", lose)
    with pytest.raises(HotlapError, match="lost 3 times in a row without finishing a run \\(tiny seed 7\\)") as ended:
        list(ProcessExecutor(1).run([Job(tiny(), 7)]))
    assert "below if __name__ == '__main__':" in str(ended.value), "a script without it loses all its workers"


def test_workers_on_cpus_of_several_kinds_do_what_the_session_settled() -> None:
    recipe = tiny(engine__precision="auto", epochs=1)
    for precision in ("fp32", "bf16"):
        settings = Settings(cpu_backend="torch", cpu_precision=precision)  # type: ignore[arg-type]
        run = train_job(recipe, 0, settings, device="cpu", threads=1)
        assert (run.backend, run.precision, run.module) == ("torch", precision, None)
    asked = Settings(backend="torch", cpu_precision="fp32", log_accuracy=True)
    run = train_job(tiny(epochs=3), 0, asked, device="cpu", threads=1)
    assert (run.backend, len(run.accuracy_by_epoch)) == ("torch", 3)


def test_a_machine_without_the_kernels_that_the_others_use_says_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotlap.native.library.missing", lambda: "there is no compiler")
    with pytest.raises(HotlapError, match=r"compiled kernels: there is no compiler → .*--backend torch") as refused:
        train_job(tiny(), 0, Settings(cpu_backend="native", cpu_precision="fp32"), device="cpu", threads=1)
    assert not isinstance(refused.value, InputError), "a study would drop the recipe for it"


@pytest.mark.parametrize(("backend", "native"), [("auto", True), ("auto", False), ("torch", True)])
def test_a_session_settles_for_its_workers_what_depends_on_a_processor(
    backend: Backend, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hotlap.native.library.missing", lambda: None if native else "there is no compiler")
    drawn: list[Job] = []

    class Notes:
        def run(self, jobs: Iterable[Job | None]) -> Iterator[Run]:
            drawn.extend(job for job in jobs if job is not None)
            return iter(())

    jobs = [Job(tiny(), 0), Job(tiny(), 1), Job(tiny(model__kernels=(11, 3)), 0)]
    assert list(Session(backend=backend, log_accuracy=True).run_all(jobs, Notes())) == []
    settled = [job.settings for job in drawn]
    own = None if backend == "torch" else "native" if native else "torch"
    assert settled[0] == settled[1] == Settings(
        backend=backend, cpu_backend=own, cpu_precision="fp32", log_accuracy=True  # type: ignore[arg-type]
    )  # fmt: skip
    assert settled[2].cpu_backend != "native", "what cannot be built is for the worker to refuse"


def test_leaving_early_ends_the_workers_and_nothing_else() -> None:
    running = ProcessExecutor(2).run([Job(tiny(epochs=4000), 0), Job(tiny(epochs=1), 1), Job(tiny(epochs=4000), 2)])
    assert next(running).seed == 1
    bystander = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    bystander.start()
    start = time.monotonic()
    running.close()  # type: ignore[attr-defined]
    assert time.monotonic() - start < 60
    assert multiprocessing.active_children() == [bystander]
    bystander.kill()
    bystander.join()


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        ProcessExecutor(0)
    with pytest.raises(InputError, match="at least 1"):
        ProcessExecutor(2, threads=0)


RECIPE = tiny()


@given(st.lists(st.integers(0, 5)), st.integers(1, 3), st.integers())
def test_every_job_finishes_once_whatever_is_lost(seeds: list[int], capacity: int, fate: int) -> None:
    """Any order of finishing, and workers lost at any time, as long as a run finishes now and then."""
    chance = random.Random(fate)
    source = JobSource([Job(RECIPE, seed) for seed in seeds])
    finished: Counter[int] = Counter()
    in_flight: list[Job] = []
    unlucky = 0
    while True:
        while len(in_flight) < capacity and (job := source.draw(len(in_flight))):
            assert job not in in_flight
            in_flight.append(job)
        if not in_flight:
            break
        job = in_flight.pop(chance.randrange(len(in_flight)))
        if unlucky < ATTEMPTS - 1 and chance.random() < 0.5:
            unlucky += 1
            source.lost([job], "unplugged")
        else:
            unlucky = 0
            finished[job.seed] += 1
            source.finished()
    assert finished == Counter(set(seeds))


def test_losses_are_counted_for_each_job_until_a_run_finishes() -> None:
    source = JobSource([Job(RECIPE, 0), Job(RECIPE, 1)])
    one, two = source.draw(0), source.draw(1)
    assert one is not None
    assert two is not None
    for _ in range(ATTEMPTS - 1):
        source.lost([one], "unplugged")
        assert source.draw(1) is one
    source.finished()
    for _ in range(ATTEMPTS - 1):
        source.lost([two, one], "unplugged")
        assert (source.draw(0), source.draw(1)) == (two, one)
    with pytest.raises(HotlapError, match=r"\(tiny seed 1, tiny seed 0\): unplugged → is memory short"):
        source.lost([two, one], "unplugged")


def test_workers_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    """kill -9 of the driver leaves no worker behind, neither an idle nor a busy one."""
    script = tmp_path / "study.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from hotlap.bench.executors import Job\n"
        "from hotlap.bench.executors.processes import ProcessExecutor\n"
        "from tiny import tiny\n"
        "if __name__ == '__main__':\n"
        "    jobs = [Job(tiny(epochs=1), 0), Job(tiny(epochs=100_000), 1)]\n"
        "    for run in ProcessExecutor(2).run(jobs):\n"
        "        print(run.seed, flush=True)\n"
    )
    driver = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert driver.stdout is not None
    assert driver.stdout.readline() == "0\n"
    workers = psutil.Process(driver.pid).children(recursive=True)
    assert len(workers) >= 2
    driver.kill()
    driver.wait()
    driver.stdout.close()
    _, alive = psutil.wait_procs(workers, timeout=120)
    assert not [worker for worker in alive if worker.status() != psutil.STATUS_ZOMBIE]
