"""Ladders: ordered recipes for one data set and target, each written as one declared change to the one before."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any, TypeAlias

from hotlap.errors import InputError, unknown_name
from hotlap.recipe import Recipe, diff

_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the source reports for a rung, on its own hardware.

    Attributes:
        time_s: seconds; None where no time was published.
        time: the figure as published, with its spread.
        accuracy: share of test images (0–1); None where only a bound was published.
        accuracy_text: the figure as published.
    """

    time_s: float | None
    time: str
    accuracy: float | None
    accuracy_text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A recipe as one declared change to another, the rung before unless ``parent`` names one.

    Attributes:
        name: short name; the recipe is called ``ladder/name``.
        parent: name of an earlier rung of the ladder that is changed; empty for the one before.
        title: what changes, in a few words, for tables.
        change: the technique: dotted path → new value.
        retune: hyper-parameters moved because of the change.
        budget: the gain cashed in as less training.
        why: why it helps.
        source: where it was published.
        published: the published figures.
        deviation: what modern PyTorch or this package does otherwise than the source; empty when nothing.
    """

    name: str
    title: str
    parent: str = ""
    change: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    retune: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    budget: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    why: str
    source: str
    published: Published
    deviation: str = ""

    @property
    def changes(self) -> dict[str, Any]:
        """All declared changes together."""
        return {**self.change, **self.retune, **self.budget}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """An ordered list of rungs over a base recipe, which is the first rung.

    Attributes:
        policy: the timing policy that the published figures follow.
        hardware: what the published figures were measured on.
    """

    name: str
    title: str
    base: Recipe
    rungs: tuple[Rung, ...]
    policy: str
    hardware: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """A ladder whose rungs are chosen from other ladders, in the order in which they were found.

    Attributes:
        recipes: names of the rungs' recipes, each ``ladder/rung``.
        policy: the timing policy that published figures follow; where ladders differ, that of the first.
        hardware: what the published figures were measured on.
    """

    name: str
    title: str
    recipes: tuple[str, ...]
    policy: str
    hardware: str


AnyLadder: TypeAlias = Ladder | Lineage


@dataclass(frozen=True, slots=True)
class Step:
    """A rung with its resolved recipe and that of its parent (None for the first)."""

    index: int
    rung: Rung
    recipe: Recipe
    parent: Recipe | None


def resolve(ladder: AnyLadder) -> tuple[Step, ...]:
    """Resolve every rung to its complete recipe.

    Raises:
        InputError: a rung declares a path twice, or one that does not change, or the first rung declares a change.
    """
    if isinstance(ladder, Lineage):
        known = {s.recipe.name: s for one in ladders().values() if isinstance(one, Ladder) for s in resolve(one)}
        return tuple(replace(known[name], index=index) for index, name in enumerate(ladder.recipes))
    steps: list[Step] = []
    by_name: dict[str, Recipe] = {}
    for index, rung in enumerate(ladder.rungs):
        before = steps[-1].recipe if steps else None
        parent = by_name[rung.parent] if rung.parent else before
        recipe = parent or ladder.base
        groups = (rung.change, rung.retune, rung.budget)
        if len(rung.changes) != sum(map(len, groups)):
            raise InputError(f"{ladder.name}/{rung.name} declares one path in two groups")
        if index == 0 and rung.changes:
            raise InputError(f"{ladder.name}/{rung.name} is the first rung; its recipe is the ladder's base")
        for path, value in rung.changes.items():
            if not diff(recipe, recipe.with_changes({path: value})):
                raise InputError(f"{ladder.name}/{rung.name} declares {path}, which does not change")
        recipe = recipe.with_changes(rung.changes, name=f"{ladder.name}/{rung.name}")
        steps.append(Step(index, rung, recipe, parent))
        by_name[rung.name] = recipe
    return tuple(steps)


def _listed(name: str) -> Iterator[Any]:
    """Everything that the modules of ``hotlap.ladders`` list under a name, module by module."""
    package = importlib.import_module("hotlap.ladders")
    for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
        yield from getattr(importlib.import_module(f"hotlap.ladders.{module}"), name, ())


@cache
def ladders() -> Mapping[str, AnyLadder]:
    """Every ladder by name: each module of ``hotlap.ladders`` lists its own in ``LADDERS``."""
    return MappingProxyType({ladder.name: ladder for ladder in _listed("LADDERS")})


@cache
def own_records() -> tuple[Recipe, ...]:
    """Finished recipes that are no rung of a ladder: each module of ``hotlap.ladders`` lists its own in ``RECIPES``."""
    return tuple(_listed("RECIPES"))


def get_ladder(name: str) -> AnyLadder:
    """Find a ladder by name.

    Raises:
        InputError: no such ladder; the nearest is suggested.
    """
    if name not in ladders():
        raise unknown_name("ladder", name, ladders(), fix="see them: hotlap list")
    return ladders()[name]


@cache
def recipes() -> Mapping[str, Recipe]:
    """Every recipe by name: those of every ladder, then own records."""
    rungs = (step.recipe for ladder in ladders().values() for step in resolve(ladder))
    return MappingProxyType({recipe.name: recipe for recipe in (*rungs, *own_records())})


def get_recipe(name: str) -> Recipe:
    """Find a recipe by name; a data set's name stands for its fastest recipe.

    Raises:
        InputError: no such recipe; the nearest is suggested.
    """
    from hotlap.ladders import DEFAULTS

    known = recipes()
    name = DEFAULTS.get(name, name)
    if name not in known:
        raise unknown_name("recipe", name, [*DEFAULTS, *known], fix="see them: hotlap list")
    return known[name]


def parse_rungs(text: str, ladder: AnyLadder) -> tuple[int, ...]:
    """Read a choice of rungs: ``3..8``, ``5``, ``0,3..5`` or rung names, separated by commas.

    Raises:
        InputError: not a rung of the ladder.
    """
    names = [step.rung.name for step in resolve(ladder)]
    chosen: set[int] = set()
    for item in (piece.strip() for piece in text.split(",")):
        first, dots, last = item.partition("..")
        try:
            span = range(int(first or 0), int(last or len(names) - 1) + 1) if dots else (int(item),)
        except ValueError:
            if item not in names:
                raise unknown_name(f"rung of {ladder.name}", item, names) from None
            span = (names.index(item),)
        if not span or min(span) < 0 or max(span) >= len(names):
            raise InputError(f"{ladder.name} has rungs 0..{len(names) - 1}, not {item!r}", "for example --rungs 3..8")
        chosen.update(span)
    return tuple(sorted(chosen))
