from __future__ import annotations

from dataclasses import replace

import pytest

from hotlap.errors import InputError
from hotlap.ladder import Lineage, get_ladder, get_recipe, ladders, own_records, parse_rungs, recipes, resolve
from hotlap.recipe import diff

MNIST = get_ladder("mnist")


@pytest.mark.parametrize("name", sorted(ladders()))
def test_a_rung_changes_what_it_declares_and_nothing_else(name: str) -> None:
    steps = resolve(ladders()[name])
    assert steps[0].parent is None
    for step in steps[1:]:
        if isinstance(ladders()[name], Lineage) and step.parent is None:
            continue  # the first rung of a ladder that the lineage goes on with
        assert step.parent is not None
        # A list declared as a whole may differ in some of its places only.
        declared = {
            change.path: next((p for p in step.rung.changes if f"{change.path}.".startswith(f"{p}.")), None)
            for change in diff(step.parent, step.recipe)
        }
        assert set(declared.values()) == set(step.rung.changes), step.recipe.name
        assert step.rung.why
        assert step.rung.source


@pytest.mark.parametrize("name", sorted(ladders()))
def test_recipes_of_a_ladder_differ_and_travel_as_json(name: str) -> None:
    found = [step.recipe for step in resolve(ladders()[name])]
    assert len({recipe.digest for recipe in found}) == len(found)
    for recipe in found:
        assert type(recipe).from_json(recipe.to_json()) == recipe
        assert recipe.target is not None


def test_a_rung_may_change_an_earlier_one_than_that_before_it() -> None:
    steps = {step.rung.name: step for step in resolve(get_ladder("cifar10-airbench"))}
    assert steps["94-muon"].parent == steps["94"].recipe
    assert steps["94-silu"].parent == steps["94-muon"].recipe
    (change,) = diff(steps["94-muon"].recipe, steps["94-silu"].recipe)
    assert change.path == "model.activation"


def test_a_lineage_shows_rungs_of_other_ladders_as_they_are() -> None:
    lineage = get_ladder("cifar10")
    assert isinstance(lineage, Lineage)
    steps = resolve(lineage)
    assert [step.index for step in steps] == list(range(len(steps)))
    assert [step.recipe.name for step in steps] == list(lineage.recipes)
    assert all(step.recipe == recipes()[step.recipe.name] for step in steps)
    published = [step.rung.published.time_s for step in steps]
    assert published == sorted(published, reverse=True), "each is faster than the one before, on its own hardware"
    assert parse_rungs("94-muon,0..1", lineage) == (0, 1, 12)


def test_own_records_are_recipes_like_others() -> None:
    rungs = [step.recipe for ladder in ladders().values() for step in resolve(ladder)]
    assert own_records()
    for recipe in own_records():
        assert get_recipe(recipe.name) == recipes()[recipe.name] == recipe
        assert type(recipe).from_json(recipe.to_json()) == recipe
        assert recipe.target is not None
        assert recipe.stop_at is None, "a record's schedule is fixed"
        assert recipe.name not in {rung.name for rung in rungs}
    assert len({recipe.digest for recipe in own_records()}) == len(own_records())


def test_bad_ladders_are_refused() -> None:
    second = MNIST.rungs[1]
    with pytest.raises(InputError, match="declares stop_at, which does not change"):
        resolve(replace(MNIST, rungs=(*MNIST.rungs[:2], replace(second, name="again"))))
    with pytest.raises(InputError, match="declares one path in two groups"):
        resolve(replace(MNIST, rungs=(MNIST.rungs[0], replace(second, retune={"stop_at": 0.98}))))
    with pytest.raises(InputError, match="is the first rung"):
        resolve(replace(MNIST, rungs=(second,)))
    with pytest.raises(InputError, match=r"did you mean 'optimizer\.lr'"):
        resolve(replace(MNIST, rungs=(MNIST.rungs[0], replace(second, change={"optimizer.rl": 2}))))


def test_names() -> None:
    assert get_recipe("mnist") == get_recipe("mnist/record") == recipes()["mnist/record"]
    with pytest.raises(InputError, match="did you mean 'mnist/8-final'"):
        get_recipe("mnist/8-finale")
    with pytest.raises(InputError, match="did you mean 'mnist'"):
        get_ladder("mnits")


@pytest.mark.parametrize(
    ("text", "rungs"),
    [
        ("3..8", (3, 4, 5, 6, 7, 8)),
        ("5", (5,)),
        ("0, 3..4", (0, 3, 4)),
        ("7..", (7, 8)),
        ("..1", (0, 1)),
        ("8-final,0-initial", (0, 8)),
        ("4,4", (4,)),
    ],
)
def test_choices_of_rungs(text: str, rungs: tuple[int, ...]) -> None:
    assert parse_rungs(text, MNIST) == rungs


@pytest.mark.parametrize("text", ["9", "3..9", "8..3", "final", "", "-1", "a..b"])
def test_bad_choices_of_rungs_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_rungs(text, MNIST)
