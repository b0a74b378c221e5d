"""Whole training steps with the kernels of hotlap.fused, as a GPU takes them, against PyTorch's own layers."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

import triton_there

pytest.importorskip("triton", minversion=triton_there.OLDEST, reason=triton_there.LACKING)

from hotlap import datasets
from hotlap.engine import augmenting, network
from hotlap.engine.feed import make_feed
from hotlap.engine.loop import Silent, train_once
from hotlap.engine.seeding import Streams
from hotlap.fused import moves, norms, patches
from hotlap.ladder import get_recipe
from hotlap.recipe import Recipe, part

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="Triton's interpreter is not for machines with a GPU")

STEPS = 8
CPU = torch.device("cpu")


def small(name: str) -> Recipe:
    data = part("synthetic", train=8, test=4, size=16, channels=3, classes=10, seed=0, noise=0.2)
    changes = {
        "data": data, "batch_size": 4, "epochs": 4.0, "model.widths": (4, 6, 8), "evaluation.batch_size": 4,
        "engine.precision": "fp32", "engine.compile": False,
    }  # fmt: skip
    return get_recipe(name).with_changes(changes | ({"augment.2.sides": (12,)} if name == "cifar10/record" else {}))


@dataclass(frozen=True)
class _Losses(Silent):
    seen: list[float] = field(default_factory=list)

    def step(self, done: int, loss: Tensor) -> None:
        self.seen.append(loss.item())


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """A switch that lets the engine use the kernels here, and what was called of them."""
    called: list[str] = []

    def counted(module, name):  # type: ignore[no-untyped-def]
        work = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, **k: (called.append(name), work(*a, **k))[1])

    def allow() -> list[str]:
        for module in (augmenting, network):
            monkeypatch.setattr(module, "fuses", lambda recipe, device: "triton" if recipe.engine.fused else "")
        for module, name in ((moves, "gather"), (norms, "normalise"), (patches, "convolve")):
            counted(module, name)
        return called

    return allow


@pytest.mark.parametrize("name", ["cifar10/record", "cifar10-airbench/94-muon", "cifar10-airbench/96"])
def test_losses_are_those_of_pytorchs_own_layers(name: str, allowed) -> None:  # type: ignore[no-untyped-def]
    recipe = small(name)
    found: list[list[float]] = []
    for fused in (False, True):
        called = allowed() if fused else []
        watch = _Losses()
        load = lambda: datasets.load(recipe.data.name, **recipe.data.options)  # noqa: E731
        train_once(recipe.with_changes({"engine.fused": fused}), load, 3, device=CPU, observer=watch,
                   timing_valid=False)  # fmt: skip
        found.append(watch.seen)
    assert found[1] == pytest.approx(found[0], rel=1e-3)
    assert len(found[0]) == STEPS
    # Six or nine layers a step, and whitening once its bias has come to rest.
    layers = 9 if name.endswith("/96") else 6
    assert called.count("normalise") == STEPS * layers
    assert called.count("gather") == STEPS
    assert called.count("convolve") > 0


def test_batches_are_those_of_the_augmentations_one_after_another(allowed) -> None:  # type: ignore[no-untyped-def]
    recipe = small("cifar10/record")
    data = datasets.load(recipe.data.name, **recipe.data.options)
    plain = make_feed(recipe, data, [Streams.of(1)], CPU)
    allowed()
    fused = make_feed(recipe, data, [Streams.of(1)], CPU)
    for _ in range(4):
        for (images, labels), (images2, labels2) in zip(list(plain.epoch()), list(fused.epoch()), strict=True):
            assert torch.equal(images, images2) and images.stride() == images2.stride()
            assert torch.equal(labels, labels2)
