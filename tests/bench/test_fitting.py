"""Recipes that shrink images take others, smaller and larger."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hotlap
from hotlap.bench.fitting import fitted
from hotlap.bench.session import resolve_recipe
from hotlap.ladder import get_recipe
from hotlap.recipe import part


def saved(tmp_path: Path, size: tuple[int, int]) -> Path:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, *size, 3), np.uint8)
    path = tmp_path / "own.npz"
    np.savez(path, x_train=images, y_train=np.arange(24) % 2, x_test=images[:8], y_test=np.arange(8) % 2)
    return path


@pytest.mark.parametrize(
    ("size", "sides"),
    # The network takes nine pixels a side at least.
    [((16, 16), (12,)), ((128, 128), (96,)), ((48, 64), (48,)), ((10, 10), (9,)), ((32, 32), (24,))],
)
def test_sides_follow_the_images(size: tuple[int, int], sides: tuple[int, ...]) -> None:
    recipe = get_recipe("cifar10/record-cpu")
    changed = fitted(recipe, recipe.data, (3, *size))
    assert [one.options["sides"] for one in changed.augment if one.name == "shrink"] == [sides]
    assert changed.with_changes({"augment": recipe.augment}) == recipe


def test_recipes_that_do_not_shrink_and_own_data_stay_as_they_are() -> None:
    plain, shrinking = get_recipe("cifar10-airbench/94-muon"), get_recipe("cifar10/record-cpu")
    assert fitted(plain, plain.data, (3, 128, 128)) is plain
    assert fitted(shrinking, part("folder", path="anywhere"), (3, 128, 128)) is shrinking


@pytest.mark.parametrize("side", [16, 40])
def test_the_fastest_recipe_trains_on_own_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int) -> None:
    monkeypatch.setenv("HOTLAP_DATA", str(tmp_path / "cache"))
    path = saved(tmp_path, (side, side))
    changes = {"epochs": 4, "batch_size": 8, "model.widths": [8, 8, 8]}
    run = hotlap.train("cifar10/record-cpu", data=path, changes=changes)
    assert run.status == "done"
    assert run.recipe.augment[-1].options["sides"] == (3 * side // 4,)
    assert run.recipe.target is None


def test_sides_that_are_given_are_left_alone(tmp_path: Path) -> None:
    path = saved(tmp_path, (16, 16))
    at = len(get_recipe("cifar10/record-cpu").augment) - 1
    changes = {f"augment.{at}.sides": [10]}
    assert resolve_recipe("cifar10/record-cpu", data=path, changes=changes).augment[at].options["sides"] == (10,)
    other = resolve_recipe("cifar10/record-cpu", data="fashion-mnist")
    assert other.augment[at].options["sides"] == (21,)
