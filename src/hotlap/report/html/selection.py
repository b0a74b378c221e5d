"""Which runs a report is about: of the store by name, of ladders, of folders of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from hotlap.stats.summary import group_runs, machine_key, one_of_each_seed, software, software_text
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
    """A ladder as it was measured on one machine with one software, all rungs with the same change or none.

    Attributes:
        machine: what it was measured on, in words; with which software where the report holds several.
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
    ordered = sorted(found.values(), key=lambda run: run.began)
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


def setting_of(run: Run) -> tuple[Any, ...]:
    """What two runs must share for their recipes to be compared: machine, software, timing rules and data."""
    return *machine_of(run), *software(run), run.timing_rules, run.data_digest


def machine_text(runs: Sequence[Run], among: Sequence[Run] = ()) -> str:
    """Name the machine that runs were made on, and their software where that is not the same in all the others.

    Args:
        runs: of one setting; where no time counts, as on a cluster, their processors may differ.
        among: runs that they are shown with.
    """
    run, env = runs[0], runs[0].environment
    processors = {one.environment.gpu or one.environment.cpu for one in runs}
    threads = "1 thread" if env.threads == 1 else f"{env.threads} threads"
    parts = [processors.pop() if len(processors) == 1 else f"{len(processors)} kinds of processor", run.device, threads]
    if any(software(other) != software(run) for other in among):
        parts.append(software_text(run))
    if any(other.timing_rules != run.timing_rules for other in among):
        parts.append(f"timing rules {run.timing_rules}")
    return ", ".join(parts)


def run_sets(runs: Sequence[Run]) -> list[list[Run]]:
    """Split runs into sets of one recipe, software and machine, each seed once, in the order of ladders, then names."""
    place = {name: position for position, name in enumerate(recipes())}
    sets = [one_of_each_seed(group) for group in group_runs(runs)]
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
                groups.setdefault((setting_of(run), changes), []).append(run)
        for (_, changes), runs in groups.items():
            names = {run.recipe.name for run in runs}
            # A lineage repeats rungs of other ladders: it is worth its place where it brings several together.
            origins = {name.partition("/")[0] for name in names} if isinstance(ladder, Lineage) else names
            if len(origins) >= 2 or ladder.name in selection.ladders:
                views.append(_view(ladder, changes, runs, selection.runs))
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


def _view(ladder: AnyLadder, changes: str, runs: Sequence[Run], among: Sequence[Run]) -> LadderView:
    by_recipe: dict[str, list[Run]] = {}
    for run in runs:
        by_recipe.setdefault(run.recipe.name, []).append(run)
    # Of the same rung in several precisions, the most runs.
    sets = [max(group_runs(own), key=len) for own in by_recipe.values()]
    once = [run for own in sets for run in one_of_each_seed(own)]
    rows = ladder_rows(ladder, once)
    if changes:
        bare = {"published_s": None, "published_text": "", "published_accuracy": None}
        rows = [replace(row, **bare) for row in rows if row.summary is not None]  # type: ignore[arg-type]
    return LadderView(ladder=ladder, machine=machine_text(once, among), changes=changes, rows=rows, runs=once)
