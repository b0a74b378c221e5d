from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from hotlap import cli
from hotlap.bench.compare_run import CompareRun
from hotlap.bench.session import Session
from hotlap.store import Store
from tiny import tiny


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(tiny(epochs=1.0).to_json())
    return path


def test_plain_output_has_one_line_per_pair_and_the_sentence_says_paired(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["compare", str(recipe), "--set", "optimizer.lr=0.001", "--seeds", "3", "--shared"]
    assert cli.run(arguments) == 0
    captured = capsys.readouterr()
    # Without a C++ compiler a line says so.
    lines = [line for line in captured.err.splitlines() if "compiled kernels" not in line]
    assert [line.split(":")[0] for line in lines] == ["seed 0", "seed 1", "seed 2"]
    assert all("points, " in line and "times as fast" in line for line in lines)
    assert "(paired t, 3 pairs)" in captured.out
    # Stored pairs tell how many more to plan for.
    assert cli.run([*arguments, "--plan", "--effect", "1", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["method"], plan["stored_pairs"]) == ("paired", 3)
    assert cli.run([*arguments, "--plan", "--effect", "1"]) == 0
    assert "pairs of runs: one pair's difference varies by" in capsys.readouterr().out


def test_other_batches_are_independent_runs(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compare", str(recipe), "--set", "batch_size=32", "--seeds", "2", "--shared", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["accuracy"]["method"] == "welch"
    assert "(Welch's t, 2 and 2 runs)" in document["sentence"]


def test_a_terminal_shows_a_table_that_grows(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(
        "hotlap.cli.progress.stderr", lambda: Console(file=screen, force_terminal=True, width=140, color_system=None)
    )
    arguments = ["compare", str(recipe), "--set", "optimizer.lr=0.001", "--seeds", "2", "--until", "0.05", "--shared"]
    assert cli.run(arguments) == 0
    text = screen.getvalue()
    for expected in ("certified time", "difference: ", "speed: ", "nothing is settled before 5 pairs"):
        assert expected in text
    # The candidate's row appears with no run before it has one.
    rows = [line for line in text.splitlines() if "optimizer.lr=0.001]" in line and "│" in line]
    counts = [row.split("│")[2].strip() for row in rows]
    assert counts[0] == "0"
    assert counts[-1] == "2"


def test_pairs_alternate_and_share_their_seeds(own_store: Path) -> None:
    a, b = tiny(epochs=1.0), tiny(epochs=1.0, optimizer__lr=0.001).with_changes({}, name="slow")
    with Store(own_store) as store:
        measured = CompareRun(session=Session(device="cpu", store=store, timing_valid=False), a=a, b=b, seeds=(7, 3, 5))
        made = [(run.recipe.name, run.seed) for run in measured.execute()]
        assert made == [("tiny", 7), ("slow", 7), ("slow", 3), ("tiny", 3), ("tiny", 5), ("slow", 5)]
        assert len(store) == 6
    assert [run.seed for run in measured.runs_a] == [run.seed for run in measured.runs_b] == [7, 3, 5]
    assert measured.stopped is None
    assert all(run.module is None for run in measured.runs_a)
