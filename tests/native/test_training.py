"""Whole training: the compiled kernels take the same steps as PyTorch, whatever of their family a recipe is made of."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hotlap import datasets
from hotlap.engine.backends import outside_family
from hotlap.engine.devices import use_threads
from hotlap.engine.loop import train_once
from hotlap.native import library as lib
from hotlap.recipe import Component, Recipe, part
from hotlap.result import Backend, Run
from rounding import decides
from tiny import tiny

pytestmark = pytest.mark.skipif(lib.missing() is not None, reason="the package was installed without a C++ compiler")

CPU = torch.device("cpu")
BATCH = 12
STEPS = 20


def synthetic(**options: Any) -> Component:
    return part("synthetic", **{"train": 245, "test": 60, "classes": 4, "seed": 0, "noise": 0.4} | options)


SGD = st.builds(
    lambda lr, momentum, decay: part("sgd", lr=lr, momentum=momentum, nesterov=momentum > 0, weight_decay=decay),
    st.sampled_from((0.01, 0.05)), st.sampled_from((0.0, 0.8)), st.sampled_from((0.0, 0.01)),
)  # fmt: skip
ADAM = st.builds(lambda lr, first: part("adam", lr=lr, betas=(first, 0.9), eps=1e-3), st.just(0.002), st.floats(0, 0.9))
MUON = st.builds(
    lambda name, steps, every, nesterov: part(
        name,
        lr=0.005,
        momentum=0.6,
        nesterov=nesterov,
        steps=steps,
        renormalise_every=every,
        batched=False,
        dtype="auto",
    ),
    st.sampled_from(("muon", "muon-polar")),
    st.integers(1, 3),
    st.sampled_from((0, 1, 3)),
    st.booleans(),
)
OPTIMIZERS = st.one_of(
    SGD,
    ADAM,
    st.builds(lambda matrices, rest: part("by-shape", matrices=matrices, rest=rest, scales=()), MUON, ADAM | SGD),
)
SCHEDULES = st.sampled_from(
    (
        part("constant"),
        part("one-cycle", warmup=0.3, shape="cos", start_factor=0.1, end_factor=0.01),
        part("triangle", warmup=0.2, start_factor=0.2, end_factor=0.0),
        part("linear", epochs=None),
    )
)
AUGMENTATIONS = st.sampled_from(
    (
        (),
        (part("translate", max_px=2),),
        (part("flip", share=0.5), part("translate", max_px=1)),
        (part("translate", max_px=3), part("alternating-flip")),
    )
)
AVERAGINGS = st.sampled_from(
    (
        None,
        part("ema", decay=0.9, every=2, power=0.0, start=0.5, copy_back=False),
        part("ema", decay=0.8, every=3, power=1.0, start=0.0, copy_back=False),
        part("lookahead", decay=0.9, every=5, power=2.0),
    )
)


@st.composite
def members(draw: st.DrawFn) -> Recipe:
    """A random recipe of the family, small enough that a tie between two fields is unlikely within its steps."""
    count = draw(st.integers(1, 2))
    kernels = tuple(draw(st.integers(1, 5 if i == 0 else 3)) for i in range(count))
    model = part(
        "lean-stack",
        crop=draw(st.sampled_from((None, 11))),
        widths=tuple(draw(st.integers(2, 18)) for _ in range(count)),
        kernels=kernels,
        padding=tuple(draw(st.integers(0, min(kernel - 1, 2))) for kernel in kernels),
        pools=tuple(draw(st.sampled_from((1, 2, 2))) for _ in range(count)),
        pooling=draw(st.sampled_from(("max", "average"))),
        order=draw(st.sampled_from(("pool-activation", "activation-pool"))),
        hidden=draw(st.sampled_from(((), (17,), (24, 9)))),
    )
    recipe = tiny(
        data=synthetic(size=draw(st.sampled_from((12, 13))), channels=draw(st.sampled_from((1, 3)))),
        model=model,
        optimizer=draw(OPTIMIZERS),
        schedule=draw(SCHEDULES),
        averaging=draw(AVERAGINGS),
        label_smoothing=draw(st.sampled_from((0.0, 0.1))),
        batch_size=BATCH,
    )
    changes = {
        "augment": draw(AUGMENTATIONS),
        "epochs": STEPS * BATCH / 245,
        "feed.shuffle": draw(st.sampled_from(("every-epoch", "once"))),
        "feed.drop_last": draw(st.booleans()),
        "feed.mean": draw(st.sampled_from((None, (0.0,) * recipe.data.options["channels"]))),
    }
    return recipe.with_changes(changes)


def stack_of_one(pooling: str, hidden: tuple[int, ...]) -> Component:
    """A network with one convolution."""
    return part(
        "lean-stack", crop=None, widths=(16,), kernels=(3,), padding=(0,), pools=(2,), pooling=pooling,
        order="pool-activation", hidden=hidden,
    )  # fmt: skip


def trained(recipe: Recipe, backend: Backend, seed: int = 0, threads: int = 1) -> Run:
    with use_threads(threads):
        return train_once(
            recipe, lambda: datasets.load(recipe.data.name, **recipe.data.options), seed,
            device=CPU, backend=backend, timing_valid=False,
        )  # fmt: skip


def distance(a: Run, b: Run) -> float:
    """The largest distance between two runs' parameters, each relative to its own length."""
    pairs = zip(a.module.state_dict().values(), b.module.state_dict().values(), strict=True)
    return max(float((x - y).norm() / x.norm().clamp(min=1e-3)) for x, y in pairs)


@given(members(), st.integers(1, 3))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_twenty_steps_equal_those_of_pytorch(recipe: Recipe, threads: int) -> None:
    reference, native = trained(recipe, "torch"), trained(recipe, "native", threads=threads)
    assert (native.backend, native.steps) == ("native", reference.steps)
    assert native.steps >= STEPS
    if distance(reference, native) >= 1e-4:
        assume(not decides(lambda: distance(reference, trained(recipe, "torch")), 1e-4))
    assert distance(reference, native) < 1e-4
    assert native.loss_by_epoch == pytest.approx(reference.loss_by_epoch, rel=1e-4)
    assert native.accuracy == pytest.approx(reference.accuracy, abs=1.5 / 60)


VIEWS = (
    part("mirror"),
    part("six-view", shift=1),
    part("shifts", pixels=2),
    part("selective", of=part("shifts", pixels=1), share=0.3),
    part("selective", of=part("six-view", shift=1), share=0.1),
)


@pytest.mark.parametrize("views", VIEWS, ids=lambda views: repr(views)[:30])
def test_test_time_augmentation_equals_that_of_pytorch(views: Component) -> None:
    from hotlap.datasets import load
    from hotlap.engine.feed import normalisation, normalised
    from hotlap.engine.native_trainer import NativeTrainer
    from hotlap.engine.seeding import Streams
    from hotlap.techniques import VIEWS as REGISTRY

    recipe = tiny(evaluation__augmentation=views)
    data = load(recipe.data.name, **recipe.data.options)
    trainer = NativeTrainer(recipe, (1, 12, 12), 4, Streams.of(3))
    trainer.prepare(data)
    images = normalised(data.x_test, *normalisation(recipe, data), CPU, torch.contiguous_format, torch.float32)
    with torch.no_grad():
        expected = REGISTRY.build(views).logits(trainer.modules()[0], images, 100)
    found = torch.from_numpy(trainer.logits(data.x_test))
    # Where two margins agree to the last bit, either image may be taken for the less sure one.
    assert (torch.isclose(found, expected, atol=1e-5).all(1)).float().mean() > 0.99


def test_a_seed_gives_the_same_to_the_bit_for_one_number_of_threads() -> None:
    recipe = tiny(augment=(part("translate", max_px=1),))
    for threads in (1, 2, 3):
        first, second = (trained(recipe, "native", threads=threads) for _ in range(2))
        assert distance(first, second) == 0
        assert first.accuracy == second.accuracy
    assert distance(trained(recipe, "native", threads=1), trained(recipe, "native", seed=1, threads=1)) > 0.1


def test_more_threads_than_images_in_a_batch() -> None:
    recipe = tiny(
        batch_size=3,
        epochs=0.05,
        model=stack_of_one(pooling="average", hidden=(17,)),
        optimizer=part("adam", lr=0.002, betas=(0.7, 0.9), eps=1e-3),
    )
    run, reference = trained(recipe, "native", threads=7), trained(recipe, "torch")
    assert run.status == "done"
    if distance(reference, run) >= 1e-4:
        assert decides(lambda: distance(reference, trained(recipe, "torch")), 1e-4)


def test_accuracy_on_the_way_is_that_of_the_average_and_changes_nothing() -> None:
    recipe = tiny(averaging=part("ema", decay=0.9, every=1, power=0.0, start=0.3, copy_back=False))
    plain = trained(recipe, "native", threads=2)
    with use_threads(2):
        watched = train_once(
            recipe, lambda: datasets.load(recipe.data.name, **recipe.data.options), 0,
            device=CPU, backend="native", log_accuracy=True,
        )  # fmt: skip
    assert len(watched.accuracy_by_epoch) == 3
    assert distance(plain, watched) == 0


OUTSIDE = {
    "dropout": ({"model.hidden_dropout": 0.5}, "layer Dropout"),
    "optimizer": ({"optimizer": part("adadelta", lr=1.0, rho=0.9, eps=1e-6)}, "optimizer is Adadelta"),
    "feed": ({"feed.loading": "per-image"}, "one at a time"),
    "mixing": ({"mixing": part("cutmix", size=3, last_epochs=None)}, "mixes images"),
    "augmentation": ({"augment": (part("cutout", size=3),)}, "augmentation"),
    "two shifts": ({"augment": (part("translate", max_px=1), part("translate", max_px=2))}, "shifts images twice"),
    "wide shift": ({"augment": (part("translate", max_px=12),)}, "more than their size"),
    "precision": ({"engine.precision": "bf16"}, "computes in bf16"),
    "compilation": ({"engine.compile": True}, "torch.compile"),
    "nested": ({"evaluation.augmentation": part("selective", of=VIEWS[3], share=0.1)}, "test-time augmentation"),
}


@pytest.mark.parametrize(("changes", "reason"), OUTSIDE.values(), ids=OUTSIDE)
def test_what_is_outside_the_family_says_why(changes: dict[str, Any], reason: str) -> None:
    found = outside_family(tiny().with_changes(changes), (1, 12, 12), 4)
    assert found is not None
    assert reason in found


def test_layers_outside_the_family_say_why() -> None:
    from torch import nn

    from hotlap.native.family import OutsideFamilyError, stack_of

    conv, linear, flatten = nn.Conv2d(1, 2, 3), nn.Linear(2, 2), nn.Flatten()
    wrong = {
        "plain stack": nn.ModuleList([conv]),
        "layer GELU": nn.Sequential(conv, nn.GELU()),
        "stride": nn.Sequential(nn.Conv2d(1, 2, 3, stride=2)),
        "kernel of 9": nn.Sequential(nn.Conv2d(1, 2, 9)),
        "padding": nn.Sequential(nn.Conv2d(1, 2, 3, padding=3)),
        "behind a linear": nn.Sequential(conv, flatten, linear, nn.Conv2d(1, 2, 3)),
        "follows no convolution": nn.Sequential(nn.MaxPool2d(2)),
        "whole windows": nn.Sequential(conv, nn.MaxPool2d(3, 2)),
        "follows no layer": nn.Sequential(nn.ReLU()),
        "begins with a linear": nn.Sequential(flatten, linear),
        "end in a linear": nn.Sequential(conv),
        "more than 32": nn.Sequential(*itertools.repeat(nn.Conv2d(1, 1, 1), 32), flatten, linear),
    }
    for text, network in wrong.items():
        with pytest.raises(OutsideFamilyError, match=text):
            stack_of(network)


@pytest.mark.parametrize("isa", lib.instruction_sets())
def test_threads_work_on_a_large_matrix_together(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrices of the recipes above are too small to be shared among threads."""
    monkeypatch.setenv(lib.ISA_VARIABLE, isa)
    # Average pooling: of two fields that nearly tie, either could be the largest one to other threads.
    model = stack_of_one(pooling="average", hidden=(96,))
    muon = part(
        "muon-polar", lr=0.02, momentum=0.6, nesterov=True, steps=3, renormalise_every=0, batched=False, dtype="fp32"
    )
    optimizer = part("by-shape", matrices=muon, rest=part("adam", lr=0.002, betas=(0.7, 0.9), eps=1e-3), scales=())
    recipe = tiny(
        data=synthetic(size=12, channels=1), model=model, optimizer=optimizer, batch_size=BATCH,
        epochs=STEPS * BATCH / 245,
    )  # fmt: skip
    alone = trained(recipe, "native", threads=1)
    for threads in (2, 3, 2, 4):
        if distance(alone, trained(recipe, "native", threads=threads)) >= 1e-3:
            reference = trained(recipe, "torch")
            assert decides(lambda plain=reference: distance(plain, trained(recipe, "torch")), 1e-3)
