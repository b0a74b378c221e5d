"""What a recipe's network looks like and costs, counted without running it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from hotlap.engine.augmenting import sizing
from hotlap.engine.network import build_network
from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.startup import complete

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


class TrainingCost:
    """FLOP of training a recipe's network, forward and backward, counted on shapes alone.

    Args:
        recipe: whose network to build; its weights are never allocated.
        shape: (C, H, W) of one image.
        classes: number of classes.

    Attributes:
        network: in training mode, on the device ``meta``.
        images: of its own size, on the device ``meta``.

    Raises:
        InputError: the model's options are wrong, or the images are too small for it.
    """

    def __init__(self, recipe: Recipe, shape: tuple[int, int, int], classes: int) -> None:
        complete()
        with torch.device("meta"):
            self.network = build_network(recipe, shape, classes, torch.device("meta")).train()
            self.images = torch.empty((_COUNTED, *shape))
            self._labels = torch.zeros(_COUNTED, dtype=torch.int64)
        self.size = shape[1], shape[2]
        self._size_at = sizing(recipe)
        self._by_size: dict[tuple[int, int], int] = {}

    def per_image(self, size: tuple[int, int]) -> int:
        """Return the FLOP of one image of a size (H, W).

        Raises:
            InputError: the network does not take images of that size.
        """
        if size not in self._by_size:
            counter = FlopCounterMode(display=False)
            try:
                with counter:
                    logits = self.network(self.images[:, :, : size[0], : size[1]])
                    functional.cross_entropy(logits, self._labels).backward()
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise InputError(f"the network does not take images of {size[0]}×{size[1]} pixels: {reason}") from None
            self._by_size[size] = counter.get_total_flops() // _COUNTED
        return self._by_size[size]

    def over_epochs(self, epochs: float) -> float:
        """Return the FLOP of every training image over a whole training of so many epochs."""
        spent = 0.0
        for epoch in range(math.ceil(epochs)):
            spent += min(1.0, epochs - epoch) * self.per_image(self._size_at(epoch, epochs, self.size))
        return spent


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
    cost = TrainingCost(recipe, shape, classes)
    network = cost.network
    outputs = _record_outputs(network)
    forward = FlopCounterMode(display=False)
    with forward:
        network(cost.images)
    for handle in outputs.handles:
        handle.remove()
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
    per_epoch = train_images // recipe.batch_size * recipe.batch_size if recipe.feed.drop_last else train_images
    forward_flop = forward.get_total_flops() // _COUNTED
    return NetworkFacts(
        layers=layers,
        parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        forward_flop=forward_flop,
        training_flop=cost.per_image(cost.size),
        recipe_flop=math.ceil(cost.over_epochs(recipe.epochs) * per_epoch) + forward_flop * test_images,
        bound=recipe.stop_at is not None or recipe.selection is not None,
    )


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
