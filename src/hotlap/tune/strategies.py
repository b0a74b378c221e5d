"""How a study chooses its next point: coordinate ascent, or a sampler of Optuna's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from hotlap.recipe import Value
from hotlap.tune.ascent import SWEEPS, CoordinateAscentSampler
from hotlap.tune.space import Parameter, Point

if TYPE_CHECKING:
    from optuna.study import Study

SamplerName: TypeAlias = Literal["coordinate", "tpe", "random"]

DRAWN_TRIALS = 20
"""Trials of a sampler that would never end by itself, where the user says nothing."""


class Strategy(Protocol):
    """What a search needs to know of a sampler."""

    @property
    def stored(self) -> tuple[Parameter, ...]:
        """The space as Optuna stores it; wider than the ranges where the recipe's own value lies outside of them."""
        ...

    @property
    def wide(self) -> bool:
        """Whether many points can be tried at once without loss, so that they should be before more seeds are."""
        ...

    @property
    def most_trials(self) -> int | None:
        """Trials after which the search ends; None for a strategy that ends by itself."""
        ...

    def sampler(self, before: int) -> BaseSampler:
        """Make the sampler of one trial, a function of how many there were before it, so that studies resume alike."""
        ...

    def ready(self, study: Study) -> bool:
        """Whether another point can be chosen now."""
        ...


@dataclass(frozen=True)
class Ascent:
    """One parameter at a time; see ``ascent``."""

    space: tuple[Parameter, ...]
    start: Point
    sweeps: int = SWEEPS
    most_trials: int | None = None
    wide: bool = True

    def __post_init__(self) -> None:
        _ = self._made  # what cannot be searched is said before anything trains

    @property
    def stored(self) -> tuple[Parameter, ...]:  # noqa: D102
        return self._made.stored

    @property
    def _made(self) -> CoordinateAscentSampler:
        return CoordinateAscentSampler(self.space, self.start, sweeps=self.sweeps)

    def sampler(self, before: int) -> BaseSampler:  # noqa: D102
        return self._made

    def ready(self, study: Study) -> bool:  # noqa: D102
        return bool(self._made.next_points(study))


@dataclass(frozen=True)
class Drawn:
    """One of Optuna's samplers, with all its defaults; its seed is the number of the trial."""

    kind: Literal["tpe", "random"]
    stored: tuple[Parameter, ...]
    most_trials: int | None = DRAWN_TRIALS
    wide: bool = False

    def sampler(self, before: int) -> BaseSampler:  # noqa: D102
        return TPESampler(seed=before) if self.kind == "tpe" else RandomSampler(seed=before)

    def ready(self, study: Study) -> bool:  # noqa: D102
        return True


def choose_strategy(
    sampler: SamplerName, space: Sequence[Parameter], start: Point, *, trials: int | None, sweeps: int
) -> Strategy:
    """Choose a strategy.

    Args:
        sampler: which.
        space: where to search; the ascent tunes its parameters in this order.
        start: the recipe's own values.
        trials: most trials; None for as many as the ascent takes, or ``DRAWN_TRIALS``.
        sweeps: of the ascent.

    Raises:
        InputError: the ascent cannot start from the recipe's own value of a parameter.
    """
    if sampler == "coordinate":
        return Ascent(tuple(space), start, sweeps, trials)
    return Drawn(sampler, tuple(space), trials if trials is not None else DRAWN_TRIALS)


def values_of(params: dict[str, Any], stored: Sequence[Parameter], start: Point) -> dict[str, Value]:
    """Return the point that a stored trial stands for; what the trial leaves out is as it was at the start."""
    return {**start, **{p.path: p.decode(params[p.path]) for p in stored if p.path in params}}
