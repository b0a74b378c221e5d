from __future__ import annotations

import io
import math
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from factories import make_recipe, make_run
from hotlap.errors import StoreError
from hotlap.result import Run
from hotlap.store import Store, default_path, schema
from hotlap.store.schema import APPLICATION_ID, SCHEMA

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / "runs.sqlite") as opened:
        yield opened


def test_a_run_comes_back_equal(store: Store) -> None:
    run = make_run(seed=7, accuracy_by_epoch=((0.5, 0.9), (1.0, 0.991)), loss_by_epoch=(0.25, 0.125), contention=0.5)
    store.add(run)
    assert store.runs() == [run]
    assert store.run(run.id) == run
    assert store.runs()[0].recipe.digest == run.recipe.digest
    assert len(store) == 1


def test_a_failed_run_with_a_loss_that_is_no_number_is_kept(store: Store) -> None:
    store.add(make_run(accuracy=None, loss_by_epoch=(2.5, math.nan)))
    (run,) = store.runs(status="failed")
    assert run.accuracy is None
    assert run.loss_by_epoch[0] == 2.5
    assert math.isnan(run.loss_by_epoch[1])
    assert store.runs(status="done") == []


def test_runs_come_oldest_first_and_limit_keeps_the_newest(store: Store) -> None:
    for seed in (3, 1, 2):
        store.add(make_run(seed=seed))
    assert [run.seed for run in store.runs()] == [1, 2, 3]
    assert [run.seed for run in store.runs(limit=2)] == [2, 3]
    assert store.runs(limit=0) == []


def test_runs_of_one_moment_keep_the_order_of_their_adding(store: Store) -> None:
    moment = "2026-01-02T03:04:05+00:00"
    for seed in (5, 4, 6):
        store.add(make_run(seed=seed, started_at=moment))
    assert [run.seed for run in store.runs()] == [5, 4, 6]
    assert [run.seed for run in store.runs(limit=2)] == [4, 6]


def test_each_condition_selects(store: Store) -> None:
    other = make_recipe("cifar10/wide", batch_size=512)
    store.add(make_run(seed=1))
    store.add(make_run(seed=2, recipe=other, device="cuda:0", timing_valid=False))
    store.add(make_run(seed=3, accuracy=None, threads=8))

    def seeds(**conditions: Any) -> list[int]:
        return [run.seed for run in store.runs(**conditions)]

    assert seeds(recipe="mnist/*") == [1, 3]
    assert seeds(recipe="*/wide") == [2]
    assert seeds(recipe="mnist") == []
    assert seeds(digest=other.digest) == [2]
    assert seeds(digest=other.digest[:9].upper()) == [2]
    assert seeds(digest=other.digest[1:9]) == []
    assert seeds(seed=3) == [3]
    assert seeds(status="failed") == [3]
    assert seeds(device="cuda:0") == [2]
    assert seeds(threads=2) == [1, 2]
    assert seeds(timing_valid=False) == [2]
    assert seeds(timing_valid=True, recipe="mnist/*", threads=8) == [3]


def test_since_understands_dates_times_and_zones(store: Store) -> None:
    for seed in range(3):  # 03:04, 03:05 and 03:06 UTC on 2 January
        store.add(make_run(seed=seed))
    store.add(make_run(seed=9, started_at="2026-01-02T05:30:00+02:00"))  # 03:30 UTC
    assert [run.seed for run in store.runs()] == [0, 1, 2, 9]
    assert [run.seed for run in store.runs(since="2026-01-02T03:05:05")] == [1, 2, 9]
    assert [run.seed for run in store.runs(since="2026-01-02T04:06:05+01:00")] == [2, 9]
    assert store.runs(since="2026-01-03") == []
    with pytest.raises(StoreError, match="'yesterday' is not a date"):
        store.runs(since="yesterday")


def test_a_run_is_found_by_the_beginning_of_its_id(store: Store) -> None:
    store.add(make_run(seed=1, id="ab" + "0" * 30))
    store.add(make_run(seed=2, id="ac" + "0" * 30))
    assert store.run("AC").seed == 2
    with pytest.raises(StoreError, match=r"several runs begin with 'a': ab0.*seed 1.*ac0.*seed 2.*write more"):
        store.run("a")
    with pytest.raises(StoreError, match="no stored run has an id that begins with 'f'"):
        store.run("f")
    with pytest.raises(StoreError, match="no stored run"):
        store.run("")


def test_the_same_id_is_refused_and_the_first_run_kept(store: Store) -> None:
    run = make_run(seed=1)
    store.add(run)
    with pytest.raises(StoreError, match=f"{run.id} cannot be added .* already stored"):
        store.add(make_run(seed=2, id=run.id))
    assert store.runs() == [run]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE runs SET accuracy = 1.0",
        "DELETE FROM runs",
        "INSERT OR REPLACE INTO runs SELECT * FROM runs",
        "REPLACE INTO runs (seq, id, recipe_name, digest, seed, status, certified_s, device, threads, backend,"
        " timing_valid, started_at, document) SELECT seq, 'x', '', '', 0, '', 0, '', 1, '', 1, '', '' FROM runs",
    ],
)
def test_stored_runs_cannot_be_changed(store: Store, statement: str) -> None:
    run = make_run()
    store.add(run)
    db = sqlite3.connect(store.path)
    with pytest.raises(sqlite3.IntegrityError, match=r"append-only|already stored"):
        db.execute(statement)
    db.close()
    assert store.runs() == [run]


def test_a_run_that_json_cannot_hold_is_refused_whole(store: Store) -> None:
    with pytest.raises(StoreError, match="cannot be stored"):
        store.add(make_run(accuracy_by_epoch=((1.0, math.nan),)))
    with pytest.raises(StoreError, match="cannot be stored"):
        store.add(make_run(started_at="noon"))
    assert len(store) == 0


def test_a_store_may_be_used_by_several_threads(store: Store) -> None:
    threads = [threading.Thread(target=store.add, args=(make_run(seed=seed),)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.seed for run in store.runs()] == list(range(8))


def test_commits_wait_for_the_disk_and_readers_do_not_wait_for_writers(store: Store) -> None:
    db = store._db
    assert db is not None
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.add(make_run(seed=1))
    writer = sqlite3.connect(store.path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert [run.seed for run in store.runs()] == [1]
    writer.close()


def test_default_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOTLAP_STORE", str(tmp_path / "mine.sqlite"))
    assert default_path() == tmp_path / "mine.sqlite"
    with Store() as store:
        assert store.path == tmp_path / "mine.sqlite"
    monkeypatch.delenv("HOTLAP_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert default_path().name == "runs.sqlite"
    assert "hotlap" in default_path().parts


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs.sqlite")
    store.close()
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        store.runs()


def test_a_store_of_another_process_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: real + 1)
    with pytest.raises(StoreError, match="another process"):
        store.add(make_run())


def test_csv_has_one_line_per_run(store: Store) -> None:
    for seed in range(2):
        store.add(make_run(seed=seed))
    file = io.StringIO()
    store.export_csv(store.runs(), file)
    header, *lines = file.getvalue().splitlines()
    assert header.startswith("id,recipe,digest,seed,status,accuracy,certified_s,phase_load_s")
    assert [line.split(",")[3] for line in lines] == ["0", "1"]


# -- files that are no store, or cannot be used -----------------------------------------------------------------


def test_without_create_a_missing_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no run store at .*absent.sqlite.*hotlap train"):
        Store(tmp_path / "absent.sqlite", create=False)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_something_else_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("remember the milk\n" * 100)
    with pytest.raises(StoreError, match=r"not a run store.*HOTLAP_STORE or --store"):
        Store(path)
    assert path.read_text() == "remember the milk\n" * 100


def test_a_database_of_something_else_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "music.sqlite"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE songs (title TEXT)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a run store"):
        Store(path)
    assert path.read_bytes() == before


def test_a_newer_schema_asks_for_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    Store(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()
    with pytest.raises(StoreError, match=f"schema {SCHEMA + 1}, this is {SCHEMA}.*upgrade hotlap"):
        Store(path)


def test_a_damaged_file_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    with Store(path) as store:
        for seed in range(30):
            store.add(make_run(seed=seed))
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):  # all but the page that holds the schema
        content[page * 4096 : page * 4096 + 400] = b"\xa5" * 400
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"is damaged .*\.recover"):
        with Store(path) as store:
            store.runs()


def test_a_damaged_document_is_named(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    with Store(path) as store:
        store.add(make_run(seed=1))
        db = sqlite3.connect(path)
        db.execute(
            "INSERT INTO runs (id, recipe_name, digest, seed, status, certified_s, device, threads, backend,"
            " timing_valid, started_at, document) VALUES ('bad', 'a', 'b', 0, 'done', 1, 'cpu', 1, 'c', 1, 'd', '{')"
        )
        db.commit()
        db.close()
        with pytest.raises(StoreError, match="stored run bad cannot be read"):
            store.runs()
        assert len(store.runs(seed=1)) == 1


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot create .*file.*HOTLAP_STORE"):
        Store(tmp_path / "file" / "runs.sqlite")


def test_a_directory_in_place_of_the_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be opened.*HOTLAP_STORE or --store"):
        Store(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_write_permission_is_explained(tmp_path: Path) -> None:
    directory = tmp_path / "locked"
    directory.mkdir(mode=0o500)
    with pytest.raises(StoreError, match=r"cannot be opened for writing.*HOTLAP_STORE or --store"):
        Store(directory / "runs.sqlite")


def test_a_store_that_may_only_be_read_is_explained(store: Store) -> None:
    assert store._db is not None
    store._db.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError, match=r"cannot be opened for writing.*HOTLAP_STORE or --store"):
        store.add(make_run())


def test_a_full_disk_loses_the_run_in_flight_and_nothing_else(store: Store) -> None:
    db = store._db
    assert db is not None
    store.add(make_run(seed=0))
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages + 2}")
    added = 1
    with pytest.raises(StoreError, match=r"disk that holds .* is full.*free some space"):
        for seed in range(1, 1000):
            store.add(make_run(seed=seed))
            added += 1
    assert [run.seed for run in store.runs()] == list(range(added))
    db.execute("PRAGMA max_page_count = 100000")
    store.add(make_run(seed=5000))  # the store works on once there is space
    assert len(store) == added + 1


def test_a_store_locked_for_long_is_explained(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "busy_timeout_s", 0.05)
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with Store(store.path) as second:
        with pytest.raises(StoreError, match=r"locked by another process for 0.05 s.*wait for it"):
            second.add(make_run())
        other.execute("ROLLBACK")
        other.close()
        second.add(make_run())
    assert len(store) == 1


# -- formats ------------------------------------------------------------------------------------------------------


def test_a_new_store_carries_its_version_and_mark(tmp_path: Path) -> None:
    Store(tmp_path / "runs.sqlite").close()
    db = sqlite3.connect(tmp_path / "runs.sqlite")
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
    assert db.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    db.close()


def test_a_store_of_version_1_is_still_read_and_added_to(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    db = sqlite3.connect(path)
    db.executescript((GOLDEN / "store_v1.sql").read_text(encoding="utf-8"))
    db.close()
    with Store(path, create=False) as store:
        done, failed = store.runs()
        assert (done.seed, done.accuracy, done.certified_s) == (0, 0.991, 15.0)
        assert done.recipe.name == "mnist/tiny"
        assert done.recipe.digest.startswith("788b900b7fde")
        assert done.environment.cpu == "Example CPU"
        assert (failed.status, failed.accuracy, failed.error) == ("failed", None, "the loss became nan at step 17")
        assert math.isnan(failed.loss_by_epoch[-1])
        new = make_run(seed=2)
        store.add(new)
        assert [run.id for run in store.runs()] == [done.id, failed.id, new.id]
        assert store._db is not None
        assert store._db.execute("PRAGMA user_version").fetchone() == (SCHEMA,)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            store._db.execute("DELETE FROM runs")


def test_a_run_of_a_newer_hotlap_with_more_figures_is_read() -> None:
    run = make_run()
    assert Run.from_dict({**run.to_dict(), "energy_j": 12.5}) == run


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.sqlite"
    with Store(path) as store:
        store.add(make_run(seed=1))
    broken = ("ALTER TABLE runs ADD COLUMN energy_j REAL", "CREATE TABLE runs (again TEXT)")
    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        patch.setattr(schema, "SCHEMA", SCHEMA + 1)
        with pytest.raises(StoreError, match="table runs already exists"):
            Store(path)
    with Store(path) as store:
        assert [run.seed for run in store.runs()] == [1]


def test_a_later_version_migrates_and_keeps_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs.sqlite"
    with Store(path) as store:
        store.add(make_run(seed=1))
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("ALTER TABLE runs ADD COLUMN energy_j REAL",)))
    monkeypatch.setattr(schema, "SCHEMA", SCHEMA + 1)
    with Store(path) as store:
        store.add(make_run(seed=2))
        assert [run.seed for run in store.runs()] == [1, 2]
        assert store._db is not None
        assert store._db.execute("PRAGMA user_version").fetchone() == (SCHEMA + 1,)
