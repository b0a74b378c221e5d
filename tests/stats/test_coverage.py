"""Intervals and tests on simulated runs: accuracies are whole numbers of 10,000 test images right, times are skewed.

Every claim is tried on 2,000 simulated sets. Without an error in the code a share of 95 % then lies between 93.5 % and
96.5 % in all but one of 500 cases.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from hotlap.stats import intervals, mean_interval, median_interval, paired_difference, time_ratio, welch_difference
from hotlap.stats.intervals import Interval
from hotlap.stats.sequential import monitor

SETS, IMAGES = 2000, 10_000
SEED_EFFECT = 0.0006
"""Standard deviation of a seed's true accuracy; the draw of 10,000 images adds 0.001."""


def accuracies(
    rng: np.random.Generator,
    n: int,
    mean: float = 0.99,
    spread: float = SEED_EFFECT,
    shared: float | NDArray[np.float64] = 0.0,
) -> NDArray[np.float64]:
    """(SETS, n) accuracies of seeds whose true accuracies are normal around ``mean + shared``."""
    true = mean + shared + rng.normal(0, spread, (SETS, n))
    return np.asarray(rng.binomial(IMAGES, np.clip(true, 0, 1)) / IMAGES)


def times(
    rng: np.random.Generator, n: int, typical: float = 10.0, drift: float | NDArray[np.float64] = 0.0
) -> NDArray[np.float64]:
    """(SETS, n) seconds, most near ``typical``, one in ten delayed, rounded by a clock of 1 ms."""
    late = rng.exponential(0.1, (SETS, n)) * (rng.random((SETS, n)) < 0.1)
    return np.asarray(np.round(typical * np.exp(rng.normal(0, 0.02, (SETS, n)) + late + drift), 3))


def covered(intervals_: Sequence[Interval | None], truth: float) -> float:
    assert len(intervals_) == SETS
    return sum(found is not None and found[0] <= truth <= found[1] for found in intervals_) / SETS


@pytest.mark.parametrize("n", [5, 10, 30])
def test_the_interval_of_the_mean(n: int) -> None:
    sets = accuracies(np.random.default_rng(n), n).tolist()
    assert 0.93 <= covered([mean_interval(values) for values in sets], 0.99) <= 0.97


@pytest.mark.parametrize(("n_a", "n_b"), [(5, 30), (10, 10), (30, 10)])
def test_welchs_interval_of_unequal_numbers_and_spreads(n_a: int, n_b: int) -> None:
    rng = np.random.default_rng(n_a)
    a = accuracies(rng, n_a, 0.99, 0.003).tolist()
    b = accuracies(rng, n_b, 0.991, 0.0003).tolist()
    found = [welch_difference(x, y).ci95 for x, y in zip(a, b, strict=True)]
    assert 0.93 <= covered(found, 0.001) <= 0.97


@pytest.mark.parametrize("n", [5, 10, 30])
def test_the_paired_interval_where_pairs_go_up_and_down_together(n: int) -> None:
    rng = np.random.default_rng(n)
    shared = rng.normal(0, 0.003, (SETS, n))
    a, b = accuracies(rng, n, 0.96, shared=shared), accuracies(rng, n, 0.961, shared=shared)
    found = [paired_difference(x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert 0.93 <= covered([one.ci95 for one in found], 0.001) <= 0.97
    narrower = [
        one.ci95[1] - one.ci95[0] < welch.ci95[1] - welch.ci95[0]
        for one, x, y in zip(found[:200], a.tolist(), b.tolist(), strict=False)
        if one.ci95 and (welch := welch_difference(x, y)).ci95
    ]
    assert np.mean(narrower) > 0.75


def test_the_order_statistics_of_few_times_cover_at_least_95_percent() -> None:
    # Ten values: from the second to the last but one, which covers 1 - 22/1024 = 97.9 %.
    sets = times(np.random.default_rng(1), 10)
    truth = float(np.median(times(np.random.default_rng(2), 500)))
    assert 0.95 <= covered([median_interval(values) for values in sets.tolist()], truth) <= 0.99


def test_the_ratio_of_thirty_pairs_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    # From 25 values on the interval is bootstrapped; the 9,999 resamples of real use take half a minute here.
    monkeypatch.setattr(intervals, "RESAMPLES", 499)
    rng = np.random.default_rng(30)
    drift = np.linspace(0, 0.5, 30)  # the machine slows down while they run
    a, b = times(rng, 30, 10.0, drift).tolist(), times(rng, 30, 8.0, drift).tolist()
    found = [time_ratio(x, y).ci95 for x, y in zip(a, b, strict=True)]
    assert 0.93 <= covered(found, 10 / 8) <= 0.97


def test_a_recipe_against_itself_differs_in_5_percent_of_comparisons() -> None:
    rng = np.random.default_rng(7)
    shared = rng.normal(0, 0.0005, (SETS, 10))
    a, b = accuracies(rng, 10, shared=shared).tolist(), accuracies(rng, 10, shared=shared).tolist()
    other = accuracies(rng, 10).tolist()
    paired = sum(paired_difference(x, y).resolved for x, y in zip(a, b, strict=True))
    welch = sum(welch_difference(x, y).resolved for x, y in zip(a, other, strict=True))
    # Three standard errors of a share of 5 % in 2,000.
    for resolved in (paired, welch):
        assert abs(resolved / SETS - 0.05) < 0.0147


@pytest.mark.parametrize("images", [10_000, 200])
def test_looking_after_every_pair_settles_a_recipe_against_itself_in_at_most_5_percent(images: int) -> None:
    rng = np.random.default_rng(images)
    true = 0.99 + rng.normal(0, SEED_EFFECT, (2, SETS, 60))
    a, b = rng.binomial(images, np.clip(true, 0, 1)) / images
    settled = sum(monitor(differences).settled for differences in (b - a).tolist())
    assert settled / SETS <= 0.05
