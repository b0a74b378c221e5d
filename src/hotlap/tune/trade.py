"""Cashing accuracy in as fewer epochs, each step certified on held-out training images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hotlap import datasets
from hotlap.bench.executors import Executor, Job
from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.report.certificate import FEWEST_RUNS
from hotlap.report.formats import percent, target_percent
from hotlap.result import Run
from hotlap.tune.driving import drive
from hotlap.tune.pace import Pace
from hotlap.tune.result import Measured
from hotlap.tune.validation import HoldOut, ValidationRuns, final_recipe, validation_recipe

if TYPE_CHECKING:
    from hotlap.bench.session import Session

FACTOR = 0.9

FEWEST_TO_GIVE_UP = 3
"""Runs of a step below which it is not given up, however bad they look."""


@dataclass(kw_only=True)
class Step(Measured):
    """One number of epochs and what it gave; accuracies (0–1) are of held-out images.

    Attributes:
        epochs: passes over the training images.
        accuracies: by seed; None for a run that failed.
        verdict: ``certified``, ``missed``, or ``open`` while that is not known.
        reason: of the verdict.
    """

    epochs: float
    accuracies: dict[int, float | None] = field(default_factory=dict)
    verdict: str = "open"
    reason: str = ""

    def judge(self, target: float, seeds: int, *, may_give_up: bool) -> None:
        """Certify the step when all its seeds are there; give it up before when they rule that out."""
        if None in self.accuracies.values():
            self.verdict, self.reason = "missed", "a run failed"
            return
        if self.ci95 is None:
            return
        low, high = self.ci95
        if len(self.accuracies) == seeds:
            self.verdict = "certified" if low >= target else "missed"
            relation = "is at or above" if low >= target else "is below"
            bound = f"the lower bound of the mean's 95 % interval, {percent(low, 3)}"
            self.reason = f"{bound}, {relation} {target_percent(target)}"
        elif may_give_up and self.n >= FEWEST_TO_GIVE_UP and high < target:
            self.verdict = "missed"
            self.reason = f"after {self.n} runs the whole 95 % interval, up to {percent(high, 3)}, is below the target"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "epochs": self.epochs,
            "verdict": self.verdict,
            "reason": self.reason,
            **self.figures(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeResult:
    """How far epochs could be lowered.

    Attributes:
        recipe: with the fewest certified epochs, on the data set itself; as it was given where nothing was certified.
        target: accuracy on held-out images that was to be held.
        steps: with the given number of epochs first, then ever fewer; the last is the first that was not certified,
            or ``open`` where the time ran out.
        complete: False when the time ran out.
    """

    recipe: Recipe
    target: float
    steps: tuple[Step, ...]
    complete: bool

    @property
    def certified(self) -> bool:
        """Whether the recipe as it was given holds the target."""
        return self.steps[0].verdict == "certified"

    @property
    def suggestion(self) -> float | None:
        """Highest target, in hundredths of a per cent, that the recipe as it was given would have held."""
        interval = self.steps[0].ci95
        return None if interval is None else math.floor(interval[0] * 1e4) / 1e4

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "epochs": self.recipe.epochs,
            "target": self.target,
            "certified": self.certified,
            "complete": self.complete,
            "steps": [step.to_dict() for step in self.steps],
        }


def trade_epochs(
    recipe: Recipe,
    *,
    session: Session,
    hold_out: HoldOut,
    seeds: Sequence[int],
    executor: Executor | None = None,
    target: float | None = None,
    factor: float = FACTOR,
    pace: Pace | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> TradeResult:
    """Lower a recipe's epochs step by step while its mean accuracy on held-out images stays certified.

    A step is certified when, over all seeds, the lower bound of the mean's 95 % interval is at or above the target. The
    first that is not ends the search; it is given up as soon as its runs rule it out. The test set is not looked at.

    Args:
        recipe: on the data set itself or on held-out images.
        session: trains and stores the runs; stored ones are not repeated.
        hold_out: which training images to measure on.
        seeds: at least 10. Seeds that the recipe was not tuned with flatter it less.
        executor: where runs are trained; in this process when None.
        target: accuracy to hold; the recipe's own when None.
        factor: of one step, in (0, 1); every step is at least one optimizer step shorter than the one before.
        pace: no run is started that does not fit into it; None for no limit.
        say: told of every step that has been judged, in a line.

    Raises:
        InputError: no target or one that is no accuracy, too few seeds, a factor that does not lower anything, or the
            recipe as it was given cannot be trained.
    """
    target = target_of(recipe, target)
    if len(set(seeds)) < max(FEWEST_RUNS, len(seeds)):
        raise InputError(f"epochs are traded on at least {FEWEST_RUNS} different seeds, not {len(seeds)}")
    if not 0 < factor < 1:
        raise InputError(f"a step's factor is between 0 and 1, not {factor:g}", "for example 0.9")
    descent = _Descent(validation_recipe(recipe, hold_out), session, seeds, target, factor, pace or Pace(None), say)
    drive(descent, session, executor)
    certified = [step for step in descent.steps if step.verdict == "certified"]
    shortest = certified[-1].epochs if certified else recipe.epochs
    return TradeResult(
        recipe=final_recipe(recipe).with_changes({"epochs": shortest}),
        target=target,
        steps=tuple(descent.steps),
        complete=not descent.out_of_time,
    )


def target_of(recipe: Recipe, asked: float | None) -> float:
    """Return the accuracy to hold: what was asked for, or the recipe's own target.

    Raises:
        InputError: neither is there, or it is no accuracy.
    """
    target = asked if asked is not None else recipe.target
    if target is None:
        raise InputError(f"{recipe.name} has no target to trade epochs at", "say which: --trade-target 0.99")
    if not 0 < target <= 1:  # not: so that NaN is refused
        raise InputError(f"a target is an accuracy between 0 and 1, not {target:g}", "for example --trade-target 0.99")
    return target


class _Descent:
    """Hands out the runs of one step after the other, and takes them in."""

    def __init__(
        self,
        recipe: Recipe,
        session: Session,
        seeds: Sequence[int],
        target: float,
        factor: float,
        pace: Pace,
        say: Callable[[str], None],
    ) -> None:
        self._given, self._recipe = recipe, recipe
        self._runs = ValidationRuns(session)
        self._images = len(datasets.load(recipe.data.name, **recipe.data.options).y_train)
        self._seeds, self._target, self._factor, self._pace, self._say = tuple(seeds), target, factor, pace, say
        self._flying: set[tuple[str, int]] = set()
        self.steps: list[Step] = []
        self.out_of_time = False

    def jobs(self) -> Iterator[Job | None]:
        """Yield the runs of the step of the moment, None while it is not judged; see ``Executor``."""
        if not self.steps:
            self._begin(self._given.epochs)
        while self._go_on():
            step = self.steps[-1]
            missing = [seed for seed in self._seeds if seed not in step.accuracies]
            job = next((Job(self._recipe, s) for s in missing if (self._recipe.digest, s) not in self._flying), None)
            if job is not None:
                if not self._pace.fits:
                    self.out_of_time = True
                    return
                self._flying.add(job.key)
                self._pace.begin(job.key)
            yield job

    def take(self, run: Run) -> None:
        """Take in a run that was handed out; one of a step that has been judged changes nothing any more."""
        self._runs.add(run)
        key = (run.recipe.digest, run.seed)
        self._flying.discard(key)
        self._pace.finish(key)
        if self.steps[-1].verdict == "open" and key[0] == self._recipe.digest:
            self._record(run)

    def refuse(self, error: InputError) -> bool:
        """End with a step that cannot be trained; False where that is the recipe as it was given."""
        if error.recipe in (None, self._given.digest):
            return False
        self._flying.clear()
        step = self.steps[-1]
        if error.recipe == self._recipe.digest and step.verdict == "open":
            step.verdict, step.reason = "missed", f"it cannot be trained: {error.cause}"
            self._say(f"{step.epochs:g} epochs: {step.verdict}: {step.reason}")
        return True

    def _begin(self, epochs: float) -> None:
        self._recipe = self._given.with_changes({"epochs": epochs}, name=f"{self._given.name} [epochs={epochs:g}]")
        self.steps.append(Step(epochs=epochs))
        known = self._runs.of(self._recipe)
        for seed in self._seeds:
            if seed in known and self.steps[-1].verdict == "open":
                self._record(known[seed])

    def _record(self, run: Run) -> None:
        step = self.steps[-1]
        step.accuracies[run.seed] = run.accuracy
        # The first step also says which target could be held instead, so all its seeds are wanted.
        step.judge(self._target, len(self._seeds), may_give_up=len(self.steps) > 1)
        if step.verdict != "open":
            self._say(f"{step.epochs:g} epochs: {step.verdict}: {step.reason}")

    def _go_on(self) -> bool:
        """Begin steps until one is open; False when the descent has ended."""
        while self.steps[-1].verdict == "certified":
            shorter = fewer_epochs(self._recipe, self._images, self._factor)
            if shorter is None:
                return False
            self._begin(shorter)
        return self.steps[-1].verdict == "open"


def fewer_epochs(recipe: Recipe, images: int, factor: float) -> float | None:
    """Return the next lower number of epochs: by a factor, and at least one optimizer step.

    Args:
        recipe: on held-out images.
        images: it trains on.
        factor: in (0, 1).

    Returns:
        Epochs, with as few digits as say the number of steps; None when there is but one step left.
    """
    batch = recipe.batch_size
    per_epoch = images // batch if recipe.feed.drop_last else -(-images // batch)
    steps = _steps(recipe.epochs, per_epoch)
    if steps == 1:
        return None
    fewer = max(1, min(math.floor(steps * factor + 1e-9), steps - 1))
    shortened = (math.floor(fewer / per_epoch * 10**digits) / 10**digits for digits in range(2, 12))
    return next((e for e in shortened if e > 0 and _steps(e, per_epoch) == fewer), fewer / per_epoch)


def _steps(epochs: float, per_epoch: int) -> int:
    """Return the optimizer steps of a training, as the loop counts them."""
    return max(1, math.ceil(epochs * per_epoch - 1e-9))
