"""The store's schema and how an older one becomes the present one."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from hotlap.errors import StoreError

APPLICATION_ID = 0x484C4150
"""``HLAP``: tells a run store from any other SQLite database."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    # 0 → 1
    (
        """
        CREATE TABLE runs (
            seq          INTEGER PRIMARY KEY AUTOINCREMENT,
            id           TEXT NOT NULL UNIQUE,
            recipe_name  TEXT NOT NULL,
            digest       TEXT NOT NULL,
            seed         INTEGER NOT NULL,
            status       TEXT NOT NULL,
            accuracy     REAL,
            certified_s  REAL NOT NULL,
            device       TEXT NOT NULL,
            threads      INTEGER NOT NULL,
            backend      TEXT NOT NULL,
            timing_valid INTEGER NOT NULL,
            started_at   TEXT NOT NULL,
            document     TEXT NOT NULL
        )
        """,
        "CREATE INDEX runs_digest ON runs (digest, device, threads, backend, seed)",
        "CREATE INDEX runs_recipe ON runs (recipe_name, started_at)",
        "CREATE INDEX runs_started ON runs (started_at, seq)",
        """
        CREATE TRIGGER runs_no_update BEFORE UPDATE ON runs
        BEGIN SELECT RAISE(ABORT, 'the run store is append-only'); END
        """,
        """
        CREATE TRIGGER runs_no_delete BEFORE DELETE ON runs
        BEGIN SELECT RAISE(ABORT, 'the run store is append-only'); END
        """,
        # INSERT OR REPLACE deletes without firing the trigger above.
        """
        CREATE TRIGGER runs_no_replace BEFORE INSERT ON runs
        WHEN EXISTS (SELECT 1 FROM runs WHERE id = NEW.id OR seq = NEW.seq)
        BEGIN SELECT RAISE(ABORT, 'this run is already stored'); END
        """,
    ),
)
"""Statements that lead from each version to the next; never changed once released, only added to."""

SCHEMA = len(MIGRATIONS)


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring an open database to the present schema, creating it when empty; all or nothing.

    Args:
        db: connection in autocommit mode (``isolation_level=None``).
        path: for messages.

    Raises:
        StoreError: written by a newer version, or a database of something else.
        sqlite3.Error: unreadable, locked or unwritable.
    """
    if read_version(db, path) == SCHEMA:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        # Read again: another process may have migrated while this one waited for the lock.
        for version in range(read_version(db, path), SCHEMA):
            for statement in MIGRATIONS[version]:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {version + 1}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def read_version(db: sqlite3.Connection, path: Path) -> int:
    """Return the schema version of a run store, 0 for an empty database; writes nothing.

    Raises:
        StoreError: written by a newer version, or a database of something else.
        sqlite3.Error: unreadable or locked.
    """
    # In one transaction: between two reads another process may be making the store.
    alone = not db.in_transaction
    if alone:
        db.execute("BEGIN")
    try:
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = int(db.execute("PRAGMA user_version").fetchone()[0])
        tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    finally:
        if alone:
            db.execute("ROLLBACK")
    if tables and application != APPLICATION_ID:
        raise StoreError(
            f"{path} is an SQLite database, but not a run store", "set HOTLAP_STORE or --store to another file"
        )
    if version > SCHEMA:
        raise StoreError(f"{path} was written by a newer hotlap (schema {version}, this is {SCHEMA})", "upgrade hotlap")
    return version
