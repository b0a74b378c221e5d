"""The GPU programme, rehearsed on the CPU: every part runs, resumes, and stops in time."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hotlap.store import Store

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ONLY = "cifar10-airbench/94-muon"
PARTS = "correctness,records,peers,cifar,profile,memory"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    load("peers")
    return load("gpu")


PEER = """
print("|  run  |  epoch  |  train_acc  |  val_acc  |  tta_val_acc  |  time_seconds  |")
print("|  warmup  |  eval  |  0.1  |  0.1  |  0.1  |  9.9  |")
print("|  0  |  0  |  0.5  |  0.6  |    |  1.0  |")
print("|  0  |  eval  |  0.9  |  0.93  |  0.9412  |  2.5  |")
print("Mean: 0.9412    Std: 0.0000")
"""


def lines(folder: Path, part: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / f"{part}.jsonl").read_text().splitlines()]


def test_every_part_runs_and_nothing_is_repeated(gpu: ModuleType, tmp_path: Path) -> None:
    peer = tmp_path / "peer.py"
    peer.write_text(PEER)
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--tiny", "--device", "cpu", "--only", ONLY, "--parts", PARTS, "--peer", str(peer)]
    assert gpu.main(arguments) == 0
    [same] = lines(out, "correctness")
    assert same["fp32"] == 0.0 and same["fp32_agrees"] is True and same["fp16"] == 0.0, "the CPU against itself"
    assert same["steps"] == 16
    [beside] = lines(out, "peers")
    assert beside["peer_s"] == 2.5 and beside["our_s"] > 0  # type: ignore[operator]
    assert [run["accuracy"] for run in beside["of_peer"]["runs"]] == [0.1, 0.9412]  # type: ignore[index]
    [profile] = lines(out, "profile")
    assert 0 < profile["share_of_peak"] < 2 and profile["flop"] > 1e6  # type: ignore[operator]
    assert [line["recipe"] for line in lines(out, "memory")] == [ONLY]
    with Store(out / "runs.sqlite") as store:
        assert sorted(run.seed for run in store.runs()) == [0, 1], "records and ladder share their runs"
    before = {path.name: path.read_bytes() for path in out.glob("*.jsonl")}
    assert gpu.main(arguments) == 0
    assert {path.name: path.read_bytes() for path in out.glob("*.jsonl")} == before
    with Store(out / "runs.sqlite") as store:
        assert len(store.runs()) == 2


def test_short_runs_are_of_two_epochs(gpu: ModuleType, tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path), "--tiny", "--device", "cpu", "--only", ONLY, "--parts", "short"]
    assert gpu.main(arguments) == 0
    with Store(tmp_path / "runs.sqlite") as store:
        assert [(run.recipe.epochs, run.seed) for run in store.runs()] == [(2.0, 0), (2.0, 1)]


def test_what_is_cut_off_is_done_again_and_time_is_kept(
    gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--out", str(tmp_path), "--tiny", "--device", "cpu", "--only", ONLY, "--parts", "memory"]
    assert gpu.main([*arguments, "--minutes", "0"]) == 0
    assert "the time is up before memory" in capsys.readouterr().out
    (tmp_path / "memory.jsonl").write_text('{"recipe": "cifar10-air')
    assert gpu.main(arguments) == 0
    cut_off, again = (tmp_path / "memory.jsonl").read_text().splitlines()
    assert (cut_off, json.loads(again)["recipe"]) == ('{"recipe": "cifar10-air', ONLY)


def test_bad_input(gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--out", str(tmp_path), "--device", "cpu", "--parts", "memroy"]) == 2
    assert "no such part: memroy" in capsys.readouterr().err
    assert gpu.main(["--out", str(tmp_path), "--device", "cuda:99"]) == 2
    assert "cuda" in capsys.readouterr().err


def test_what_peers_print(gpu: ModuleType) -> None:
    parse = sys.modules["peers"].parse_runs
    assert parse("epoch 3 test accuracy: 94.1 % time: 2.6 s\nloss 3") == [{"accuracy": 0.941, "seconds": 2.6}]
    assert parse("| a | acc | time |\n| 1 | 0.9 | 3 |\n| 2 |  | 4 |") == [{"accuracy": 0.9, "seconds": 3.0}]
    assert parse("nothing to see") == []


def test_a_peer_that_fails_or_hangs_is_told_apart(gpu: ModuleType, tmp_path: Path) -> None:
    failing, hanging = tmp_path / "a.py", tmp_path / "b.py"
    failing.write_text("raise SystemExit('no data')")
    hanging.write_text("import time; print('started', flush=True); time.sleep(60)")
    failed = sys.modules["peers"].run_peer(failing, 60)
    assert failed["status"] == 1 and "no data" in failed["output"] and failed["runs"] == []
    late = sys.modules["peers"].run_peer(hanging, 2)
    assert late["status"] == -1 and "started" in late["output"]
