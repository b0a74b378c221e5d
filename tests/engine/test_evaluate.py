"""Evaluation: counted in batches, and recorded by a recorder that calls what it records, as a GPU would repeat it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hotlap import datasets
from hotlap.engine import evaluate as evaluate_module
from hotlap.engine import torch_trainer
from hotlap.engine.backends import make_trainer
from hotlap.engine.evaluate import Evaluator
from hotlap.engine.feed import make_feed
from hotlap.engine.program import Program
from hotlap.engine.recording import Recorder
from hotlap.engine.seeding import Streams
from hotlap.errors import InputError
from hotlap.recipe import Recipe, part
from rehearsing import Counting
from tiny import tiny

CPU = torch.device("cpu")
SIX = part("six-view", shift=1)
HOW = {
    "plain": None,
    "mirrored": part("mirror"),
    "six views": SIX,
    "six views for the least sure": part("selective", of=SIX, share=0.25),
}


def made(recipe: Recipe, record: Recorder | None, seeds: int = 1) -> tuple[Evaluator, Program]:
    program = Program(recipe, (1, 12, 12), 4, CPU, seeds)
    program.initialise([Streams.of(seed) for seed in range(seeds)], lambda n: torch.zeros(n, 1, 12, 12))
    return Evaluator(recipe, program, CPU, record), program


def measured(recipe: Recipe, evaluator: Evaluator, seeds: int = 1) -> list[float]:
    data = datasets.load("synthetic", **recipe.data.options)
    return evaluator.measure(make_feed(recipe, data, [Streams.of(seed) for seed in range(seeds)], CPU))


def test_evaluation_counts_over_batches_in_evaluation_mode() -> None:
    """Dropout does nothing, the last batch is partial, and the network is back in training mode afterwards."""
    recipe = tiny(model__hidden_dropout=0.99, evaluation__batch_size=100)
    evaluator, program = made(recipe, None)
    data = datasets.load("synthetic", **recipe.data.options)
    feed = make_feed(recipe, data, [Streams.of(0)], CPU)
    accuracy = evaluator.measure(feed)
    assert program.network.training
    images, labels = feed.test_set()
    program.network.eval()
    assert accuracy == [(program.network(images).argmax(1) == labels).float().mean().item()]
    assert len(list(feed.test())) == 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("how", HOW)
def test_a_recorded_evaluation_finds_what_one_operation_by_operation_does(how: str, precision: str) -> None:
    recipe = tiny(evaluation__batch_size=100, evaluation__augmentation=HOW[how], engine__precision=precision)
    recorder = Counting()
    (plain, _), (recorded, program) = made(recipe, None), made(recipe, recorder)
    count = len(datasets.load("synthetic", **recipe.data.options).y_test)
    recorded.warm_up(count)
    recorded.warm_up(count)
    assert recorder.recordings == 1, "a second run records nothing"
    assert program.network.training
    assert measured(recipe, recorded) == measured(recipe, plain)
    # The same recording serves other weights: it reads them where they lie.
    before = measured(recipe, recorded)
    for one in (plain._program, program):
        one.initialise([Streams.of(7)], lambda n: torch.zeros(n, 1, 12, 12))
    assert measured(recipe, recorded) == measured(recipe, plain) != before
    assert recorder.repetitions == 3


def test_several_seeds_are_counted_apart_in_a_recording() -> None:
    recipe = tiny(evaluation__batch_size=100, evaluation__augmentation=part("mirror"))
    (plain, _), (recorded, _) = made(recipe, None, seeds=3), made(recipe, Counting(), seeds=3)
    recorded.warm_up(len(datasets.load("synthetic", **recipe.data.options).y_test))
    accuracies = measured(recipe, recorded, seeds=3)
    assert accuracies == measured(recipe, plain, seeds=3)
    assert len(set(accuracies)) > 1


def test_several_seeds_with_views_of_their_own_are_refused_before_they_train() -> None:
    recipe = tiny(evaluation__augmentation=part("selective", of=part("mirror"), share=0.5))
    with pytest.raises(InputError, match=r"selective looks at each one's answers → train them one after another"):
        Program(recipe, (1, 12, 12), 4, CPU, 2)


def test_an_evaluation_that_cannot_be_recorded_is_done_operation_by_operation() -> None:
    def refuse(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        work()
        raise InputError("a view waits for the device")

    recipe = tiny(evaluation__augmentation=part("mirror"))
    (plain, _), (evaluator, _) = made(recipe, None), made(recipe, refuse)
    evaluator.warm_up(256)
    assert measured(recipe, evaluator) == measured(recipe, plain)


def test_a_large_test_set_is_not_kept_a_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny(evaluation__batch_size=100)
    recorder = Counting()
    (plain, _), (evaluator, _) = made(recipe, None), made(recipe, recorder)
    monkeypatch.setattr(evaluate_module, "_LARGEST_RECORDED", 255 * 144)
    evaluator.warm_up(256)
    assert recorder.recordings == 0
    assert measured(recipe, evaluator) == measured(recipe, plain)


def test_a_whole_run_measures_by_its_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an average of the weights, whose values are put where the recording reads them."""
    recipe = tiny(
        epochs=2.0,
        engine__compile=True,  # so that a CPU warms up
        averaging=part("ema", decay=0.9, every=1, power=0.0, start=0.0, copy_back=False),
        evaluation__augmentation=part("selective", of=SIX, share=0.25),
    )
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    data = datasets.load("synthetic", **recipe.data.options)

    def accuracy(record: Recorder | None) -> list[float]:
        monkeypatch.setattr(torch_trainer, "recorder_for", lambda recipe, device: record)
        trainer = make_trainer(recipe, data, [0], CPU, "torch")
        trainer.warm_up(len(data.x_train), len(data.x_test))
        trainer.prepare(data)
        total = 2 * trainer.steps_per_epoch
        found = []
        for start in range(0, total, trainer.steps_per_epoch):
            for _ in trainer.epoch(start, total):
                pass
            found += trainer.measure()
        return found

    assert accuracy(Counting()) == accuracy(None)
