from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tune_helpers import SMALL, FormulaSession, SeveralWorkers, small

from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.store import Store
from hotlap.tune.pace import Pace
from hotlap.tune.tables import trade_table
from hotlap.tune.trade import TradeResult, fewer_epochs, trade_epochs
from hotlap.tune.validation import HoldOut

SEEDS = range(10, 20)
RECIPE = small(batch_size=10).with_changes({"target": 0.9})  # 10 steps an epoch on 100 images


def rising(recipe: Recipe) -> float:
    """0.93 with one epoch, 0.9 with half of one."""
    return 0.87 + 0.06 * recipe.epochs


def trade(session: FormulaSession, recipe: Recipe = RECIPE, **options: object) -> TradeResult:
    given: dict[str, object] = {"hold_out": HoldOut(20, 0), "seeds": SEEDS, **options}
    return trade_epochs(recipe, session=session, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_epochs_go_down_as_far_as_every_step_is_certified(workers: int) -> None:
    session = FormulaSession(rising, deviation=0.002)
    executor = SeveralWorkers(session, workers) if workers else None
    told: list[str] = []
    result = trade(session, executor=executor, say=told.append)
    assert [step.epochs for step in result.steps] == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
    assert [step.verdict for step in result.steps] == ["certified"] * 5 + ["missed"]
    assert all(step.n == 10 for step in result.steps[:5])
    assert result.recipe.epochs == 0.6
    assert result.recipe.data == SMALL
    assert result.certified
    assert result.complete
    assert len(told) == 6
    assert {job.recipe.data.name for job in session.trained} == {"held-out"}
    assert {job.seed for job in session.trained} == set(SEEDS)
    assert trade_table(result).row_count == 6
    assert result.to_dict()["epochs"] == 0.6


def test_the_same_again_trains_nothing(own_store: Path) -> None:
    with Store() as store:
        first, again = (FormulaSession(rising, deviation=0.002, store=store) for _ in range(2))
        assert trade(first) == trade(again)
    assert first.trained
    assert not again.trained


def test_a_hopeless_step_is_given_up_early() -> None:
    def cliff(recipe: Recipe) -> float:
        return 0.95 if recipe.epochs == 1 else 0.6

    session = FormulaSession(cliff, deviation=0.002)
    result = trade(session)
    assert result.steps[1].n == 3
    assert "after 3 runs the whole 95 % interval" in result.steps[1].reason
    assert result.recipe.epochs == 1.0


@pytest.mark.parametrize("workers", [0, 4])
def test_a_step_that_cannot_be_trained_ends_it_and_a_recipe_that_cannot_is_refused(workers: int) -> None:
    class TooLarge(FormulaSession):
        from_epochs = 0.85

        def train(self, recipe: Recipe, seed: int):  # type: ignore[no-untyped-def]
            if recipe.epochs < self.from_epochs:
                raise InputError("the GPU has too little memory", "--set batch_size=5")
            return super().train(recipe, seed)

    session = TooLarge(rising, deviation=0.002)
    executor = SeveralWorkers(session, workers) if workers else None
    result = trade(session, executor=executor)
    assert [step.verdict for step in result.steps] == ["certified", "certified", "missed"]
    assert result.steps[-1].reason == "it cannot be trained: the GPU has too little memory"
    assert result.recipe.epochs == 0.9
    session.from_epochs = 2
    with pytest.raises(InputError, match="too little memory"):
        trade(session, executor=executor)


def test_a_failed_run_ends_it() -> None:
    session = FormulaSession(lambda recipe: 0.95 if recipe.epochs == 1 else None)
    assert trade(session).steps[1].reason == "a run failed"


def test_a_target_that_is_not_held_is_missed_with_a_suggestion() -> None:
    session = FormulaSession(lambda recipe: 0.85, deviation=0.002)
    result = trade(session)
    assert not result.certified
    assert len(result.steps) == 1
    assert result.steps[0].n == 10
    assert result.recipe.epochs == 1.0
    assert result.suggestion is not None
    assert 0.84 < result.suggestion <= result.steps[0].ci95[0]  # type: ignore[index]
    assert trade(session, target=result.suggestion).certified


def test_it_ends_at_a_single_step_and_when_the_time_is_up() -> None:
    recipe = RECIPE.with_changes({"epochs": 0.2})
    result = trade(FormulaSession(lambda recipe: 0.95), recipe)
    assert [step.epochs for step in result.steps] == [0.2, 0.1]
    assert result.certified
    late = trade(FormulaSession(lambda recipe: 0.94), target=0.8, pace=Pace(-1))
    assert not late.complete
    assert late.steps[0].verdict == "open"
    assert late.suggestion is None
    assert trade_table(late).row_count == 1


def test_arguments_that_make_no_sense() -> None:
    session = FormulaSession(rising)
    with pytest.raises(InputError, match="no target to trade epochs at → say which: --trade-target"):
        trade(session, RECIPE.with_changes({"target": None}))
    for target in (99.0, 0.0, math.nan, -math.inf):
        with pytest.raises(InputError, match="a target is an accuracy between 0 and 1, not"):
            trade(session, target=target)
    with pytest.raises(InputError, match="at least 10 different seeds, not 5"):
        trade(session, seeds=range(5))
    with pytest.raises(InputError, match="between 0 and 1"):
        trade(session, factor=1.0)


@given(st.integers(1, 5000), st.floats(0.01, 20), st.floats(0.01, 0.99), st.booleans())
def test_every_step_is_shorter_by_a_step_at_least_and_ends(
    images: int, epochs: float, factor: float, drop_last: bool
) -> None:
    recipe = small(batch_size=7, feed__drop_last=drop_last).with_changes({"epochs": epochs})
    images += 7
    per_epoch = images // 7 if drop_last else -(-images // 7)

    def steps(of: Recipe) -> int:
        return max(1, math.ceil(of.epochs * per_epoch - 1e-9))

    shorter = fewer_epochs(recipe, images, factor)
    if steps(recipe) == 1:
        assert shorter is None
    else:
        assert shorter is not None
        fewer = steps(recipe.with_changes({"epochs": shorter}))
        assert 1 <= fewer < steps(recipe)
        assert fewer >= math.floor(steps(recipe) * factor) or fewer == 1
