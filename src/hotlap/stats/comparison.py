"""Comparisons of two sets of figures: how far apart, with what interval, and how many more runs would settle it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hotlap.errors import InputError
from hotlap.stats.intervals import (
    CONFIDENCE,
    FEWEST_EQUAL,
    Interval,
    are_equal,
    median_interval,
    t_beyond,
    t_interval,
)

POWER = 0.8
"""Chance with which ``runs_to_resolve`` runs find a difference of the size measured."""

MEDIAN_INEFFICIENCY = math.pi / 2
"""Variance of the median over that of the mean, for normal data."""

MOST_RUNS = 10**9
"""Largest number of runs that is told apart; it stands for any larger one."""

ROUNDING = 1e-12
"""Share of the values below which a difference is one of rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanDifference:
    """Difference of two means, ``b - a``, in the unit of the values.

    Attributes:
        method: ``welch`` for two independent sets, ``paired`` for pairs that share their random numbers.
        ci95: 95 % interval of the difference (Welch's, or Student's of the pairs' differences); None unless both sides
            have two values, and without any spread ``FEWEST_EQUAL``.
        p: two-sided p-value of "there is no difference" (t-test; without any spread, the exact test of permutations or,
            of pairs, of signs); None as ``ci95``.
        deviation: standard deviation of one run, pooled over both sides; of ``paired``, that of one pair's difference.
            None unless both sides have two values.
    """

    method: Literal["welch", "paired"]

    mean_a: float
    mean_b: float
    n_a: int
    n_b: int
    difference: float
    ci95: Interval | None
    p: float | None
    deviation: float | None

    @property
    def runs_needed(self) -> int | None:
        """Runs on each side with which a difference of this size would be resolved (p < 0.05) with 80 % chance.

        None where ``ci95`` is None or the difference is zero.
        """
        if self.deviation is None or self.ci95 is None:
            return None
        return runs_to_resolve(self.difference, self.deviation, paired=self.method == "paired")

    @property
    def resolved(self) -> bool:
        """Whether the 95 % interval leaves out zero."""
        return self.ci95 is not None and not self.ci95[0] <= 0 <= self.ci95[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRatio:
    """Ratio of two times, ``a / b``: by what factor b is faster than a.

    Attributes:
        ratio: median of the pairs' ratios, taken in logarithms, so that swapping the sides gives the reciprocal.
        ci95: 95 % interval of ``ratio`` over pairs, by ``median_interval``; None for fewer than three pairs, and below
            six pairs their range, which covers less than 95 %.
        pairs: how many pairs.
        pairs_needed: pairs with which a ratio of this size would be resolved from 1 with 80 % chance; None for fewer
            than three pairs or a ratio of exactly 1.
    """

    ratio: float
    ci95: Interval | None
    pairs: int
    pairs_needed: int | None

    @property
    def resolved(self) -> bool:
        """Whether the 95 % interval leaves out 1."""
        return self.ci95 is not None and not self.ci95[0] <= 1 <= self.ci95[1]


def welch_difference(a: Sequence[float], b: Sequence[float]) -> MeanDifference:
    """Compare two means without assuming equal variances (Welch).

    Args:
        a: values of the baseline, e.g. accuracies.
        b: values of the candidate, in the same unit.

    Raises:
        InputError: a side is empty.
    """
    if not a or not b:
        raise InputError("a comparison needs runs on both sides", "make some with: hotlap compare A B --runs 10")
    mean_a, mean_b = float(statistics.mean(a)), float(statistics.mean(b))
    difference = _or_zero(mean_b - mean_a, (*a, *b))
    ci95: Interval | None = None
    p: float | None = None
    deviation: float | None = None
    if len(a) >= 2 and len(b) >= 2:
        # Exact sums take most of the time, so each side has one.
        spread_a, spread_b = statistics.stdev(a), statistics.stdev(b)
        error_a, error_b = spread_a / math.sqrt(len(a)), spread_b / math.sqrt(len(b))
        if are_equal(spread_a, a) and are_equal(spread_b, b):
            if min(len(a), len(b)) >= FEWEST_EQUAL:
                ci95 = difference, difference
                p = 2 / math.comb(len(a) + len(b), len(a)) if difference else 1.0
        else:
            error, freedom = welch_error(error_a, error_b, len(a), len(b))
            ci95, p = t_interval(difference, error, freedom), 2 * t_beyond(abs(difference) / error, freedom)
        deviation = math.hypot(spread_a, spread_b) / math.sqrt(2)
    return MeanDifference(
        method="welch",
        mean_a=mean_a,
        mean_b=mean_b,
        n_a=len(a),
        n_b=len(b),
        difference=difference,
        ci95=ci95,
        p=p,
        deviation=deviation,
    )


def _or_zero(difference: float, values: Sequence[float]) -> float:
    """Zero for a difference of values that is only one of rounding."""
    return difference if abs(difference) > ROUNDING * max(map(abs, values)) else 0.0


def pair_differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """``b - a`` pair by pair, without errors of rounding: differences that are equal on paper are equal here.

    Args:
        a: values of the baseline, at least one; ``a[i]`` and ``b[i]`` are a pair.
        b: values of the candidate, in the same unit.
    """
    largest = max(map(abs, (*a, *b)))
    digits = -math.ceil(math.log10(largest * ROUNDING)) if largest * ROUNDING else 0
    return [round(y - x, digits) for x, y in zip(a, b, strict=True)]


def welch_error(error_a: float, error_b: float, n_a: int, n_b: int) -> tuple[float, float]:
    """Standard error of a difference of two means, and its degrees of freedom (Welch–Satterthwaite).

    Written on summary figures because scipy's test warns when one side is constant; both must not be.

    Args:
        error_a: standard error of one mean.
        error_b: of the other, in the same unit.
        n_a: how many values the one has, at least 2.
        n_b: how many the other has.
    """
    error = math.hypot(error_a, error_b)
    # On shares of the total, so that tiny deviations do not underflow in the fourth power.
    share_a, share_b = (error_a / error) ** 2, (error_b / error) ** 2
    return error, 1 / (share_a**2 / (n_a - 1) + share_b**2 / (n_b - 1))


def paired_difference(a: Sequence[float], b: Sequence[float]) -> MeanDifference:
    """Compare two means over pairs: Student's t of the pairs' differences.

    What a pair shares (the first weights, the order of the images) cancels, so that the interval is the tighter the
    more the two sides go up and down together. Choose it for how the runs were made, before seeing them.

    Args:
        a: values of the baseline; ``a[i]`` and ``b[i]`` are a pair.
        b: values of the candidate, in the same unit.

    Raises:
        InputError: the sides differ in length or are empty.
    """
    if len(a) != len(b) or not a:
        raise InputError(f"pairs are compared, not {len(a)} runs with {len(b)}", "make some with: hotlap compare A B")
    differences = pair_differences(a, b)
    difference = _or_zero(float(statistics.mean(differences)), (*a, *b))
    ci95: Interval | None = None
    p: float | None = None
    deviation: float | None = None
    if len(differences) >= 2:
        deviation = float(statistics.stdev(differences))
        if are_equal(deviation, (*a, *b)):
            if len(differences) >= FEWEST_EQUAL:
                ci95 = difference, difference
                p = 2 * 0.5 ** len(differences) if difference else 1.0
        else:
            error, freedom = deviation / math.sqrt(len(differences)), len(differences) - 1
            ci95, p = t_interval(difference, error, freedom), 2 * t_beyond(abs(difference) / error, freedom)
    return MeanDifference(
        method="paired",
        mean_a=float(statistics.mean(a)),
        mean_b=float(statistics.mean(b)),
        n_a=len(a),
        n_b=len(b),
        difference=difference,
        ci95=ci95,
        p=p,
        deviation=deviation,
    )


def time_ratio(a: Sequence[float], b: Sequence[float]) -> TimeRatio:
    """Compare times measured alternately, so that what slows the machine for a while slows both sides.

    Args:
        a: seconds of the baseline; ``a[i]`` and ``b[i]`` ran next to each other.
        b: seconds of the candidate.

    Raises:
        InputError: the sides differ in length or are empty, or a time is not positive and finite.
    """
    if len(a) != len(b) or not a:
        raise InputError(f"times are compared in pairs, not {len(a)} with {len(b)}", "interleave with: hotlap compare")
    if not all(0 < time < math.inf for time in (*a, *b)):
        raise InputError("a time to compare must be positive and finite")
    logs = [math.log(x) - math.log(y) for x, y in zip(a, b, strict=True)]
    centre = statistics.median(logs)
    ci95: Interval | None = None
    needed: int | None = None
    if (bounds := median_interval(logs)) is not None:
        ci95 = math.exp(bounds[0]), math.exp(bounds[1])
        if centre != 0:
            spread = statistics.stdev(logs) * math.sqrt(MEDIAN_INEFFICIENCY)
            needed = _fewest(centre, spread, sides=1)
    return TimeRatio(ratio=math.exp(centre), ci95=ci95, pairs=len(logs), pairs_needed=needed)


def runs_to_resolve(difference: float, deviation: float, *, paired: bool = False, power: float = POWER) -> int | None:
    """Runs needed on each side so that a difference of means is found (two-sided p < 0.05).

    Args:
        difference: true difference to find, in any unit.
        deviation: standard deviation of one run, on either side, in the same unit; of one pair's difference where
            ``paired``.
        paired: the runs are compared in pairs, and pairs are counted.
        power: chance of finding it, in (0, 1).

    Returns:
        At least 2, and ``FEWEST_EQUAL`` without any deviation; ``MOST_RUNS`` for any larger number; None for a
        difference of zero, which no number of runs resolves.

    Raises:
        InputError: the difference or the deviation is no finite number.
    """
    if not (math.isfinite(difference) and math.isfinite(deviation)):
        raise InputError(f"runs are planned for a finite difference, not {difference:g}", "for example --effect 0.05")
    return None if difference == 0 else _fewest(difference, deviation, sides=1 if paired else 2, power=power)


def _fewest(difference: float, deviation: float, *, sides: int, power: float = POWER) -> int:
    """Smallest n per side at which a t-test of one or two samples has the power asked for."""
    if deviation == 0:
        return FEWEST_EQUAL
    from scipy import special, stats

    effect = abs(difference) / deviation / math.sqrt(sides)
    if effect * effect < 1 / MOST_RUNS:
        return MOST_RUNS

    def enough(n: int) -> bool:
        freedom = sides * (n - 1)
        critical = special.stdtrit(freedom, (1 + CONFIDENCE) / 2)
        # SciPy gives nan where the effect dwarfs the deviation; the power is 1 there.
        return not stats.nct.sf(critical, freedom, effect * math.sqrt(n)) < power

    # The normal approximation is a lower bound that the t-test exceeds by a few runs.
    z = special.ndtri((1 + CONFIDENCE) / 2) + special.ndtri(power)
    n = max(2, math.ceil((z / effect) ** 2))
    if n > 10_000:  # there the two agree to far better than anyone can use
        return min(n, MOST_RUNS)
    while not enough(n):
        n += 1
    return n
