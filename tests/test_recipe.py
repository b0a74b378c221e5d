"""Recipes as data: JSON there and back, digests, changes by path, messages."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from factories import make_recipe
from hotlap.errors import InputError
from hotlap.recipe import (
    FORMAT,
    Component,
    EngineOptions,
    Evaluation,
    Feed,
    Recipe,
    diff,
    parse_set,
    part,
    paths,
    show_value,
)

relaxed = settings(deadline=None, max_examples=60)

WORDS = st.text("abcdefghijklmnopqrstuvwxyz-é", min_size=1, max_size=6)
KEYS = st.from_regex(r"[a-z_]{1,6}", fullmatch=True).filter(lambda key: key != "name")
NUMBERS = st.integers(-1000, 1000) | st.floats(-1e6, 1e6) | st.floats(1e-12, 1e-3)
SCALARS = st.none() | st.booleans() | NUMBERS | WORDS


def components(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Component]:
    return st.builds(lambda name, options: part(name, **options), WORDS, st.dictionaries(KEYS, values, max_size=4))


LEAVES = SCALARS | st.lists(NUMBERS, min_size=1, max_size=3).map(tuple)
COMPONENTS = components(LEAVES | components(LEAVES))
FEEDS = st.builds(
    Feed,
    loading=st.sampled_from(["device", "per-image"]),
    shuffle=st.sampled_from(["every-epoch", "once"]),
    drop_last=st.booleans(),
    mean=st.none() | st.lists(st.floats(0, 1), min_size=1, max_size=3).map(tuple),
    std=st.none() | st.lists(st.floats(0.01, 1), min_size=1, max_size=3).map(tuple),
)
ENGINES = st.builds(
    EngineOptions,
    precision=st.sampled_from(["fp32", "bf16"]),
    memory_format=st.sampled_from(["contiguous", "channels_last"]),
    compile=st.booleans(),
)
ACCURACIES = st.none() | st.floats(0.01, 1)
RECIPES = st.builds(
    Recipe,
    name=WORDS,
    data=COMPONENTS,
    feed=FEEDS,
    augment=st.lists(COMPONENTS, max_size=3).map(tuple),
    model=COMPONENTS,
    label_smoothing=st.floats(0, 0.9),
    optimizer=COMPONENTS,
    schedule=COMPONENTS,
    batch_size=st.integers(1, 4096),
    epochs=st.floats(0.1, 100) | st.integers(1, 100),
    stop_at=ACCURACIES,
    evaluation=st.builds(Evaluation, batch_size=st.integers(1, 4096), augmentation=st.none() | COMPONENTS),
    engine=ENGINES,
    target=ACCURACIES,
)


# -- JSON ---------------------------------------------------------------------------------------------------------


@relaxed
@given(RECIPES)
def test_json_reads_back_to_an_equal_recipe(recipe: Recipe) -> None:
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.digest == recipe.digest
    assert hash(again) == hash(recipe)
    assert Recipe.from_json(recipe.to_json(indent=2)) == recipe


@relaxed
@given(RECIPES)
def test_json_is_plain_and_carries_its_format(recipe: Recipe) -> None:
    document = json.loads(recipe.to_json(), parse_constant=lambda text: pytest.fail(text))
    assert document == recipe.to_dict()
    assert document["format"] == FORMAT


# -- digest -------------------------------------------------------------------------------------------------------


def test_the_digest_does_not_drift_between_versions() -> None:
    # Stored runs are found by it: a change here needs a migration of the store, or a new format.
    assert make_recipe().digest == "788b900b7fded1b20f6c7bb57c83cb036a71fa3db3d0211c772921cba610ac65"


def test_the_digest_takes_whole_numbers_however_they_are_written() -> None:
    as_int, as_float = part("adam", lr=4, betas=(1, 0)), part("adam", lr=4.0, betas=(1.0, 0.0))
    assert make_recipe(optimizer=as_int).digest == make_recipe(optimizer=as_float).digest
    assert make_recipe(epochs=4).digest == make_recipe(epochs=4.0).digest
    zero = part("adam", lr=0.0)
    assert make_recipe(optimizer=zero).digest == make_recipe(optimizer=part("adam", lr=-0.0)).digest


def test_the_digest_tells_numbers_from_truth_values_and_words() -> None:
    digests = {make_recipe(optimizer=part("adam", x=value)).digest for value in (1, True, "1", "true", None, (1,))}
    assert len(digests) == 6


def test_the_order_of_options_does_not_matter_but_that_of_augmentations_does() -> None:
    document = make_recipe().to_dict()
    document["optimizer"] = dict(reversed(document["optimizer"].items()))
    assert Recipe.from_dict(dict(reversed(document.items()))).digest == make_recipe().digest
    document["augment"] = document["augment"][::-1]
    assert Recipe.from_dict(document).digest != make_recipe().digest


@relaxed
@given(RECIPES, WORDS, ACCURACIES)
def test_name_and_target_are_not_part_of_the_digest(recipe: Recipe, name: str, target: float | None) -> None:
    assert recipe.with_changes({"target": target}, name=name).digest == recipe.digest


def _other(value: Any, path: str) -> Any:
    """Another valid value of the same kind."""
    choices = {
        "feed.loading": ("device", "per-image"),
        "feed.shuffle": ("every-epoch", "once"),
        "engine.precision": ("fp32", "bf16"),
        "engine.memory_format": ("contiguous", "channels_last"),
    }
    if path in choices:
        return next(choice for choice in choices[path] if choice != value)
    match value:
        case None:
            parts = dict.fromkeys(("evaluation.augmentation", "mixing", "averaging", "selection"), part("flip"))
            return {"stop_at": 0.5, **parts}.get(path, (0.5,))
        case bool():
            return not value
        case str():
            return f"{value}x"
        case int():
            return value + 1
        case float():
            return value * 0.5 if value else 0.125
        case tuple() if value and not isinstance(value[0], Component):
            return (*value[:-1], _other(value[-1], ""))
        case Component():
            return Component(f"{value.name}x", value.items)
        case _:
            return (part("flip"),)


@relaxed
@given(RECIPES, st.data())
def test_every_changed_leaf_changes_the_digest_and_is_the_one_difference(recipe: Recipe, data: st.DataObject) -> None:
    leaves = {path: value for path, value in paths(recipe).items() if path not in ("name", "target")}
    path = data.draw(st.sampled_from(sorted(leaves)))
    value = _other(leaves[path], path)
    assume(value != leaves[path])
    changed = recipe.with_changes({path: value})
    assert changed.digest != recipe.digest
    (change,) = diff(recipe, changed)
    assert change.path == path
    assert change.before == leaves[path]


# -- changes ------------------------------------------------------------------------------------------------------


@relaxed
@given(RECIPES, RECIPES)
def test_applying_a_difference_gives_the_other_recipe(a: Recipe, b: Recipe) -> None:
    changes = {change.path: change.after for change in diff(a, b)}
    assert a.with_changes(changes, name=b.name) == b
    assert b.with_changes({change.path: change.before for change in diff(a, b)}, name=a.name) == a


@relaxed
@given(RECIPES, st.data())
def test_a_difference_between_relatives_is_found_leaf_by_leaf(recipe: Recipe, data: st.DataObject) -> None:
    leaves = {path: value for path, value in paths(recipe).items() if path != "name"}
    simple = [path for path, value in leaves.items() if isinstance(value, bool | float)]
    chosen = data.draw(st.sets(st.sampled_from(simple), max_size=4))
    changes = {path: _other(leaves[path], path) for path in chosen}
    changed = recipe.with_changes(changes)
    assert {change.path: change.after for change in diff(recipe, changed)} == changes
    assert diff(recipe, recipe) == ()


@relaxed
@given(RECIPES)
def test_every_path_takes_its_own_value(recipe: Recipe) -> None:
    for path, value in paths(recipe).items():
        if path.rpartition(".")[2] != "name":
            assert recipe.with_changes({path: value}) == recipe


def test_a_whole_number_may_become_a_fraction_and_back() -> None:
    a, b = make_recipe(optimizer=part("adam", lr=1)), make_recipe(optimizer=part("adam", lr=0.5))
    assert [str(change) for change in diff(a, b)] == ["optimizer.lr: 1 → 0.5"]
    assert a.with_changes({"optimizer.lr": 0.5}) == b
    assert b.with_changes({"optimizer.lr": 1}).digest == a.digest
    with pytest.raises(InputError, match="takes a number, not yes"):
        b.with_changes({"optimizer.lr": True})


def test_fields_at_their_default_do_not_count_in_the_digest() -> None:
    """So a field that is added later leaves the digests of stored runs alone."""
    plain_recipe = make_recipe(augment=(), evaluation=Evaluation(batch_size=3))
    document = plain_recipe.to_dict()
    for key in ("augment", "label_smoothing", "stop_at", "engine"):
        del document[key]
    del document["evaluation"]["augmentation"]
    assert Recipe.from_dict(document).digest == plain_recipe.digest


def test_a_list_with_one_fraction_takes_fractions() -> None:
    recipe = make_recipe(optimizer=part("adam", betas=(0, 0.99)))
    changed = recipe.with_changes({"optimizer.betas": [0, 0.95]})
    assert changed.optimizer.options["betas"] == (0, 0.95)
    assert recipe.with_changes({"optimizer.betas": (0, 0.99)}).digest == recipe.digest


def test_changes_by_path() -> None:
    recipe = make_recipe()
    changed = recipe.with_changes(
        {"optimizer.lr": 0.02, "model.widths.0": 16, "augment.1.size": 5, "engine.compile": True}, name="mine"
    )
    assert changed.name == "mine"
    assert changed.optimizer.options["lr"] == 0.02
    assert changed.model.options["widths"] == (16, 32)
    assert changed.augment[1] == part("cutout", size=5)
    assert changed.engine.compile
    assert recipe == make_recipe()
    assert [str(change) for change in diff(recipe, changed)] == [
        "augment.1.size: 3 → 5",
        "model.widths: (24, 32) → (16, 32)",
        "optimizer.lr: 0.01 → 0.02",
        "engine.compile: no → yes",
    ]


def test_a_component_is_replaced_whole_by_an_object() -> None:
    changed = make_recipe().with_changes({"optimizer": {"name": "sgd", "lr": 0.1}, "augment": []})
    assert changed.optimizer == part("sgd", lr=0.1)
    assert [change.path for change in diff(make_recipe(), changed)] == ["augment", "optimizer"]


def test_a_whole_number_becomes_a_float_where_one_was() -> None:
    lr = make_recipe().with_changes({"optimizer.lr": 1}).optimizer.options["lr"]
    assert lr == 1 and isinstance(lr, float)
    widths = make_recipe().with_changes({"model.widths": [8.0, 16]}).model.options["widths"]
    assert widths == (8, 16) and all(isinstance(width, int) for width in widths)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimiser.lr": 1}, r"unknown recipe key 'optimiser.lr' → did you mean 'optimizer.lr'\?"),
        ({"optimizer.lrr": 1}, r"did you mean 'optimizer.lr'\?"),
        ({"optimizer.lr.x": 1}, "unknown recipe key 'optimizer.lr.x'"),
        ({"model.widths.2": 1}, "unknown recipe key 'model.widths.2'"),
        ({"augment.-1.size": 1}, "unknown recipe key 'augment.-1.size'"),
        ({"": 1}, "unknown recipe key ''"),
        ({"augment.0": None}, r"augment.0 is one item of a list and cannot be none → give the whole list"),
        ({"model.widths.0": None}, r"model.widths.0 is one item of a list"),
        ({"model.hidden": []}, r"model.hidden takes a whole number, not \(\)"),
        ({"model.hidden": [2, "x"]}, "model.hidden.1 takes a whole number, not x"),
        ({"model.widths.0": [1, 2]}, r"model.widths.0 takes a whole number, not \(1, 2\)"),
        ({"batch_size": [1]}, r"batch_size takes a whole number, not \[1\]"),
        ({"batch_size": "big"}, "batch_size takes a whole number, not big"),
        ({"batch_size": 1.5}, "batch_size takes a whole number, not 1.5"),
        ({"batch_size": True}, "batch_size takes a whole number, not yes"),
        ({"batch_size": None}, "batch_size takes a whole number, not none"),
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"epochs": 0}, "epochs must be positive, not 0.0"),
        ({"epochs": math.inf}, "epochs: inf is not a number"),
        ({"optimizer.lr": math.nan}, "optimizer.lr: nan is not a number"),
        ({"optimizer.lr": "fast"}, "optimizer.lr takes a number, not fast"),
        ({"optimizer.betas": 0.9}, "optimizer.betas takes a list, not 0.9"),
        ({"optimizer.nesterov": 1}, "optimizer.nesterov takes true or false, not 1"),
        ({"optimizer.name": "sgd"}, "optimizer.name: another optimizer has other options; give it whole"),
        ({"optimizer": "sgd"}, "optimizer takes a component, not sgd"),
        ({"optimizer": {"lr": 1}}, "optimizer: a component needs a name"),
        ({"optimizer": {"name": "sgd", "lr": {1, 2}}}, "optimizer.lr: a recipe holds names and numbers, not set"),
        ({"feed.loading": "devise"}, r"unknown feed.loading 'devise' → did you mean 'device'\?"),
        ({"feed.mean": 0.5}, "feed.mean takes a list, not 0.5"),
        ({"feed.std": [0.0]}, "feed.std must be positive"),
        ({"label_smoothing": 1}, r"label_smoothing must be in \[0, 1\), not 1.0"),
        ({"target": 99}, "target is an accuracy between 0 and 1, not 99"),
        ({"stop_at": 0}, "stop_at is an accuracy between 0 and 1, not 0"),
        ({"evaluation.batch_size": 0}, "evaluation.batch_size must be at least 1"),
        ({"name": 3}, "name takes a word, not 3"),
    ],
)
def test_a_wrong_change_is_explained(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_recipe().with_changes(changes)


# -- documents from elsewhere -------------------------------------------------------------------------------------


def _document(**changes: Any) -> dict[str, Any]:
    return {**make_recipe().to_dict(), **changes}


def test_an_unknown_key_is_named_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown recipe key 'batchsize' → did you mean 'batch_size'\?"):
        Recipe.from_dict(_document(batchsize=1))
    with pytest.raises(InputError, match=r"unknown recipe key 'feed.shufle' → did you mean 'feed.shuffle'\?"):
        Recipe.from_dict(_document(feed={**_document()["feed"], "shufle": "once"}))


def test_a_missing_key_is_named() -> None:
    document = _document()
    del document["feed"]["drop_last"]
    with pytest.raises(InputError, match=r"recipe key feed\.drop_last is missing"):
        Recipe.from_dict(document)
    with pytest.raises(InputError, match="recipe key name is missing"):
        Recipe.from_dict({})


def test_what_has_a_default_may_be_left_out() -> None:
    document = _document()
    for key in ("engine", "stop_at", "label_smoothing", "format"):
        del document[key]
    assert Recipe.from_dict(document) == make_recipe()


@pytest.mark.parametrize("version", [FORMAT + 1, "2", 0, None])
def test_another_format_asks_for_an_upgrade(version: Any) -> None:
    with pytest.raises(InputError, match=r"recipe format .* is not known here \(this is 1\) → upgrade hotlap"):
        Recipe.from_dict(_document(format=version))


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_json_without_finite_numbers_is_refused(word: str) -> None:
    text = make_recipe().to_json().replace('"lr": 0.01', f'"lr": {word}')
    assert word in text
    with pytest.raises(InputError, match="is not a number a recipe can hold"):
        Recipe.from_json(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "not a JSON recipe"), ("[]", "a JSON object, not list"), ("3", "not int"), ("", "not a JSON recipe")],
)
def test_what_is_no_recipe_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe.from_json(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@relaxed
@given(st.sampled_from(sorted(make_recipe().to_dict())), JSON)
def test_any_value_in_any_place_is_taken_or_explained(key: str, value: Any) -> None:
    try:
        recipe = Recipe.from_dict(_document(**{key: value}))
    except InputError as error:
        assert error.cause
    else:
        assert Recipe.from_json(recipe.to_json()) == recipe


@relaxed
@given(st.sampled_from(sorted(paths(make_recipe()))), JSON)
def test_any_value_at_any_path_is_taken_or_explained(path: str, value: Any) -> None:
    try:
        recipe = make_recipe().with_changes({path: value})
    except InputError as error:
        assert error.cause
    else:
        assert Recipe.from_json(recipe.to_json()) == recipe


# -- small parts --------------------------------------------------------------------------------------------------


def test_parts_print_and_show_their_options() -> None:
    component = part("adam", lr=0.01, betas=[0.7, 0.9], fused=None, nesterov=False)
    assert repr(component) == "adam(betas=(0.7, 0.9), fused=none, lr=0.01, nesterov=no)"
    assert component.options == {"betas": (0.7, 0.9), "fused": None, "lr": 0.01, "nesterov": False}
    assert component == part("adam", nesterov=False, fused=None, betas=(0.7, 0.9), lr=0.01)
    assert show_value(0.1 + 0.2) == "0.3"
    with pytest.raises(InputError, match="lr: inf is not a number"):
        part("adam", lr=math.inf)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("optimizer.lr=0.02", ("optimizer.lr", 0.02)),
        ("model.widths=[8, 16]", ("model.widths", [8, 16])),
        ("engine.compile=true", ("engine.compile", True)),
        ("stop_at=null", ("stop_at", None)),
        (" engine.precision = bf16 ", ("engine.precision", "bf16")),
        ('data={"name": "mnist"}', ("data", {"name": "mnist"})),
        ("name=a=b", ("name", "a=b")),
    ],
)
def test_parse_set(text: str, parsed: tuple[str, Any]) -> None:
    assert parse_set(text) == parsed


@pytest.mark.parametrize("text", ["optimizer.lr", "=3", "  =3", ""])
def test_parse_set_explains(text: str) -> None:
    with pytest.raises(InputError, match=r"--set takes path=value, not .* → for example"):
        parse_set(text)
    with pytest.raises(InputError, match="NaN is not a number"):
        parse_set("optimizer.lr=NaN")


def test_targets_and_sizes_are_checked_when_made() -> None:
    with pytest.raises(InputError, match="target is an accuracy"):
        make_recipe(target=0)
    with pytest.raises(InputError, match="epochs must be positive, not nan"):
        make_recipe(epochs=math.nan)
