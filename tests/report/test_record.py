from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from factories import make_run
from hotlap.errors import InputError
from hotlap.ladder import get_ladder, resolve
from hotlap.report import record
from hotlap.report.certificate import write_certificate
from hotlap.report.ladder_record import check_ladder_place, write_ladder_record
from hotlap.report.record_files import read_runs
from hotlap.result import Run

LADDER = get_ladder("mnist")
STEPS = resolve(LADDER)


def runs() -> list[Run]:
    """Two rungs: 7 with two seeds, 8 with three, the last one of which shared the machine."""
    return [
        replace(
            make_run(seed=seed, accuracy=0.99 + seed / 10_000),
            recipe=STEPS[index].recipe,
            phases={"load": 9.0, "warmup": 9.0, "prepare": 0.5, "train": float(train), "evaluate": 0.5, "log": 9.0},
            timing_valid=not (index == 8 and seed == 2),
            contention=0.25,
        )
        for index, seed, train in ((7, 0, 39), (7, 1, 39), (8, 0, 19), (8, 1, 19), (8, 2, 19))
    ]


def test_a_record_holds_raw_runs_and_what_follows_from_them(tmp_path: Path) -> None:
    written = write_ladder_record(tmp_path / "new" / "folder", LADDER, runs())
    assert {path.name for path in written} == {"runs.jsonl", "record.json", "README.md", "ladder.png", "ladder.svg"}
    folder = tmp_path / "new" / "folder"
    assert read_runs(folder) == sorted(runs_of(folder), key=lambda run: (run.recipe.name, run.seed))
    assert {run.id for run in read_runs(folder)} == {run.id for run in read_runs(folder)}
    readme = (folder / "README.md").read_text()
    line = next(line for line in readme.splitlines() if line.startswith("| 8-final"))
    cells = [cell.strip() for cell in line.split("|")[1:-1]]
    assert cells[:4] == ["8-final", "5×5 first kernel, Adam, pool first", "0.762 s ± 0.025", "99.04 %"]
    assert cells[4] == "3"
    assert cells[5].startswith("99.01 % ± 0.02")
    assert cells[6] == "3 of 3"
    assert cells[7].startswith("20.0 s")
    assert cells[7].endswith("‡")
    assert cells[8:] == ["–", "2.00× ‡"], "rung 0 was not run; rung 7 took twice as long, on a shared machine"
    assert "‡ Other work shared the machine" in readme
    assert "kept 0.25 cores busy in the median run, 0.25 at most" in readme
    record.check_record(folder)


def runs_of(folder: Path) -> list[Run]:
    return [Run.from_dict(json.loads(line)) for line in (folder / "runs.jsonl").read_text().splitlines()]


def test_a_record_that_was_edited_is_found_out(tmp_path: Path) -> None:
    folder = tmp_path / "records" / "the-ladder"
    write_ladder_record(folder, LADDER, runs())
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("99.01 %", "99.91 %"))
    with pytest.raises(InputError, match="does not follow from its raw runs"):
        record.check_record(folder)
    document = tmp_path / "doc.md"
    document.write_text("before\n<!-- record the-ladder -->\nold\n<!-- end -->\nafter\n")
    assert record.main([tmp_path / "records", document]) == 0
    assert document.read_text().startswith("before\n<!-- record the-ladder -->\n| rung | change |")
    assert document.read_text().endswith("<!-- end -->\nafter\n")
    assert "old" not in document.read_text().split()
    record.check_record(folder)
    readme.unlink()
    with pytest.raises(InputError, match="does not follow from its raw runs"):
        record.check_record(folder)


def test_without_matplotlib_no_half_of_a_record_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for changes in ({}, {"epochs": 2}):
        changed = [replace(run, recipe=run.recipe.with_changes(changes)) for run in runs()]
        with pytest.raises(InputError, match="a plot needs matplotlib"):
            write_ladder_record(tmp_path / "folder", LADDER, changed, changes)
    assert not (tmp_path / "folder").exists()


def test_what_cannot_be_a_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs runs"):
        write_ladder_record(tmp_path, LADDER, [])
    changed = replace(runs()[0], recipe=STEPS[7].recipe.with_changes({"batch_size": 7}))
    with pytest.raises(InputError, match="was changed"):
        write_ladder_record(tmp_path, LADDER, [changed])
    with pytest.raises(InputError, match="holds no readable record"):
        record.check_record(tmp_path)
    (tmp_path / "runs.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="lacks"):
        read_runs(tmp_path)


@pytest.mark.parametrize("changes", [{}, {"epochs": 2}])
def test_a_ladders_record_takes_no_other_records_place(tmp_path: Path, changes: dict[str, Any]) -> None:
    changed = [replace(run, recipe=run.recipe.with_changes(changes)) for run in runs()]
    certified = [make_run(seed=seed, accuracy=0.991 + seed / 1e5) for seed in range(10)]
    write_certificate(tmp_path / "certificate", certified, 0.99)
    others = {} if changes else {"epochs": 3}
    other = [replace(run, recipe=run.recipe.with_changes(others)) for run in runs()]
    write_ladder_record(tmp_path / "other", LADDER, other, others)
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "README.md").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name, message in (
        ("certificate", "another record, a certificate of mnist/tiny"),
        ("other", "another record, a ladder of mnist"),
        ("project", "a README.md that is no record's"),
    ):
        with pytest.raises(InputError, match=message):
            check_ladder_place(tmp_path / name, LADDER, changes)
        with pytest.raises(InputError, match=message):
            write_ladder_record(tmp_path / name, LADDER, changed, changes)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_ladders_record_is_replaced_by_a_newer_one_of_it(tmp_path: Path) -> None:
    for n in (2, 5):
        write_ladder_record(tmp_path, LADDER, runs()[:n])
        assert len(read_runs(tmp_path)) == n
    for n in (1, 2):
        changed = [replace(run, recipe=run.recipe.with_changes({"epochs": 2})) for run in runs()[:n]]
        write_ladder_record(tmp_path / "changed", LADDER, changed, {"epochs": 2})


RUN = make_run().to_dict()


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        ({"kind": "certificate"}, RUN),
        ({"kind": ["certificate"]}, RUN),
        ({"kind": "certificate", "recipe": 5, "target": 0.9}, RUN),
        ({"kind": "certificate", "recipe": RUN["recipe"], "digest": RUN["digest"], "target": None}, RUN),
        ({"kind": "ladder"}, RUN),
        ({"kind": "ladder", "ladder": ["mnist"]}, RUN),
        ({"kind": "ladder", "ladder": "mnist", "changes": 5}, RUN),
        (None, []),
        (None, 5),
        (None, "text"),
        (None, {}),
        (None, {**RUN, "phases": {"train": 1.0, "evaluate": 1.0}}),
        (None, {**RUN, "phases": {**RUN["phases"], "train": "long"}}),
        (None, {**RUN, "phases": 5}),
        (None, {**RUN, "recipe": 5}),
        (None, {**RUN, "recipe": {}}),
        (None, {**RUN, "environment": None}),
        (None, {**RUN, "environment": {"cores": 3}}),
        (None, {**RUN, "accuracy": "high"}),
        (None, {**RUN, "accuracy_by_epoch": [1]}),
        (None, {**RUN, "started_at": "yesterday"}),
        (None, {**RUN, "started_at": None}),
        (None, {**RUN, "seed": None}),
    ],
)
def test_a_malformed_record_is_one_line(tmp_path: Path, claim: Any, line: Any) -> None:
    valid = [make_run(seed=seed, accuracy=0.991 + seed / 1e5) for seed in range(10)]
    write_certificate(tmp_path, valid, 0.99)
    if claim is not None:
        (tmp_path / "record.json").write_text(json.dumps(claim))
    with (tmp_path / "runs.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(InputError) as found:
        record.check_record(tmp_path)
    assert str(tmp_path) in str(found.value) and "\n" not in str(found.value)


def test_a_readme_that_is_no_text_does_not_follow(tmp_path: Path) -> None:
    write_ladder_record(tmp_path, LADDER, runs())
    (tmp_path / "README.md").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="does not follow"):
        record.check_record(tmp_path)
    (tmp_path / "README.md").unlink()
    (tmp_path / "README.md").mkdir()
    with pytest.raises(InputError, match="does not follow"):
        record.check_record(tmp_path)
