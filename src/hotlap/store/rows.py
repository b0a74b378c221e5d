"""Runs as flat rows, for CSV files and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from hotlap._files import replace_file
from hotlap.result import PHASES, Run

Kind: TypeAlias = type[str] | type[int] | type[float] | type[bool] | type[datetime]

_BEFORE: Mapping[str, Kind] = {
    "id": str,
    "recipe": str,
    "digest": str,
    "seed": int,
    "status": str,
    "accuracy": float,
    "certified_s": float,
}
_AFTER: Mapping[str, Kind] = {
    "epochs_run": float,
    "steps": int,
    "device": str,
    "threads": int,
    "backend": str,
    "timing_valid": bool,
    "started_at": datetime,
    "load_average": float,
    "contention": float,
    "cpu": str,
    "torch": str,
    "error": str,
}


def columns(runs: Iterable[Run] = ()) -> dict[str, Kind]:
    """Columns with the kind of their values; accuracy, load, contention, error and a phase may be missing in a row.

    There is one column per phase of ``PHASES``, and of any further phase that one of the runs has.
    """
    phases = dict.fromkeys((*PHASES, *(name for run in runs for name in run.phases)))
    return {**_BEFORE, **{f"phase_{name}_s": float for name in phases}, **_AFTER}


def row(run: Run) -> dict[str, Any]:
    """One run as a flat row; times in seconds, accuracy a fraction, the digest's first 12 digits."""
    environment = run.environment
    return {
        "id": run.id,
        "recipe": run.recipe.name,
        "digest": run.recipe.digest[:12],
        "seed": run.seed,
        "status": run.status,
        "accuracy": run.accuracy,
        "certified_s": run.certified_s,
        **{f"phase_{name}_s": seconds for name, seconds in run.phases.items()},
        "epochs_run": run.epochs_run,
        "steps": run.steps,
        "device": run.device,
        "threads": environment.threads,
        "backend": run.backend,
        "timing_valid": run.timing_valid,
        "started_at": run.started_at,
        "load_average": environment.load_average,
        "contention": run.contention,
        "cpu": environment.cpu,
        "torch": environment.torch,
        "error": run.error,
    }


def rows(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One flat row per run, every row with the same keys in the same order."""
    names = columns(runs)
    return [{name: flat.get(name) for name in names} for flat in map(row, runs)]


def write_csv(runs: Sequence[Run], file: str | Path | TextIO) -> None:
    """Write runs as CSV with a header line.

    Args:
        runs: may be empty; then the header alone is written.
        file: a path, replaced whole (never half-written), or an open text file, written from its position.

    Raises:
        InputError: the path cannot be written.
    """
    if not isinstance(file, str | Path):
        _write(runs, file)
        return
    text = io.StringIO(newline="")
    _write(runs, text)
    replace_file(Path(file), text.getvalue(), fix="choose a file in a directory that exists")


def _write(runs: Sequence[Run], file: TextIO) -> None:
    writer = csv.DictWriter(file, columns(runs), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row(run) for run in runs)
