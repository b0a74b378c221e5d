from __future__ import annotations

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hotlap.tune.drop import SeedTestPruner, p_worse


def study_with(best: list[float] | None) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    study = optuna.create_study(direction="maximize")
    if best is not None:
        attributes = {"accuracies": [[seed, value] for seed, value in enumerate(best)]}
        study.add_trial(create_trial(value=float(np.mean(best)), user_attrs=attributes))
    return study


def running(accuracies: list[float | None]) -> optuna.trial.FrozenTrial:
    attributes = {"accuracies": [[seed, value] for seed, value in enumerate(accuracies)]}
    return create_trial(state=TrialState.RUNNING, user_attrs=attributes)


def looks_until_dropped(study: optuna.Study, pruner: SeedTestPruner, values: list[float]) -> int | None:
    for n in range(1, len(values) + 1):
        if pruner.prune(study, running([float(v) for v in values[:n]])):
            return n
    return None


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_a_value_as_good_as_the_best_is_dropped_no_more_often_than_alpha(seeds: int) -> None:
    random = np.random.default_rng(seeds)
    best = random.normal(0.99, 0.001, 60)
    study, pruner = study_with(list(best - best.mean() + 0.99)), SeedTestPruner(seeds, alpha=0.2)
    dropped = sum(
        looks_until_dropped(study, pruner, list(random.normal(0.99, 0.001, seeds))) is not None for _ in range(100)
    )
    assert dropped <= 0.2 * 100


@pytest.mark.parametrize(("shift", "spread"), [(0.1, 0.001), (0.03, 0.001), (0.2, 0.02)])
def test_a_bad_value_is_nearly_always_dropped_after_two_or_three_seeds(shift: float, spread: float) -> None:
    random = np.random.default_rng(1)
    early = 0
    for _ in range(100):
        study = study_with(list(random.normal(0.99, 0.001, 5)))
        n = looks_until_dropped(study, SeedTestPruner(5), list(random.normal(0.99 - shift, spread, 5)))
        early += n in (2, 3)
    assert early >= 95


def test_one_seed_is_never_enough_and_all_seeds_are_never_dropped() -> None:
    study, pruner = study_with([0.99, 0.991, 0.992]), SeedTestPruner(3)
    assert not pruner.prune(study, running([0.1]))
    assert pruner.prune(study, running([0.1, 0.1]))
    assert not pruner.prune(study, running([0.1, 0.1, 0.1]))


def test_a_failed_seed_drops_at_once_even_the_first_trial() -> None:
    assert SeedTestPruner(5).prune(study_with(None), running([None]))
    assert not SeedTestPruner(5).prune(study_with(None), running([0.1, 0.2]))


def test_p_worse() -> None:
    assert p_worse([0.9], [0.8, 0.9]) is None
    assert p_worse([0.9, 0.9], [0.9, 0.9]) == 1.0
    assert p_worse([0.8, 0.8], [0.9, 0.9]) == 0.0
    # A network that learned nothing gives the same accuracy every time, which must not hide that it is bad.
    flat = p_worse([0.1, 0.1], [0.98, 0.99])
    assert flat is not None
    assert flat < 0.01
    # Two values that happen to be close are not taken as exact.
    close = p_worse([0.9800, 0.9801], [0.981, 0.985, 0.977, 0.988])
    assert close is not None
    assert close > 0.1
