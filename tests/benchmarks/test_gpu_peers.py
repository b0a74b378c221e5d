"""Peers' scripts beside our recipe: read as they go, ended in time, and counted only where both sides have times."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from gpu_scripts import ONLY, lines, load_gpu, tiny

from hotlap.store import Store


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    return load_gpu()


def run_peer(path: Path, *args: Any) -> dict[str, Any]:
    found: dict[str, Any] = sys.modules["peers"].run_peer(path, *args)
    return found


def test_what_peers_print(gpu: ModuleType) -> None:
    parse = sys.modules["peers"].parse_runs
    assert parse("epoch 3 test accuracy: 94.1 % time: 2.6 s\nloss 3") == [{"accuracy": 0.941, "seconds": 2.6}]
    assert parse("| a | acc | time |\n| 1 | 0.9 | 3 |\n| 2 |  | 4 |") == [{"accuracy": 0.9, "seconds": 3.0}]
    assert parse("nothing to see") == []


def test_a_peer_that_fails_or_hangs_is_told_apart(gpu: ModuleType, tmp_path: Path) -> None:
    failing, hanging = tmp_path / "a.py", tmp_path / "b.py"
    failing.write_text("raise SystemExit('no data')")
    hanging.write_text("import time; print('started', flush=True); time.sleep(60)")
    failed = run_peer(failing, 60)
    assert failed["status"] == "failed" and "no data" in failed["output"] and failed["runs"] == []
    late = run_peer(hanging, 2)
    assert late["status"] == "late" and "started" in late["output"] and 2 <= late["wall_s"] < 10


ENDLESS = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid)
for run in range(1000):
    print(f"accuracy: 0.94 time: {run}.5")
    time.sleep(0.05)
"""


def test_a_peer_is_ended_after_enough_runs_with_what_it_started(gpu: ModuleType, tmp_path: Path) -> None:
    peer = tmp_path / "endless.py"
    peer.write_text(ENDLESS)
    found = run_peer(peer, 60, 3)
    assert found["status"] == "enough" and found["wall_s"] < 30
    assert [run["seconds"] for run in found["runs"]] == [0.5, 1.5, 2.5]
    child = int(found["output"].split()[1])
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_peers_time_is_that_of_the_call(gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits: list[float] = []

    def peer(script: Path, timeout_s: float, runs: int) -> dict[str, Any]:
        limits.append(timeout_s)
        return {"status": "late", "runs": [], "output": ""}

    monkeypatch.setattr(sys.modules["peers"], "run_peer", peer)
    assert gpu.main(tiny(tmp_path, "peers", "--peer", f"a.py={ONLY}", "--minutes", "3")) == 0
    assert 0 < limits[0] < 180


def test_rounds_alternate_and_only_whole_ones_count(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "RUNS_OF_ROUND", 2)
    monkeypatch.setattr(gpu, "_ours", lambda *_: {"median_s": 1.0})
    answers = iter([True, False, True, True])

    def peer(script: Path, *_: Any) -> dict[str, Any]:
        runs = [{"seconds": seconds, "accuracy": 0.9} for seconds in (9.0, 1.0, 2.0)]
        return {"status": "enough", "runs": runs} if next(answers) else {"status": "failed", "runs": runs[:2]}

    monkeypatch.setattr(sys.modules["peers"], "run_peer", peer)
    monkeypatch.setattr(gpu.Session, "train", lambda *_: None)
    arguments = [text for text in tiny(tmp_path, "peers", "--peer", "a.py") if text != "--tiny"]
    monkeypatch.setattr(sys.modules["gpu_results"].Programme, "at_hand", lambda *_: True)
    assert gpu.main(arguments) == 0
    sides = [(line["round"], line["side"], line.get("median_s")) for line in lines(tmp_path, "peers")]
    assert sides == [(0, "ours", 1.0), (0, "peer", 1.5), (1, "peer", None)], "the first run of a peer does not count"
    assert lines(tmp_path, "peers")[-1]["error"] == "failed after 2 runs"
    assert gpu.main(arguments) == 0
    sides = [(line["round"], line["side"]) for line in lines(tmp_path, "peers")][3:]
    assert sides == [(1, "peer"), (1, "ours"), (2, "ours"), (2, "peer")], "the round that failed is done again"
    assert gpu.main(arguments) == 0
    assert len(lines(tmp_path, "peers")) == 7


def test_sides_of_different_calls_make_no_round(gpu: ModuleType) -> None:
    def line(call: float, side: str, **fields: Any) -> dict[str, Any]:
        return {"peer": "a.py", "round": 0, "call": call, "side": side, **fields}

    found = [line(1.0, "ours", median_s=1.0), line(2.0, "peer", median_s=1.0), line(2.0, "ours", error="?")]
    assert gpu.rounds_done(found, "a.py") == 0
    assert gpu.rounds_done([*found, line(1.0, "peer", median_s=2.0)], "a.py") == 1
    assert gpu.rounds_done([*found, line(1.0, "peer", median_s=2.0)], "b.py") == 0


def test_our_first_run_of_a_process_is_left_out(gpu: ModuleType, tmp_path: Path) -> None:
    peer = tmp_path / "peer.py"
    peer.write_text("for run in range(9): print(f'accuracy: 0.94 time: {run}.5')")
    seeds: list[int] = []
    train = gpu.Session.train
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            gpu.Session, "train", lambda self, recipe, seed: (seeds.append(seed), train(self, recipe, seed))[1]
        )
        assert gpu.main(tiny(tmp_path, "peers", "--peer", f"{peer}=cifar10-airbench/94-muon")) == 0
    assert seeds == [gpu.FIRST_SEED, 0, 1, 2, 3, 4]
    with Store(tmp_path / "peers.sqlite") as store:
        assert sorted(run.seed for run in store.runs()) == [0, 1, 2, 3, 4]
    assert lines(tmp_path, "peers")[1]["median_s"] == 3.5
