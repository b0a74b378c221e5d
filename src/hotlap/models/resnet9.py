"""The nine-layer residual network of the cifar10-fast ladder."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias

from torch import Tensor, nn

from hotlap.models import MODELS
from hotlap.models.layers import Conv3x3, GlobalMax, Head, convolve_and_activate, max_pool
from hotlap.models.layers import activation as build_activation
from hotlap.models.norms import GhostBatchNorm2d
from hotlap.models.whitening import whitening as build_whitening
from hotlap.recipe import Component
from hotlap.registry import Card

Order: TypeAlias = Literal["norm-act-pool", "norm-pool-act", "pool-norm-act"]
_ORDERS: tuple[Order, ...] = ("norm-act-pool", "norm-pool-act", "pool-norm-act")


class Residual(nn.Module):
    """Adds its input to the output of the layers inside."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        out: Tensor = images + self.layers(images)
        return out


class Block(nn.Sequential):
    """A convolution, and norm, activation and perhaps pooling in any order; kernels may do what is next to each other.

    It is built of its layers by name: ``conv`` first, then ``norm``, ``act`` and perhaps ``pool``.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H, W), or half as high and wide."""
        layers = self._modules
        conv, norm, act, pool = (layers.get(name) for name in ("conv", "norm", "act", "pool"))
        order = tuple(layers)
        assert conv is not None and norm is not None and act is not None
        if order == ("conv", "pool", "norm", "act"):
            return convolve_and_activate(conv, norm, act, images, pool=pool)
        if order[1:3] == ("norm", "act"):
            activated = convolve_and_activate(conv, norm, act, images)
            return activated if pool is None else max_pool(pool, activated)
        for layer in self:
            images = layer(images)
        return images


class ResNet9(nn.Module):
    """Blocks, then a global max-pool and a head."""

    def __init__(self, blocks: OrderedDict[str, nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.Sequential(blocks)
        self.pool = GlobalMax("max-pool")
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to logits (N, classes)."""
        logits: Tensor = self.head(self.pool(self.blocks(images)))
        return logits


def _block(
    conv: nn.Module, width: int, order: str, norm: Callable[[int], nn.Module], act: Callable[[], nn.Module]
) -> Block:
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv=conv)
    for name in order.split("-"):
        layers[name] = norm(width) if name == "norm" else act() if name == "act" else nn.MaxPool2d(2)
    return Block(layers)


@MODELS.register(
    "resnet9",
    Card(
        does="A 3×3 convolution, three more with max-pooling, two residual pairs, a global max-pool and a linear head.",
        effect="CIFAR-10 to 94 % in 24 epochs and 75 s on a V100 at first, in 10 epochs and 26 s at the ladder's end.",
        source="Page 2018 and 2019 (cifar10-fast, How to Train Your ResNet).",
    ),
)
def resnet9(
    *,
    shape: tuple[int, int, int],
    classes: int,
    whitening: Component | None,
    widths: Sequence[int],
    order: Order,
    activation: Component,
    norm_splits: int,
    norm_scale: bool,
    norm_momentum: float,
    norm_eps: float,
    logit_scale: float,
) -> ResNet9:
    """Build the network with PyTorch's default initialisation, drawn from the global generator.

    The last max-pool is over whatever is left of the image, which is the published max-pool 4 for 32 × 32 pixels.

    Args:
        shape: (C, H, W) of one image.
        classes: number of outputs.
        whitening: ``patches`` with the options of ``whitening.PatchWhitening``, before a learned 1×1 convolution; None
            begins with a learned 3×3 convolution.
        widths: channels of the first convolution and of the three layers after it.
        order: what follows a convolution that is pooled.
        activation: ``relu``, ``celu`` with ``alpha``, ``gelu`` or ``silu``.
        norm_splits: parts of the batch that are normalised apart; 1 is ordinary batch normalisation.
        norm_scale: train the scales of batch normalisation; otherwise they stay 1.
        norm_momentum: share of the new batch in the running statistics (PyTorch's sense).
        norm_eps: added to the variance.
        logit_scale: factor of the logits.

    Raises:
        ValueError: an option out of range, or an image too small.
    """
    if order not in _ORDERS:
        raise ValueError(f"order is one of {', '.join(_ORDERS)}, not {order!r}")
    if len(widths) != 4:
        raise ValueError(f"widths are four numbers, not {len(widths)}")
    channels, *size = shape
    norm = partial(GhostBatchNorm2d, splits=norm_splits, eps=norm_eps, momentum=norm_momentum, learned_scale=norm_scale)
    act = partial(build_activation, activation)
    block = partial(_block, norm=norm, act=act)
    prep, one, two, three = widths
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    shrinks = 0
    if whitening is None:
        blocks["prep"] = block(Conv3x3(channels, prep), prep, "norm-act")
    else:
        blocks["whiten"] = whiten = build_whitening(whitening, channels)
        shrinks = whiten.shrinks
        blocks["prep"] = block(nn.Conv2d(whiten.channels_out, prep, 1, bias=False), prep, "norm-act")
    if min(size) - shrinks < 8:
        raise ValueError(f"images of {size[0]}×{size[1]} pixels are too small for three max-pools")
    layers = (("layer1", prep, one, True), ("layer2", one, two, False), ("layer3", two, three, True))
    for name, before, width, paired in layers:
        blocks[name] = block(Conv3x3(before, width), width, order)
        if paired:
            blocks[f"{name}_residual"] = Residual(*(block(Conv3x3(width, width), width, "norm-act") for _ in range(2)))
    return ResNet9(blocks, Head(three, classes, scale=logit_scale, start="default"))
