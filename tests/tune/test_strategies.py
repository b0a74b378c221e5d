"""How a study chooses its next point: which strategies end by themselves, and that studies resume alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import optuna
import pytest

from hotlap.recipe import Value, part
from hotlap.tune.space import Parameter
from hotlap.tune.strategies import DRAWN_TRIALS, SamplerName, Strategy, choose_strategy, values_of

LR = Parameter(path="lr", kind="float", low=1e-4, high=0.1, log=True)
SHAPE = Parameter(path="shape", kind="choice", choices=("cos", "linear", "flat"))
START: dict[str, Value] = {"lr": 0.5, "shape": "cos"}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    yield
    optuna.logging.set_verbosity(before)


def chosen(sampler: SamplerName, trials: int | None = None, sweeps: int = 1) -> Strategy:
    return choose_strategy(sampler, [LR, SHAPE], START, trials=trials, sweeps=sweeps)


def ask(study: optuna.Study, strategy: Strategy, before: int) -> dict[str, Any]:
    study.sampler = strategy.sampler(before)
    trial = study.ask({p.path: p.distribution() for p in strategy.stored})
    study.tell(trial, 1.0 if trial.params["shape"] == "linear" else 0.0)
    return trial.params


def study() -> optuna.Study:
    return optuna.create_study(direction="maximize")


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_drawing_ends_after_a_number_of_trials(sampler: SamplerName) -> None:
    assert chosen(sampler).most_trials == DRAWN_TRIALS
    assert chosen(sampler, trials=5).most_trials == 5
    assert chosen(sampler).ready(study()), "there is always another point"


def test_the_ascent_ends_by_itself_or_earlier_and_takes_its_sweeps() -> None:
    taken = []
    for sweeps in (1, 2):
        strategy, made = chosen("coordinate", sweeps=sweeps), study()
        assert strategy.most_trials is None
        while strategy.ready(made):
            ask(made, strategy, len(made.trials))
            assert len(made.trials) < 100
        taken.append(len(made.trials))
    assert taken[0] < taken[1]
    assert chosen("coordinate", trials=5).most_trials == 5


def test_the_ascent_begins_with_the_recipe_even_where_it_lies_outside_of_the_ranges() -> None:
    strategy = chosen("coordinate")
    assert [p.contains(START[p.path]) for p in (LR, *strategy.stored)] == [False, True, True]
    assert ask(study(), strategy, 0) == START
    assert chosen("random").stored == (LR, SHAPE)


@pytest.mark.parametrize("sampler", ["coordinate", "tpe", "random"])
def test_a_study_goes_on_after_any_trial_as_if_it_had_not_been_interrupted(sampler: SamplerName) -> None:
    unbroken, interrupted, strategy = study(), study(), chosen(sampler)
    whole: list[dict[str, Any]] = []
    while strategy.ready(unbroken) and len(whole) < 14:
        whole.append(ask(unbroken, strategy, len(whole)))
    # A new strategy for every trial, as a command that goes on makes one.
    assert [ask(interrupted, chosen(sampler), n) for n in range(len(whole))] == whole
    assert len({str(params) for params in whole}) > 3


def test_what_a_trial_leaves_out_is_as_it_was() -> None:
    listed = Parameter(path="model", kind="choice", choices=(part("gelu"), part("celu", alpha=0.3)))
    stored = (*chosen("random").stored, listed)
    start = {**START, "model": part("gelu")}
    assert values_of({}, stored, start) == start
    found = values_of({"lr": 0.01, "model": listed.encode(listed.choices[1])}, stored, start)
    assert found == {**start, "lr": 0.01, "model": listed.choices[1]}
