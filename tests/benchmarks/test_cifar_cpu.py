"""The CPU ladder's benchmark, rehearsed without training: it adds up what it should, resumes, and stops in time."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from types import ModuleType

import pytest

from hotlap.ladder import get_ladder, resolve

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cifar_cpu.py"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("cifar_cpu", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results" / "figures.jsonl")
    return module


def test_steps_are_counted_by_the_size_of_their_images(script: ModuleType) -> None:
    steps = {step.rung.name: step for step in resolve(get_ladder("cifar10-cpu"))}
    assert script.sizes(steps["94-muon"].recipe) == {32: 200}
    assert script.sizes(steps["low-resolution"].recipe) == {24: 100, 32: 125}
    half = steps["94-muon"].recipe.with_changes({"epochs": 2.5})
    assert script.sizes(half) == {32: 63}
    assert script.views_of(half) == 6


def test_a_rungs_share_is_its_steps_over_the_plain_ones(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def child(name: str, count: int) -> dict[str, list[tuple[float, float]]]:
        asked.append(name)
        # As if the time of a step were the area of its images, and the plain reading took twice as long.
        side = int(name.partition("@")[2] or 0)
        step = side**2 / 1024 if side else 2.0
        return {"step": [(step, step)] * count, "answer": [(0.0, 0.0)] * count}

    monkeypatch.setattr(script, "child", child)
    script.steps(2, 1, math.inf)
    out = capsys.readouterr().out
    assert "94-muon                  0.500 [0.500, 0.500]: training 0.500, evaluation 0.000" in out
    low = (100 * 576 + 125 * 1024) / 1024 / 400
    assert f"low-resolution           {low:.3f}" in out
    assert asked[0] == "plain" and asked[-1] == "plain", "every other round is measured backwards"
    assert len(set(asked)) * 2 == len(asked) == len(script.lines())
    script.steps(2, 1, math.inf)
    assert len(script.lines()) == len(asked), "what is there already is not measured again"
    with pytest.raises(SystemExit, match="call again"):
        script.steps(3, 1, -math.inf)


def test_certifying_pairs_a_run_with_plain_steps(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "child", lambda name, count: {"step": [(9.0, 9.0)], "answer": [(4.0, 4.0)]})
    monkeypatch.setattr(
        script,
        "one_run",
        lambda name, seed, limit: {"accuracy": 0.94, "seconds": 384.0 + seed, "timing_valid": seed != 1},
    )
    script.certify(3, math.inf)
    assert "1 runs were interrupted or disturbed" in capsys.readouterr().out
    lines = [json.loads(line) for line in script.RESULTS.read_text().splitlines()]
    assert [line["what"] for line in lines] == ["plain", "run"] * 3
    with pytest.raises(SystemExit, match="call again"):
        script.certify(4, -math.inf)
