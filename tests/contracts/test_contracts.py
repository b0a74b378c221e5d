"""Contracts that every registered part passes; a new technique, model or rung is found by itself."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hotlap import datasets
from hotlap.bench.fitting import fitted, shrinks
from hotlap.engine.loop import train_once
from hotlap.engine.seeding import generator
from hotlap.ladder import recipes
from hotlap.models import MODELS
from hotlap.optim import OPTIMIZERS, SCHEDULES
from hotlap.recipe import Component, part
from hotlap.registry import Registry
from hotlap.techniques import AUGMENTATIONS, AVERAGINGS, MIXINGS, SELECTIONS, VIEWS
from hotlap.techniques.averaging import Action, Averaging
from hotlap.techniques.base import Moment, Resizing
from hotlap.techniques.views import Views, WeightedViews
from tiny import tiny

MUON = part("muon", lr=0.24, momentum=0.6, nesterov=True, steps=3, renormalise_every=1, batched=True, dtype="auto")
POLAR = part("muon-polar", **MUON.options)
DECOUPLED = part("decoupled-sgd", lr=11.5, momentum=0.85, weight_decay=0.0153, bias_scale=64.0, unit="kilostep")

# Options to try each part with; a new part adds a line.
EXAMPLES: dict[str, Component] = {
    "flip": part("flip", share=0.5),
    "translate": part("translate", max_px=2),
    "alternating-flip": part("alternating-flip"),
    "cutout": part("cutout", size=5),
    "grouped": part("grouped", of=part("translate", max_px=2), options=3),
    "jitter": part("jitter", brightness=0.14, contrast=0.13),
    "shrink": part("shrink", until=(0.3, 0.8), sides=(7, 9)),
    "cutmix": part("cutmix", size=3, last_epochs=None),
    "ema": part("ema", decay=0.9, every=2, power=0.0, start=0.0, copy_back=False),
    "lookahead": part("lookahead", decay=0.9, every=2, power=3.0),
    "proxy": part(
        "proxy", keep=3, train_every=2, model=tiny().model, optimizer=tiny().optimizer, schedule=tiny().schedule
    ),
    "mirror": part("mirror"),
    "six-view": part("six-view", shift=1),
    "shifts": part("shifts", pixels=1),
    "selective": part("selective", of=part("six-view", shift=1), share=0.25),
    "conv-stack": tiny().model,
    "lean-stack": part(
        "lean-stack",
        crop=14,
        widths=(8, 12),
        kernels=(3, 2),
        padding=(1, 0),
        pools=(2, 1),
        pooling="max",
        order="pool-activation",
        hidden=(16,),
    ),
    "speednet": part(
        "speednet",
        whitening=part(
            "patches", kernel=2, padding=0, eps=5e-4, images=100, parts=1, centred=False, negated=True, bias="zero"
        ),
        widths=(8, 12, 16),
        convolutions=3,
        residual=True,
        activation=part("gelu"),
        conv_init="partial-dirac",
        norm_momentum=0.4,
        norm_eps=1e-12,
        norm_scale=False,
        pooling="max-pool",
        head_init="unit-std",
        logit_scale=0.1,
    ),
    "resnet9": part(
        "resnet9",
        whitening=None,
        widths=(4, 8, 12, 16),
        order="pool-norm-act",
        activation=part("celu", alpha=0.3),
        norm_splits=2,
        norm_scale=True,
        norm_momentum=0.1,
        norm_eps=1e-5,
        logit_scale=0.125,
    ),
    "adadelta": part("adadelta", lr=1.0, rho=0.9, eps=1e-6),
    "adam": part("adam", lr=0.01, betas=(0.9, 0.99), eps=1e-8),
    "sgd": part("sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0),
    "muon": MUON,
    "muon-polar": POLAR,
    "decoupled-sgd": DECOUPLED,
    "scaled-sgd": part(
        "scaled-sgd", lr=0.4, momentum=0.9, weight_decay=5e-4, bias_scale=64.0, loss_images=None, momentum_of="steps"
    ),
    "by-role": part(
        "by-role",
        filters=MUON,
        norm=DECOUPLED,
        whitening=DECOUPLED,
        head=None,
        whitening_epochs=3,
        whitening_schedule=None,
    ),
    "by-shape": part("by-shape", matrices=POLAR, rest=part("adam", lr=0.01, betas=(0.7, 0.9), eps=1e-8), scales=()),
    "constant": part("constant"),
    "triangle": part("triangle", warmup=0.23, start_factor=0.2, end_factor=0.07),
    "linear": part("linear", epochs=None),
    "step": part("step", every_epochs=1, factor=0.7),
    "one-cycle": part("one-cycle", warmup=0.3, shape="linear", start_factor=0.04, end_factor=0.0),
    "piecewise": part("piecewise", epochs=(0, 1, 3), factors=(0.1, 1.0, 0.0)),
}

REGISTRIES = (MODELS, OPTIMIZERS, SCHEDULES, AUGMENTATIONS, MIXINGS, AVERAGINGS, SELECTIONS, VIEWS)
PARTS = [(registry, entry.name) for registry in REGISTRIES for entry in registry]
AUGMENTERS = [entry.name for entry in AUGMENTATIONS]


@pytest.mark.parametrize(("registry", "name"), PARTS, ids=lambda value: value if isinstance(value, str) else value.kind)
def test_every_part_has_a_card_and_an_example(registry: Registry, name: str) -> None:
    card = registry[name].card
    assert len(card.does) > 20
    assert card.effect
    assert card.source
    assert re.fullmatch(r"[a-z][a-z0-9-]*", name)
    assert set(EXAMPLES[name].options) == set(registry[name].options)


@pytest.mark.parametrize("name", AUGMENTERS)
@pytest.mark.parametrize("shape", [(6, 1, 12, 12), (5, 3, 9, 13), (1, 3, 32, 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_augmentations(
    name: str, shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    moment = Moment(epoch=0, epochs=2.0, index=torch.arange(shape[0]), count=shape[0])
    images = torch.randn(shape, generator=generator(1)).to(dtype).contiguous(memory_format=memory_format)
    before = images.clone()

    def once(seed: int) -> Tensor:
        global_state = torch.get_rng_state()
        augment = AUGMENTATIONS.build(EXAMPLES[name])
        result = augment(images, generator(seed), moment)
        assert torch.equal(torch.get_rng_state(), global_state), "only the given generator may be used"
        return result

    result = once(7)
    augment = AUGMENTATIONS.build(EXAMPLES[name])
    size = shape[2], shape[3]
    declared = augment.size_at(0, 2.0, size) if isinstance(augment, Resizing) else size
    assert result.shape == (*shape[:2], *declared)
    assert result.dtype == dtype
    assert result.is_contiguous(memory_format=memory_format)
    assert torch.equal(images, before), "the input must not be modified"
    assert torch.equal(result, once(7))
    if isinstance(augment, Resizing):
        assert declared != size, "an example that changes the size"
    elif len(images) > 4:
        assert any(not torch.equal(result, once(seed)) for seed in range(8, 16))


@pytest.mark.parametrize(
    "name", [e.name for e in AUGMENTATIONS if isinstance(AUGMENTATIONS.build(EXAMPLES[e.name]), Resizing)]
)
@pytest.mark.parametrize("epochs", [1.0, 2.0, 6.5, 8.0])
@pytest.mark.parametrize("shape", [(4, 1, 12, 12), (3, 3, 9, 13)])
def test_augmentations_that_resize_say_so_and_end_at_the_whole_size(
    name: str, epochs: float, shape: tuple[int, ...]
) -> None:
    images = torch.randn(shape, generator=generator(1))
    augment = AUGMENTATIONS.build(EXAMPLES[name])
    size = shape[2], shape[3]
    for epoch in range(math.ceil(epochs)):
        moment = Moment(epoch=epoch, epochs=epochs, index=torch.arange(shape[0]), count=shape[0])
        out = augment(images, generator(7), moment)
        assert tuple(out.shape[2:]) == augment.size_at(epoch, epochs, size)
    assert tuple(out.shape[2:]) == size


@pytest.mark.parametrize("name", [entry.name for entry in MIXINGS])
@pytest.mark.parametrize(
    ("shape", "classes"), [((6, 1, 12, 12), 2), ((5, 3, 9, 13), 10), ((7, 3, 5, 5), 100), ((1, 3, 32, 32), 10)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_mixings(
    name: str, shape: tuple[int, ...], classes: int, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    n = shape[0]
    moment = Moment(epoch=1, epochs=2.0, index=torch.arange(n), count=n)
    images = torch.randn(shape, generator=generator(1)).to(dtype).contiguous(memory_format=memory_format)
    targets = functional.one_hot(torch.arange(n) % classes, classes).to(dtype)
    before = images.clone(), targets.clone()

    def once(seed: int) -> tuple[Tensor, Tensor]:
        global_state = torch.get_rng_state()
        result: tuple[Tensor, Tensor] = MIXINGS.build(EXAMPLES[name])(images, targets, generator(seed), moment)
        assert torch.equal(torch.get_rng_state(), global_state), "only the given generator may be used"
        return result

    mixed, shares = once(7)
    assert (mixed.shape, shares.shape) == (images.shape, (n, classes))
    assert mixed.dtype == shares.dtype == dtype
    assert mixed.is_contiguous(memory_format=memory_format)
    assert torch.equal(images, before[0]), "the input must not be modified"
    assert torch.equal(targets, before[1]), "the input must not be modified"
    assert (shares >= 0).all()
    assert shares.float().sum(1).tolist() == pytest.approx([1.0] * n, abs=1e-6 if dtype == torch.float32 else 0.01)
    assert all(torch.equal(*pair) for pair in zip((mixed, shares), once(7), strict=True))
    if n > 1:
        assert any(not torch.equal(mixed, once(seed)[0]) for seed in range(8, 16))


@pytest.mark.parametrize("name", [entry.name for entry in AVERAGINGS])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_averagings(name: str, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    network = network.to(dtype).to(memory_format=memory_format)  # type: ignore[call-overload]
    average: Averaging = AVERAGINGS.build(EXAMPLES[name], network=network)
    weights = network.state_dict()

    def train(average: Averaging, steps: range) -> None:
        for done in steps:
            for tensor in weights.values():
                moved = torch.randn(tensor.shape, generator=generator(done)).to(dtype)
                tensor += done if tensor.dtype == torch.int64 else moved
            average.update(done, 10)

    def now() -> dict[str, Tensor]:
        return {key: tensor.clone() for key, tensor in weights.items()}

    train(average, range(1, 6))
    interrupted, state = now(), average.state_dict()
    with average.evaluating():
        evaluated = now()
        assert network[0].weight.is_contiguous(memory_format=memory_format)  # type: ignore[operator,union-attr]
    assert all(torch.equal(tensor, interrupted[key]) for key, tensor in now().items()), "put back exactly"
    for key, tensor in evaluated.items():
        assert torch.equal(tensor, interrupted[key]) == (tensor.dtype == torch.int64), "statistics are averaged too"
    train(average, range(6, 11))
    average.finish()
    whole = now()

    network.load_state_dict(interrupted)
    again: Averaging = AVERAGINGS.build(EXAMPLES[name], network=network)
    again.load_state_dict(state)
    train(again, range(6, 11))
    again.finish()
    assert all(torch.equal(tensor, whole[key]) for key, tensor in now().items()), "goes on exactly where it was"


@pytest.mark.parametrize("name", [entry.name for entry in AVERAGINGS])
def test_an_average_does_what_it_plans(name: str) -> None:
    """Another implementation, such as a compiled one, follows the plan instead of the average itself."""
    network = nn.Linear(3, 4).to(torch.float64)
    average = AVERAGINGS.build(EXAMPLES[name], network=network)
    weights = list(network.parameters())
    followed = own = [p.detach().clone() for p in weights]
    plans = [average.plan(done, 10) for done in range(1, 11)]
    assert any(plans)
    with torch.no_grad():
        for done, action in enumerate(plans, 1):
            moves = [torch.randn(p.shape, generator=generator(done), dtype=p.dtype) for p in weights]
            own = [w + move for w, move in zip(own, moves, strict=True)]
            for p, move in zip(weights, moves, strict=True):
                p += move
            if action is not None:
                assert isinstance(action, Action)
                rate = 0 if action.kind == "begin" else action.rate
                followed = [rate * a + (1 - rate) * w for a, w in zip(followed, own, strict=True)]
                own = followed if action.copy_back else own
            average.update(done, 10)
            torch.testing.assert_close([p.detach() for p in weights], own)
            with average.evaluating():
                torch.testing.assert_close([p.detach() for p in weights], followed)


@pytest.mark.parametrize("name", [entry.name for entry in VIEWS if entry.name != "selective"])
def test_views_are_those_of_their_terms(name: str) -> None:
    """Pixel by pixel, as the terms define them; another implementation relies on it."""
    views = VIEWS.build(EXAMPLES[name])
    assert isinstance(views, WeightedViews)
    terms = views.terms()
    assert (terms[0].dy, terms[0].dx, terms[0].mirrored) == (0, 0, False)
    assert sum(term.weight for term in terms) == pytest.approx(1)
    height, width = 5, 7
    images = torch.randn(3, 2, height, width, generator=generator(1))

    def reflect(at: int, size: int) -> int:
        return min(abs(at), 2 * (size - 1) - abs(at))

    expected = torch.zeros_like(images)
    for term in terms:
        rows = [reflect(y + term.dy, height) for y in range(height)]
        columns = [reflect(x + term.dx, width) for x in range(width)]
        view = images[:, :, rows][:, :, :, columns]
        expected += term.weight * (view.flip(-1) if term.mirrored else view)
    torch.testing.assert_close(views.logits(lambda x: x.flatten(1), images, 2), expected.flatten(1))


@pytest.mark.parametrize("name", [entry.name for entry in VIEWS])
@pytest.mark.parametrize(("shape", "classes"), [((11, 1, 12, 12), 2), ((9, 3, 9, 13), 10), ((1, 3, 32, 32), 100)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_views(
    name: str, shape: tuple[int, ...], classes: int, dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    images = torch.randn(shape, generator=generator(1)).to(dtype).contiguous(memory_format=memory_format)
    before = images.clone()
    weight = torch.randn(images[0].numel(), classes, generator=generator(2)).to(dtype)
    views: Views = VIEWS.build(EXAMPLES[name])

    def logits(forward: Callable[[Tensor], Tensor]) -> Tensor:
        def checking(batch: Tensor) -> Tensor:
            assert 0 < len(batch) <= 4
            assert batch.shape[1:] == images.shape[1:]
            assert batch.dtype == dtype
            assert batch.is_contiguous(memory_format=memory_format)
            return forward(batch)

        return views.logits(checking, images, 4)

    result = logits(lambda batch: batch.flatten(1) @ weight)
    assert result.shape == (len(images), classes)
    assert result.dtype == torch.float32
    assert torch.equal(images, before), "the input must not be modified"
    assert views.per_image in (True, False)
    # Weights sum to one: a network that sees no difference between views gives its plain answer.
    torch.testing.assert_close(
        logits(lambda batch: weight[:1].expand(len(batch), -1)), weight[:1].float().expand(len(images), -1)
    )


@pytest.mark.parametrize("name", [entry.name for entry in MODELS])
@pytest.mark.parametrize(("shape", "classes"), [((1, 28, 28), 10), ((3, 17, 23), 2), ((3, 32, 32), 100)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_models(name: str, shape: tuple[int, int, int], classes: int, memory_format: torch.memory_format) -> None:
    model = MODELS.build(EXAMPLES[name], shape=shape, classes=classes)
    images = torch.randn(4, *shape).contiguous(memory_format=memory_format)
    logits = model(images)
    assert logits.shape == (4, classes)
    logits.square().mean().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any(), f"{parameter_name} gets no gradient"


# Facts about a set in the cache come from every pixel of it, which takes a second for CIFAR-10.
info = functools.cache(datasets.info)


@pytest.mark.parametrize("name", sorted(recipes()))
def test_recipes_train_on_small_images_of_the_right_shape(name: str) -> None:
    """Every published recipe runs end to end, scaled down to a handful of synthetic images, small where they may be."""
    recipe = recipes()[name]
    shape = info(recipe.data.name)
    size = {"mnist": 28}.get(recipe.data.name, 18)
    data = part("synthetic", train=24, test=8, size=size, channels=shape.channels, classes=10, seed=0, noise=0.2)
    small: dict[str, Any] = {"data": data, "epochs": 2.0, "batch_size": 8, "evaluation.batch_size": 8}
    if size < 24 and shrinks(recipe):
        small["augment"] = fitted(recipe, recipe.data, (3, size, size)).augment
    if recipe.averaging is not None:
        small["averaging.every"] = 2
    if recipe.model.name != "conv-stack":
        small["model.widths"] = [width // 8 for width in recipe.model.options["widths"]]
    changed = recipe.with_changes(small)
    run = train_once(changed, lambda: datasets.load("synthetic", **changed.data.options), 0, device=torch.device("cpu"))
    assert run.status == "done"
    assert run.steps == 6
    assert all(loss > 0 for loss in run.loss_by_epoch)
