"""Which runs a report is about: of the store by name, of ladders, of folders of records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hotlap.errors import InputError
from hotlap.ladder import AnyLadder, Lineage, Step, ladders, recipes, resolve
from hotlap.ladders import names_of
from hotlap.recipe import diff, plain
from hotlap.report.curves import changes_text
from hotlap.report.ladder_record import ladder_rows
from hotlap.report.ladder_table import LadderRow
from hotlap.report.record import record_folders
from hotlap.report.record_files import read_claim, read_runs
from hotlap.result import Run
from hotlap.stats.summary import group_runs, machine_key
from hotlap.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Runs to report on, each once.

    Attributes:
        runs: oldest first.
        ladders: names of the ladders that were asked for.
        changes: run id → what the record it is from says was changed, as ``changes_text`` writes it.
    """

    runs: Sequence[Run]
    ladders: frozenset[str] = frozenset()
    changes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderView:
    """A ladder as it was measured on one machine, all rungs with the same change or none.

    Attributes:
        machine: what it was measured on, in words.
        changes: what was changed in every rung, as options; empty for the ladder as it is.
        rows: every rung, or those measured where they were changed; without published figures then.
    """

    ladder: AnyLadder
    machine: str
    changes: str
    rows: Sequence[LadderRow]
    runs: Sequence[Run]

    @property
    def title(self) -> str:
        """The ladder's title, with what was changed."""
        return f"{self.ladder.title} with {self.changes}" if self.changes else self.ladder.title


def gather(what: Sequence[str], *, store: Path | None = None) -> Selection:
    """Read the runs that are asked for.

    Args:
        what: patterns of recipe names, names of ladders, folders of records; everything in the store when empty.
        store: the run store; the user's own when None. It is opened only where it is asked for.

    Raises:
        InputError: something names no runs, or a record cannot be read.
        StoreError: there is no store, or it cannot be read.
    """
    found: dict[str, Run] = {}
    named: set[str] = set()
    changes: dict[str, str] = {}
    for one in what:
        if Path(one).is_dir():
            runs = _of_folder(Path(one), changes)
        else:
            if one in ladders():
                named.add(one)
            runs = _of_store(one, store)
        found.update((run.id, run) for run in runs)
    if not what:
        found.update((run.id, run) for run in _of_store("*", store))
    ordered = sorted(found.values(), key=lambda run: run.started_at)
    return Selection(runs=ordered, ladders=frozenset(named), changes=changes)


def _of_folder(root: Path, changes: dict[str, str]) -> list[Run]:
    folders = record_folders(root)
    if not folders:
        raise InputError(f"there are no records below {root}", "make one: hotlap certify RECIPE")
    found = []
    for folder in folders:
        claim, runs = read_claim(folder), read_runs(folder)
        if isinstance(claim.get("changes"), dict):
            changes.update((run.id, _text(claim["changes"])) for run in runs)
        found += runs
    return found


def _of_store(name: str, path: Path | None) -> list[Run]:
    with Store(path, create=False) as store:
        if name in ladders():
            runs = [run for step in resolve(ladders()[name]) for run in store.runs(recipe=step.recipe.name)]
        else:
            runs = [run for one in names_of(name) for run in store.runs(recipe=one)]
        where = store.path
    if not runs:
        sought = "" if name == "*" else f" that matches {name!r}"
        raise InputError(f"nothing to report: {where} holds no run{sought}", _next(name))
    return runs


def _next(name: str) -> str:
    known = names_of(name)[0] in recipes()
    return f"hotlap train {name}" if known else "hotlap train mnist" if name == "*" else "see them: hotlap runs --all"


def machine_of(run: Run) -> tuple[Any, ...]:
    """What two runs must share for their times to be set side by side."""
    return machine_key(run)[:4]


def machine_text(run: Run) -> str:
    """Name the machine that a run was made on."""
    env = run.environment
    threads = "1 thread" if env.threads == 1 else f"{env.threads} threads"
    return f"{env.gpu or env.cpu}, {run.device}, {threads}"


def first_of_each_seed(runs: Iterable[Run]) -> list[Run]:
    """The first run of each seed, by seed: a seed that comes twice is no second observation.

    A run whose time counts stands for one whose time does not, whichever came first; that says nothing of the result.
    """
    first: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: (not run.timing_valid, run.started_at)):
        first.setdefault(run.seed, run)
    return [first[seed] for seed in sorted(first)]


def run_sets(runs: Sequence[Run]) -> list[list[Run]]:
    """Split runs into sets of one recipe on one machine, each seed once, in the order of ladders and then of names."""
    place = {name: position for position, name in enumerate(recipes())}
    by_machine: dict[Any, list[Run]] = {}
    for run in runs:
        by_machine.setdefault(machine_of(run), []).append(run)
    sets = [first_of_each_seed(group) for own in by_machine.values() for group in group_runs(own)]
    return sorted(sets, key=lambda s: (place.get(s[0].recipe.name, len(place)), s[0].recipe.name))


def ladder_views(selection: Selection) -> list[LadderView]:
    """Find the ladders of which at least two rungs were run, or that were asked for by name."""
    views = []
    for ladder in ladders().values():
        steps = {step.recipe.name: step for step in resolve(ladder)}
        groups: dict[tuple[Any, str], list[Run]] = {}
        for run in selection.runs:
            if run.recipe.name in steps:
                changes = selection.changes.get(run.id, _changes(steps[run.recipe.name], run))
                groups.setdefault(((machine_of(run), run.data_digest), changes), []).append(run)
        for (_, changes), runs in groups.items():
            names = {run.recipe.name for run in runs}
            # A lineage repeats rungs of other ladders: it is worth its place where it brings several together.
            origins = {name.partition("/")[0] for name in names} if isinstance(ladder, Lineage) else names
            if len(origins) >= 2 or ladder.name in selection.ladders:
                views.append(_view(ladder, changes, runs))
    return views


def _changes(step: Step, run: Run) -> str:
    if run.recipe.digest == step.recipe.digest:
        return ""
    found = {change.path: plain(change.after) for change in diff(step.recipe, run.recipe) if change.path != "target"}
    return _text(found)


def _text(changes: Mapping[str, Any]) -> str:
    """Changes as options; equal ones read alike, however they were written (``epochs=2`` and ``epochs=2.0``)."""
    whole = {
        path: int(value) if isinstance(value, float) and value.is_integer() else value
        for path, value in changes.items()
    }
    return changes_text(dict(sorted(whole.items())))


def _view(ladder: AnyLadder, changes: str, runs: Sequence[Run]) -> LadderView:
    by_recipe: dict[str, list[Run]] = {}
    for run in runs:
        by_recipe.setdefault(run.recipe.name, []).append(run)
    # Of the same rung in several precisions, the most runs.
    sets = [max(group_runs(own), key=len) for own in by_recipe.values()]
    once = [run for own in sets for run in first_of_each_seed(own)]
    rows = ladder_rows(ladder, once)
    if changes:
        bare = {"published_s": None, "published_text": "", "published_accuracy": None}
        rows = [replace(row, **bare) for row in rows if row.summary is not None]  # type: ignore[arg-type]
    return LadderView(ladder=ladder, machine=machine_text(once[0]), changes=changes, rows=rows, runs=once)
