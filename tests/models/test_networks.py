from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from networks import patches, resnet9, speednet
from torch import Tensor, nn
from torch.nn import functional

from hotlap import datasets
from hotlap.engine.inspect import inspect_recipe
from hotlap.engine.loop import train_once
from hotlap.engine.network import initialise
from hotlap.errors import InputError
from hotlap.models import MODELS
from hotlap.optim.weights import weights_of
from hotlap.recipe import Component, part
from tiny import tiny

AIRBENCH95 = speednet(widths=(128, 384, 384))
AIRBENCH96 = speednet(widths=(128, 384, 512), convolutions=3, residual=True, norm_momentum=0.1)
HLB = speednet(
    whitening=patches(bias="none", eps=1e-2, images=50_000, parts=10, centred=True), widths=(64, 256, 512),
    conv_init="dirac-restandardised", pooling="amax",
)  # fmt: skip
PAGE_LAST = resnet9(
    whitening=patches(kernel=3, padding=1, eps=1e-2, images=10_000, negated=False, bias="none"), order="pool-norm-act",
    activation=part("celu", alpha=0.3), norm_splits=16, norm_scale=False, logit_scale=1 / 16,
)  # fmt: skip
SMALL = {"speednet": {"widths": (8, 12, 16)}, "resnet9": {"widths": (4, 8, 12, 16)}}


def build(component: Component, shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10) -> nn.Module:
    network: nn.Module = MODELS.build(component, shape=shape, classes=classes)
    return network


def small(component: Component) -> Component:
    return part(component.name, **{**component.options, **SMALL[component.name]})


@pytest.mark.parametrize(
    ("component", "epochs", "batch", "pflop"),
    [
        (speednet(), 9.9, 1024, 0.36),
        (AIRBENCH95, 15, 1024, 1.39),
        (AIRBENCH96, 37, 1024, 4.91),
        (speednet(head_init="unit-std", logit_scale=1 / 256), 8, 2000, 0.29),
    ],
    ids=["airbench94", "airbench95", "airbench96", "airbench94_muon"],
)
def test_training_costs_what_is_published(component: Component, epochs: float, batch: int, pflop: float) -> None:
    recipe = tiny().with_changes({"model": component, "epochs": epochs, "batch_size": batch})
    facts = inspect_recipe(recipe, (3, 32, 32), 10, train_images=50_000, test_images=10_000)
    assert facts.training_flop * 50_000 * epochs / 1e15 == pytest.approx(pflop, rel=0.05)
    assert facts.recipe_flop / 1e15 == pytest.approx(pflop, rel=0.05)


# Norms have one bias for each channel and, in Page's first rungs, one scale; whitening has a bias or nothing.
@pytest.mark.parametrize(
    ("component", "parameters"),
    [
        (
            speednet(),
            24 + 9 * (24 * 64 + 64 * 64 + 64 * 256 + 256 * 256 * 3) + 2 * (64 + 256 + 256) + 256 * 10,
        ),
        (
            AIRBENCH96,
            24 + 9 * (24 * 128 + 2 * 128**2 + 128 * 384 + 2 * 384**2 + 384 * 512 + 2 * 512**2)
            + 3 * (128 + 384 + 512) + 512 * 10,
        ),
        (HLB, 9 * (24 * 64 + 64**2 + 64 * 256 + 256**2 + 256 * 512 + 512**2) + 2 * (64 + 256 + 512) + 512 * 10),
        (
            resnet9(),
            9 * (3 * 64 + 64 * 128 + 2 * 128**2 + 128 * 256 + 256 * 512 + 2 * 512**2)
            + 2 * (64 + 3 * 128 + 256 + 3 * 512) + 512 * 10,
        ),
        (
            PAGE_LAST,
            27 * 64 + 9 * (64 * 128 + 2 * 128**2 + 128 * 256 + 256 * 512 + 2 * 512**2)
            + (64 + 3 * 128 + 256 + 3 * 512) + 512 * 10,
        ),
    ],
    ids=["airbench94", "airbench96", "hlb", "page-first", "page-last"],
)  # fmt: skip
def test_parameters_are_those_of_the_architecture(component: Component, parameters: int) -> None:
    weights = weights_of(build(component), 512)
    assert sum(p.numel() for p in weights) == parameters
    assert [p.shape for p in weights.by_role["head"]] == [(10, component.options["widths"][-1])]
    whitening = component.options["whitening"]
    with_bias = whitening is not None and whitening.options["bias"] != "none"
    assert [p.shape for p in weights.by_role["whitening"]] == ([(24,)] if with_bias else [])
    assert all(p.ndim == 1 for p in weights.by_role["norm"])
    assert all(p.ndim == 4 for p in weights.by_role["filters"])


def spelled_out_speednet(network: Any, x: Tensor, depths: Sequence[int], residual: bool) -> Tensor:
    def norm(x: Tensor, bias: Tensor) -> Tensor:
        return functional.batch_norm(x, None, None, None, bias, training=True, eps=1e-12)

    x = functional.gelu(functional.conv2d(x, network.whiten.weight, network.whiten.bias))
    for group, depth in zip(network.groups, depths, strict=True):
        w, b = [c.weight for c in group.convs], [n.bias for n in group.norms]
        x = start = functional.gelu(norm(functional.max_pool2d(functional.conv2d(x, w[0], padding=1), 2), b[0]))
        for i in range(1, depth):
            x = norm(functional.conv2d(x, w[i], padding=1), b[i])
            x = functional.gelu(x + start if residual and i == depth - 1 else x)
    return functional.max_pool2d(x, 3).flatten(1) @ network.head.weight.T / 9


@pytest.mark.parametrize(
    "component",
    [
        small(speednet()),
        small(AIRBENCH96),
        small(HLB),
        small(speednet(convolutions=(1, 3, 2))),
        small(speednet(convolutions=(2, 4, 3), residual=True)),
    ],
    ids=["94", "96", "hlb", "depths", "residual-depths"],
)
def test_speednet_is_the_published_network(component: Component) -> None:
    torch.manual_seed(0)
    network, images = build(component), torch.randn(6, 3, 32, 32)
    for bias in (p for p in network.parameters() if p.ndim == 1):
        nn.init.normal_(bias)
    options = component.options
    given = options["convolutions"]
    depths = given if isinstance(given, tuple) else (given,) * 3
    expected = spelled_out_speednet(network, images, depths, options["residual"])
    assert torch.allclose(network(images), expected, atol=1e-5)


def test_one_number_of_convolutions_is_the_same_for_every_group() -> None:
    networks = []
    for convolutions in (3, (3, 3, 3)):
        torch.manual_seed(5)
        networks.append(build(small(speednet(convolutions=convolutions))).state_dict())
    assert networks[0].keys() == networks[1].keys()
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


@pytest.mark.parametrize("order", ["norm-act-pool", "norm-pool-act", "pool-norm-act"])
def test_resnet9_is_the_published_network(order: str) -> None:
    torch.manual_seed(0)
    network, x = build(small(resnet9(order=order))), torch.randn(6, 3, 32, 32)
    convs = iter([m.weight for m in network.modules() if isinstance(m, nn.Conv2d)])
    steps = {
        "norm": lambda x: functional.batch_norm(x, None, None, training=True),
        "act": functional.relu,
        "pool": lambda x: functional.max_pool2d(x, 2),
    }

    def block(x: Tensor, names: str) -> Tensor:
        x = functional.conv2d(x, next(convs), padding=1)
        for name in names.split("-"):
            x = steps[name](x)
        return x

    images = x
    x = block(block(x, "norm-act"), order)
    x = x + block(block(x, "norm-act"), "norm-act")
    x = block(block(x, order), order)
    x = x + block(block(x, "norm-act"), "norm-act")
    expected = functional.max_pool2d(x, 4).flatten(1) @ network.head.weight.T / 8  # type: ignore[union-attr, operator]
    assert torch.allclose(network(images), expected, atol=1e-5)


def test_pooling_before_relu_changes_nothing_and_pooling_before_the_norm_does() -> None:
    images, found = torch.randn(6, 3, 32, 32), []
    for order in ("norm-act-pool", "norm-pool-act", "pool-norm-act"):
        torch.manual_seed(0)
        found.append(build(small(resnet9(order=order)))(images))
    assert torch.allclose(found[0], found[1], atol=1e-5)
    assert not torch.allclose(found[0], found[2], atol=1e-2)


@pytest.mark.parametrize("component", [small(AIRBENCH96), small(HLB), small(PAGE_LAST)], ids=["96", "hlb", "page"])
@pytest.mark.parametrize(
    ("shape", "classes"), [((1, 16, 16), 2), ((3, 17, 31), 10), ((3, 33, 47), 5), ((3, 128, 127), 3)]
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_any_image_in_bfloat16(
    component: Component, shape: tuple[int, int, int], classes: int, memory_format: torch.memory_format
) -> None:
    network = build(component, shape, classes).to(memory_format=memory_format)  # type: ignore[call-overload]
    images = torch.randn(4, *shape).contiguous(memory_format=memory_format)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(images)
        functional.cross_entropy(logits.float(), torch.zeros(4, dtype=torch.int64)).backward()
    assert logits.shape == (4, classes)
    assert logits.dtype == torch.bfloat16
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    network.eval()
    assert network(images[:1]).isfinite().all()


@pytest.mark.parametrize("component", [small(speednet()), small(HLB), small(PAGE_LAST)], ids=["94", "hlb", "page"])
def test_initialising_in_place_equals_building_anew(component: Component) -> None:
    torch.manual_seed(11)
    fresh = build(component)
    used = build(component)
    used(torch.randn(4, 3, 32, 32)).sum().backward()
    for module in used.modules():
        if hasattr(module, "fit_to"):
            module.fit_to(lambda count: torch.randn(4, 3, 32, 32))
    initialise(used, 11)
    for (name, a), b in zip(fresh.state_dict().items(), used.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("name", ["airbench94_muon", "page"])
def test_the_real_engine_trains_them(name: str) -> None:
    sgd = {"momentum": 0.85, "weight_decay": 2e-6, "bias_scale": 1.0, "unit": "image"}
    muon = {"momentum": 0.6, "nesterov": True, "steps": 3, "renormalise_every": 1, "batched": True, "dtype": "auto"}
    ours = {
        "airbench94_muon": {
            "model": small(speednet(head_init="unit-std", logit_scale=1 / 16)),
            "optimizer": part(
                "by-role", filters=part("muon", lr=0.24, **muon), norm=part("decoupled-sgd", lr=0.053, **sgd),
                whitening=part("decoupled-sgd", lr=0.053, **sgd), head=part("decoupled-sgd", lr=0.67, **sgd),
                whitening_epochs=None, whitening_schedule=part("linear", epochs=1),
            ),
            "schedule": part("linear", epochs=None),
        },
        "page": {
            "model": small(PAGE_LAST),
            "optimizer": part(
                "scaled-sgd", lr=0.4, momentum=0.9, weight_decay=5e-4, bias_scale=64.0, loss_images=None,
                momentum_of="steps",
            ),
            "schedule": part("piecewise", epochs=(0, 1.2, 6), factors=(0.0, 1.0, 0.0)),
        },
    }  # fmt: skip
    recipe = tiny(data__channels=3, data__size=20, epochs=6.0, **ours[name])
    run = train_once(recipe, lambda: datasets.load("synthetic", **recipe.data.options), 0, device=torch.device("cpu"))
    assert run.accuracy is not None
    assert run.accuracy > 0.8
    assert run.module is not None
    whiten = next(m for m in run.module.modules() if hasattr(m, "fit_to"))
    assert whiten.weight[0].count_nonzero() == whiten.weight[0].numel(), "it was fitted to the training images"


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (speednet(widths=()), "at least one group"),
        (speednet(convolutions=1, residual=True), "two with residual"),
        (speednet(convolutions=(1, 0, 1)), "one convolution in each"),
        (speednet(convolutions=(2, 2, 1), residual=True), "two with residual"),
        (speednet(convolutions=(2, 2)), "3 widths take one number of convolutions or 3 of them, not 2"),
        (speednet(convolutions=(2, 2, 2.5)), "a whole number of convolutions, not 2.5"),
        (speednet(convolutions=2.5), "a whole number of convolutions, not 2.5"),
        (speednet(conv_init="orthogonal"), "conv_init"),
        (speednet(widths=(8,) * 5), "too small for 5 groups"),
        (speednet(whitening=part("patches", kernel=2)), "padding"),
        (speednet(pooling="mean"), "pooling"),
        (speednet(head_init="zero"), "head_init"),
        (resnet9(order="act-norm-pool"), "order"),
        (resnet9(widths=(8, 8)), "four"),
        (resnet9(activation=part("relu", alpha=1)), "alpha"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_bad_options_are_refused(component: Component, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(component)
    with pytest.raises(InputError, match="too small"):
        build(small(resnet9()), (3, 7, 40))
