"""The files that every record is made of: raw runs, what they claim, and what follows from both."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hotlap._files import replace_file
from hotlap.errors import HotlapError, InputError
from hotlap.report.formats import seconds
from hotlap.result import Run

RUNS = "runs.jsonl"
CLAIM = "record.json"
README = "README.md"

IDENTITY = ("kind", "digest", "ladder", "changes")
"""What a claim is of: a recipe by its digest, or a ladder with what was changed in it."""


def write_raw(folder: Path, runs: Sequence[Run], claim: Mapping[str, Any]) -> list[Path]:
    """Write a record's raw runs, in the given order, and what is claimed of them.

    Args:
        folder: made when missing.
        runs: one line each.
        claim: plain JSON types; ``kind`` says what sort of record it is.

    Returns:
        The files written.

    Raises:
        InputError: a file cannot be written, or the folder holds something else (``check_place``).
        OSError: the folder cannot be made.
    """
    check_place(folder, claim)
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(run.to_dict(), sort_keys=True) + "\n" for run in runs)
    document = json.dumps(dict(claim), indent=1, sort_keys=True) + "\n"
    # The claim first: whatever interrupts this, the folder can be told from one of something else.
    return [replace_file(folder / CLAIM, document), replace_file(folder / RUNS, lines)]


def check_place(folder: Path, claim: Mapping[str, Any]) -> None:
    """Make sure that a record takes the place of nothing but an earlier one of the same.

    Args:
        folder: need not be there.
        claim: of the new record; its ``IDENTITY`` says what it is of.

    Raises:
        InputError: the folder holds another record, or files of a record's names that belong to none.
    """
    other = "choose another folder"
    if (folder / CLAIM).exists():
        there, here = read_claim(folder), json.loads(json.dumps({key: claim.get(key) for key in IDENTITY}))
        if any(there.get(key) != here[key] for key in IDENTITY):
            raise InputError(f"{folder} holds another record, {_title(there)}", other)
    elif taken := [name for name in (README, RUNS) if (folder / name).exists()]:
        raise InputError(f"{folder} holds a {taken[0]} that is no record's", other)


def _title(claim: Mapping[str, Any]) -> str:
    recipe = claim.get("recipe")
    name = recipe.get("name") if isinstance(recipe, dict) else claim.get("ladder")
    return f"a {claim['kind']} of {name}" if name else f"a {claim['kind']}"


def read_claim(folder: Path) -> dict[str, Any]:
    """Read what a record claims.

    Raises:
        InputError: there is none that can be read.
    """
    try:
        claim = json.loads((folder / CLAIM).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} holds no readable record: {error}") from None
    if not isinstance(claim, dict) or "kind" not in claim:
        raise InputError(f"{folder / CLAIM} does not say what kind of record it is")
    return claim


def read_runs(folder: Path) -> list[Run]:
    """Read a record's raw runs.

    Raises:
        InputError: the file is missing or is not what ``write_raw`` wrote.
    """
    try:
        lines = (folder / RUNS).read_text(encoding="utf-8").splitlines()
        return [Run.from_dict(json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError, LookupError, AttributeError, HotlapError) as error:
        # Whatever was written there by hand, in a line.
        raise InputError(f"{folder} holds no readable record: {error}") from None


def machine_lines(runs: Sequence[Run]) -> list[str]:
    """Describe the machines and the source that runs were made with, as Markdown list items."""

    def text(run: Run) -> str:
        env = run.environment
        return (
            f"- {env.gpu or env.cpu}, {env.cores} cores, {env.threads} threads, {env.memory_gb:.0f} GB, "
            f"{env.platform}, Python {env.python}, torch {env.torch}, hotlap {env.hotlap}"
        )

    def commit(run: Run) -> str:
        return (run.environment.commit or "installed")[:12] + ("+" if "+" in (run.environment.commit or "") else "")

    total = sum(run.certified_s for run in runs)
    loads = [run.contention for run in runs if run.contention is not None]
    began = min(run.began for run in runs).isoformat(timespec="seconds")
    lines = sorted({text(run) for run in runs})
    lines.append(f"- source: {', '.join(sorted({commit(run) for run in runs}))} (+ is a modified tree)")
    lines.append(f"- {seconds(total)} of certified time in all, from {began} UTC on")
    if loads:
        median = statistics.median(loads)
        lines.append(f"- other processes kept {median:.2f} cores busy in the median run, {max(loads):.2f} at most")
    return lines
