from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import make_run
from hotlap.errors import StoreError
from hotlap.report.record_files import write_raw
from hotlap.result import Run
from hotlap.store import Store, schema
from hotlap.store import merge as merge_module
from hotlap.store.merge import merge

GOLDEN = Path(__file__).parents[1] / "golden"


def store_with(path: Path, *runs: Run) -> Path:
    with Store(path) as store:
        store.add_all(runs)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_add_all_is_all_or_nothing(tmp_path: Path) -> None:
    first, second, third = (make_run(seed=seed) for seed in range(3))
    with Store(tmp_path / "runs.sqlite") as store:
        store.add_all([first, second])
        with pytest.raises(StoreError, match=f"{first.id} cannot be added"):
            store.add_all([third, first])
        store.add_all([])
        assert store.runs() == [first, second]


def test_three_stores_are_merged_without_duplicates(tmp_path: Path) -> None:
    shared, mine = make_run(seed=0), make_run(seed=1)
    # The same recipe and seed on another machine is another observation.
    theirs, more = make_run(seed=1, threads=8), make_run(seed=5)
    other = store_with(tmp_path / "other" / "runs.sqlite", theirs, shared)
    third = store_with(tmp_path / "third" / "runs.sqlite", more, theirs)
    before = {folder: contents(tmp_path / folder) for folder in ("other", "third")}
    with Store(store_with(tmp_path / "runs.sqlite", shared, mine)) as store:
        first = merge(store, other)
        assert (first.source, first.added, first.present) == (other, 1, 1)
        second = merge(store, str(third))
        assert (second.added, second.present) == (1, 1)
        assert {run.id for run in store.runs()} == {run.id for run in (shared, mine, theirs, more)}
        assert store.run(theirs.id) == theirs
        for source, held in ((other, 2), (third, 2), (store.path, 4)):
            again = merge(store, source)
            assert (again.added, again.present) == (0, held)
        assert len(store) == 4
    assert before == {folder: contents(tmp_path / folder) for folder in ("other", "third")}


@settings(max_examples=15)
@given(st.lists(st.sets(st.integers(0, 9)), min_size=2, max_size=3), st.permutations(range(3)))
def test_any_stores_in_any_order_give_their_union(holdings: list[set[int]], order: list[int]) -> None:
    runs = [make_run(seed=seed, id=f"{seed:032x}") for seed in range(10)]
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            store_with(Path(folder) / f"{i}.sqlite", *(runs[seed] for seed in sorted(held)))
            for i, held in enumerate(holdings)
        ]
        with Store(Path(folder) / "all.sqlite") as store:
            done = [merge(store, paths[i]) for i in order if i < len(paths)]
            union = sorted(set[int]().union(*holdings))
            assert store.runs() == [runs[seed] for seed in union]
            assert sum(one.added for one in done) == len(union)
            assert sum(one.added + one.present for one in done) == sum(map(len, holdings))


def test_the_same_id_with_another_document_is_an_error_and_adds_nothing(tmp_path: Path) -> None:
    run = make_run(seed=1)
    other = store_with(tmp_path / "other.sqlite", make_run(seed=0), make_run(seed=1, accuracy=0.5, id=run.id))
    with Store(store_with(tmp_path / "runs.sqlite", run)) as store:
        with pytest.raises(StoreError, match=rf"other.sqlite cannot be merged: another run with the id {run.id}"):
            merge(store, other)
        assert store.runs() == [run]


def test_a_run_shown_under_another_name_or_target_of_its_recipe_is_the_same_run(tmp_path: Path) -> None:
    run = make_run(seed=1)
    shown = replace(run, recipe=run.recipe.with_changes({"target": 0.5}, name="another"))
    other = store_with(tmp_path / "other.sqlite", shown)
    with Store(store_with(tmp_path / "runs.sqlite", run)) as store:
        assert merge(store, other).added == 0
        assert [kept.recipe.name for kept in store.runs()] == [run.recipe.name]


def test_documents_are_copied_word_for_word_whatever_a_newer_hotlap_wrote_into_them(tmp_path: Path) -> None:
    run = make_run()
    document = json.dumps({"energy_j": 12.5, **run.to_dict()}, indent=1)
    with Store(tmp_path / "runs.sqlite") as store, Store(tmp_path / "other.sqlite") as other:
        assert other.add_documents({run.id: document}) == 1
        other_path = other.path
        assert merge(store, other_path).added == 1
        assert store.documents() == {run.id: document}
        assert store.runs() == [run]
        # The same document in another spelling is the same run.
        assert store.add_documents({run.id: json.dumps(json.loads(document))}) == 0


def test_runs_that_lie_in_the_write_ahead_log_of_a_store_in_use_are_read(tmp_path: Path) -> None:
    runs = [make_run(seed=seed) for seed in range(3)]
    with Store(tmp_path / "other" / "runs.sqlite") as used:
        used.add_all(runs[:2])
        assert Path(f"{used.path}-wal").stat().st_size > 0
        with Store(tmp_path / "runs.sqlite") as store:
            assert merge(store, used.path).added == 2
            used.add(runs[2])  # nothing holds it up
            assert merge(store, used.path).added == 1
            assert store.runs() == runs


def test_a_store_left_by_a_killed_process_in_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    run = make_run()
    left = tmp_path / "left"
    left.mkdir()
    with Store(tmp_path / "live.sqlite") as live:
        live.add(run)
        for end in ("", "-wal"):  # without the shared-memory file, which does not travel
            shutil.copyfile(f"{live.path}{end}", left / f"runs.sqlite{end}")
            (left / f"runs.sqlite{end}").chmod(0o400)
    left.chmod(0o500)
    before = contents(left)
    try:
        with Store(tmp_path / "runs.sqlite") as store:
            assert merge(store, left / "runs.sqlite").added == 1
            assert store.runs() == [run]
        assert contents(left) == before
    finally:
        left.chmod(0o700)


def test_an_older_version_is_migrated_in_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "old.sqlite"
    db = sqlite3.connect(old)
    db.executescript((GOLDEN / "store_v1.sql").read_text(encoding="utf-8"))
    db.close()
    before = old.read_bytes()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("ALTER TABLE runs ADD COLUMN energy_j REAL",)))
    monkeypatch.setattr(schema, "SCHEMA", schema.SCHEMA + 1)
    with Store(tmp_path / "runs.sqlite") as store:
        assert merge(store, old).added == 2
        assert [run.accuracy for run in store.runs()] == [0.991, None]
    assert old.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["old.sqlite", "runs.sqlite"]


def damaged(path: Path) -> None:
    store_with(path, *(make_run(seed=seed) for seed in range(30)))
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 400] = b"\xa5" * 400
    path.write_bytes(content)


def newer(path: Path) -> None:
    store_with(path)
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {schema.SCHEMA + 1}")
    db.close()


def music(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE songs (title TEXT)")
    db.close()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no run store at {path}"),
        (lambda path: path.mkdir(), "the run store {path} cannot be read: Is a directory"),
        (lambda path: path.write_text("remember the milk\n" * 100), "{path} is not a run store"),
        (music, "{path} is an SQLite database, but not a run store"),
        (newer, "{path} was written by a newer hotlap"),
        (damaged, "the run store {path} is damaged"),
    ],
)
def test_what_is_no_store_is_named_and_left_alone(make, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "other" / "their runs.sqlite"
    path.parent.mkdir()
    make(path)
    before = contents(tmp_path / "other")
    with Store(tmp_path / "runs.sqlite") as store:
        with pytest.raises(StoreError) as caught:
            merge(store, path)
        assert str(caught.value).startswith(message.format(path=path))
        assert "hotlap-merge-" not in str(caught.value)
        assert len(store) == 0
    assert contents(tmp_path / "other") == before


def test_a_damaged_document_is_named_and_adds_nothing(tmp_path: Path) -> None:
    other = store_with(tmp_path / "other.sqlite", make_run(seed=0))
    db = sqlite3.connect(other)
    db.execute(
        "INSERT INTO runs (id, recipe_name, digest, seed, status, certified_s, device, threads, backend,"
        " timing_valid, started_at, document) VALUES ('bad', 'a', 'b', 0, 'done', 1, 'cpu', 1, 'c', 1, 'd', '{')"
    )
    db.commit()
    db.close()
    with Store(tmp_path / "runs.sqlite") as store:
        with pytest.raises(StoreError, match=r"other.sqlite cannot be merged: stored run bad cannot be read"):
            merge(store, other)
        assert len(store) == 0


def test_a_store_that_changes_while_it_is_copied_is_copied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.sqlite"
    runs = [make_run(seed=seed) for seed in range(3)]
    store_with(other, runs[0])
    copy, late = shutil.copyfile, iter(runs[1:])

    def slow_copy(source: Path, target: Path) -> object:
        done = copy(source, target)
        if Path(source) == other and (run := next(late, None)):
            store_with(other, run)
        return done

    monkeypatch.setattr(shutil, "copyfile", slow_copy)
    monkeypatch.setattr(merge_module, "_PAUSE_S", 0.0)
    with Store(tmp_path / "runs.sqlite") as store:
        assert merge(store, other).added == 3

    def never_equal(*args: object, **kwargs: object) -> bool:
        return False

    monkeypatch.setattr(merge_module.filecmp, "cmp", never_equal)
    with (
        Store(tmp_path / "runs.sqlite") as store,
        pytest.raises(StoreError, match="keeps changing while it is read"),
    ):
        merge(store, other)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read anything")
def test_a_store_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    other = store_with(tmp_path / "other.sqlite", make_run())
    other.chmod(0)
    with Store(tmp_path / "runs.sqlite") as store, pytest.raises(StoreError, match=r"other.sqlite cannot be read"):
        merge(store, other)


def test_a_record_is_merged_like_a_store(tmp_path: Path) -> None:
    runs = [make_run(seed=seed) for seed in range(3)]
    folder = tmp_path / "record"
    write_raw(folder, runs, {"kind": "certificate"})
    with Store(store_with(tmp_path / "runs.sqlite", runs[0])) as store:
        merged = merge(store, folder)
        assert (merged.added, merged.present) == (2, 1)
        again = merge(store, folder / "runs.jsonl")
        assert (again.added, again.present) == (0, 3)
        assert {run.id for run in store.runs()} == {run.id for run in runs}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b'{"id": "a"}\n{"id":', "line 2 of .* is no stored run"),
        (b"[1]\n", "line 1 of .* is no stored run"),
        (b"\xff\xfe", "it is no text"),
        (b'{"id": "a"}\n', "cannot be merged"),
    ],
)
def test_what_is_no_record_is_refused_whole(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "runs.jsonl").write_bytes(content)
    with Store(store_with(tmp_path / "runs.sqlite", make_run(seed=0))) as store:
        with pytest.raises(StoreError, match=message):
            merge(store, tmp_path / "runs.jsonl")
        assert len(store) == 1
