"""Peers side by side on the CPU, rehearsed with stand-ins and a few synthetic images, without the network."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name: str, folder: Path = BENCHMARKS) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cpu() -> Iterator[ModuleType]:
    load("cpu_contestants")
    load("cpu_table")
    yield load("cpu")
    for name in ("cpu", "cpu_table", "cpu_contestants"):
        del sys.modules[name]


@pytest.fixture(scope="module")
def shared() -> ModuleType:
    return load("shared", BENCHMARKS / "cpu_peers")


def lines(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()]


def stand_in(cpu: ModuleType, code: str, version: str = "1") -> Any:
    """A contestant whose process runs the code, which knows its seed as ``seed``."""
    return replace(
        cpu.CONTESTANTS["plain"],
        command=lambda _, seed: [sys.executable, "-I", "-S", "-c", f"import json\nseed = {seed}\n{code}"],
        version=lambda: version,
    )


SAYS = "print(json.dumps({'accuracy': 0.99 + seed / 1000, 'seconds': %s}))"


@pytest.fixture
def three(cpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "capture", lambda _: SimpleNamespace(cpu="a CPU"))
    for name, seconds in (("plain", 4.0), ("8-final", 2.0), ("sklearn", 8.0)):
        monkeypatch.setitem(cpu.CONTESTANTS, name, stand_in(cpu, SAYS % seconds))


ONLY = ["--only", "plain,8-final,sklearn", "--no-install", "--tiny"]


def test_the_real_contestants_run_at_tiny_sizes(
    cpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "cpu.jsonl"
    arguments = ["--tiny", "--seeds", "1", "--threads", "1", "--no-install", "--results", str(results)]
    arguments += ["--only", "plain,8-final,sklearn", "--peers-venv", sys.prefix]
    assert cpu.main(arguments) == 0
    found = lines(results)
    assert [line["contestant"] for line in found] == ["plain", "8-final", "sklearn"]
    for line in found:
        assert 0 <= line["accuracy"] <= 1 and 0 < line["seconds"] < line["cpu_s"] * 100
        assert 30e6 < line["peak_bytes"] < 4e9
    assert set(found[1]["phases"]) >= {"prepare", "train", "evaluate"}
    assert "scikit-learn MLPClassifier" in capsys.readouterr().out
    assert cpu.main(arguments) == 0
    assert lines(results) == found, "nothing is run twice"


def test_what_cannot_take_part_says_why(
    cpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contestants = sys.modules["cpu_contestants"]
    monkeypatch.setattr(contestants, "_options", lambda: "--threads")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho 'ModuleNotFoundError: no tinygrad' >&2\nexit 1\n")
    python.chmod(0o755)
    arguments = ["--tiny", "--results", str(tmp_path / "none.jsonl"), "--only", "record-native,keras,tinygrad"]
    assert cpu.main([*arguments, "--peers-venv", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "keras jax could not be installed" in said and "tinygrad could not be installed" in said
    assert "record-native is left out: " in said
    assert "tinygrad is left out: ModuleNotFoundError: no tinygrad (its CPU device needs clang" in said
    assert said.endswith("nothing measured yet\n")


def test_the_backend_is_chosen_where_there_is_a_choice(cpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = cpu.Setup(Path("data"), Path("python"), 3)
    for options, expected in (("--backend", True), ("--threads", False)):
        monkeypatch.setattr(sys.modules["cpu_contestants"], "_options", lambda options=options: options)
        command = cpu.CONTESTANTS["record-torch"].command(setup, 7)
        assert ("--backend torch" in " ".join(command)) is expected
    assert "--seeds 7..7 --threads 3" in " ".join(command)


def test_turns_alternate_and_go_on_where_they_stopped(
    cpu: ModuleType, three: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "cpu.jsonl"
    arguments = [*ONLY, "--results", str(results), "--peers-venv", sys.prefix]
    assert cpu.main([*arguments, "--seeds", "2", "--rounds", "2"]) == 0
    found = lines(results)
    there = ["plain", "8-final", "sklearn"]
    assert [line["contestant"] for line in found] == [*there, *there[::-1], *there, *there[::-1]]
    assert [(line["seed"], line["round"]) for line in found[::3]] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    results.write_text("\n".join(results.read_text().splitlines()[:-1]) + '\n{"contestant": "pla')
    assert cpu.main([*arguments, "--seeds", "2", "--rounds", "2"]) == 0
    last = json.loads(results.read_text().splitlines()[-1])
    assert (last["contestant"], last["seed"], last["round"]) == ("plain", 1, 1)
    monkeypatch.setitem(cpu.CONTESTANTS, "sklearn", stand_in(cpu, SAYS % 5.0, version="2"))
    assert cpu.main([*arguments, "--seeds", "1"]) == 0
    groups = sys.modules["cpu_table"].current(cpu.stored(results))
    assert [line["seconds"] for line in groups["sklearn"]] == [5.0], "another version is not pooled with the old one"
    assert len(groups["plain"]) == 4


def test_one_that_fails_is_left_out_and_the_others_go_on(
    cpu: ModuleType, three: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "cpu.jsonl"
    monkeypatch.setitem(cpu.CONTESTANTS, "8-final", stand_in(cpu, "raise SystemExit('no such data')"))
    assert cpu.main([*ONLY, "--seeds", "2", "--results", str(results)]) == 1
    said = capsys.readouterr().out
    assert said.count("8-final seed 0 failed and is left out from here on: no such data") == 1
    assert [line["contestant"] for line in lines(results)] == ["plain", "sklearn", "sklearn", "plain"]


def line(contestant: str, seed: int, seconds: float, **fields: Any) -> dict[str, Any]:
    own = {"contestant": contestant, "seed": seed, "seconds": seconds, "round": 0, "accuracy": 0.99 + seed / 10000}
    rest = {"peak_bytes": 300 * 2**20, "contended": False, "cpu": "a CPU", "threads": 2, "version": "1", "tiny": False}
    return {**own, **rest, "versions": {"torch": "2"}, **fields}


def test_the_table_pools_what_belongs_together(cpu: ModuleType) -> None:
    stored = [line("plain", seed, 10.0 + seed) for seed in range(7)]
    stored += [line("record-native", seed, (10.0 + seed) / 20, commit="0123456789abc") for seed in range(7)]
    stored += [line("record-native", 0, 99.0, threads=1), line("sklearn", 0, 50.0, contended=True)]
    stored[3]["contended"] = True
    stored += [line("plain", 0, 10.0, round=1)]
    head, rule, *rows = cpu.table(stored).split("\n\n")[0].splitlines()
    assert len({len(text) for text in (head, rule, *rows)}) == 1, "aligned"
    cells = [[cell.strip() for cell in text.strip("|").split("|")] for text in rows]
    assert cells[0][1:5] == ["99.03 % ± 0.02", "8, 1 ‡", "7 of 7", "12.0 s [10.0, 16.0]"]
    assert cells[1][4:] == ["0.650 s [0.500, 0.800]", "20.0× [20.0×, 20.0×]", "300 MiB"]
    assert cells[2][1:6] == ["99.00 %", "1, 1 ‡", "1 of 1", "50.0 s ‡", "0.20× ‡"]
    notes = cpu.table(stored).split("\n\n")[1]
    assert "a CPU, 2 threads; torch 2; hotlap at 0123456789." in notes and "‡ Other processes" in notes


def test_bad_input(cpu: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, said in ((["--only", "keres"], "no such contestant: keres"), (["--seeds", "0"], "at least 1")):
        with pytest.raises(SystemExit) as stopped:
            cpu.main(wrong)
        assert stopped.value.code == 2 and said in capsys.readouterr().err


def test_peak_memory_is_the_commands_own(tmp_path: Path) -> None:
    def peak(size: int) -> float:
        notes = tmp_path / "notes.json"
        launch = [sys.executable, "-I", "-S", str(BENCHMARKS / "cpu_launch.py"), "1", str(notes)]
        code = f"import os; x = b'1' * {size}; raise SystemExit(int(os.environ['OMP_NUM_THREADS']) + 2)"
        assert subprocess.run([*launch, sys.executable, "-I", "-S", "-c", code], check=False).returncode == 3
        noted: dict[str, float] = json.loads(notes.read_text())
        return noted["peak_bytes"] / 2**20

    small, large = peak(1), peak(100 * 2**20)
    assert small < 60, "this process, which holds torch, is far larger"
    assert 95 < large - small < 105


def test_peers_see_shifted_middles_and_no_test_images_while_they_are_tuned(shared: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10_040, 1, 28, 28), np.uint8)
    np.save(tmp_path / "x_train.npy", images)
    np.save(tmp_path / "y_train.npy", np.arange(10_040) % 10)
    arguments = ["--data", str(tmp_path), "--hold-out", "--set", "lr=0.5"]
    task = shared.read(None, {"lr": 0.1, "batch": 3}, arguments)
    assert task.settings == {"lr": 0.5, "batch": 3}
    assert task.x.shape == (40, 28, 28) and np.array_equal(task.x_test, images[40:, 0])
    with pytest.raises(SystemExit):
        shared.read(None, {"lr": 0.1}, [*arguments, "--set", "typo=1"])
    crops = shared.shifted_crops(task.x, rng)
    views = np.lib.stride_tricks.sliding_window_view(task.x, (22, 22), (1, 2))[:, 2:5, 2:5]
    same = (views == crops[:, None, None]).all((3, 4)).reshape(40, 9)
    assert (same.sum(1) == 1).all() and len(set(same.argmax(1))) > 5
    assert np.array_equal(shared.middle_crops(task.x), views[:, 1, 1])


def test_order_and_learning_rate_of_peers(shared: ModuleType) -> None:
    order = shared.order(np.random.default_rng(0), 10, 25)
    assert sorted(order[:10]) == list(range(10)) and len(set(order[20:])) == 5
    factors = shared.triangle(100, 0.1, 0.04, 0.02)
    assert factors[0] == pytest.approx(0.04) and factors.argmax() == 10 and factors[10] == 1
    assert 0.02 < factors[-1] < 0.04
    assert shared.triangle(1, 0.1, 0.04, 0.02).tolist() == [pytest.approx(0.04)]
