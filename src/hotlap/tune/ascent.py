"""Coordinate ascent: one hyper-parameter at a time, the best value kept, then the next.

Source: Oikarinen 2021 tuned MNIST's fastest recipe so by hand, with 30 seeds for each value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from hotlap.errors import HotlapError
from hotlap.recipe import Value
from hotlap.tune.space import Parameter, Point

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

Key: TypeAlias = tuple[Value, ...]

VALUES = 7
"""Points of a range that one sweep looks at."""

SWEEPS = 2


def key_of(point: Point, space: Sequence[Parameter]) -> Key:
    """Return a point's values in the order of the space."""
    return tuple(point[parameter.path] for parameter in space)


def candidates(parameter: Parameter, present: Value, *, sweep: int = 0, values: int = VALUES) -> tuple[Value, ...]:
    """Return the values to try in place of the present one.

    Args:
        parameter: a list gives all its other values, in every sweep. A range is covered from end to end in the first
            sweep; each later one looks at half the width of the one before, round the present value.
        present: the best value so far, which need not lie in the range.
        sweep: how many sweeps have been completed.
        values: points of a range, evenly spaced (by ratios where it is logarithmic) and rounded to what their distance
            makes worth telling apart; at least 2. Those next to none from the present value are left out.
    """
    if parameter.kind == "choice":
        return tuple(choice for choice in parameter.choices if choice != present)
    assert isinstance(present, int | float)
    forth, back = (math.log, math.exp) if parameter.log else (float, float)
    low, high = forth(parameter.low), forth(parameter.high)
    if sweep:
        centre = forth(min(max(present, parameter.low), parameter.high))
        half = (high - low) / 2 ** (sweep + 1)
        low, high = max(low, centre - half), min(high, centre + half)
    distance = (high - low) / (values - 1)
    found: dict[Value, None] = {}
    for index in range(values):
        value = back(low + index * distance)
        spacing = value * math.expm1(distance) if parameter.log else distance
        value = _rounded(parameter, value, spacing)
        if abs(value - present) > spacing / 10:
            found[value] = None
    return tuple(found)


def _rounded(parameter: Parameter, value: float, spacing: float) -> int | float:
    """Round to a tenth of the spacing or finer, to the grid or to whole numbers; never beyond the ends."""
    if parameter.grid:
        return min((v for v in parameter.grid if isinstance(v, int | float)), key=lambda v: abs(v - value))
    if parameter.kind == "int":
        return min(max(round(value), round(parameter.low)), round(parameter.high))
    return min(max(round(value, 1 - math.floor(math.log10(spacing))), parameter.low), parameter.high)


def ascend(
    scores: Mapping[Key, float], space: Sequence[Parameter], start: Point, *, values: int = VALUES, sweeps: int = SWEEPS
) -> tuple[dict[str, Value], list[dict[str, Value]]]:
    """Climb as far as the scores that are known allow.

    A value replaces the present one only if its score is higher; of several that are equal the first is taken. The
    climb ends after a sweep that changed nothing.

    Args:
        scores: of the points that have been tried; minus infinity for one that was dropped.
        space: parameters in the order in which they are tuned.
        start: where to begin.
        values: see ``candidates``.
        sweeps: most sweeps over all parameters.

    Returns:
        The best point so far, and the points whose scores are needed to go on; none when the climb has ended.
    """
    best = dict(start)
    if key_of(best, space) not in scores:
        return best, [best]
    for sweep in range(sweeps):
        changed = False
        for parameter in space:
            tried = candidates(parameter, best[parameter.path], sweep=sweep, values=values)
            points = [{**best, parameter.path: value} for value in tried]
            if missing := [point for point in points if key_of(point, space) not in scores]:
                return best, missing
            top = max(points, key=lambda point: scores[key_of(point, space)], default=best)
            if scores[key_of(top, space)] > scores[key_of(best, space)]:
                best, changed = top, True
        if not changed:
            break
    return best, []


class CoordinateAscentSampler(BaseSampler):
    """An Optuna sampler whose next value follows from the finished trials alone, so that a study can be resumed.

    A study that it is used with has one objective, which is maximised.

    Args:
        space: parameters in the order in which they are tuned.
        start: where to begin; a trial that leaves a parameter out is taken to have this value of it.
        values: see ``candidates``.
        sweeps: see ``ascend``.

    Attributes:
        stored: the parameters as Optuna stores them, wide enough for the start.
    """

    def __init__(self, space: Sequence[Parameter], start: Point, *, values: int = VALUES, sweeps: int = SWEEPS) -> None:
        self._space, self._start, self._values, self._sweeps = tuple(space), dict(start), values, sweeps
        # The start need not lie in the ranges, but Optuna must be able to store it.
        self.stored = tuple(p.including(self._start[p.path]) for p in self._space)

    def _point(self, trial: FrozenTrial) -> dict[str, Value]:
        given = {p.path: p.decode(trial.params[p.path]) for p in self.stored if p.path in trial.params}
        return {**self._start, **given}

    def next_points(self, study: Study) -> list[dict[str, Value]]:
        """Return the points that can be tried now and are not being tried; none while one must wait, or at the end."""
        scores: dict[Key, float] = {}
        taken: set[Key] = set()
        for trial in study.get_trials(deepcopy=False):
            key = key_of(self._point(trial), self._space)
            if trial.state is TrialState.RUNNING and len(trial.params) == len(self._space):
                taken.add(key)
            elif trial.state is TrialState.COMPLETE:
                scores[key] = max(scores.get(key, -math.inf), trial.values[0])
            elif trial.state is TrialState.PRUNED:
                scores.setdefault(key, -math.inf)
        _, missing = ascend(scores, self._space, self._start, values=self._values, sweeps=self._sweeps)
        return [point for point in missing if key_of(point, self._space) not in taken]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the whole space: every parameter is decided at once."""
        return {parameter.path: parameter.distribution() for parameter in self.stored}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the first point that can be tried now.

        Raises:
            HotlapError: there is none; ask ``next_points`` first.
        """
        points = self.next_points(study)
        if not points:
            raise HotlapError("the ascent has ended, or waits for a trial to finish")
        return {parameter.path: parameter.encode(points[0][parameter.path]) for parameter in self._space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Refuse a parameter that is not of the space."""
        raise HotlapError(f"{param_name} is not in the space of this ascent")
