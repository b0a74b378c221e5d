from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from hotlap.errors import InputError
from hotlap.stats.comparison import welch_difference
from hotlap.stats.sequential import FEWEST_PAIRS, log_evidence, monitor


def test_the_evidence_is_the_bayes_factor() -> None:
    """Against numerical integration of the t-likelihood over the prior of effect sizes."""
    differences = [0.3, -0.1, 0.5, 0.2, 0.4, -0.2, 0.1]
    n = len(differences)
    t = stats.ttest_1samp(differences, 0).statistic
    marginal, _ = integrate.quad(
        lambda effect: stats.nct.pdf(t, n - 1, effect * math.sqrt(n)) * stats.norm.pdf(effect), -8, 8
    )
    assert math.exp(log_evidence(differences)) == pytest.approx(marginal / stats.t.pdf(t, n - 1), rel=1e-5)


@pytest.mark.parametrize("unit", [0.001, 0.3, 70.0])
def test_neither_the_unit_nor_the_direction_matters(unit: float) -> None:
    rng = np.random.default_rng(0)
    for n in range(2, 40):
        differences = list(rng.normal(0.2, 1.0, n))
        expected = log_evidence(differences)
        assert log_evidence([unit * d for d in differences]) == pytest.approx(expected)
        assert log_evidence([-d for d in differences]) == pytest.approx(expected)


def test_false_positives_stay_within_the_error_rate_for_sequential_and_fixed_designs() -> None:
    """2,000 comparisons of a recipe with itself; the sequential ones are looked at after every pair up to 60."""
    rng = np.random.default_rng(1)
    settled = fixed = 0
    repeats, pairs = 2000, 60
    for _ in range(repeats):
        a, b = rng.normal(0.99, 0.0007, (2, pairs))
        settled += monitor((b - a).tolist()).settled
        p = welch_difference(a[:10].tolist(), b[:10].tolist()).p
        fixed += p is not None and p < 0.05
    assert settled / repeats <= 0.05
    # Two standard errors of a share of 5 % in 2,000.
    assert abs(fixed / repeats - 0.05) < 0.01


def test_the_interval_covers_at_all_looks_together() -> None:
    rng = np.random.default_rng(2)
    missed, repeats = 0, 400
    for _ in range(repeats):
        differences = rng.normal(0.3, 1.0, 40).tolist()
        looks = (monitor(differences[:n]).interval for n in range(2, 41, 2))
        missed += any(not low <= 0.3 <= high for low, high in filter(None, looks))
    assert missed / repeats <= 0.05


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(100):
        differences = rng.normal(1.0, 1.0, 60).tolist()
        found.append(next((n for n in range(2, 61) if monitor(differences[:n]).settled), None))
    assert sum(n is not None for n in found) >= 98
    assert 8 <= np.median([n for n in found if n]) <= 25


def test_edges() -> None:
    assert monitor([0.1]).interval is None
    assert not monitor([0.1] * (FEWEST_PAIRS - 1)).settled
    assert (log_evidence([0.1]), log_evidence([0.0] * 8)) == (0.0, 0.0)
    nothing = monitor([0.0] * 10)
    assert (nothing.settled, nothing.p, nothing.interval) == (False, 1.0, (0.0, 0.0))
    assert monitor([1.0, 2.0], alpha=0.001).interval == (-math.inf, math.inf)
    for bad in ([], [math.nan], [math.inf, 1.0]):
        with pytest.raises(InputError, match="finite"):
            monitor(bad)
    with pytest.raises(InputError, match="error rate"):
        monitor([1.0], alpha=1.5)


def test_equal_differences_are_as_much_evidence_as_their_signs() -> None:
    five = monitor([0.1] * FEWEST_PAIRS)
    assert (five.settled, five.interval) == (False, (-math.inf, math.inf))
    assert five.p == pytest.approx(6 / 32), "a chance of p gives p**5 for five signs alike; its mean over p is 1/6"
    eight = monitor([0.1] * 8)
    assert (eight.settled, eight.interval) == (True, (0.1, 0.1))
    assert eight.p == pytest.approx(9 / 256)
    assert log_evidence([-0.1] * 8) == log_evidence([0.1] * 8)


def test_coarse_accuracies_stay_within_the_error_rate_too() -> None:
    """Differences of whole images of forty, often all equal in the beginning; nothing but chance moves them."""
    rng = np.random.default_rng(4)
    sets = rng.binomial(1, 0.02, (2000, 40)) - rng.binomial(1, 0.02, (2000, 40))
    assert sum(monitor((one / 40).tolist()).settled for one in sets) / 2000 <= 0.05
    assert sum(monitor(one.tolist()).settled for one in rng.choice([-1.0, 1.0], (2000, 40))) / 2000 <= 0.05
