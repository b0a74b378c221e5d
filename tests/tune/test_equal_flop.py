"""Searches in which every point costs what the recipe does."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tune_helpers import FormulaSession, small

from hotlap.engine.inspect import TrainingCost, inspect_recipe
from hotlap.errors import InputError
from hotlap.ladder import get_recipe
from hotlap.recipe import Recipe, part
from hotlap.report.formats import NONE
from hotlap.store import Store
from hotlap.techniques.shrink import Shrink
from hotlap.tune.defaults import parse_parameter
from hotlap.tune.equal_flop import EqualFlop, equal_epochs
from hotlap.tune.result import TuneResult
from hotlap.tune.space import Parameter
from hotlap.tune.study import tune
from hotlap.tune.tables import result_lines, trials_table

GREY, COLOUR = (1, 12, 12), (3, 32, 32)
WIDTH = "model.widths.1=16,32,64"


@pytest.fixture
def store(own_store: Path) -> Iterator[Store]:
    with Store() as opened:
        yield opened


def search(session: FormulaSession, param: str, recipe: Recipe | None = None, **options: object) -> TuneResult:
    recipe = recipe or small()
    return tune(recipe, [parse_parameter(param, recipe)], session=session, **options)  # type: ignore[arg-type]


def cost(recipe: Recipe, shape: tuple[int, int, int], epochs: float | None = None) -> float:
    return TrainingCost(recipe, shape, 4 if shape == GREY else 10).over_epochs(
        recipe.epochs if epochs is None else epochs
    )


@pytest.mark.parametrize("name", ["cifar10-airbench/94-muon", "cifar10-cpu/low-resolution", "cifar10-airbench/95"])
def test_epochs_that_cost_the_same(name: str) -> None:
    """Also where the size of the images depends on the share of training that has passed."""
    recipe = get_recipe(name)
    equal = EqualFlop(recipe, COLOUR, 10)
    wanted = cost(recipe, COLOUR)
    for changes in ({"model.widths": (32, 128, 256)}, {"model.convolutions": (1, 2, 3)}, {"model.widths.2": 700}):
        changed = recipe.with_changes(changes)
        epochs = equal.epochs_of(changed)
        assert epochs != recipe.epochs
        assert cost(changed, COLOUR, epochs) == pytest.approx(wanted, rel=0.002)
        assert len(f"{epochs:g}".replace(".", "")) <= 6
    unchanged = recipe.with_changes({"optimizer.filters.momentum": 0.5, "batch_size": 100})
    assert equal.epochs_of(unchanged) == recipe.epochs, "stored runs of it are of use"


@pytest.mark.parametrize("name", ["cifar10/record", "cifar10-cpu/low-resolution"])
def test_a_little_dearer_is_a_little_shorter_where_images_grow(name: str) -> None:
    recipe = get_recipe(name)
    equal = EqualFlop(recipe, COLOUR, 10)
    deeper = equal.epochs_of(recipe.with_changes({"model.convolutions": (2, 2, 3)}))
    assert 0.9 * recipe.epochs < deeper < recipe.epochs < equal.epochs_of(recipe.with_changes({"model.widths.0": 48}))


def test_the_cost_is_what_show_says() -> None:
    recipe = get_recipe("cifar10-cpu/low-resolution")
    facts = inspect_recipe(recipe, COLOUR, 10, train_images=50_000, test_images=0)
    assert facts.recipe_flop == pytest.approx(50_000 * cost(recipe, COLOUR))
    smaller = inspect_recipe(recipe.with_changes({"augment": ()}), COLOUR, 10, train_images=50_000, test_images=0)
    assert facts.recipe_flop < smaller.recipe_flop


@settings(deadline=None)
@given(st.floats(0.1, 100), st.floats(0.05, 20), st.floats(0.1, 1.0), st.floats(0.1, 1.0), st.floats(1e3, 1e15))
def test_epochs_are_found_for_any_cost(before: float, dearer: float, early: float, until: float, unit: float) -> None:
    """Of a cost that is lower for a first share of the epochs, which are rounded up to whole ones."""

    def flop(epochs: float) -> float:
        whole = int(until * epochs)
        first = min(float(whole), epochs)
        return unit * (early * first + (epochs - first))

    wanted = flop(before)
    epochs = equal_epochs(lambda e: dearer * flop(e), wanted, before)
    assert epochs > 0
    # The cost falls at once by a share of an epoch where another epoch becomes a cheap one.
    assert dearer * flop(epochs) == pytest.approx(wanted, rel=0.01, abs=dearer * unit)
    assert equal_epochs(flop, wanted, before) == before


STAGES = st.lists(st.tuples(st.integers(1, 99), st.integers(4, 31)), max_size=3, unique_by=lambda stage: stage[0])


@given(st.floats(0.05, 60), st.floats(0.05, 20), STAGES, STAGES)
def test_images_that_grow_cost_the_same_to_a_hundredth(
    epochs: float, factor: float, before: list[tuple[int, int]], after: list[tuple[int, int]]
) -> None:
    def spent(stages: list[tuple[int, int]], factor: float, epochs: float) -> float:
        shares, sides = (sorted(values) for values in zip(*stages, strict=True)) if stages else ((), ())
        shrink = Shrink([share / 100 for share in shares], sides) if stages else None
        by_epoch = (shrink.size_at(e, epochs, (32, 32))[0] if shrink else 32 for e in range(math.ceil(epochs)))
        return sum(factor * side**2 * min(1.0, epochs - e) for e, side in enumerate(by_epoch))

    wanted = spent(before, 1.0, epochs)
    found = equal_epochs(lambda e: spent(after, factor, e), wanted, epochs)
    assert spent(after, factor, found) == pytest.approx(wanted, rel=0.01)
    assert equal_epochs(lambda e: spent(before, 1.0, e), wanted, epochs) == epochs
    if not after and found != epochs:
        assert found == float(f"{found:.4g}")


def wider_is_better(recipe: Recipe) -> float:
    """More channels help, and so do more epochs: at equal cost the narrow network is best."""
    return 0.5 + recipe.model.options["widths"][1] / 1000 + recipe.epochs / 5


def test_every_point_costs_what_the_recipe_does(store: Store) -> None:
    recipe = small(model__widths=(8, 32))
    plain = search(FormulaSession(wider_is_better, store=store), WIDTH, recipe=recipe)
    assert plain.best.values == {"model.widths.1": 64}
    assert {t.epochs for t in plain.trials} == {None}
    session = FormulaSession(wider_is_better, store=store)
    result = search(session, WIDTH, recipe=recipe, equal_flop=True)
    assert result.study != plain.study
    assert result.best.values == {"model.widths.1": 16}
    by_width = {t.values["model.widths.1"]: t.epochs for t in result.trials}
    assert by_width[32] == 1.0
    assert by_width[16] > 1.0 > by_width[64]  # type: ignore[operator]
    assert result.recipe.epochs == by_width[16]
    assert result.recipe.model.options["widths"] == (8, 16)
    assert result.runs_reused == 3, "the recipe as it was given had been trained before"
    for job in session.trained:
        assert cost(job.recipe, GREY) == pytest.approx(cost(recipe, GREY), rel=0.002)
    lines = " ".join(result_lines(result))
    assert f"epochs: 1 → {by_width[16]:g}" in lines
    assert "as many FLOP as the recipe" in lines
    assert "epochs" in [column.header for column in trials_table(result).columns]
    assert "epochs" not in [column.header for column in trials_table(plain).columns]
    document = json.loads(json.dumps(result.to_dict()))
    assert document["equal_flop"] is True
    assert {t["epochs"] for t in document["trials"]} == set(by_width.values())
    # The same command finds the study as it was left.
    again = FormulaSession(wider_is_better, store=store)
    assert search(again, WIDTH, recipe=recipe, equal_flop=True).best == result.best
    assert not again.trained


def test_a_study_that_was_made_otherwise_is_not_gone_on_with(store: Store) -> None:
    session = FormulaSession(wider_is_better, store=store)
    search(session, WIDTH, name="mine", equal_flop=True)
    with pytest.raises(InputError, match="'mine' was made with another equal_flop → start another with --study"):
        search(session, WIDTH, name="mine")


def test_a_recipe_that_selects_its_images_is_refused() -> None:
    recipe = get_recipe("cifar10-airbench/96-faster")
    with pytest.raises(InputError, match="not known beforehand → leave out --equal-flop"):
        EqualFlop(recipe, COLOUR, 10)
    with pytest.raises(InputError, match="not known beforehand"):
        EqualFlop(recipe.with_changes({"selection": None}), COLOUR, 10).epochs_of(recipe)


def test_a_network_whose_images_are_too_small_says_so() -> None:
    recipe = small()
    with pytest.raises(InputError):
        EqualFlop(recipe, GREY, 4).epochs_of(recipe.with_changes({"model.kernels": (13, 13)}))


def test_a_point_whose_cost_cannot_be_counted_is_dropped_without_epochs() -> None:
    network = get_recipe("cifar10-airbench/94").model
    recipe = small(data__channels=3, model=part(network.name, **{**network.options, "widths": (8, 32)}))
    recipe = recipe.with_changes({"epochs": 4.0, "augment": (part("shrink", until=(0.5,), sides=(10,)),)})
    result = search(FormulaSession(wider_is_better), "augment.0.sides=[10],[3]", recipe, equal_flop=True)
    (dropped,) = result.dropped
    assert "cannot be built: the network does not take images of 3×3 pixels" in str(dropped.dropped)
    assert dropped.epochs is None
    assert list(trials_table(result).columns[1].cells) == ["4", NONE]


def test_no_space_holds_epochs_or_a_selection_at_equal_flop() -> None:
    session = FormulaSession(wider_is_better)
    with pytest.raises(InputError, match="selection cannot be proxy"):
        search(session, 'selection=null,{"name":"proxy"}', equal_flop=True)
    epochs = Parameter(path="epochs", kind="float", low=1, high=2)
    with pytest.raises(InputError, match="epochs cannot be tuned at equal FLOP"):
        tune(small(), [epochs], session=session, equal_flop=True)
    assert not session.trained


def test_counting_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    EqualFlop(small(), GREY, 4).epochs_of(small(model__widths=(4, 4)))
    assert torch.rand(1) == expected
