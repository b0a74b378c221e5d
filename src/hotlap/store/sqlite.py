"""Runs in an SQLite file that only grows."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TextIO

from hotlap.errors import HotlapError, StoreError
from hotlap.recipe import Recipe
from hotlap.result import Run
from hotlap.store import rows
from hotlap.store.schema import migrate, read_version

_INTEGERS = 2**63
"""SQLite's integers are below, and not below its negative."""

_NAMED = "(recipe_name = ? OR recipe_name GLOB ? AND NOT EXISTS (SELECT 1 FROM runs WHERE recipe_name = ?))"
"""Of this name or, where no run is, of names that match."""

_ELSEWHERE = "set HOTLAP_STORE or --store to another file"


def default_path() -> Path:
    """Path of the user's store: ``HOTLAP_STORE``, else ``runs.sqlite`` in the user's data directory."""
    if named := os.environ.get("HOTLAP_STORE"):
        return Path(named).expanduser()
    from platformdirs import user_data_dir

    return Path(user_data_dir("hotlap", appauthor=False)) / "runs.sqlite"


class Store:
    """An append-only store of runs; one SQLite file, safe for several processes and threads at once.

    A run that ``add`` returned from is on the disk: it survives a killed process and a power cut. Open a store in the
    process that uses it; one that crosses a fork refuses to work, for SQLite's locks do not cross with it.

    Args:
        path: the SQLite file; ``default_path()`` when None.
        create: make the file and its directory when there are none.

    Raises:
        StoreError: the file cannot be made or opened, or is no run store, or a newer hotlap wrote it.
    """

    busy_timeout_s: float = 30.0
    """How long to wait for another process that writes."""

    def __init__(self, path: Path | None = None, *, create: bool = True) -> None:
        self.path = (default_path() if path is None else Path(path)).expanduser()
        self._lock = threading.RLock()
        self._pid = os.getpid()
        if not create and not self.path.exists():
            raise StoreError(f"there is no run store at {self.path}", "make a run with: hotlap train RECIPE")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot create {self.path.parent} for the run store: {error.strerror}", _ELSEWHERE
            ) from None
        with self._explained():
            self._db: sqlite3.Connection | None = self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=self.busy_timeout_s, isolation_level=None, check_same_thread=False)
        try:
            read_version(db, self.path)  # before anything is written: the file may be somebody else's
            _use_wal(db, self.busy_timeout_s)
            db.execute("PRAGMA synchronous = FULL")  # a commit waits for the disk, also in WAL mode
            migrate(db, self.path)
        except BaseException:
            db.close()
            raise
        return db

    # -- writing ------------------------------------------------------------------------------------------------

    def add(self, run: Run) -> None:
        """Store a run, in one transaction; on return it is on the disk.

        Raises:
            StoreError: a run of this id is stored already, or the file cannot be written.
        """
        self.add_all((run,))

    def add_all(self, runs: Iterable[Run]) -> None:
        """Store runs in one transaction: all of them or, on an error, none.

        Raises:
            StoreError: a run of one of the ids is stored already, or the file cannot be written.
        """
        prepared = [_values(run) for run in runs]
        with self._transaction() as db:
            for values in prepared:
                self._insert(db, values)

    def add_documents(self, documents: Mapping[str, str]) -> int:
        """Store what ``documents`` of another store returned, word for word; runs that are here already are left out.

        One transaction: all of them or, on an error, none.

        Args:
            documents: run id → document.

        Returns:
            How many were added.

        Raises:
            StoreError: a document is no run, another run has its id here, or the file cannot be written.
        """
        recipes: dict[str, Recipe] = {}
        prepared = [(run := _decode(name, text, recipes), _values(run, text)) for name, text in documents.items()]
        added = 0
        with self._transaction() as db:
            for run, values in prepared:
                here = db.execute("SELECT document FROM runs WHERE id = ?", (values["id"],)).fetchone()
                if here is None:
                    self._insert(db, values)
                    added += 1
                elif here[0] != values["document"] and not _same_run(_decode(run.id, here[0], recipes), run):
                    raise StoreError(f"another run with the id {values['id']} is stored in {self.path}")
        return added

    def _insert(self, db: sqlite3.Connection, values: Mapping[str, Any]) -> None:
        names = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        try:
            db.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", values)
        except (sqlite3.IntegrityError, OverflowError) as error:
            raise StoreError(f"run {values['id']} cannot be added to {self.path}: {error}") from error

    # -- reading ------------------------------------------------------------------------------------------------

    def runs(
        self,
        *,
        recipe: str | None = None,
        digest: str | None = None,
        seed: int | None = None,
        status: Literal["done", "failed"] | None = None,
        device: str | None = None,
        threads: int | None = None,
        timing_valid: bool | None = None,
        since: str | None = None,
        limit: int | None = None,
    ) -> list[Run]:
        """Read runs that meet every condition given, oldest first.

        Args:
            recipe: a recipe's name, or a glob over names, e.g. ``mnist/*``; case counts.
            digest: a recipe's digest or how it begins.
            seed: seed of the run.
            status: ``done`` or ``failed``.
            device: as in ``Run.device``.
            threads: as in ``Run.environment``.
            timing_valid: whether the run had the machine to itself.
            since: date or time in ISO 8601, e.g. ``2026-01-31``; UTC unless it says otherwise.
            limit: keep this many of the newest.

        Raises:
            StoreError: the file cannot be read, or ``since`` or ``limit`` makes no sense.
        """
        where: dict[str, Any] = {}
        if recipe is not None:
            # A changed recipe's name holds brackets, which would be a pattern too.
            where[_NAMED] = recipe
        if digest is not None:
            where["substr(digest, 1, length(?)) = ?"] = digest.lower()
        for column, value in (("seed", seed), ("status", status), ("device", device), ("threads", threads)):
            if value is not None:
                where[f"{column} = ?"] = value
        if timing_valid is not None:
            where["timing_valid = ?"] = int(timing_valid)
        if since is not None:
            try:
                where["started_at >= ?"] = _utc(since)
            except (ValueError, OverflowError):
                raise StoreError(f"{since!r} is not a date or time", "write it as 2026-01-31") from None
        if limit is not None and limit < 0:
            raise StoreError(f"limit must not be negative, not {limit}")
        if any(not -_INTEGERS <= number < _INTEGERS for number in (seed or 0, threads or 0)):
            return []  # no run that is stored has such a number
        return self._select(where, newest=limit)

    def run(self, id_prefix: str) -> Run:
        """Read the one run whose id begins with ``id_prefix``.

        Raises:
            StoreError: no run or several begin so; then some are named.
        """
        found = self._select({"substr(id, 1, length(?)) = ?": id_prefix.lower()}, newest=6) if id_prefix else []
        if not found:
            raise StoreError(f"no stored run has an id that begins with {id_prefix!r}", "see them: hotlap runs")
        exact = [run for run in found if run.id == id_prefix.lower()]
        if len(found) > 1 and not exact:
            named = ", ".join(
                f"{run.id[: len(id_prefix) + 8]} ({run.recipe.name}, seed {run.seed})" for run in found[:5]
            )
            more = " and more" if len(found) > 5 else ""
            raise StoreError(f"several runs begin with {id_prefix!r}: {named}{more}", "write more of the id")
        return (exact or found)[0]

    def documents(self) -> dict[str, str]:
        """Return every run's JSON document as it is stored, by run id, in the order of their adding.

        Raises:
            StoreError: the file cannot be read.
        """
        with self._connection() as db:
            return dict(db.execute("SELECT id, document FROM runs ORDER BY seq").fetchall())

    def __len__(self) -> int:
        with self._connection() as db:
            return int(db.execute("SELECT count(*) FROM runs").fetchone()[0])

    def export_csv(self, runs: Sequence[Run], file: str | Path | TextIO) -> None:
        """Write runs as CSV, one line per run, times in seconds.

        Raises:
            InputError: the path cannot be written.
        """
        rows.write_csv(runs, file)

    def _select(self, where: dict[str, Any], *, newest: int | None = None) -> list[Run]:
        values: list[Any] = []
        for condition, value in where.items():
            values += [value] * condition.count("?")
        condition = " AND ".join(where) or "1"
        limit = "" if newest is None else f"LIMIT {min(int(newest), _INTEGERS - 1)}"
        query = f"SELECT id, document FROM runs WHERE {condition} ORDER BY started_at DESC, seq DESC {limit}"
        with self._connection() as db:
            stored = db.execute(query, values).fetchall()
        recipes: dict[str, Recipe] = {}
        return [_decode(name, document, recipes) for name, document in reversed(stored)]

    # -- life ---------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the file; a closed store refuses to work. Closing twice is harmless."""
        with self._lock:
            if self._db is not None and self._pid == os.getpid():
                self._db.close()
            self._db = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection to one thread at a time."""
        with self._lock:
            if self._pid != os.getpid():
                raise StoreError("this store was opened in another process", "open a Store of its own in each process")
            if self._db is None:
                raise StoreError(f"the run store {self.path} is closed", "open it again with Store(path)")
            with self._explained():
                yield self._db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection for writing; what was written stays if the block ends, and goes if it raises."""
        with self._connection() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # a full disk has ended it already
                    db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            raise _explain(error, self.path, self.busy_timeout_s) from error


def _use_wal(db: sqlite3.Connection, timeout_s: float) -> None:
    """Switch to write-ahead logging, where readers do not wait for a writer.

    SQLite does not apply its busy timeout to this switch, so that two processes that make a store at once would fail.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _utc(moment: str) -> str:
    """Normalise an ISO 8601 date or time to UTC, so that text order is time order."""
    parsed = datetime.fromisoformat(moment)
    parsed = parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    return parsed.isoformat(timespec="microseconds")


def _values(run: Run, text: str | None = None) -> dict[str, Any]:
    """A run as the columns of its row; ``text`` is its document where that is not to be written anew."""
    try:
        document = json.dumps(run.to_dict(), allow_nan=False) if text is None else text
        started_at = _utc(run.started_at)
    except (TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"run {run.id} cannot be stored: {error}") from None
    return {
        "id": run.id,
        "recipe_name": run.recipe.name,
        "digest": run.recipe.digest,
        "seed": run.seed,
        "status": run.status,
        "accuracy": run.accuracy,
        "certified_s": run.certified_s,
        "device": run.device,
        "threads": run.environment.threads,
        "backend": run.backend,
        "timing_valid": int(run.timing_valid),
        "started_at": started_at,
        "document": document,
    }


def _decode(name: str, text: str, recipes: dict[str, Recipe]) -> Run:
    """Read one stored document; a damaged one is named rather than left out in silence."""
    try:
        document = json.loads(text)
        key = json.dumps(document["recipe"], sort_keys=True)
        if key not in recipes:  # checking a recipe costs more than the rest, and most runs share one
            recipes[key] = Recipe.from_dict(document["recipe"])
        return Run.from_dict({**document, "recipe": recipes[key]})
    except (HotlapError, ValueError, TypeError, LookupError, AttributeError) as error:
        cause = error.cause if isinstance(error, HotlapError) else f"{type(error).__name__}: {error}"
        raise StoreError(
            f"stored run {name} cannot be read: {cause}", "upgrade hotlap, or use another store"
        ) from error


def _same_run(one: Run, other: Run) -> bool:
    """Whether two are one run, shown under whichever name and target of its recipe."""
    return one.recipe.digest == other.recipe.digest and replace(one, recipe=other.recipe) == other


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _explain(error: sqlite3.Error, path: Path, waited_s: float) -> StoreError:
    """Name the cause and the next command."""
    match _primary_code(error):
        case sqlite3.SQLITE_NOTADB:
            return StoreError(f"{path} is not a run store (not an SQLite database)", _ELSEWHERE)
        case sqlite3.SQLITE_CORRUPT:
            return StoreError(
                f"the run store {path} is damaged ({error})",
                f"save what can be read: sqlite3 {shlex.quote(str(path))} .recover | sqlite3 recovered.sqlite",
            )
        case sqlite3.SQLITE_FULL:
            return StoreError(f"the disk that holds the run store {path} is full", f"free some space, or {_ELSEWHERE}")
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreError(
                f"the run store {path} was locked by another process for {waited_s:g} s",
                f"wait for it or end it, or {_ELSEWHERE}",
            )
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM | sqlite3.SQLITE_AUTH:
            return StoreError(f"the run store {path} cannot be opened for writing ({error})", _ELSEWHERE)
        case sqlite3.SQLITE_CONSTRAINT:
            return StoreError(f"the run store {path} refused a change: {error}")
        case _:
            return StoreError(f"the run store {path} failed: {error}", _ELSEWHERE)
