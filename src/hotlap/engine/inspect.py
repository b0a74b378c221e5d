"""What a recipe's network looks like and costs, counted without running it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from hotlap.engine.network import build_network
from hotlap.recipe import Recipe
from hotlap.startup import complete
from hotlap.techniques import AUGMENTATIONS
from hotlap.techniques.base import Resizing

_COUNTED = 2
"""Images counted at once: one would be refused by normalisation layers, and per-batch costs stay small."""


@dataclass(frozen=True, slots=True)
class LayerFacts:
    """One layer: its class, output shape without the batch, trainable parameters, forward FLOP of one image."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    forward_flop: int


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """A recipe's network and what the recipe costs; a multiplication and an addition count as two FLOP.

    Attributes:
        forward_flop: of one image.
        training_flop: forward and backward of one image, at its own size.
        recipe_flop: training over all epochs and one test evaluation; an upper bound where training may stop early or
            leaves out images.
    """

    layers: tuple[LayerFacts, ...]
    parameters: int
    forward_flop: int
    training_flop: int
    recipe_flop: int
    bound: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        names = ("name", "kind", "output", "parameters", "forward_flop")
        return {
            "layers": [{n: getattr(layer, n) for n in names} for layer in self.layers],
            "parameters": self.parameters,
            "forward_flop_per_image": self.forward_flop,
            "training_flop_per_image": self.training_flop,
            "recipe_flop": self.recipe_flop,
            "recipe_flop_is_upper_bound": self.bound,
        }


def inspect_recipe(
    recipe: Recipe, shape: tuple[int, int, int], classes: int, *, train_images: int, test_images: int
) -> NetworkFacts:
    """Count the layers, parameters and FLOP of a recipe with torch's own FLOP counter, on shapes alone.

    Args:
        recipe: whose network to build; its weights are never allocated.
        shape: (C, H, W) of one image.
        classes: number of classes.
        train_images: images of the training set.
        test_images: images of the test set.
    """
    complete()
    with torch.device("meta"):
        network = build_network(recipe, shape, classes, torch.device("meta"))
        images = torch.empty((_COUNTED, *shape))
        labels = torch.zeros(_COUNTED, dtype=torch.int64)
    network.train()
    outputs = _record_outputs(network)
    forward = FlopCounterMode(display=False)
    with forward:
        logits = network(images)
    for handle in outputs.handles:
        handle.remove()

    def training_flop(size: tuple[int, int]) -> int:
        counter = FlopCounterMode(display=False)
        with counter:
            functional.cross_entropy(network(images[:, :, : size[0], : size[1]]), labels).backward()
        return counter.get_total_flops() // _COUNTED

    size = shape[1], shape[2]
    per_image = training_flop(size)
    counts = forward.get_flop_counts()
    root = type(network).__name__
    layers = tuple(
        LayerFacts(
            name=name,
            kind=type(module).__name__,
            output=outputs.shapes.get(name, ()),
            parameters=sum(p.numel() for p in module.parameters() if p.requires_grad),
            forward_flop=sum(counts.get(f"{root}.{name}", {}).values()) // _COUNTED,
        )
        for name, module in network.named_modules()
        if name and not any(module.children())
    )
    by_size = {size: per_image}
    spent = 0.0
    for epoch in range(math.ceil(recipe.epochs)):
        now = _size_at(recipe, epoch, size)
        by_size[now] = by_size[now] if now in by_size else training_flop(now)
        spent += min(1.0, recipe.epochs - epoch) * by_size[now]
    per_epoch = train_images // recipe.batch_size * recipe.batch_size if recipe.feed.drop_last else train_images
    forward_flop = forward.get_total_flops() // _COUNTED
    del logits
    return NetworkFacts(
        layers=layers,
        parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        forward_flop=forward_flop,
        training_flop=per_image,
        recipe_flop=math.ceil(spent * per_epoch) + forward_flop * test_images,
        bound=recipe.stop_at is not None or recipe.selection is not None,
    )


def _size_at(recipe: Recipe, epoch: int, size: tuple[int, int]) -> tuple[int, int]:
    """Return the size of the training images in an epoch."""
    for component in recipe.augment:
        augment = AUGMENTATIONS.build(component)
        if isinstance(augment, Resizing):
            size = augment.size_at(epoch, recipe.epochs, size)
    return size


class _record_outputs:  # noqa: N801
    """Hooks that note each leaf's output shape."""

    def __init__(self, network: nn.Module) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.handles = [
            module.register_forward_hook(self._hook(name))
            for name, module in network.named_modules()
            if name and not any(module.children())
        ]

    def _hook(self, name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self.shapes[name] = tuple(output.shape[1:])

        return note
