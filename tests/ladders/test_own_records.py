"""The own records, held to their digests and to what makes them comparable."""

from __future__ import annotations

import json
from pathlib import Path

from hotlap.ladder import get_recipe, own_records
from hotlap.recipe import diff

GOLDEN = Path(__file__).parents[1] / "golden" / "own_records.json"


def test_the_recipes_are_the_ones_that_records_were_made_with() -> None:
    """A changed digest makes every stored run another recipe's: change the golden file only on purpose."""
    assert {recipe.name: recipe.digest for recipe in own_records()} == json.loads(GOLDEN.read_text())


def test_the_plain_twin_differs_in_evaluation_and_budget_only() -> None:
    changes = diff(get_recipe("mnist/record"), get_recipe("mnist/record-plain"))
    assert {change.path for change in changes} == {"evaluation.augmentation", "epochs"}


def test_the_background_of_the_images_is_zero() -> None:
    """Arithmetic that skips zeros relies on it."""
    assert get_recipe("mnist/record").feed.mean == (0.0,)
