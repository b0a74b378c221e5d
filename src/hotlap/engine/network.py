"""Networks for the engine: building, initialising from a stream, compilation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hotlap.datasets import ImageData
from hotlap.engine.devices import fuses
from hotlap.engine.feed import MEMORY_FORMATS
from hotlap.engine.precision import Precision
from hotlap.errors import InputError
from hotlap.models import MODELS
from hotlap.models.norms import GhostBatchNorm2d
from hotlap.models.whitening import PatchWhitening
from hotlap.native.library import has_amx, missing
from hotlap.recipe import Recipe
from hotlap.startup import complete

_LARGEST_TRIED = 64

_COMPILED_AT_MOST = 64
"""Kinds of input that a network's code is compiled for; beyond them, torch runs it as it is without a word."""


def build_network(recipe: Recipe, shape: tuple[int, int, int], classes: int, device: torch.device) -> nn.Module:
    """Build the recipe's network for images of ``shape`` (C, H, W) on a device, in the recipe's memory format.

    Raises:
        InputError: the model's options are wrong, or the images are too small for it.
    """
    try:
        network: nn.Module = MODELS.build(recipe.model, shape=shape, classes=classes)
    except InputError:
        least = least_side(recipe, shape[0], classes)
        if least is None or min(shape[1:]) >= least:
            raise
        raise InputError(
            f"images of {shape[1]}×{shape[2]} pixels are too small: {recipe.name} takes {least}×{least} and larger",
            f"enlarge images of files with --set data.size={max(least, 32)} --set data.resize=stretch, "
            "or choose another recipe: hotlap list",
        ) from None
    return network.to(device=device, memory_format=MEMORY_FORMATS[recipe.engine.memory_format])  # type: ignore[call-overload,no-any-return]


def least_side(recipe: Recipe, channels: int, classes: int) -> int | None:
    """Return the side in pixels of the smallest square images that the recipe's network takes; None where none is.

    Networks are built without memory for it, and the global generators are left as they were.
    """
    complete()
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        for side in range(1, _LARGEST_TRIED + 1):
            try:
                MODELS.build(recipe.model, shape=(channels, side, side), classes=classes)
            except InputError:
                continue
            return side
    return None


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


def forward_of(network: nn.Module, recipe: Recipe, precision: Precision) -> Callable[[Tensor], Tensor]:
    """Return what the loop calls: the network itself, its compiled form, or it with the kernels' convolutions.

    Layers that fused kernels know are allowed to use them, unless the recipe says otherwise.

    Raises:
        InputError: the recipe asks for two of these at once.
    """
    if recipe.engine.compile and recipe.engine.winograd:
        raise InputError("torch.compile knows nothing of the kernels' convolutions", "--set engine.winograd=false")
    by = fuses(recipe, next(network.parameters()).device)
    for module in network.modules():
        if isinstance(module, GhostBatchNorm2d | PatchWhitening):
            module.fused = by
    if recipe.engine.compile:
        return _compiled(network)
    on_cpu = all(parameter.device.type == "cpu" for parameter in network.parameters())
    tiles = recipe.engine.amx and precision == "bf16" and has_amx()
    winograd = recipe.engine.winograd and precision == "fp32" and not missing()
    if not on_cpu or not (tiles or winograd):
        return network
    from hotlap.native.convolutions import TiledConvolutions, WinogradConvolutions

    convolutions = TiledConvolutions() if tiles else WinogradConvolutions()

    def forward(images: Tensor) -> Tensor:
        with convolutions:
            logits: Tensor = network(images)
        return logits

    return forward


def _compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
    # Several recipes, image sizes and modes share the code of a network's class.
    torch._dynamo.config.recompile_limit = max(_COMPILED_AT_MOST, torch._dynamo.config.recompile_limit)

    def run(images: Tensor, trained: int) -> Tensor:
        # Asking makes it part of what code is compiled for: PyTorch before 2.13 goes on computing gradients of weights
        # that have stopped being trained.
        assert trained >= 0
        logits: Tensor = network(images)
        return logits

    compiled = torch.compile(run, dynamic=False)

    def forward(images: Tensor) -> Tensor:
        if images.shape[1] == 1:
            # The stride of a single channel is arbitrary, but code is compiled for it.
            images = images.squeeze(1).unsqueeze(1)
        bits = (weight.requires_grad << place for place, weight in enumerate(network.parameters()))
        return compiled(images, sum(bits))

    return forward
