from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hotlap.stats import (
    mean,
    mean_interval,
    mean_lower_bound,
    median,
    median_interval,
    p_mean_below,
    share_interval,
    standard_deviation,
)

ACCURACIES = st.lists(st.integers(9000, 10_000).map(lambda hits: hits / 10_000), min_size=2, max_size=40)
T_975_4 = 2.7764451051977987  # quantiles of Student's t, four degrees of freedom, from tables
T_95_4 = 2.13184678133629


def test_no_values_and_one_value() -> None:
    for function in (mean, median, standard_deviation, mean_interval, mean_lower_bound, median_interval):
        assert function([]) is None
    assert p_mean_below([], 0.5) is None
    assert (mean([0.25]), median([0.25])) == (0.25, 0.25)
    for function in (standard_deviation, mean_interval, mean_lower_bound, median_interval):
        assert function([0.25]) is None
    assert p_mean_below([0.25], 0.2) is None


def test_mean_interval_is_the_textbook_formula() -> None:
    values = [2.0, 4.0, 4.0, 5.0, 7.0]
    centre, error = 4.4, math.sqrt(3.3 / 5)  # the squared deviations add up to 13.2
    assert mean(values) == pytest.approx(centre)
    assert standard_deviation(values) == pytest.approx(math.sqrt(3.3))
    assert mean_interval(values) == pytest.approx((centre - T_975_4 * error, centre + T_975_4 * error))
    assert mean_lower_bound(values) == pytest.approx(centre - T_95_4 * error)


def test_p_is_small_above_the_target_and_large_below_it() -> None:
    values = [0.990, 0.991, 0.992, 0.993]
    above, at, below = (p_mean_below(values, target) for target in (0.98, 0.9915, 0.999))
    assert above is not None and at is not None and below is not None
    assert above < 0.001
    assert at == pytest.approx(0.5)
    assert below > 0.999


def test_p_closed_form_for_two_values() -> None:
    # With one degree of freedom Student's t is the Cauchy distribution: P(T > t) = 1/2 - arctan(t) / pi.
    values = [3.0, 5.0]
    t = (4.0 - 3.5) / 1.0
    assert p_mean_below(values, 3.5) == pytest.approx(0.5 - math.atan(t) / math.pi)


def test_equal_values_give_an_interval_of_zero_width_and_no_warning() -> None:
    for value in (0.1, 0.9904, 1e-300, 1e300):
        values = [value] * 7
        assert standard_deviation(values) == 0
        assert mean_interval(values) == (value, value)
        assert mean_lower_bound(values) == value
        assert median_interval(values) == (value, value)
        assert p_mean_below(values, value) == 0.5
        assert p_mean_below(values, value * 0.9) == 2**-7
        assert p_mean_below(values, value * 1.1) == 1.0


@pytest.mark.parametrize("n", range(2, 6))
def test_few_equal_values_are_no_certainty(n: int) -> None:
    """Two seeds that take all of forty test images for what they are say little of the mean."""
    for function in (mean_interval, mean_lower_bound):
        assert function([1.0] * n) is None
    assert p_mean_below([1.0] * n, 0.95) is None
    assert (mean([1.0] * n), standard_deviation([1.0] * n)) == (1.0, 0.0)


def test_values_that_differ_in_the_last_digit_count_as_equal_and_give_no_warning() -> None:
    values = [0.99, math.nextafter(0.99, 1), 0.99]
    assert (mean_interval(values), p_mean_below(values, 0.98)) == (None, None)
    low, high = mean_interval(values * 2) or (0, 0)
    assert low == high == pytest.approx(0.99)
    assert p_mean_below(values * 2, 0.98) == 2**-6


@settings(deadline=None)
@given(ACCURACIES, st.floats(0.9, 1))
def test_the_bound_exceeds_the_target_exactly_when_p_is_below_5_percent(values: list[float], target: float) -> None:
    bound, p = mean_lower_bound(values), p_mean_below(values, target)
    if bound is None or p is None:
        assert bound is p is None and len(values) < 6 and len(set(values)) == 1
    elif not math.isclose(bound, target, abs_tol=1e-12):
        assert (bound > target) == (p < 0.05)


@settings(deadline=None)
@given(ACCURACIES)
def test_intervals_hold_their_centre_and_widen_with_confidence(values: list[float]) -> None:
    centre, wide, narrow = mean(values), mean_interval(values, confidence=0.99), mean_interval(values)
    bound = mean_lower_bound(values)
    assert centre is not None
    if wide is None or narrow is None or bound is None:
        assert wide is narrow is bound is None and len(values) < 6 and len(set(values)) == 1
    else:
        assert wide[0] <= narrow[0] <= bound <= centre <= narrow[1] <= wide[1]
    interval = median_interval(values)
    if interval is not None:
        assert min(values) <= interval[0] <= statistics.median(values) <= interval[1] <= max(values)


@pytest.mark.parametrize("n", [2, 5, 30])
def test_the_t_interval_covers_the_mean_in_95_percent_of_2000_sets(n: int) -> None:
    sets = np.random.default_rng(1).normal(0.9904, 0.0008, (2000, n))
    covered = sum(low <= 0.9904 <= high for low, high in map(mean_interval, sets.tolist()))  # type: ignore[misc]
    assert 0.93 <= covered / 2000 <= 0.97


def test_the_lower_bound_lies_below_the_mean_in_95_percent_of_2000_sets() -> None:
    sets = np.random.default_rng(2).normal(0.9904, 0.0008, (2000, 10)).tolist()
    assert 0.93 <= sum((mean_lower_bound(values) or 1) <= 0.9904 for values in sets) / 2000 <= 0.97


@pytest.mark.parametrize(("n", "least", "most"), [(7, 0.95, 1), (12, 0.94, 0.99), (30, 0.91, 0.98)])
def test_the_median_interval_covers_skewed_times(n: int, least: float, most: float) -> None:
    # A plain percentile bootstrap covers 88 % at n = 7.
    sets = np.random.default_rng(3).lognormal(0, 0.3, (400, n)).tolist()
    covered = sum(low <= 1 <= high for low, high in map(median_interval, sets))  # type: ignore[misc]
    assert least <= covered / 400 <= most


def test_the_median_interval_of_few_values_is_that_of_order_statistics() -> None:
    values = [float(i) for i in (3, 1, 2)]
    assert median_interval([3.0, 1.0]) is None
    assert median_interval(values) == (1, 3)
    # P(Bin(9, 1/2) <= 1) = 10/512 < 2.5 % <= P(Bin(9, 1/2) <= 2): from the second to the last but one.
    assert median_interval([float(i) for i in range(9)]) == (1, 7)


@settings(deadline=None, max_examples=50)
@given(ACCURACIES.filter(lambda values: len(set(values)) > 1), st.floats(0.01, 0.999), st.floats(0.9, 1))
def test_students_intervals_and_p_are_scipys(values: list[float], confidence: float, target: float) -> None:
    centre, error, freedom = np.mean(values), stats.sem(values), len(values) - 1
    both = stats.t.interval(confidence, freedom, loc=centre, scale=error)
    assert mean_interval(values, confidence=confidence) == pytest.approx(both, rel=1e-12)
    lower = stats.t.ppf(1 - confidence, freedom, loc=centre, scale=error)
    assert mean_lower_bound(values, confidence=confidence) == pytest.approx(lower, rel=1e-12)
    p = stats.t.sf((centre - target) / error, freedom)
    assert p_mean_below(values, target) == pytest.approx(p, rel=1e-6)


def test_the_median_interval_is_the_same_each_time_and_takes_ties() -> None:
    values = [1.0] * 26 + [2.0] * 4
    assert median_interval(values) == median_interval(values) == (1, 1)
    spread = [float(i) for i in range(40)]
    assert median_interval(spread) == median_interval(spread)


def test_a_confidence_beyond_the_range_gives_the_range() -> None:
    assert median_interval([1.0, 2, 3, 4, 5, 6], confidence=0.999) == (1, 6)


def test_wilson_interval_is_the_closed_form() -> None:
    k, n, z = 21, 30, 1.959963984540054
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert share_interval(k, n) == pytest.approx((centre - half, centre + half))


def test_exact_interval_of_none_and_all_is_the_closed_form() -> None:
    assert share_interval(0, 10, method="exact") == pytest.approx((0, 1 - 0.025**0.1))
    assert share_interval(10, 10, method="exact") == pytest.approx((0.025**0.1, 1))


def test_share_of_nothing_is_unknown() -> None:
    assert share_interval(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="between 0 and n = 3, not 4"):
        share_interval(4, 3)


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(1, 60))
def test_a_share_lies_in_its_interval(successes: int, n: int) -> None:
    successes = min(successes, n)
    for method in ("wilson", "exact"):
        low, high = share_interval(successes, n, method=method)  # type: ignore[arg-type]
        assert 0 <= low <= successes / n + 1e-12
        assert successes / n - 1e-12 <= high <= 1
