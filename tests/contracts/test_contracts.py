"""Contracts that every registered part passes; a new technique, model or rung is found by itself."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from hotlap import datasets
from hotlap.engine.loop import train_once
from hotlap.engine.seeding import generator
from hotlap.ladder import recipes
from hotlap.models import MODELS
from hotlap.optim import OPTIMIZERS, SCHEDULES
from hotlap.recipe import Component, part
from hotlap.registry import Registry
from hotlap.techniques import AUGMENTATIONS
from tiny import tiny

# Options to try each part with; a new part adds a line.
EXAMPLES: dict[str, Component] = {
    "flip": part("flip", share=0.5),
    "translate": part("translate", max_px=2),
    "conv-stack": tiny().model,
    "adadelta": part("adadelta", lr=1.0, rho=0.9, eps=1e-6),
    "adam": part("adam", lr=0.01, betas=(0.9, 0.99), eps=1e-8),
    "sgd": part("sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0),
    "constant": part("constant"),
    "step": part("step", every_epochs=1, factor=0.7),
    "one-cycle": part("one-cycle", warmup=0.3, shape="linear", start_factor=0.04, end_factor=0.0),
    "piecewise": part("piecewise", epochs=(0, 1, 3), factors=(0.1, 1.0, 0.0)),
}

PARTS = [(registry, entry.name) for registry in (MODELS, OPTIMIZERS, SCHEDULES, AUGMENTATIONS) for entry in registry]
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
    augment = AUGMENTATIONS.build(EXAMPLES[name])
    images = torch.randn(shape, generator=generator(1)).to(dtype).contiguous(memory_format=memory_format)
    before = images.clone()

    def once(seed: int) -> Tensor:
        global_state = torch.get_rng_state()
        result = augment(images, generator(seed))
        assert torch.equal(torch.get_rng_state(), global_state), "only the given generator may be used"
        return result

    result = once(7)
    assert result.shape == images.shape
    assert result.dtype == dtype
    assert result.is_contiguous(memory_format=memory_format)
    assert torch.equal(images, before), "the input must not be modified"
    assert torch.equal(result, once(7))
    if len(images) > 4:
        assert any(not torch.equal(result, once(seed)) for seed in range(8, 16))


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


@pytest.mark.parametrize("name", sorted(recipes()))
def test_recipes_train_on_small_images_of_the_right_shape(name: str) -> None:
    """Every published recipe runs end to end, scaled down to a handful of synthetic images."""
    recipe = recipes()[name]
    shape = datasets.info(recipe.data.name)
    small: dict[str, Any] = {
        "data": part(
            "synthetic", train=300, test=50, size=shape.size[0], channels=shape.channels, classes=10, seed=0, noise=0.2
        ),
        "epochs": min(recipe.epochs, 1.0),
        "batch_size": min(recipe.batch_size, 100),
    }
    changed = recipe.with_changes(small)
    run = train_once(changed, lambda: datasets.load("synthetic", **changed.data.options), 0, device=torch.device("cpu"))
    assert run.status == "done"
    assert run.steps >= 3
    assert all(loss > 0 for loss in run.loss_by_epoch)
