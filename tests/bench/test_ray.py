"""Ray: nodes that are killed and added in mid-study, errors as users meet them, and nothing left behind."""

from __future__ import annotations

import contextlib
import http.server
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from executor_contract import ExecutorContract

from factories import make_run
from hotlap.bench.executors import Executor, Job, ray
from hotlap.bench.executors.pull import JobSource
from hotlap.bench.executors.ray import RayExecutor
from hotlap.bench.session import Session
from hotlap.errors import DataError, HotlapError, InputError
from hotlap.result import Run
from hotlap.store import Store
from tiny import tiny


def _descendants(words: str, of: int | None = None) -> list[psutil.Process]:
    """Processes below this one, or another, with these words in their command lines."""
    found = []
    for process in psutil.Process(of).children(recursive=True):
        try:
            if words in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def _until(ask: Callable[[], Any], seconds: float = 60) -> Any:
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return answer


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that trains nothing and two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()
    _until(lambda: not _descendants("/raylet/raylet") and not _descendants("gcs_server"))


@pytest.fixture
def orphans() -> Iterator[list[psutil.Process]]:
    """Workers to be killed after the test."""
    left: list[psutil.Process] = []
    yield left
    for worker in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.kill()


def _kill_a_busy_node(cluster: Any) -> psutil.Process | None:
    """Kill a node whose worker is training, without grace; return the worker, stopped. None when no node is busy."""
    for node in list(cluster.worker_nodes):
        for worker in _descendants("ray::_train", node.all_processes["raylet"][0].process.pid):
            # Stopped: the run cannot end before its node does, and connections stay open as a vanished machine's do.
            worker.suspend()
            if "ray::_train" in worker.cmdline()[0]:
                cluster.remove_node(node, allow_graceful=False)
                return worker
            worker.resume()
    return None


@pytest.fixture(scope="class")
def connected(cluster: Any) -> Iterator[None]:
    """A connection of this process, which executors without an address use."""
    import ray

    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("connected")
class TestRay(ExecutorContract):
    capacity = 2

    @pytest.fixture
    def executor(self) -> Executor:
        return RayExecutor(workers=2)


def test_nodes_killed_and_added_in_mid_study_lose_nothing(
    cluster: Any, orphans: list[psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first run is short: when it comes, the one that began with it is still under way, however fast the machine.
    short, long = tiny(epochs=20), tiny(epochs=800)
    came: list[Run] = []
    ahead: list[int] = []
    lost: list[int] = []
    record = JobSource.lost

    def lose(self: JobSource, jobs: list[Job], reason: str) -> None:
        lost.extend(job.seed for job in jobs)
        record(self, jobs, reason)

    def study() -> Iterator[Job]:
        for seed in range(7):
            ahead.append(seed + 1 - len(came))
            yield Job(long if seed else short, seed)

    monkeypatch.setattr(JobSource, "lost", lose)
    with Store() as store:
        for run in Session(store=store).run_all(study(), RayExecutor(cluster.address)):
            came.append(run)
            if len(came) == 1:
                assert max(ahead) == 2
                orphans.append(_until(lambda: _kill_a_busy_node(cluster)))
                cluster.add_node(num_cpus=1)
                cluster.add_node(num_cpus=1)
        assert lost, "a run was under way on the node that was killed"
        assert max(ahead) > 2, "the nodes that joined were used"
        assert sorted(run.seed for run in came) == list(range(7))
        assert sorted(run.id for run in store.runs()) == sorted(run.id for run in came)
    assert not any(run.timing_valid for run in came)
    here = Session(threads=1)
    for run in (run for run in came if run.seed in (came[0].seed, *lost)):
        mine = here.train(run.recipe, run.seed)
        assert (run.accuracy, run.loss_by_epoch) == (mine.accuracy, mine.loss_by_epoch)
        assert run.environment.threads == 1


def test_workers_that_are_always_lost_end_the_study(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(recipe: dict[str, Any], seed: int, backend: str, device: str, threads: int) -> dict[str, Any]:
        os._exit(1)

    monkeypatch.setattr(ray, "_train", vanish)
    with pytest.raises(HotlapError, match=r"lost 3 times in a row without finishing a run \(tiny seed 7\)") as ended:
        list(RayExecutor(cluster.address).run([Job(tiny(), 7)]))
    assert "\n" not in str(ended.value)


def test_errors_of_a_worker_come_as_they_were(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(recipe: dict[str, Any], seed: int, backend: str, device: str, threads: int) -> dict[str, Any]:
        if seed == 0:
            raise DataError("no such folder", "copy it to every node")
        raise LookupError("a bug")

    monkeypatch.setattr(ray, "_train", refuse)
    with pytest.raises(DataError) as refused:
        list(RayExecutor(cluster.address).run([Job(tiny(), 0)]))
    assert (refused.value.cause, refused.value.fix) == ("no such folder", "copy it to every node")
    assert str(refused.value) == "no such folder → copy it to every node"
    with pytest.raises(LookupError, match="a bug"):
        list(RayExecutor(cluster.address).run([Job(tiny(), 1)]))


def test_leaving_early_ends_the_workers(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    document = make_run(seed=1).to_dict()

    def tarry(recipe: dict[str, Any], seed: int, backend: str, device: str, threads: int) -> dict[str, Any]:
        if seed != 1:
            time.sleep(600)
        return document

    monkeypatch.setattr(ray, "_train", tarry)
    running = RayExecutor(cluster.address).run([Job(tiny(), seed) for seed in range(4)])
    assert next(running).seed == 1
    assert _descendants("tarry")
    running.close()  # type: ignore[attr-defined]
    _until(lambda: not _descendants("tarry"))


def test_what_no_node_can_hold_is_refused(cluster: Any) -> None:
    with pytest.raises(
        InputError, match=r"no node of the cluster has 2 CPU for a worker \(all of them together: \d CPU"
    ):
        list(RayExecutor(cluster.address, threads=2).run([Job(tiny(), 0)]))
    with pytest.raises(InputError, match="no node of the cluster has 1 CPU and 1 GPU"):
        list(RayExecutor(cluster.address, device="cuda").run([Job(tiny(), 0)]))


def _closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_an_address_without_a_cluster_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray  # noqa: F401 (what takes time the first time)

    look_up, over = socket.getaddrinfo, threading.Event()

    def looked_up(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host == "unknown.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host == "silent.invalid":  # no name server answers
            over.wait(300)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    monkeypatch.setattr("hotlap.bench.executors.ray._CONNECT_S", 0.5)
    start = time.monotonic()
    for address, cause in (
        (f"127.0.0.1:{_closed_port()}", r"\(Connection refused\) → start a cluster with: ray start --head"),
        ("unknown.invalid:6379", "cannot reach Ray at unknown.invalid:6379: host name cannot be resolved"),
        ("silent.invalid:6379", r"host name not resolved within 0\.5 s"),
        ("127.0.0.1:700000", "cannot reach Ray at 127.0.0.1:700000: ports are numbers up to 65535"),
        ("ray://somewhere:10001", "no address of a Ray cluster → give HOST:PORT of its head, or auto"),
        ("somewhere", "somewhere is no address of a Ray cluster"),
    ):
        with pytest.raises(InputError, match=cause):
            list(RayExecutor(address).run([Job(tiny(), 0)]))
    assert time.monotonic() - start < 60
    over.set()


def test_a_web_server_is_no_cluster() -> None:
    """Ray's dashboard is one, and its port is easily taken for the cluster's."""
    with http.server.HTTPServer(("", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        with pytest.raises(InputError, match="what listens there is not the head of a cluster"):
            list(RayExecutor(f"localhost:{server.server_port}").run([Job(tiny(), 0)]))
        server.shutdown()
        thread.join()


def test_ray_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"needs Ray → pip install 'hotlap\[ray\]'"):
        list(RayExecutor().run([Job(tiny(), 0)]))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        RayExecutor(threads=0)
    with pytest.raises(InputError, match="at least 1"):
        RayExecutor(workers=0)
    with pytest.raises(InputError, match="'cuda:1' cannot be asked for"):
        RayExecutor(device="cuda:1")


def test_the_command_line_with_a_ray_of_its_own(tmp_path: Path) -> None:
    """Stdout carries the document alone, even when a worker is killed; no process of Ray's outlives the command."""
    recipe = tmp_path / "tiny.json"
    recipe.write_text(tiny().to_json())
    command = [sys.executable, "-m", "hotlap", "train", str(recipe), "--seeds", "1", "--executor", "ray", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        _until(lambda: _descendants("ray::_train", process.pid))[0].kill()
        left = _descendants("ray", process.pid)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    # Without a C++ compiler hotlap says so; that is no output of Ray's.
    assert [line for line in err.splitlines() if "compiled kernels" not in line] == []
    document = json.loads(out)
    assert (document["n"], document["timing_valid"]) == (1, False)
    assert len(left) > 2
    _until(lambda: not any(one.is_running() for one in left))
