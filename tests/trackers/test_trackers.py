"""What every tracker is told of a run, and that one that fails costs nothing but a line."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import pytest

import hotlap
from factories import make_recipe, make_run
from hotlap import trackers
from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.result import Run
from hotlap.trackers.base import facts, figures, settings
from tiny import tiny


class Remembers:
    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def begin(self, recipe: Recipe, seed: int) -> None:
        self.told.append(("begin", recipe.name, seed))

    def epoch(self, epochs: float, loss: float | None, accuracy: float | None) -> None:
        self.told.append((epochs, loss, accuracy))

    def end(self, run: Run) -> None:
        self.told.append(("end", run.accuracy))


class Fails(Remembers):
    def epoch(self, epochs: float, loss: float | None, accuracy: float | None) -> None:
        raise ConnectionError("the server\nis away")


def test_losses_and_accuracies_are_told_by_epoch() -> None:
    run = make_run(
        epochs_run=2.5, loss_by_epoch=(0.5, 0.25, math.nan), accuracy=0.9, accuracy_by_epoch=((1.0, 0.8), (2.5, 0.9))
    )
    tracker = Remembers()
    assert trackers.log_run(run, [tracker]) == []
    assert tracker.told == [
        ("begin", "mnist/tiny", 0),
        (1.0, 0.5, 0.8),
        (2.0, 0.25, None),
        (2.5, None, 0.9),
        ("end", 0.9),
    ]


def test_a_tracker_that_fails_is_one_line_and_the_others_go_on() -> None:
    good = Remembers()
    problems = trackers.log_run(make_run(seed=3), [Fails(), good])
    assert problems == ["Fails could not log seed 3: the server is away"]
    assert good.told[-1] == ("end", 0.991)


def test_settings_figures_and_facts_are_plain() -> None:
    found = settings(make_recipe(), 4)
    assert found["seed"] == 4 and found["optimizer.lr"] == 0.01 and found["stop_at"] == "null"
    assert all(isinstance(value, bool | int | float | str) for value in found.values())
    failed = make_run(accuracy=None)
    assert "final_accuracy" not in figures(failed) and facts(failed)["error"]
    assert figures(make_run())["seconds/certified"] == pytest.approx(15)
    assert facts(make_run())["timing_valid"] == "true"


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("wandb", "wandb")])
def test_a_missing_library_names_its_extra(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"pip install 'hotlap\[{name}\]'"):
        trackers.tracker(name)


def test_unknown_trackers_and_closing() -> None:
    with pytest.raises(InputError, match="did you mean 'tensorboard'"):
        trackers.tracker("tensorbord:here")
    with pytest.raises(InputError), trackers.opened(["nothing-like-it"]):
        pass


def test_one_that_cannot_be_closed_is_named_and_the_others_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []

    class Closes(Remembers):
        def close(self) -> None:
            closed.append("closed")

    class Stuck(Remembers):
        def close(self) -> None:
            raise ConnectionError("the server\nis away")

    known = {"tensorboard": Stuck(), "mlflow": Closes()}
    monkeypatch.setattr(trackers, "tracker", known.__getitem__)
    told: list[str] = []
    with trackers.opened(known, told.append) as opened:
        assert opened == list(known.values())
    assert (told, closed) == (["Stuck could not be closed: the server is away"], ["closed"])
    with pytest.warns(RuntimeWarning, match="Stuck could not be closed"), trackers.opened(["tensorboard"]):
        pass


def test_the_python_interface_tells_trackers() -> None:
    tracker = Remembers()
    hotlap.train(tiny(epochs=1.0), trackers=[tracker])
    hotlap.run(tiny(epochs=1.0), seeds=[4, 5], trackers=[tracker])
    assert [told[2] for told in tracker.told if told[0] == "begin"] == [0, 4, 5]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert hotlap.train(tiny(epochs=1.0), trackers=[Fails()]).status == "done"
    assert "the server is away" in str(caught[-1].message)
