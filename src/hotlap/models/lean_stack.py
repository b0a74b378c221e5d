"""The smallest useful stack: a central crop, padded convolutions that each pool, linear layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

from torch import nn

from hotlap.models import MODELS
from hotlap.models.layers import CenterCrop, check_size
from hotlap.registry import Card

LARGEST_KERNEL = 7
_POOLS: dict[str, type[nn.MaxPool2d] | type[nn.AvgPool2d]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


@MODELS.register(
    "lean-stack",
    Card(
        does="Looks at the centre of the image only: convolutions, each with pooling and ReLU, then linear layers.",
        effect="None published. MNIST's digits fill 20×20 of their 28×28 pixels: a crop to 22×22 leaves out 38 %.",
        source="LeCun et al. 1998 in its layers; PyTorch's default initialisation.",
    ),
)
def lean_stack(
    *,
    shape: tuple[int, int, int],
    classes: int,
    crop: int | None,
    widths: Sequence[int],
    kernels: Sequence[int],
    padding: Sequence[int],
    pools: Sequence[int],
    pooling: Literal["max", "average"],
    order: Literal["pool-activation", "activation-pool"],
    hidden: Sequence[int],
) -> nn.Sequential:
    """Build the network with PyTorch's default initialisation, drawn from the global generator.

    It is made of ``CenterCrop`` and PyTorch's ``Conv2d``, ``MaxPool2d`` or ``AvgPool2d``, ``ReLU``, ``Flatten`` and
    ``Linear`` only, so that a backend that knows these runs every such network.

    Args:
        shape: (C, H, W) of one image.
        classes: number of outputs.
        crop: side in pixels of the central square that the network sees; None for the whole image.
        widths: channels of each convolution.
        kernels: side of each convolution's kernel, 1 to 7 pixels; stride 1.
        padding: zeros on each side before each convolution, in pixels, fewer than its kernel's side.
        pools: side and stride of the pooling after each convolution; 1 is none.
        pooling: ``max`` or ``average``.
        order: whether the pooling or the ReLU comes first; with ``max`` the function is the same, the cost is not.
        hidden: widths of the hidden linear layers, each with ReLU.

    Returns:
        A module from (N, C, H, W) images to (N, classes) logits; its last layer has the role ``head``.

    Raises:
        ValueError: lists of different lengths, a number out of range, an unknown pooling or order, or an image too
            small for the crop or for the stack.
    """
    if not len(widths) == len(kernels) == len(padding) == len(pools) > 0:
        raise ValueError("widths, kernels, padding and pools must be equally long and not empty")
    if not all(1 <= kernel <= LARGEST_KERNEL for kernel in kernels):
        raise ValueError(f"kernels are from 1 to {LARGEST_KERNEL}, not {tuple(kernels)}")
    if not all(0 <= pad < kernel for pad, kernel in zip(padding, kernels, strict=True)):
        raise ValueError(f"padding is at least 0 and below the kernel's side, not {tuple(padding)}")
    if not all(pool >= 1 for pool in pools):
        raise ValueError(f"pools are at least 1, not {tuple(pools)}")
    if pooling not in _POOLS:
        raise ValueError(f"pooling is max or average, not {pooling!r}")
    if order not in ("pool-activation", "activation-pool"):
        raise ValueError(f"order is pool-activation or activation-pool, not {order!r}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    channels, height, width = shape
    if crop is not None:
        if crop < 1:
            raise ValueError(f"crop is at least 1, not {crop}")
        if crop > min(height, width):
            raise ValueError(f"images of {height}×{width} pixels are too small for a crop of {crop}×{crop}")
        layers["crop"] = CenterCrop(crop)
        height = width = crop
    for i, (out, kernel, pad, pool) in enumerate(zip(widths, kernels, padding, pools, strict=True), start=1):
        layers[f"conv{i}"] = nn.Conv2d(channels, out, kernel, padding=pad)
        block: list[tuple[str, nn.Module]] = [(f"pool{i}", _POOLS[pooling](pool))] if pool > 1 else []
        block.append((f"relu{i}", nn.ReLU()))
        layers.update(block if order == "pool-activation" else reversed(block))
        channels, height, width = out, *((size + 2 * pad - kernel + 1) // pool for size in (height, width))
        check_size(shape, height, width, f"conv{i}")
    layers["flatten"] = nn.Flatten()
    features = channels * height * width
    for i, out in enumerate(hidden, start=1):
        layers[f"hidden{i}"] = nn.Linear(features, out)
        layers[f"hidden_relu{i}"] = nn.ReLU()
        features = out
    head = nn.Linear(features, classes)
    # An attribute rather than a class of its own, so that the layer stays PyTorch's.
    vars(head)["role"] = "head"
    layers["head"] = head
    return nn.Sequential(layers)
