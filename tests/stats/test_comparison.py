from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hotlap.errors import InputError
from hotlap.stats import paired_difference, runs_to_resolve, time_ratio, welch_difference
from hotlap.stats.comparison import MOST_RUNS, pair_differences


def test_welch_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.9900, 0.0010, 12), rng.normal(0.9908, 0.0004, 30)
    ours = welch_difference(a.tolist(), b.tolist())
    theirs = stats.ttest_ind(b, a, equal_var=False)
    assert ours.difference == pytest.approx(b.mean() - a.mean())
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.ci95 == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert (ours.n_a, ours.n_b) == (12, 30)
    assert ours.resolved == (theirs.pvalue < 0.05)


def test_welch_of_constant_sides() -> None:
    apart = welch_difference([0.5] * 6, [0.75] * 7)
    assert (apart.difference, apart.ci95, apart.resolved) == (0.25, (0.25, 0.25), True)
    # Of the 1,716 ways to deal 13 runs to the sides, two part the values so.
    assert apart.p == pytest.approx(2 / 1716)
    assert apart.runs_needed == 6
    few = welch_difference([0.5] * 5, [0.75] * 6)
    assert (few.ci95, few.p, few.resolved, few.runs_needed) == (None, None, False, None)
    equal = welch_difference([0.5] * 6, [0.5] * 6)
    assert (equal.ci95, equal.p, equal.resolved, equal.runs_needed) == ((0, 0), 1.0, False, None)
    one_sided = welch_difference([0.5, 0.5, 0.5], [0.25, 0.75, 0.25])
    assert one_sided.ci95 is not None
    # Only b varies, so this is b's one-sample interval with two degrees of freedom.
    expected = stats.t.interval(0.95, 2, loc=-1 / 12, scale=np.std([0.25, 0.75, 0.25], ddof=1) / np.sqrt(3))
    assert one_sided.ci95 == pytest.approx(expected)


def test_welch_of_single_runs_has_no_interval() -> None:
    found = welch_difference([0.98], [0.99, 0.99])
    assert (found.ci95, found.p, found.runs_needed, found.resolved) == (None, None, None, False)
    with pytest.raises(InputError, match="both sides"):
        welch_difference([], [0.9])


def test_welch_interval_covers_the_difference_in_95_percent_of_2000_sets() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.99, 0.002, (2000, 6)).tolist(), rng.normal(0.991, 0.0005, (2000, 15)).tolist()
    intervals = [welch_difference(x, y).ci95 for x, y in zip(a, b, strict=True)]
    covered = sum(interval is not None and interval[0] <= 0.001 <= interval[1] for interval in intervals)
    assert 0.93 <= covered / 2000 <= 0.97


def test_time_ratio_says_how_many_times_faster_the_second_is() -> None:
    found = time_ratio([10.0, 12, 11, 10, 12, 11, 10, 11], [5.0, 6, 5.5, 5, 6, 5.5, 5, 5.5])
    assert found.ratio == pytest.approx(2)
    assert found.ci95 == pytest.approx((2, 2))
    assert (found.pairs, found.resolved, found.pairs_needed) == (8, True, 2)


def test_pairing_cancels_what_slows_both_sides() -> None:
    rng = np.random.default_rng(5)
    drift = np.linspace(1, 3, 30)  # the machine grows three times slower meanwhile
    a, b = 10 * drift * rng.normal(1, 0.01, 30), 9.5 * drift * rng.normal(1, 0.01, 30)
    found = time_ratio(a.tolist(), b.tolist())
    assert found.ci95 is not None
    assert found.ci95[0] < 10 / 9.5 < found.ci95[1]
    assert found.ci95[1] - found.ci95[0] < 0.03
    assert found.resolved


TIMES = st.lists(st.floats(0.01, 1000), min_size=1, max_size=30)


@settings(deadline=None)
@given(TIMES, st.integers(0, 2**32))
def test_swapping_the_sides_gives_the_reciprocal(a: list[float], seed: int) -> None:
    b = np.random.default_rng(seed).uniform(0.1, 10, len(a)).tolist()
    assert time_ratio(a, b).ratio * time_ratio(b, a).ratio == pytest.approx(1)
    assert time_ratio(a, b).pairs_needed == time_ratio(b, a).pairs_needed


def test_few_pairs_have_no_interval_and_bad_pairs_are_refused() -> None:
    found = time_ratio([2.0, 2.0], [1.0, 1.0])
    assert (found.ratio, found.ci95, found.resolved, found.pairs_needed) == (2, None, False, None)
    with pytest.raises(InputError, match="in pairs, not 2 with 1"):
        time_ratio([1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="in pairs"):
        time_ratio([], [])
    with pytest.raises(InputError, match="positive and finite"):
        time_ratio([0.0], [1.0])


def test_runs_to_resolve_matches_the_tables() -> None:
    # The textbook case: half a standard deviation, 80 % power, needs 64 on each side.
    assert runs_to_resolve(0.5, 1.0) == 64
    assert runs_to_resolve(-0.5, 1.0) == 64
    assert runs_to_resolve(1.0, 1.0) == 17
    assert runs_to_resolve(0.0, 1.0) is None
    assert runs_to_resolve(0.1, 0.0) == 6
    assert (runs_to_resolve(0.001, 1.0) or 0) > 10**7


@pytest.mark.parametrize("paired", [False, True])
def test_runs_to_resolve_counts_no_further_than_anyone_can_use(paired: bool) -> None:
    for difference in (1e-6, 1e-17, 1e-300, 5e-324):
        assert runs_to_resolve(difference, 1.0, paired=paired) == MOST_RUNS
    assert runs_to_resolve(1e-300, 1e300, paired=paired) == MOST_RUNS
    assert runs_to_resolve(1e300, 1e-300, paired=paired) == 2
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(InputError, match="finite difference, not"):
            runs_to_resolve(bad, 1.0, paired=paired)


def test_a_difference_of_rounding_is_none() -> None:
    """Sums of decimal fractions miss their value by some 1e-17, which 10^26 runs would find."""
    sides = [0.99, 0.9902], [0.9901, 0.9901]
    for found in (paired_difference(*sides), welch_difference(*sides)):
        assert (found.difference, found.runs_needed) == (0.0, None)
        assert found.p == pytest.approx(1)


@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=30),
    st.integers(-10_000, 10_000),
    st.sampled_from([1e-300, 1e-4, 1.0, 70.0, 1e295]),
)
def test_equal_differences_are_equal_exactly(hits: list[int], by: int, unit: float) -> None:
    found = pair_differences([unit * hit for hit in hits], [unit * (hit + by) for hit in hits])
    assert len(set(found)) == 1
    assert found[0] == pytest.approx(unit * by, rel=1e-6, abs=unit * 1e-6)


def test_runs_to_resolve_holds_in_simulation() -> None:
    n = runs_to_resolve(0.0005, 0.0008)
    assert n is not None
    rng = np.random.default_rng(6)
    a, b = rng.normal(0.9900, 0.0008, (1000, n)).tolist(), rng.normal(0.9905, 0.0008, (1000, n)).tolist()
    found = sum(welch_difference(x, y).resolved for x, y in zip(a, b, strict=True))
    assert 0.76 <= found / 1000 <= 0.84
