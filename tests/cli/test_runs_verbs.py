from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from factories import make_environment, make_recipe, make_run
from hotlap import cli
from hotlap.report.html.selection import gather, run_sets
from hotlap.stats import summarise
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


CHANGED = "mnist/8-final [optimizer.lr=0.02]"


def test_a_changed_recipe_is_found_by_the_name_that_is_printed(hotlap: Hotlap, own_store: Path) -> None:
    fill(own_store, 0, recipe=make_recipe(CHANGED))
    fill(own_store, 1, recipe=make_recipe("mnist/8-final o"))
    assert [run["seed"] for run in json.loads(hotlap("runs", CHANGED, "--json")[1])] == [0]
    assert [run["seed"] for run in json.loads(hotlap("runs", "mnist/8-final [a-z]", "--json")[1])] == [1]
    assert [run["seed"] for run in json.loads(hotlap("runs", "mnist/8-final*", "--json")[1])] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--seed", 2**63), 0, "No such runs"),
        (("--seed", -(2**63) - 1), 0, "No such runs"),
        (("--since", "0001-01-01T00:00+01:00"), 2, "is not a date or time"),
        (("--limit", 2**70), 0, "mnist/tiny"),
        (("--summary", "--csv"), 2, "--csv and --parquet are of single runs"),
        (("--summary", "--parquet", "x.parquet"), 2, "--csv and --parquet are of single runs"),
    ],
)
def test_what_the_store_cannot_hold_is_no_fault(
    hotlap: Hotlap, own_store: Path, arguments: tuple[object, ...], status: int, message: str
) -> None:
    fill(own_store, 0)
    found = hotlap("runs", *arguments)
    assert found[0] == status
    assert message in found[1] + found[2]


def test_options_may_stand_before_the_command(hotlap: Hotlap, own_store: Path, tmp_path: Path) -> None:
    one, other = fill(tmp_path / "one.sqlite", 0), fill(tmp_path / "other.sqlite", 1)
    assert f"{one} holds 2 runs" in hotlap("runs", "--store", one, "merge", other)[1]
    assert json.loads(hotlap("runs", "--json", f"--store={one}", "merge", other)[1])["runs"] == 2
    assert len(json.loads(hotlap("runs", "--store", one, "list", "--json")[1])) == 2
    # The value of an option is no command.
    assert len(json.loads(hotlap("runs", "--store", one, "--device", "merge", "--json")[1])) == 0
    assert len(json.loads(hotlap("runs", "--store", one, "mnist/*", "--json")[1])) == 2


def test_summaries_tell_softwares_apart_and_agree_with_the_report(
    hotlap: Hotlap, own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Train, upgrade, train again; then once more, on a shared machine."""
    monkeypatch.chdir(tmp_path)
    fill(own_store, 0, 1, 2, certified_s=20.0)
    fill(own_store, 0, 1, 2, certified_s=15.0, environment=make_environment(torch="3.0"))
    late = "2026-05-01T00:00:00.000001+00:00"
    fill(own_store, 0, 1, 2, certified_s=10.0, environment=make_environment(torch="3.0"), started_at=late)
    later = "2026-06-01T00:00:00.000001+00:00"
    fill(
        own_store, 0, certified_s=99.0, environment=make_environment(torch="3.0"), timing_valid=False, started_at=later
    )
    out = hotlap("runs", "--summary")[1]
    assert [line.rpartition(", hotlap ")[2] for line in out.splitlines()[::2]] == [
        "0.1.0, torch 2.13.0",
        "0.1.0, torch 3.0",
    ]
    assert "certified time 20.0 s" in out.splitlines()[1] and "certified time 10.0 s" in out.splitlines()[3]
    found = json.loads(hotlap("runs", "--summary", "--json")[1])
    assert [(one["torch"], one["timing_rules"], one["n"], one["timing_valid"]) for one in found] == [
        ("2.13.0", 1, 3, True),
        ("3.0", 1, 3, True),
    ]
    sets = run_sets(gather([]).runs)
    assert [json.loads(json.dumps(summarise(own).to_dict())) for own in sets] == [
        {key: value for key, value in one.items() if key not in ("hotlap", "torch", "timing_rules")} for one in found
    ]


def test_merging_what_is_no_run_is_one_line(hotlap: Hotlap, own_store: Path, tmp_path: Path) -> None:
    document = make_run().to_dict()
    for change in ({"phases": {"load": 1.0}}, {"recipe": 5}, {"seed": 2**70}, {"started_at": "0001-01-01T00:00+01:00"}):
        (tmp_path / "runs.jsonl").write_text(json.dumps({**document, **change}) + "\n")
        status, _, err = hotlap("runs", "merge", tmp_path)
        assert (status, err.count("\n")) == (2, 1)
