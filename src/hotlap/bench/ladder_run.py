"""Measuring a ladder: rounds over its rungs, cheapest first, within a time limit, resuming what is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from hotlap.bench.session import Session
from hotlap.ladder import AnyLadder, Step, resolve
from hotlap.recipe import Recipe
from hotlap.result import Run


@dataclass
class LadderRun:
    """Runs of a ladder's rungs, and what is still to be done.

    Args:
        ladder: whose rungs to measure.
        rungs: which of them, by index.
        seeds: the seeds each rung is to have.
        session: trains and stores.
        fresh: ignore stored runs.
        timed: ignore stored runs whose times do not count.
        change: applied to every rung's recipe, e.g. to compile all of them.
    """

    ladder: AnyLadder
    rungs: Sequence[int]
    seeds: Sequence[int]
    session: Session
    fresh: bool = False
    timed: bool = False
    change: Callable[[Recipe], Recipe] = lambda recipe: recipe
    now: Callable[[], float] = time.monotonic
    steps: tuple[Step, ...] = field(init=False)
    recipes: dict[int, Recipe] = field(init=False)
    runs: dict[int, dict[int, Run]] = field(init=False)
    skipped_for_time: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.steps = resolve(self.ladder)
        self.recipes = {i: self.change(self.steps[i].recipe) for i in self.rungs}
        self.runs = {index: self._stored(recipe) for index, recipe in self.recipes.items()}

    def _stored(self, recipe: Recipe) -> dict[int, Run]:
        if self.fresh:
            return {}
        finished = self.session.finished(recipe, timed=self.timed, failed=True)
        return {seed: finished[seed] for seed in self.seeds if seed in finished}

    def todo(self) -> list[tuple[int, int]]:
        """Return (rung, seed) still to be trained, in order: a round over all rungs per seed, last rung first."""
        rungs = sorted(self.rungs, reverse=True)
        return [(i, seed) for seed in self.seeds for i in rungs if seed not in self.runs[i]]

    def estimate(self, rung: int) -> float | None:
        """Return the expected wall time in seconds of one run of a rung; None before anything was measured.

        A rung without runs is expected to take as much longer than a measured one as its published time says.
        """
        if own := [sum(run.phases.values()) for run in self.runs[rung].values()]:
            return sum(own) / len(own)
        published = self.steps[rung].rung.published.time_s
        scales = [
            sum(sum(run.phases.values()) for run in runs.values()) / len(runs) / reference
            for i, runs in self.runs.items()
            if runs and (reference := self.steps[i].rung.published.time_s)
        ]
        return max(scales) * published if scales and published else None

    def time_left(self) -> float | None:
        """Return the expected seconds of all that is to be done; None while a rung cannot be estimated."""
        estimates = [self.estimate(rung) for rung, _ in self.todo()]
        known = [e for e in estimates if e is not None]
        return sum(known) if len(known) == len(estimates) else None

    def execute(self, *, max_seconds: float | None = None) -> Iterator[tuple[int, int, Run | None]]:
        """Train what is to be done; yields (rung, seed, None) before and (rung, seed, run) after each run.

        Args:
            max_seconds: runs that are expected to end after this many seconds from now are left out.
        """
        start = self.now()
        for rung, seed in self.todo():
            expected = self.estimate(rung) or 0.0
            if max_seconds is not None and self.now() - start + expected > max_seconds:
                self.skipped_for_time += 1
                continue
            yield rung, seed, None
            run = replace(self.session.run(self.recipes[rung], seed), module=None)
            self.runs[rung][seed] = run
            yield rung, seed, run
