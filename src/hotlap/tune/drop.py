"""Dropping a bad value before it has trained with every seed, by a test against the best value so far."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optuna.pruners import BasePruner
from optuna.trial import TrialState

from hotlap.stats.comparison import welch_error
from hotlap.stats.intervals import t_beyond

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

ALPHA = 0.05
"""Chance that a value as good as the best is dropped, over all looks together."""

ACCURACIES = "accuracies"
"""User attribute of a trial: ``[seed, accuracy]`` for every seed that has run; an accuracy of None is a failed run."""


def p_worse(candidate: Sequence[float], best: Sequence[float]) -> float | None:
    """One-sided p-value of "the candidate's mean is at or above the best's" (Welch's t-test).

    A SMALL p says that the candidate is worse.

    Args:
        candidate: accuracies so far. It is taken to vary at least as much as the best: two or three values that happen
            to lie close together would otherwise be trusted too much, and the error rate nearly doubles.
        best: accuracies of the best value.

    Returns:
        p in [0, 1]; None when a side has fewer than two values.
    """
    if len(candidate) < 2 or len(best) < 2:
        return None
    means = statistics.mean(candidate), statistics.mean(best)
    spreads = statistics.stdev(candidate), statistics.stdev(best)
    if not any(spreads):
        return 0.0 if means[0] < means[1] else 1.0
    errors = max(spreads) / math.sqrt(len(candidate)), (spreads[1] or spreads[0]) / math.sqrt(len(best))
    error, freedom = welch_error(*errors, len(candidate), len(best))
    return t_beyond((means[1] - means[0]) / error, freedom)


class SeedTestPruner(BasePruner):
    """Drops a trial whose seeds so far are significantly worse than the best finished trial's.

    Every look, from the second seed to the last but one, is held to ``alpha`` over the number of looks (Bonferroni).
    So a value whose true mean is that of the best is dropped with probability of at most ``alpha``, where accuracies
    are about normal, runs of both vary about alike, and the best's mean is known from many seeds. The best of many
    values of few seeds is flattered by having been chosen: equally good values are then dropped more often than
    ``alpha`` says. What is kept is as good, so that costs no accuracy.

    Trials carry their runs in the user attribute ``ACCURACIES``.

    Args:
        seeds: of every trial; one that has all of them is not dropped any more.
        alpha: error rate of one trial, in (0, 1).
    """

    def __init__(self, seeds: int, alpha: float = ALPHA) -> None:
        self.level = alpha / max(1, seeds - 2)
        self._seeds = seeds

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether to drop a trial: a seed of it failed, or it is significantly worse than the best."""
        accuracies = accuracies_of(trial)
        if None in accuracies.values():
            return True
        if not 2 <= len(accuracies) < self._seeds:
            return False
        p = self.p(study, trial)
        return p is not None and p < self.level

    def p(self, study: Study, trial: FrozenTrial) -> float | None:
        """Return the test's p-value; None while there is nothing to test, or nothing to test against."""
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        best = max(finished, key=lambda t: t.values[0], default=None)
        return None if best is None else p_worse(finite(trial), finite(best))


def accuracies_of(trial: FrozenTrial) -> dict[int, float | None]:
    """Return a trial's accuracies by seed; None for a run that failed."""
    return {int(seed): accuracy for seed, accuracy in trial.user_attrs.get(ACCURACIES, ())}


def finite(trial: FrozenTrial) -> list[float]:
    """Return the accuracies of a trial's runs that did not fail, by seed."""
    return [accuracy for _, accuracy in sorted(accuracies_of(trial).items()) if accuracy is not None]
