from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from factories import make_recipe, make_run
from hotlap import cli
from hotlap.store import Store

Hotlap = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hotlap(capsys: pytest.CaptureFixture[str]) -> Hotlap:
    def run(*arguments: object) -> tuple[int, str, str]:
        status = cli.run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def fill(path: Path, *seeds: int, **changes: object) -> Path:
    with Store(path) as store:
        store.add_all(make_run(seed=seed, **changes) for seed in seeds)  # type: ignore[arg-type]
    return path


def test_runs_lists_whether_or_not_the_word_is_written(hotlap: Hotlap, own_store: Path) -> None:
    fill(own_store, 0, 1)
    fill(own_store, 2, recipe=make_recipe("cifar10/wide", batch_size=512))
    for arguments in ((), ("--all",), ("mnist/*", "--summary"), ("--digest", "f00"), ("*", "--json")):
        plain, listed = hotlap("runs", *arguments), hotlap("runs", "list", *arguments)
        assert plain == listed
        assert plain[0] == 0
    assert "n = 2" in hotlap("runs", "mnist/*", "--summary")[1]
    assert [run["seed"] for run in json.loads(hotlap("runs", "cifar10/*", "--json")[1])] == [2]


def test_help_tells_of_both_verbs(hotlap: Hotlap) -> None:
    status, out, _ = hotlap("runs", "--help")
    assert status == 0
    for text in ("List stored runs", "--summary", "--parquet", "hotlap runs merge OTHER"):
        assert text in " ".join(out.split())
    assert "left out" in hotlap("runs", "merge", "--help")[1]


def test_merge_reports_what_it_added(hotlap: Hotlap, own_store: Path, tmp_path: Path) -> None:
    fill(own_store, 0)
    other, third = fill(tmp_path / "other.sqlite", 1, 2), fill(tmp_path / "third.sqlite", 1)
    status, out, _ = hotlap("runs", "merge", other, own_store)
    assert status == 0
    assert f"{other}: 2 added, 0 already there" in out
    assert f"{own_store}: 0 added, 3 already there" in out
    assert f"{own_store} holds 3 runs." in out
    document = json.loads(hotlap("runs", "merge", other, third, "--json")[1])
    assert document == {
        "store": str(own_store),
        "runs": 4,
        "merged": [
            {"source": str(other), "added": 0, "present": 2},
            {"source": str(third), "added": 1, "present": 0},
        ],
    }
    elsewhere = tmp_path / "new" / "all.sqlite"
    assert "holds 4 runs" in hotlap("runs", "merge", own_store, "--store", elsewhere)[1]


def test_merge_stops_at_a_store_that_cannot_be_merged(hotlap: Hotlap, own_store: Path, tmp_path: Path) -> None:
    run = make_run(seed=0)
    with Store(own_store) as store:
        store.add(run)
    good = fill(tmp_path / "good.sqlite", 1)
    bad = fill(tmp_path / "bad.sqlite", 2)
    fill(bad, 3, id=run.id)
    status, out, err = hotlap("runs", "merge", good, bad)
    assert status == 2
    assert f"{good}: 1 added" in out
    assert err == f"hotlap: {bad} cannot be merged: another run with the id {run.id} is stored in {own_store}\n"
    with Store(own_store) as store:
        assert [run.seed for run in store.runs()] == [0, 1]
    absent = hotlap("runs", "merge", tmp_path / "absent.sqlite")
    assert (absent[0], absent[2].count("\n")) == (2, 1)
    assert "there is no run store at" in absent[2]
    assert "Missing argument" in hotlap("runs", "merge")[2]


def test_parquet(hotlap: Hotlap, own_store: Path, tmp_path: Path) -> None:
    import pandas as pd

    fill(own_store, 0, 1, 2)
    path = tmp_path / "runs.parquet"
    status, out, _ = hotlap("runs", "--parquet", path, "--limit", "2")
    assert status == 0
    assert out == f"Wrote 2 runs to {path}.\n"
    assert pd.read_parquet(path)["seed"].tolist() == [1, 2]
    assert hotlap("runs", "nothing", "--parquet", path)[0] == 0
    assert len(pd.read_parquet(path)) == 0
    status, out, err = hotlap("runs", "--parquet", path, "--csv")
    assert (status, out) == (2, "")
    assert "--json, --csv and --parquet exclude each other" in err
    assert "cannot write" in hotlap("runs", "--parquet", tmp_path / "absent" / "runs.parquet")[2]
