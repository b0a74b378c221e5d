from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from hotlap.engine.inspect import inspect_recipe
from hotlap.errors import InputError
from hotlap.models import MODELS
from hotlap.models.layers import CenterCrop
from hotlap.optim.weights import weights_of
from hotlap.recipe import part
from tiny import tiny

MNIST: dict[str, Any] = {
    "crop": 22, "widths": (16, 32), "kernels": (3, 3), "padding": (0, 0), "pools": (2, 2), "pooling": "max",
    "order": "pool-activation", "hidden": (96,),
}  # fmt: skip


def build(shape: tuple[int, int, int] = (1, 28, 28), **changes: Any) -> nn.Sequential:
    network: nn.Sequential = MODELS.build(part("lean-stack", **{**MNIST, **changes}), shape=shape, classes=10)
    return network


@pytest.mark.parametrize(("height", "width", "top", "left"), [(28, 28, 3, 3), (23, 22, 0, 0), (30, 27, 4, 2)])
def test_the_crop_is_the_centre(height: int, width: int, top: int, left: int) -> None:
    images = torch.randn(2, 3, height, width)
    assert torch.equal(CenterCrop(22)(images), images[:, :, top : top + 22, left : left + 22])


def test_what_lies_outside_the_crop_does_not_count() -> None:
    network, images = build(), torch.randn(4, 1, 28, 28)
    framed = images.clone()
    framed[:, :, :3] = framed[:, :, -3:] = framed[:, :, :, :3] = framed[:, :, :, -3:] = 9.0
    assert torch.equal(network(images), network(framed))
    framed[:, :, 3] = 9.0
    assert not torch.equal(network(images), network(framed))


def test_it_costs_what_was_counted_by_hand() -> None:
    recipe = tiny(model=part("lean-stack", **MNIST))
    facts = inspect_recipe(recipe, (1, 28, 28), 10, train_images=100, test_images=10)
    assert facts.parameters == 16 * 10 + 32 * 145 + 96 * 513 + 10 * 97
    assert facts.forward_flop == 2 * (20 * 20 * 16 * 9 + 8 * 8 * 32 * 16 * 9 + 512 * 96 + 96 * 10)


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("order", ["pool-activation", "activation-pool"])
def test_it_is_the_function_that_it_says(pooling: str, order: str) -> None:
    network = build((2, 13, 11), crop=None, widths=(4, 6, 5), kernels=(5, 1, 3), padding=(3, 0, 2), pools=(2, 1, 3),
                    pooling=pooling, order=order)  # fmt: skip
    x = images = torch.randn(3, 2, 13, 11)
    pool = functional.max_pool2d if pooling == "max" else functional.avg_pool2d
    for i, (pad, side) in enumerate(((3, 2), (0, 1), (2, 3)), 1):
        conv = network.get_submodule(f"conv{i}")
        x = functional.conv2d(x, conv.weight, conv.bias, padding=pad)  # type: ignore[arg-type]
        x = functional.relu(pool(x, side)) if order == "pool-activation" else pool(functional.relu(x), side)
    x = functional.relu(functional.linear(x.flatten(1), network.hidden1.weight, network.hidden1.bias))  # type: ignore[arg-type]
    x = functional.linear(x, network.head.weight, network.head.bias)  # type: ignore[arg-type]
    assert torch.equal(network(images), x)


def test_it_is_made_of_a_few_plain_layers_in_order_and_has_a_head() -> None:
    network = build()
    assert list(dict(network.named_children())) == [
        "crop", "conv1", "pool1", "relu1", "conv2", "pool2", "relu2", "flatten", "hidden1", "hidden_relu1", "head"
    ]  # fmt: skip
    plain = {CenterCrop, nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.ReLU, nn.Flatten, nn.Linear}
    for pooling in ("max", "average"):
        assert {type(layer) for layer in build(pooling=pooling)} <= plain
    assert [p.shape for p in weights_of(network, 1).by_role["head"]] == [(10, 96), (10,)]
    assert "pool2" not in dict(build(pools=(2, 1)).named_children())
    assert "crop" not in dict(build(crop=None).named_children())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernels": (3,)}, "equally long"),
        ({"kernels": (3, 8)}, "kernels are from 1 to 7"),
        ({"kernels": (0, 3)}, "kernels are from 1 to 7"),
        ({"padding": (0, 3)}, "below the kernel's side"),
        ({"padding": (-1, 0)}, "at least 0"),
        ({"pools": (0, 2)}, "pools are at least 1"),
        ({"pooling": "min"}, "max or average"),
        ({"order": "none"}, "pool-activation or activation-pool"),
        ({"crop": 0}, "crop is at least 1"),
        ({"crop": 29}, "28×28 pixels are too small for a crop of 29×29"),
        ({"crop": 5}, "28×28 pixels are too small: nothing is left after conv2"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(**changes)
