from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap import datasets
from hotlap.bench.session import Session
from hotlap.datasets.held_out import held_out, original, split
from hotlap.errors import InputError
from hotlap.recipe import Recipe, part
from tiny import SYNTHETIC, tiny

SIZES = st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(lambda sizes: max(sizes) >= 2)


def labels_of(sizes: list[int], seed: int) -> np.ndarray[Any, Any]:
    labels = np.repeat(np.arange(len(sizes)), sizes).astype(np.uint8)
    return np.random.default_rng(seed).permutation(labels)


@given(SIZES, st.data(), st.integers(0, 2**40))
def test_split_is_exact_stratified_and_deterministic(sizes: list[int], data: st.DataObject, seed: int) -> None:
    labels = labels_of(sizes, 0)
    counts = np.array(sizes)
    images = data.draw(st.integers(int((counts >= 2).sum()), int(np.maximum(counts - 1, 0).sum())))
    chosen = split(labels, images, seed)
    assert chosen.shape == labels.shape and chosen.sum() == images
    held = np.bincount(labels[chosen], minlength=len(sizes))
    assert ((held >= 1) & (held < counts))[counts >= 2].all()
    assert not held[counts < 2].any()
    assert np.array_equal(chosen, split(labels, images, seed))


@given(st.lists(st.integers(20, 60), min_size=1, max_size=12), st.floats(0.1, 0.9), st.integers(0, 99))
def test_every_class_gives_its_share(sizes: list[int], share: float, seed: int) -> None:
    labels = labels_of(sizes, 1)
    images = round(len(labels) * share)
    held = np.bincount(labels[split(labels, images, seed)], minlength=len(sizes))
    proportional = np.array(sizes) * images / len(labels)
    assert (np.abs(held - proportional) < 1).all()
    # Largest remainder: no class is rounded up while another with a larger remainder is rounded down.
    remainder = proportional - np.floor(proportional)
    up = held > proportional
    down = (held < proportional) & (remainder > 1e-9)
    assert not up.any() or not down.any() or remainder[up].min() >= remainder[down].max() - 1e-9


def test_seeds_differ_and_larger_parts_contain_smaller_ones() -> None:
    labels = labels_of([100, 100], 2)
    assert not np.array_equal(split(labels, 50, 0), split(labels, 50, 1))
    assert (split(labels, 50, 0) <= split(labels, 120, 0)).all()
    # A stored study depends on this choice: it must never change.
    assert np.flatnonzero(split(np.arange(12) % 2, 4, 7)).tolist() == [5, 8, 10, 11]


def test_a_class_of_one_image_stays_for_training_and_small_classes_keep_one_on_both_sides() -> None:
    labels = np.repeat(np.arange(22), [1, *[2] * 20, 959])
    held = np.bincount(labels[split(labels, 25, 0)])
    assert held.tolist() == [0, *[1] * 20, 5]


@pytest.mark.parametrize(
    ("sizes", "images", "message"),
    [
        ([5, 5], 9, "images must be from 2 to 8, so that every class has images on both sides, not 9"),
        ([5, 5], 1, "from 2 to 8"),
        ([1, 1, 0], 1, "no class has two images"),
    ],
)
def test_what_cannot_be_held_out(sizes: list[int], images: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        split(labels_of(sizes, 0), images, 0)


def test_load_keeps_the_order_and_leaves_the_test_images_out() -> None:
    whole = datasets.load("synthetic", **SYNTHETIC.options)
    data = datasets.load("held-out", of=SYNTHETIC, images=112, seed=3).validate()
    chosen = split(whole.y_train, 112, 3)
    assert np.array_equal(data.x_test, whole.x_train[chosen]) and np.array_equal(data.y_test, whole.y_train[chosen])
    assert np.array_equal(data.x_train, whole.x_train[~chosen]) and np.array_equal(data.y_train, whole.y_train[~chosen])
    assert len(data.x_train) == 400 and np.bincount(data.y_test).tolist() == [28] * 4
    training = {image.tobytes() for image in whole.x_train}
    assert {image.tobytes() for image in np.concatenate([data.x_train, data.x_test])} == training
    assert training.isdisjoint(image.tobytes() for image in whole.x_test)
    assert data.class_names == whole.class_names and data.digest != whole.digest
    assert data.digest == datasets.load("held-out", of=SYNTHETIC, images=112, seed=3).digest
    assert data.digest != datasets.load("held-out", of=SYNTHETIC, images=112, seed=4).digest


def test_info_and_options() -> None:
    assert set(datasets.options("held-out")) == {"of", "images", "seed"}
    facts = datasets.info("held-out", of={"name": "synthetic", "size": 8}, images=200)
    assert (facts.train, facts.test) == (800, 200)
    assert facts.notes == ("200 of 1,000 training images of synthetic held out for testing, seed 0",)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 5}, "held-out data needs the option of"),
        ({"of": "mnist", "images": 5}, "of must be a data set with its options, not 'mnist'"),
        ({"of": part("synthetik"), "images": 5}, "unknown data set 'synthetik' → did you mean 'synthetic'"),
        ({"of": part("synthetic", sise=8), "images": 5}, "did you mean 'size'"),
        ({"of": SYNTHETIC, "images": 0}, "images must be a whole number at least 1, not 0"),
        ({"of": SYNTHETIC, "images": 512}, "images must be from 4 to 508"),
        ({"of": SYNTHETIC}, "images must be a whole number at least 1, not None"),
        ({"of": SYNTHETIC, "images": 5, "seed": -1}, "seed must be a whole number at least 0"),
        ({"of": held_out(SYNTHETIC, 64, 0), "images": 5}, "cannot be held out of a set they are already held out of"),
    ],
)
def test_bad_options_name_the_cause(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        datasets.load("held-out", **options)


def test_components_wrap_and_unwrap() -> None:
    data = held_out(SYNTHETIC, 100, 0)
    assert data.name == "held-out" and data.options == {"of": SYNTHETIC, "images": 100, "seed": 0}
    assert original(data) == original(SYNTHETIC) == SYNTHETIC
    with pytest.raises(InputError, match="already held out"):
        held_out(data, 10, 0)
    with pytest.raises(InputError, match="images must be a whole number"):
        held_out(SYNTHETIC, 0, 0)
    with pytest.raises(InputError, match="needs the option of"):
        original(part("held-out"))


def test_a_recipe_on_held_out_images_travels_as_json_and_trains() -> None:
    recipe = tiny(data=held_out(SYNTHETIC, 112, 0))
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe and again.digest == recipe.digest
    assert recipe.with_changes({"data.of.seed": 1}).data.options["of"] == part(
        "synthetic", **{**SYNTHETIC.options, "seed": 1}
    )
    run = Session(device="cpu").train(again, 0)
    assert run.status == "done" and run.accuracy is not None and run.accuracy > 0.5
    assert run.steps == 3 * 7  # 400 images in batches of 64
    assert run.data_digest == datasets.load("held-out", **recipe.data.options).digest
