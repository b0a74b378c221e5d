"""Studies on the disk: Optuna's own storage in an SQLite file, driven by one process at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from hotlap.errors import InputError, StoreError

if TYPE_CHECKING:
    from optuna.study import Study

FILE = "studies.sqlite"
"""Name of the file of studies, next to the store of runs."""

QUESTION = "question"
"""User attribute of a study: what it asks, so that no study is continued with another question."""

BASELINE = "baseline"
"""User attribute of the trial that is the recipe as it was given."""

_BUSY_S = 30
"""Seconds to wait for another process that writes to the same file."""


@contextmanager
def open_study(path: Path | None, name: str, question: Mapping[str, Any] | None = None) -> Iterator[Study]:
    """Open a study, making it where there is none, and keep every other process from driving it.

    Optuna's own messages are off meanwhile.

    Args:
        path: SQLite file; None keeps the study in memory.
        name: of the study.
        question: plain JSON types; a study that exists must have been made with the same. None reads a study that
            exists.

    Raises:
        InputError: another process drives the study, there is no such study, or it asks something else.
        StoreError: the file cannot be used.
    """
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        if path is None:
            yield _study(optuna.storages.InMemoryStorage(), name, question, "memory")
        else:
            path = path.expanduser()
            with _locked(path, name), _rdb(path) as storage:
                yield _study(storage, name, question, str(path))
    finally:
        optuna.logging.set_verbosity(verbosity)


@contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{path}.{hashlib.sha256(name.encode()).hexdigest()[:8]}.lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another process is working on the study {name!r}", "wait for it, or start another with --study NAME"
        ) from None
    except OSError as error:
        raise StoreError(f"cannot write studies to {path}: {error.strerror}", "use another file: --storage") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _rdb(path: Path) -> Iterator[optuna.storages.RDBStorage]:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": _BUSY_S}})
    except (SQLAlchemyError, RuntimeError, optuna.exceptions.StorageInternalError) as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise StoreError(f"{path} is no usable file of studies: {cause}", "use another file: --storage") from None
    try:
        yield storage
    except optuna.exceptions.StorageInternalError as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise StoreError(f"the file of studies {path} failed: {cause}", "free some space, then repeat") from None
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _study(storage: optuna.storages.BaseStorage, name: str, question: Mapping[str, Any] | None, where: str) -> Study:
    if question is None:
        try:
            return optuna.load_study(study_name=name, storage=storage)
        except KeyError:
            raise InputError(f"there is no study {name!r} in {where}", "make it with: hotlap tune RECIPE") from None
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize", load_if_exists=True)
    asked = study.user_attrs.get(QUESTION)
    if asked is None:
        study.set_user_attr(QUESTION, dict(question))
    elif differing := [key for key in {**asked, **question} if asked.get(key) != question.get(key)]:
        raise InputError(
            f"the study {name!r} was made with another {', '.join(differing)}", "start another with --study NAME"
        )
    return study


def requeue_interrupted(study: Study, paths: Collection[str]) -> None:
    """Queue again what a process that was killed was at: such trials are told as failed, and their values wait first.

    The runs they had finished are in the store of runs. A trial whose values had not been written is only told as
    failed; its sampler chooses the same again.

    Args:
        study: changed in place.
        paths: the parameters that a trial has once its values are written.
    """
    waiting = [trial.system_attrs["fixed_params"] for trial in study.get_trials(states=(TrialState.WAITING,))]
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        # Queued before it is told: being killed in between must not lose it.
        complete = trial.params.keys() == set(paths) and not trial.user_attrs.get(BASELINE)
        if complete and trial.params not in waiting:
            study.enqueue_trial(trial.params)
        study.tell(trial.number, state=TrialState.FAIL)
