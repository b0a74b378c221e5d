"""The ladder for CPUs: where it starts, that every rung has less arithmetic or more accuracy to give for it."""

from __future__ import annotations

from hotlap.engine.inspect import inspect_recipe
from hotlap.ladder import get_ladder, get_recipe, resolve
from hotlap.recipe import diff

STEPS = {step.rung.name: step.recipe for step in resolve(get_ladder("cifar10-cpu"))}


def flop(name: str) -> int:
    return inspect_recipe(STEPS[name], (3, 32, 32), 10, train_images=50_000, test_images=10_000).recipe_flop


def test_it_starts_from_the_published_recipe_in_float32() -> None:
    changes = diff(get_recipe("cifar10-airbench/94-muon"), STEPS["94-muon"])
    assert {change.path: change.after for change in changes} == {"engine.precision": "fp32", "engine.fused": False}


def test_it_ends_with_the_values_of_the_record_on_a_gpu() -> None:
    changes = diff(get_recipe("cifar10/record"), STEPS["bfloat16"])
    paths = {"engine.precision", "engine.compile", "engine.winograd", "evaluation.batch_size"}
    assert {change.path for change in changes} <= paths | {"optimizer.filters.batched"}
    assert STEPS["bfloat16"].digest == get_recipe("cifar10/record-cpu").digest


def test_what_the_reasons_say_of_the_arithmetic_is_so() -> None:
    assert round(flop("94-muon") / 1e15, 2) == 0.29
    small, whole = (
        inspect_recipe(STEPS["94-muon"], (3, side, side), 10, train_images=1, test_images=1).training_flop
        for side in (24, 32)
    )
    assert 0.5 < small / whole < 0.55
    assert flop("low-resolution") < 0.9 * flop("94-muon")
