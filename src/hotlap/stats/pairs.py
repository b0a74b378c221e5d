"""The figures of two recipes that were run in pairs with the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hotlap.recipe import Recipe
from hotlap.result import Run, Summary
from hotlap.stats.comparison import (
    MeanDifference,
    TimeRatio,
    pair_differences,
    paired_difference,
    time_ratio,
    welch_difference,
)
from hotlap.stats.intervals import standard_deviation
from hotlap.stats.sequential import Monitored, monitor
from hotlap.stats.summary import summarise

RunPair = tuple[Run, Run]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What two recipes, run in pairs, have shown so far.

    Attributes:
        a: figures of the baseline's runs; None before the first.
        b: figures of the candidate's runs; None before the first.
        difference: of accuracy, over the pairs of which both runs finished; None before the first.
        ratio: of certified times, over the same pairs; None as ``difference``.
        look: of the same pairs, where the comparison is looked at after every one; None as ``difference``.
    """

    a: Summary | None
    b: Summary | None
    difference: MeanDifference | None
    ratio: TimeRatio | None
    look: Monitored | None


def share_randomness(a: Recipe, b: Recipe) -> bool:
    """Whether one seed gives both recipes the same first weights and the same order of images.

    That is so where ``model``, ``data``, ``feed`` and ``batch_size`` are equal, since each consumer of randomness has a
    stream of its own.
    """
    return (a.model, a.data, a.feed, a.batch_size) == (b.model, b.data, b.feed, b.batch_size)


def finished_pairs(a: Sequence[Run], b: Sequence[Run]) -> list[RunPair]:
    """The pairs ``(a[i], b[i])`` of which both runs are made and finished."""
    return [(x, y) for x, y in zip(a, b, strict=False) if x.accuracy is not None and y.accuracy is not None]


def accuracies(pairs: Sequence[RunPair]) -> tuple[list[float], list[float]]:
    """Accuracies of finished pairs, by side."""
    a = [x.accuracy for x, _ in pairs if x.accuracy is not None]
    return a, [y.accuracy for _, y in pairs if y.accuracy is not None]


def look_at(pairs: Sequence[RunPair], alpha: float) -> Monitored | None:
    """Judge finished pairs in their order by what may be looked at after every pair; None without pairs."""
    return monitor(pair_differences(*accuracies(pairs)), alpha=alpha) if pairs else None


def compare_runs(a: Sequence[Run], b: Sequence[Run], *, alpha: float | None = None) -> Comparison:
    """Compare the runs of two recipes; ``a[i]`` and ``b[i]`` have one seed and ran next to each other.

    The difference of accuracy is the paired one where the recipes share their randomness and every pair finished, else
    Welch's. That depends on the recipes and on failures, never on which of the two looks better.

    Args:
        a: runs of the baseline; one side may be a run ahead.
        b: runs of the candidate.
        alpha: error rate, where the comparison is looked at after every pair.

    Raises:
        InputError: a side's runs cannot be pooled.
    """
    pairs = finished_pairs(a, b)
    difference: MeanDifference | None = None
    ratio: TimeRatio | None = None
    if pairs:
        complete = len(pairs) == min(len(a), len(b))
        paired = complete and share_randomness(a[0].recipe, b[0].recipe)
        difference = (paired_difference if paired else welch_difference)(*accuracies(pairs))
        ratio = time_ratio([x.certified_s for x, _ in pairs], [y.certified_s for _, y in pairs])
    return Comparison(
        a=summarise(a) if a else None,
        b=summarise(b) if b else None,
        difference=difference,
        ratio=ratio,
        look=None if alpha is None else look_at(pairs, alpha),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How much stored runs vary, to plan a comparison by.

    Attributes:
        deviation: standard deviation of one pair's difference of accuracy; where there are no pairs, of one run's
            accuracy, pooled over ``recipes``.
        pairs: how many stored pairs it comes from; None where it comes from single runs.
        recipes: names of those with enough runs.
    """

    deviation: float
    pairs: int | None
    recipes: tuple[str, ...]


def stored_spread(a: Recipe, b: Recipe, runs_a: Sequence[Run], runs_b: Sequence[Run]) -> Spread | None:
    """Measure the spread that a comparison of two recipes will have, from runs made before.

    Runs are paired where the recipes share their randomness and a seed was run with both, on the same data and device.

    Returns:
        None where no side has two finished runs.
    """
    by_a, by_b = _by_seed(runs_a), _by_seed(runs_b)
    names = a.name, b.name
    common = by_a.keys() & by_b.keys()
    if share_randomness(a, b) and len(common) >= 2:
        deviation = paired_difference([by_a[key] for key in common], [by_b[key] for key in common]).deviation
        assert deviation is not None
        return Spread(deviation=deviation, pairs=len(common), recipes=names)
    found = [
        (name, deviation)
        for name, runs in zip(names, (by_a, by_b), strict=True)
        if (deviation := standard_deviation(list(runs.values()))) is not None
    ]
    if not found:
        return None
    pooled = math.sqrt(sum(deviation**2 for _, deviation in found) / len(found))
    return Spread(deviation=pooled, pairs=None, recipes=tuple(name for name, _ in found))


def _by_seed(runs: Sequence[Run]) -> dict[tuple[int, str, str], float]:
    """Accuracies of finished runs, oldest first, by what pairs them; of a repeated seed the newest, as everywhere."""
    return {(run.seed, run.data_digest, run.device): run.accuracy for run in runs if run.accuracy is not None}
