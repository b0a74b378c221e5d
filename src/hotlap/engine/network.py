"""Networks for the engine: building, initialising from a stream, compilation."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from hotlap.datasets import ImageData
from hotlap.engine.feed import MEMORY_FORMATS
from hotlap.models import MODELS
from hotlap.recipe import Recipe


def build_network(recipe: Recipe, shape: tuple[int, int, int], classes: int, device: torch.device) -> nn.Module:
    """Build the recipe's network for images of ``shape`` (C, H, W) on a device, in the recipe's memory format."""
    network: nn.Module = MODELS.build(recipe.model, shape=shape, classes=classes)
    return network.to(device=device, memory_format=MEMORY_FORMATS[recipe.engine.memory_format])  # type: ignore[call-overload,no-any-return]


def image_shape(data: ImageData) -> tuple[int, int, int]:
    """Return (C, H, W) of one image."""
    return data.channels, *data.size


def initialise(network: nn.Module, seed: int) -> None:
    """Draw all weights anew, in place, and clear running statistics; uses and moves the global generators.

    The order is that of construction, so the weights equal those of a network built right after ``manual_seed(seed)``.
    Working in place keeps compiled code and captured graphs valid.
    """
    torch.manual_seed(seed)
    for module in network.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()


def forward_of(network: nn.Module, recipe: Recipe) -> Callable[[Tensor], Tensor]:
    """Return what the loop calls: the network itself, or its compiled form."""
    return cast(Callable[[Tensor], Tensor], torch.compile(network)) if recipe.engine.compile else network
