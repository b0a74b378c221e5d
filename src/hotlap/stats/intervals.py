"""Means, medians and shares with their intervals.

Every function returns None where the data cannot support an answer (too few values), and never warns. Values that are
all equal show no spread, and accuracies come in steps, so that few are equal by chance: from ``FEWEST_EQUAL`` on they
have an interval of zero width, below that none.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any, Literal

Interval = tuple[float, float]

CONFIDENCE = 0.95
RESAMPLES = 9999
BOOTSTRAP_SEED = 20_240_229
"""Fixed, so that one set of runs always prints one interval."""

MEDIAN_MIN_N = 3
"""Fewest values for which ``median_interval`` answers."""

MEDIAN_EXACT_N = 6
"""Fewest values whose range covers their median with 95 %: 1 - 2 ** (1 - n) >= 0.95."""

MEDIAN_BOOTSTRAP_N = 25
"""Fewest values from which the percentile bootstrap of the median covers 95 %; at 7 it was measured to cover 88 %."""


FEWEST_EQUAL = MEDIAN_EXACT_N
"""Fewest equal values that say something: with fewer, even the sign test finds nothing at 5 %."""


def are_equal(spread: float, values: Sequence[float]) -> bool:
    """Whether the standard deviation of values is none, or of the last digits only."""
    return spread <= 1e-12 * max(map(abs, values))


def mean(values: Sequence[float]) -> float | None:
    """Arithmetic mean, correctly rounded; None for no values."""
    # The exact sum keeps equal values' mean equal to them, so that their deviation is exactly zero.
    return float(statistics.mean(values)) if len(values) else None


def median(values: Sequence[float]) -> float | None:
    """Middle value, or the mean of the two middle ones; None for no values."""
    return float(statistics.median(values)) if len(values) else None


def standard_deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation (divisor n - 1); None for fewer than two values."""
    return float(statistics.stdev(values)) if len(values) >= 2 else None


def _mean_and_error(values: Sequence[float]) -> tuple[float, float] | None:
    """The mean and its standard error, 0 for equal values; None for fewer than two, or ``FEWEST_EQUAL`` equal ones."""
    if len(values) < 2:
        return None
    spread = float(statistics.stdev(values))
    if are_equal(spread, values):
        return (float(statistics.mean(values)), 0.0) if len(values) >= FEWEST_EQUAL else None
    return float(statistics.mean(values)), spread / math.sqrt(len(values))


# Student's t by scipy.special: the same figures as scipy.stats, in a thirtieth of the time and without its import.


def t_interval(centre: float, error: float, freedom: float, confidence: float = CONFIDENCE) -> Interval:
    """Two-sided Student's t interval around an estimate with this standard error."""
    from scipy.special import stdtrit

    low, high = (float(stdtrit(freedom, share)) for share in ((1 - confidence) / 2, (1 + confidence) / 2))
    return centre + error * low, centre + error * high


def t_beyond(t: float, freedom: float) -> float:
    """P(T > t) of Student's t."""
    from scipy.special import stdtr

    return float(stdtr(freedom, -t))


def mean_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval | None:
    """Two-sided Student's t interval of the mean; None for fewer than two values, or ``FEWEST_EQUAL`` equal ones.

    Args:
        values: independent measurements; about normal, or many.
        confidence: share of such intervals that cover the true mean, in (0, 1).
    """
    if (measured := _mean_and_error(values)) is None:
        return None
    centre, error = measured
    if error == 0:
        return centre, centre
    return t_interval(centre, error, len(values) - 1, confidence)


def mean_lower_bound(values: Sequence[float], *, confidence: float = CONFIDENCE) -> float | None:
    """One-sided lower bound of the mean (Student's t); None as ``mean_interval``.

    The true mean lies at or above the bound in a share ``confidence`` of all cases. It exceeds a target exactly when
    ``p_mean_below(values, target)`` is below ``1 - confidence``.
    """
    if (measured := _mean_and_error(values)) is None:
        return None
    centre, error = measured
    if error == 0:
        return centre
    from scipy.special import stdtrit

    return centre + error * float(stdtrit(len(values) - 1, 1 - confidence))


def p_mean_below(values: Sequence[float], target: float) -> float | None:
    """One-sided p-value of the hypothesis "the mean is at or below the target", against "it is above".

    One-sample t-test. A SMALL p (say < 0.05) says that a mean at or below the target would hardly give such values,
    hence that the mean is above it; a p near 1 says that the values lie clearly below. It is not the probability that
    the mean is below.

    Args:
        values: independent measurements, in the unit of ``target``.
        target: the mean under test.

    Returns:
        p in (0, 1]; None as ``mean_interval``. Values that are all equal have no t: above the target, the p is that of
        the sign test, 2 ** -n; at it 0.5, below it 1.
    """
    if (measured := _mean_and_error(values)) is None:
        return None
    centre, error = measured
    if error == 0:
        return 0.5 if centre == target else 0.5 ** len(values) if centre > target else 1.0
    return t_beyond((centre - target) / error, len(values) - 1)


def median_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval | None:
    """Two-sided interval of the median; None for fewer than ``MEDIAN_MIN_N`` values.

    From ``MEDIAN_BOOTSTRAP_N`` values on, a percentile bootstrap with a fixed seed. The percentile method rather than
    BCa: BCa's acceleration comes from the jackknife, which is inconsistent for the median and divides zero by zero as
    soon as the middle values tie, as times rounded by a clock do.

    Below, the bootstrap covers too little, so the interval is that of the order statistics (the inverted sign test),
    which covers at least ``confidence`` whatever the distribution. Below ``MEDIAN_EXACT_N`` values not even their range
    covers 95 % (three: 75 %, four: 88 %, five: 94 %); the range is returned, and whoever shows it should say so.

    Args:
        values: independent measurements.
        confidence: nominal coverage, in (0, 1).
    """
    if len(values) < MEDIAN_MIN_N:
        return None
    if (low := float(min(values))) == (high := float(max(values))):
        return low, high
    if len(values) < MEDIAN_EXACT_N:
        return low, high
    import numpy as np
    from scipy import stats

    data = np.asarray(values, dtype=float)
    if len(values) < MEDIAN_BOOTSTRAP_N:
        found: Any = stats.quantile_test(data, p=0.5).confidence_interval(confidence_level=confidence)
        # A confidence above what the range can give leaves an end undefined; the range is the widest answer there is.
        return (low if np.isnan(found.low) else float(found.low)), (high if np.isnan(found.high) else float(found.high))
    result = stats.bootstrap(
        (data,),
        np.median,
        n_resamples=RESAMPLES,
        batch=1000,  # bounds the memory for large sets: 8 kB a value
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(BOOTSTRAP_SEED),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def share_interval(
    successes: int, n: int, *, confidence: float = CONFIDENCE, method: Literal["wilson", "exact"] = "wilson"
) -> Interval:
    """Two-sided interval of a share, such as the share of runs at or above the target.

    Args:
        successes: how many of the n succeeded.
        n: how many were tried; 0 gives (0, 1), for nothing is known.
        confidence: nominal coverage, in (0, 1).
        method: ``wilson`` covers about ``confidence`` on average; ``exact`` (Clopper–Pearson) never less, and is wider.

    Raises:
        ValueError: ``successes`` is negative or more than ``n``.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be between 0 and n = {n}, not {successes}")
    if n == 0:
        return 0.0, 1.0
    from scipy import stats

    found = stats.binomtest(successes, n).proportion_ci(confidence_level=confidence, method=method)
    return float(found.low), float(found.high)
