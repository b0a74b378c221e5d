"""Looking at a comparison after every pair without inflating its error rate.

The evidence is a Bayes factor for paired differences, of a normal distribution of effects against none, both
scale-free. Under no difference it is a non-negative martingale of mean one, so by Ville's inequality it ever exceeds
1/alpha with probability at most alpha: one may look after every pair and stop whenever one likes. The price is more
runs than a test at a number fixed in advance would need.

While all differences are equal there is no t, and the evidence is that of their signs alone (against signs that are
more often up, or down, by any share): never more than the other, so that the error rate holds.

Source: Rouder et al. 2009 (the Bayes factor); Grünwald, de Heide and Koolen 2024 (that it may be monitored).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hotlap.errors import InputError
from hotlap.stats.intervals import Interval

EFFECT_SCALE = 1.0
"""Standard deviation of the effects that are looked for, in standard deviations of one difference."""

FEWEST_PAIRS = 5
"""Pairs below which nothing is called settled, so that a decision never rests on an accidental spread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitored:
    """A mean difference that was looked at after every pair.

    Attributes:
        difference: mean of the paired differences.
        interval: confidence interval that holds at all looks together; None for fewer than two pairs.
        p: anytime-valid p-value, 1 over the largest evidence so far, at most 1.
        pairs: how many pairs.
        settled: whether ``p`` reached ``alpha`` with at least ``FEWEST_PAIRS`` pairs.
    """

    difference: float
    interval: Interval | None
    p: float
    pairs: int
    alpha: float
    settled: bool


def monitor(differences: Sequence[float], *, alpha: float = 0.05, scale: float = EFFECT_SCALE) -> Monitored:
    """Judge paired differences in the order in which they came.

    Args:
        differences: candidate minus baseline, pair by pair, in any unit.
        alpha: error rate over all looks together, in (0, 1).
        scale: see ``EFFECT_SCALE``; fixed before the data are seen.

    Raises:
        InputError: no differences, one that is not finite, or alpha is not a probability.
    """
    if not differences or not all(map(math.isfinite, differences)):
        raise InputError("a comparison needs at least one pair of finite figures", "make some with: hotlap compare A B")
    if not 0 < alpha < 1:
        raise InputError(f"the error rate is between 0 and 1, not {alpha}", "for example --until 0.05")
    looks = list(_looks(differences))
    # With fewer pairs there is no look, so they cannot settle anything later either.
    largest = max((_log_evidence(look, scale) for look in looks[FEWEST_PAIRS - 1 :]), default=0.0)
    n = len(differences)
    p = math.exp(-max(largest, 0.0))
    return Monitored(
        difference=looks[-1].mean,
        interval=_interval(looks[-1], alpha, scale),
        p=p,
        pairs=n,
        alpha=alpha,
        settled=n >= FEWEST_PAIRS and p <= alpha,
    )


def log_evidence(differences: Sequence[float], *, scale: float = EFFECT_SCALE) -> float:
    """Return the logarithm of the Bayes factor for "there is a difference" over "there is none".

    It does not depend on the unit of the differences. 0 for fewer than two, or when all are zero.
    """
    *_, last = _looks(differences)
    return _log_evidence(last, scale)


@dataclass(frozen=True, slots=True)
class _Look:
    """Count, mean and sum of squared deviations of the differences so far."""

    n: int
    mean: float
    squares: float

    @property
    def error(self) -> float:
        """Standard error of the mean; for two or more."""
        return math.sqrt(self.squares / (self.n - 1) / self.n)


def _looks(differences: Sequence[float]) -> Iterator[_Look]:
    """Yield the state after each pair (Welford's running sums, so that all looks together are one pass)."""
    mean = squares = 0.0
    for n, value in enumerate(differences, start=1):
        step = value - mean
        mean += step / n
        squares += step * (value - mean)
        yield _Look(n, mean, squares)


def _log_evidence(look: _Look, scale: float) -> float:
    if look.n < 2:
        return 0.0
    if look.error == 0:
        return _signs_log_evidence(look.n) if look.mean else 0.0
    spread = 1 + look.n * scale**2
    x = (look.mean / look.error) ** 2 / (look.n - 1)
    return -0.5 * math.log(spread) + look.n / 2 * (math.log1p(x) - math.log1p(x / spread))


def _signs_log_evidence(n: int) -> float:
    """Logarithm of the Bayes factor for n signs that are all alike: of any chance of them against one half."""
    return n * math.log(2) - math.log(n + 1)


def _interval(look: _Look, alpha: float, scale: float) -> Interval | None:
    """Every true difference that the evidence has not excluded: the Bayes factor solved for its t-statistic."""
    n = look.n
    if n < 2:
        return None
    if look.error == 0:
        settled = _signs_log_evidence(n) >= math.log(1 / alpha)
        return (look.mean, look.mean) if settled else (-math.inf, math.inf)
    spread = 1 + n * scale**2
    bound = math.exp(2 / n * (math.log(1 / alpha) + 0.5 * math.log(spread)))
    if bound >= spread:
        return -math.inf, math.inf
    x = (bound - 1) / (1 - bound / spread)
    half = look.error * math.sqrt((n - 1) * x)
    return look.mean - half, look.mean + half
