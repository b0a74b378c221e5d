"""A study in motion: which run is to start next, and what becomes of those that come in."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from optuna.trial import TrialState

from hotlap.bench.executors import Job
from hotlap.errors import HotlapError, InputError
from hotlap.recipe import Change, Recipe, show_value
from hotlap.report.formats import percent_with_interval
from hotlap.result import Run
from hotlap.stats.intervals import mean_interval
from hotlap.tune.drop import ACCURACIES, SeedTestPruner
from hotlap.tune.pace import Pace
from hotlap.tune.space import Point
from hotlap.tune.storage import BASELINE
from hotlap.tune.strategies import Strategy
from hotlap.tune.validation import ValidationRuns, ensure_held_out

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.study import Study

DROPPED = "dropped"
"""User attribute of a trial that was given up early: why."""

EPOCHS = "epochs"
"""User attribute of a trial whose epochs follow from its values: how many."""

FIRST_SEEDS = 2
"""Seeds of a value that are started before the first look at it."""


@dataclass(eq=False)
class _Open:
    """A trial whose runs are not all there."""

    trial: Trial
    recipe: Recipe
    changes: tuple[Change, ...]
    accuracies: dict[int, float | None] = field(default_factory=dict)


class Search:
    """Hands out the runs of a study one by one, and takes them in.

    Args:
        study: with a pruner of ours; its trials are changed.
        recipe: on held-out images.
        strategy: chooses the points.
        start: the recipe's own values of the parameters.
        seeds: every point is trained with these, in this order.
        runs: those that need not be trained; those that come in are added.
        pace: no run is started that does not fit.
        build: builds the parts of a recipe, and raises where they cannot be.
        epochs_of: says for how many epochs a point trains; None where all train for those of the recipe.
        say: told of every trial that ends.

    Attributes:
        out_of_time: whether a run was not started because of the pace.
        reused: how many runs were not trained because they were there.
    """

    def __init__(
        self,
        study: Study,
        recipe: Recipe,
        strategy: Strategy,
        start: Point,
        *,
        seeds: Sequence[int],
        runs: ValidationRuns,
        pace: Pace,
        build: Callable[[Recipe], object],
        say: Callable[[str], None],
        epochs_of: Callable[[Recipe], float] | None = None,
    ) -> None:
        ensure_held_out(recipe)
        self.out_of_time = False
        self.reused = 0
        self._study, self._recipe, self._strategy, self._start = study, recipe, strategy, start
        self._stored = {parameter.path: parameter for parameter in strategy.stored}
        self._seeds = tuple(seeds)
        self._runs, self._pace, self._build, self._say = runs, pace, build, say
        self._epochs_of = epochs_of
        self._open: list[_Open] = []
        self._flying: set[tuple[str, int]] = set()
        self._queue_baseline()

    def _queue_baseline(self) -> None:
        states = (TrialState.WAITING, TrialState.COMPLETE, TrialState.PRUNED)
        if not any(t.user_attrs.get(BASELINE) for t in self._study.get_trials(deepcopy=False, states=states)):
            fit = {
                path: p.encode(self._start[path]) for path, p in self._stored.items() if p.contains(self._start[path])
            }
            self._study.enqueue_trial(fit, user_attrs={BASELINE: True})

    # -- handing out --------------------------------------------------------------------------------------------

    def jobs(self) -> Iterator[Job | None]:
        """Yield the next run to start, None while that depends on runs in flight; see ``Executor``."""
        while True:
            job = self._next()
            if job is None:
                if not self._open:
                    return
                yield None
                continue
            if not self._pace.fits:
                self.out_of_time = True
                return
            self._flying.add(job.key)
            self._pace.begin(job.key)
            yield job

    def _next(self) -> Job | None:
        """Choose a run: the first seeds of points begun, then other points or more seeds, as the strategy prefers."""
        wide = self._strategy.wide
        while True:
            if job := self._seed(first_only=True):
                return job
            if wide and self._begin_trial():
                continue
            if job := self._seed(first_only=False):
                return job
            if wide or not self._begin_trial():
                return None

    def _seed(self, *, first_only: bool) -> Job | None:
        for opened in self._open:
            missing = [seed for seed in self._seeds if seed not in opened.accuracies]
            left = [seed for seed in missing if (opened.recipe.digest, seed) not in self._flying]
            flying = len(missing) - len(left)
            begun = len(opened.accuracies) + flying
            if left and (not first_only or not flying or begun < FIRST_SEEDS):
                return Job(opened.recipe, left[0])
        return None

    def _begin_trial(self) -> bool:
        """Ask for another trial and take the runs of it that are there; False when none can be had now."""
        trials = self._study.get_trials(deepcopy=False)
        waiting = next((t for t in trials if t.state is TrialState.WAITING), None)
        before = sum(t.state not in (TrialState.WAITING, TrialState.FAIL) for t in trials)
        if self._strategy.most_trials is not None and before >= self._strategy.most_trials:
            return False
        if waiting is None and not self._strategy.ready(self._study):
            return False
        self._study.sampler = self._strategy.sampler(before)
        paths = self._stored if waiting is None else waiting.system_attrs["fixed_params"]
        trial = self._study.ask({path: self._stored[path].distribution() for path in paths})
        given = {path: self._stored[path].decode(value) for path, value in trial.params.items()}
        changes = tuple(
            Change(path, self._start[path], value) for path, value in given.items() if value != self._start[path]
        )
        self._take_up(trial, changes)
        return True

    def _take_up(self, trial: Trial, changes: tuple[Change, ...]) -> None:
        try:
            recipe = self._changed(changes)
            if self._epochs_of is not None:
                epochs = self._epochs_of(recipe)
                trial.set_user_attr(EPOCHS, epochs)
                if epochs != recipe.epochs:
                    changes = (*changes, Change("epochs", recipe.epochs, epochs))
                    recipe = self._changed(changes)
            self._build(recipe)
        except HotlapError as error:
            opened = _Open(trial, self._recipe, changes)
            self._drop(opened, f"cannot be built: {error.cause}")
            return
        opened = _Open(trial, recipe, changes)
        self._open.append(opened)
        known = self._runs.of(recipe)
        for seed in self._seeds:
            if seed in known and opened in self._open:
                self.reused += 1
                self._record(opened, known[seed])

    def _changed(self, changes: tuple[Change, ...]) -> Recipe:
        return self._recipe.with_changes(
            {change.path: change.after for change in changes},
            name=f"{self._recipe.name}{describe(changes, brackets=True)}",
        )

    # -- taking in ----------------------------------------------------------------------------------------------

    def take(self, run: Run) -> None:
        """Take in a run that was handed out.

        Raises:
            HotlapError: it was measured on test images.
        """
        self._runs.add(run)
        key = (run.recipe.digest, run.seed)
        self._flying.discard(key)
        self._pace.finish(key)
        for opened in list(self._open):
            if opened.recipe.digest == run.recipe.digest and run.seed not in opened.accuracies:
                self._record(opened, run)

    def refuse(self, error: InputError) -> bool:
        """Drop the points of the recipe that cannot be trained; False where that is the recipe as it was given."""
        if error.recipe in (None, self._recipe.digest):
            return False
        self._flying.clear()
        for opened in [one for one in self._open if one.recipe.digest == error.recipe]:
            self._drop(opened, f"cannot be trained: {error.cause}")
        return True

    def _record(self, opened: _Open, run: Run) -> None:
        trial, accuracies = opened.trial, opened.accuracies
        accuracies[run.seed] = run.accuracy
        trial.set_user_attr(ACCURACIES, [[seed, accuracies[seed]] for seed in self._seeds if seed in accuracies])
        finite = [accuracy for accuracy in accuracies.values() if accuracy is not None]
        if finite:
            trial.report(statistics.mean(finite), len(accuracies))
        if trial.should_prune():
            self._drop(opened, self._why(trial, run))
        elif len(accuracies) == len(self._seeds):
            self._open.remove(opened)
            self._study.tell(trial, statistics.mean(finite))
            shown = percent_with_interval(statistics.mean(finite), mean_interval(finite))
            self._say(f"trial {trial.number}: {describe(opened.changes)}: {shown}")

    def _why(self, trial: Trial, run: Run) -> str:
        if run.accuracy is None:
            return f"seed {run.seed} failed: {run.error or 'no accuracy'}"
        pruner, frozen = self._study.pruner, self._study.get_trials(deepcopy=False)[trial.number]
        p = pruner.p(self._study, frozen) if isinstance(pruner, SeedTestPruner) else None
        return "worse than the best" if p is None else f"worse than the best, p = {p:.2g}"

    def _drop(self, opened: _Open, reason: str) -> None:
        if opened in self._open:
            self._open.remove(opened)
        opened.trial.set_user_attr(DROPPED, reason)
        self._study.tell(opened.trial, state=TrialState.PRUNED)
        runs = f" after {len(opened.accuracies)} of {len(self._seeds)} seeds" if opened.accuracies else ""
        self._say(f"trial {opened.trial.number}: {describe(opened.changes)}: dropped{runs}: {reason}")


def describe(changes: Sequence[Change], *, brackets: bool = False) -> str:
    """Write a point as what it changes: ``optimizer.lr 0.02, batch_size 128``.

    Args:
        changes: from the recipe that was given.
        brackets: write it as the end of a recipe's name.
    """
    if brackets:
        return f" [{', '.join(f'{c.path}={show_value(c.after)}' for c in changes)}]" if changes else ""
    return ", ".join(f"{c.path} {show_value(c.after)}" for c in changes) or "as it was given"
