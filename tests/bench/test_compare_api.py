"""Comparing two recipes from Python."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

import hotlap
from hotlap.errors import InputError
from hotlap.store import Store
from tiny import tiny


def test_two_recipes_are_run_in_turn_with_the_same_seeds() -> None:
    with Store() as store:
        pairs = hotlap.compare(tiny(), seeds=[3, 5, 8], changes={"optimizer.lr": 1e-9}, store=store)
        assert [run.seed for run in store.runs()] == [3, 3, 5, 5, 8, 8]
        learns = [run.recipe.digest == tiny().digest for run in store.runs()]
        assert learns == [True, False, False, True, True, False], "A B B A A B"
    assert [run.seed for run in pairs.a] == [run.seed for run in pairs.b] == [3, 5, 8]
    assert all(run.module is None for run in pairs.a)
    figures = pairs.figures()
    assert figures.difference is not None and figures.difference.method == "paired"
    assert figures.difference.difference < 0
    with pytest.raises(InputError, match="comes twice"):
        hotlap.compare(tiny(), changes={"optimizer.lr": 1e-9}, seeds=[0, 0])
    assert pairs.sentence().startswith("tiny [optimizer.lr=1e-09] against tiny: accuracy -")
    assert "over 3 interleaved pairs" in pairs.sentence()
    console = Console(file=StringIO(), width=100)
    console.print(pairs)
    assert "tiny" in console.file.getvalue()  # type: ignore[attr-defined]


def test_changes_of_the_data_are_made_to_both() -> None:
    pairs = hotlap.compare(tiny(epochs=1), seeds=1, changes={"data.seed": 5, "batch_size": 32})
    assert {run.recipe.data.options["seed"] for run in (*pairs.a, *pairs.b)} == {5}
    assert len({run.data_digest for run in (*pairs.a, *pairs.b)}) == 1
    with pytest.raises(InputError, match="both are the recipe"):
        hotlap.compare(tiny(epochs=1), seeds=1, changes={"data.seed": 5})


def test_it_stops_when_settled_or_out_of_time() -> None:
    settled = hotlap.compare(tiny(), tiny(optimizer__lr=1e-9), seeds=200, until=0.2)
    assert len(settled.a) < 60
    look = settled.figures().look
    assert look is not None and look.settled
    assert "at all looks together" in settled.sentence()
    none = hotlap.compare(tiny(), tiny(optimizer__lr=1e-9), seeds=3, max_minutes=1e-9)
    assert len(none.a) <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "both are the recipe tiny"),
        ({"changes": {"optimizer.lr": 0.5}, "seeds": []}, "no seeds to run"),
        ({"changes": {"optimizer.lr": 0.5}, "until": 1.5}, "until is an error rate"),
    ],
)
def test_what_cannot_be_compared(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        hotlap.compare(tiny(), **options)  # type: ignore[arg-type]


def test_a_side_that_only_fails_leaves_nothing_to_say() -> None:
    pairs = hotlap.compare(tiny(), tiny(optimizer__lr=1e30), seeds=1)
    assert pairs.b[0].status == "failed"
    with pytest.raises(InputError, match="no pair of runs finished"):
        pairs.sentence()
