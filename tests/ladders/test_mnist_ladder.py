"""The nine MNIST rungs, held to the published description value by value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hotlap.engine.inspect import inspect_recipe
from hotlap.ladder import get_ladder, resolve
from hotlap.models import MODELS

STEPS = resolve(get_ladder("mnist"))
GOLDEN = Path(__file__).parents[1] / "golden" / "mnist_ladder.json"


def test_the_recipes_are_the_ones_that_records_were_made_with() -> None:
    """A changed digest makes every stored run of a rung another recipe's: change the golden file only on purpose."""
    assert {step.recipe.name: step.recipe.digest for step in STEPS} == json.loads(GOLDEN.read_text())


def test_the_published_steps_are_all_there() -> None:
    names = (
        *("initial", "early-stopping", "smaller-network", "data-on-device", "batch-128", "one-cycle"),
        *("batch-256", "narrower", "final"),
    )
    assert [step.rung.name for step in STEPS] == [f"{i}-{name}" for i, name in enumerate(names)]
    times = [172, 57.4, 30.3, 7.31, 4.66, 3.14, 2.31, 1.74, 0.762]
    assert [step.rung.published.time_s for step in STEPS] == times


@pytest.mark.parametrize(
    ("rung", "features", "parameters"),
    [
        (0, 9216, 1_199_882),
        (1, 9216, 1_199_882),
        (2, 1600, 225_034),
        (6, 1600, 225_034),
        (7, 800, 24 * 10 + 32 * 217 + 128 * 801 + 10 * 129),
        (8, 800, 215_194),
    ],
)
def test_network_sizes(rung: int, features: int, parameters: int) -> None:
    facts = inspect_recipe(STEPS[rung].recipe, (1, 28, 28), 10, train_images=60_000, test_images=10_000)
    assert facts.parameters == parameters
    assert next(layer.output for layer in facts.layers if layer.name == "flatten") == (features,)


def test_order_of_layers() -> None:
    def names(rung: int) -> list[str]:
        return list(dict(MODELS.build(STEPS[rung].recipe.model, shape=(1, 28, 28), classes=10).named_children()))

    tail = ["flatten", "hidden1", "hidden_relu1"]
    assert names(0) == ["conv1", "relu1", "conv2", "pool2", "conv_dropout", *tail, "hidden_dropout", "head"]
    assert names(2) == ["conv1", "relu1", "pool1", "conv2", "relu2", "pool2", *tail, "hidden_dropout", "head"]
    assert names(7) == ["conv1", "relu1", "pool1", "conv2", "relu2", "pool2", *tail, "head"]
    assert names(8) == ["conv1", "pool1", "relu1", "conv2", "pool2", "relu2", *tail, "head"]


def test_training_settings() -> None:
    recipes = [step.recipe for step in STEPS]
    assert [r.batch_size for r in recipes] == [64, 64, 64, 64, 128, 128, 256, 256, 256]
    assert [r.epochs for r in recipes] == [14, 14, 14, 14, 14, 2, 2, 2, 1]
    assert [r.stop_at for r in recipes] == [None, 0.99, 0.99, 0.99, 0.99, None, None, None, None]
    assert [r.evaluation.batch_size for r in recipes] == [1000] * 8 + [2000]
    assert [r.optimizer.name for r in recipes] == ["adadelta"] * 8 + ["adam"]
    assert [r.optimizer.options["lr"] for r in recipes] == [1, 1, 1, 1, 1, 4, 4, 4, 0.01]
    assert [r.feed.loading for r in recipes] == ["per-image"] * 3 + ["device"] * 6
    assert [r.feed.shuffle for r in recipes] == ["every-epoch"] * 3 + ["once"] * 6
    assert [r.feed.drop_last for r in recipes] == [False] * 3 + [True] * 2 + [False] * 4
    assert recipes[8].optimizer.options["betas"] == (0.7, 0.9)
    assert {(r.feed.mean, r.feed.std) for r in recipes} == {((0.1307,), (0.3081,))}


def test_pooling_before_or_after_relu_is_the_same_function() -> None:
    recipe = STEPS[8].recipe
    torch.manual_seed(0)
    first = MODELS.build(recipe.model, shape=(1, 28, 28), classes=10)
    second = MODELS.build(recipe.with_changes({"model.order": "activation-pool"}).model, shape=(1, 28, 28), classes=10)
    second.load_state_dict(first.state_dict())
    images = torch.randn(5, 1, 28, 28)
    assert torch.equal(first(images), second(images))
