from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from factories import make_recipe, make_run
from hotlap.errors import InputError
from hotlap.recipe import part
from hotlap.result import Run
from hotlap.stats import paired_difference, runs_to_resolve, welch_difference
from hotlap.stats.pairs import compare_runs, share_randomness, stored_spread

A = make_recipe("a")
SAME_STREAMS = make_recipe("b", epochs=2, label_smoothing=0.1, augment=(), optimizer=part("sgd", lr=0.1))
OTHER_STREAMS = make_recipe("c", batch_size=128)


def runs_of(recipe: Any, accuracies: list[float | None], seconds: float = 10.0, **changes: Any) -> list[Run]:
    return [
        make_run(seed=seed, accuracy=accuracy, certified_s=seconds, recipe=recipe, **changes)
        for seed, accuracy in enumerate(accuracies)
    ]


def test_paired_agrees_with_scipy() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(0.99, 0.002, 12)
    a, b = shared + rng.normal(0, 0.0003, 12), shared + rng.normal(0.0004, 0.0003, 12)
    ours = paired_difference(a.tolist(), b.tolist())
    theirs = stats.ttest_rel(b, a)
    assert ours.method == "paired"
    assert ours.difference == pytest.approx((b - a).mean())
    assert (ours.mean_a, ours.mean_b) == (pytest.approx(a.mean()), pytest.approx(b.mean()))
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.ci95 == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert ours.deviation == pytest.approx((b - a).std(ddof=1))
    assert ours.resolved == (theirs.pvalue < 0.05)
    welch = welch_difference(a.tolist(), b.tolist())
    assert welch.ci95 is not None and ours.ci95 is not None
    assert ours.ci95[1] - ours.ci95[0] < (welch.ci95[1] - welch.ci95[0]) / 3


def test_pairs_that_all_differ_by_the_same() -> None:
    below = [0.25, 0.5, 0.75, 0.25, 0.5, 0.25]
    apart = paired_difference(below, [x + 0.25 for x in below])
    # The sign test: six of a kind come twice in 64.
    assert (apart.ci95, apart.p, apart.resolved, apart.runs_needed) == ((0.25, 0.25), 2 / 64, True, 6)
    equal = paired_difference(below, below)
    assert (equal.ci95, equal.p, equal.resolved, equal.runs_needed) == ((0, 0), 1.0, False, None)
    # Equal but for the last digit of a float.
    several = [0.9902, 0.9911, 0.9925, 0.9913, 0.9904, 0.9911]
    nearly = paired_difference(several, [x + 0.001 for x in several])
    assert nearly.ci95 == pytest.approx((0.001, 0.001))
    assert (nearly.resolved, nearly.runs_needed) == (True, 6)
    for n in (2, 5):
        few = paired_difference(several[:n], [x + 0.001 for x in several[:n]])
        assert (few.ci95, few.p, few.resolved, few.runs_needed) == (None, None, False, None)


def test_one_pair_has_no_interval_and_unequal_sides_are_no_pairs() -> None:
    one = paired_difference([0.98], [0.99])
    assert one.difference == pytest.approx(0.01)
    assert (one.ci95, one.p, one.deviation, one.runs_needed, one.resolved) == (None, None, None, None, False)
    for a, b in (([], []), ([0.9], [0.9, 0.8])):
        with pytest.raises(InputError, match="pairs are compared, not"):
            paired_difference(a, b)


@given(st.lists(st.tuples(st.integers(9000, 10_000), st.integers(9000, 10_000)), min_size=2, max_size=40))
def test_swapping_the_sides_negates(hits: list[tuple[int, int]]) -> None:
    a, b = [x / 10_000 for x, _ in hits], [y / 10_000 for _, y in hits]
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert one.difference == -other.difference
    assert one.p == other.p
    if one.ci95 is None or other.ci95 is None:
        assert one.ci95 is other.ci95 is None and len({y - x for x, y in hits}) == 1 and len(hits) < 6
    else:
        assert one.ci95 == pytest.approx((-other.ci95[1], -other.ci95[0]))
    assert one.resolved == (one.p is not None and one.p < 0.05)


def test_pairs_needed_hold_in_simulation() -> None:
    n = runs_to_resolve(0.0005, 0.0008, paired=True)
    assert n is not None and n < (runs_to_resolve(0.0005, 0.0008) or 0)
    rng = np.random.default_rng(1)
    found = sum(paired_difference([0.0] * n, d).resolved for d in rng.normal(0.0005, 0.0008, (1000, n)).tolist())
    assert 0.76 <= found / 1000 <= 0.84


def test_recipes_share_randomness_where_they_draw_alike() -> None:
    assert share_randomness(A, SAME_STREAMS)
    assert not share_randomness(A, OTHER_STREAMS)
    for changes in ({"data.name": "other"}, {"feed.shuffle": "once"}, {"model.hidden": 100}, {"batch_size": 8}):
        path, value = next(iter(changes.items()))
        if path == "data.name":
            assert not share_randomness(A, make_recipe(data=part("other")))
        else:
            assert not share_randomness(A, A.with_changes({path: value}))


def test_the_method_follows_from_the_recipes_and_from_failures_alone() -> None:
    # Accuracies that go opposite ways: pairing widens the interval, and is used all the same.
    up, down = [0.990, 0.991, 0.992, 0.993], [0.993, 0.992, 0.991, 0.990]
    paired = compare_runs(runs_of(A, [*up]), runs_of(SAME_STREAMS, [*down], 5.0))
    assert paired.difference == paired_difference(up, down)
    assert paired.ratio is not None and paired.ratio.ratio == pytest.approx(2)
    assert paired.look is None
    independent = compare_runs(runs_of(A, [*up]), runs_of(OTHER_STREAMS, [*down]))
    assert independent.difference == welch_difference(up, down)
    failed = compare_runs(runs_of(A, [*up]), runs_of(SAME_STREAMS, [*down[:3], None]))
    assert failed.difference == welch_difference(up[:3], down[:3])
    assert failed.b is not None and (failed.b.n, failed.b.failed) == (3, 1)


def test_a_comparison_under_way() -> None:
    nothing = compare_runs([], [], alpha=0.05)
    assert (nothing.a, nothing.b, nothing.difference, nothing.ratio, nothing.look) == (None,) * 5
    ahead = compare_runs(runs_of(A, [0.99, 0.98]), runs_of(SAME_STREAMS, [0.97]), alpha=0.05)
    assert ahead.a is not None and ahead.b is not None and ahead.look is not None
    assert (ahead.a.n, ahead.b.n, ahead.look.pairs) == (2, 1, 1)
    assert ahead.difference is not None and ahead.difference.method == "paired"


def test_the_stored_spread_is_that_of_pairs_where_there_are_pairs() -> None:
    a, b = [0.990, 0.994, 0.992], [0.991, 0.995, 0.9935]
    runs_a, runs_b = runs_of(A, [*a, 0.5]), runs_of(SAME_STREAMS, [*b])
    # Of a repeated seed the newest run counts.
    spread = stored_spread(A, SAME_STREAMS, runs_a, [make_run(seed=1, accuracy=0.1, recipe=SAME_STREAMS), *runs_b])
    assert spread is not None
    assert (spread.pairs, spread.recipes) == (3, ("a", "b"))
    assert spread.deviation == pytest.approx(np.std(np.subtract(b, a), ddof=1))
    elsewhere = runs_of(SAME_STREAMS, [*b], data_digest="e" * 64)
    for other, runs in ((OTHER_STREAMS, runs_of(OTHER_STREAMS, [*b])), (SAME_STREAMS, elsewhere)):
        alone = stored_spread(A, other, runs_of(A, [*a]), runs)
        assert alone is not None and alone.pairs is None
        assert alone.deviation == pytest.approx(math.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 2))
    one_side = stored_spread(A, SAME_STREAMS, runs_of(A, [*a]), runs_of(SAME_STREAMS, [0.99, None]))
    assert one_side is not None and one_side.recipes == ("a",)
    assert stored_spread(A, SAME_STREAMS, runs_of(A, [0.99]), []) is None
