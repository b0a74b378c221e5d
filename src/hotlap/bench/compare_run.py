"""Running a comparison: two recipes in turn, pair by pair, until it is settled or the seeds or the time are used up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hotlap.bench.session import Session, resolve_recipe
from hotlap.recipe import Recipe
from hotlap.result import Run
from hotlap.stats.pairs import finished_pairs, look_at


def resolve_pair(
    a: str | Path | Recipe,
    b: str | Path | Recipe | None,
    *,
    changes: Mapping[str, Any],
    data: str | Path | None = None,
    device: str = "cpu",
) -> tuple[Recipe, Recipe]:
    """Find the two recipes of a comparison, which is to be of recipes and not of data.

    Args:
        a: the baseline, as ``resolve_recipe`` takes it.
        b: the candidate; ``a`` itself when None.
        changes: made to the candidate; those of ``data`` are made to both.
        data: of both, as ``resolve_recipe`` takes it.
        device: as ``resolve_recipe`` takes it.

    Raises:
        InputError: as ``resolve_recipe``.
    """
    of_data = {path: value for path, value in changes.items() if path.partition(".")[0] == "data"}
    baseline = resolve_recipe(a, changes=of_data, data=data, device=device)
    return baseline, resolve_recipe(a if b is None else b, changes=changes, data=data, device=device)


@dataclass
class CompareRun:
    """A comparison under way.

    Args:
        session: trains and stores.
        a: the baseline.
        b: the candidate.
        seeds: a pair is trained with each, both recipes with the same.
        until: error rate at which to stop when the difference of accuracy is settled; None trains every pair.
        max_seconds: no pair is begun that is expected to end later than this.
    """

    session: Session
    a: Recipe
    b: Recipe
    seeds: Sequence[int]
    until: float | None = None
    max_seconds: float | None = None
    now: Callable[[], float] = time.monotonic
    runs_a: list[Run] = field(init=False, default_factory=list)
    runs_b: list[Run] = field(init=False, default_factory=list)
    stopped: str | None = field(init=False, default=None)
    """Why not every seed was used; None where every one was."""

    def execute(self) -> Iterator[Run]:
        """Train the pairs in alternating order (A B B A …) and yield each run, without its network, as it is made.

        Raises:
            HotlapError: a recipe and its data do not go together.
        """
        self.session.fetch(self.a)
        self.session.fetch(self.b)
        self.session.use_one_backend([self.a, self.b])
        start = self.now()
        for number, seed in enumerate(self.seeds):
            expected = (self.now() - start) * (number + 1) / max(number, 1)
            if self.max_seconds is not None and expected > self.max_seconds:
                self.stopped = f"stopped after {number} pairs: the next would not fit into the time"
                return
            sides = [(self.a, self.runs_a), (self.b, self.runs_b)]
            for recipe, runs in sides if number % 2 == 0 else reversed(sides):
                run = replace(self.session.run(recipe, seed), module=None)
                runs.append(run)
                yield run
            if self._settled():
                self.stopped = f"settled after {number + 1} pairs"
                return

    def _settled(self) -> bool:
        if self.until is None:
            return False
        look = look_at(finished_pairs(self.runs_a, self.runs_b), self.until)
        return look is not None and look.settled
