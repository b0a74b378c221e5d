"""The network of hlb-CIFAR10 and airbench: fixed whitening, groups of convolutions, a scaled head."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, TypeAlias

from torch import Tensor, nn

from hotlap.errors import unknown_name
from hotlap.models import MODELS
from hotlap.models.layers import (
    Conv3x3,
    DiracConv3x3,
    GlobalMax,
    Head,
    HeadInit,
    PartialDiracConv3x3,
    Pooling,
    RestandardisedConv3x3,
    convolve_and_activate,
)
from hotlap.models.layers import activation as build_activation
from hotlap.models.norms import GhostBatchNorm2d
from hotlap.models.whitening import whiten_and_activate
from hotlap.models.whitening import whitening as build_whitening
from hotlap.recipe import Component
from hotlap.registry import Card

ConvInit: TypeAlias = Literal["default", "partial-dirac", "dirac-restandardised"]

# The classes of a group's first convolution, which changes the number of channels, and of those after it.
_CONVS: Mapping[str, tuple[type[Conv3x3], type[Conv3x3]]] = {
    "default": (Conv3x3, Conv3x3),
    "partial-dirac": (PartialDiracConv3x3, PartialDiracConv3x3),
    "dirac-restandardised": (RestandardisedConv3x3, DiracConv3x3),
}


class ConvGroup(nn.Module):
    """Convolution, max-pool 2, norm, activation; then convolutions with norm and activation at the same size.

    With ``residual``, the value after the first activation is added before the last one.
    """

    def __init__(
        self,
        convs: Sequence[nn.Module],
        norm: Callable[[], nn.Module],
        act: Callable[[], nn.Module],
        *,
        residual: bool,
    ) -> None:
        super().__init__()
        self.convs = nn.ModuleList(convs)
        self.pool = nn.MaxPool2d(2)
        self.norms = nn.ModuleList(norm() for _ in convs)
        self.act = act()
        self.residual = residual

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C', H // 2, W // 2)."""
        x = convolve_and_activate(self.convs[0], self.norms[0], self.act, images, pool=self.pool)
        start, last = x, len(self.convs) - 1
        for i in range(1, last + 1):
            added = start if self.residual and i == last else None
            x = convolve_and_activate(self.convs[i], self.norms[i], self.act, x, added=added)
        return x


class SpeedNet(nn.Module):
    """Whitening, activation, groups, global max-pool, head."""

    def __init__(
        self, whiten: nn.Module, act: nn.Module, groups: Sequence[nn.Module], pool: nn.Module, head: nn.Module
    ) -> None:
        super().__init__()
        self.whiten, self.act = whiten, act
        self.groups = nn.Sequential(*groups)
        self.pool, self.head = pool, head

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, C, H, W) to logits (N, classes)."""
        logits: Tensor = self.head(self.pool(self.groups(whiten_and_activate(self.whiten, self.act, images))))
        return logits


@MODELS.register(
    "speednet",
    Card(
        does="Fixed patch whitening, groups of 3×3 convolutions with one max-pool each, a global max-pool, a head.",
        effect="CIFAR-10 to 94 % in 9.9 epochs and 3.83 s on an A100 (Jordan 2024: 94.01, n = 1000).",
        source="hlb-CIFAR10 2023; Jordan 2024 (airbench).",
    ),
)
def speednet(
    *,
    shape: tuple[int, int, int],
    classes: int,
    whitening: Component,
    widths: Sequence[int],
    convolutions: int | Sequence[int],
    residual: bool,
    activation: Component,
    conv_init: ConvInit,
    norm_momentum: float,
    norm_eps: float,
    norm_scale: bool,
    pooling: Pooling,
    head_init: HeadInit,
    logit_scale: float,
) -> SpeedNet:
    """Build the network, drawn from the global generator.

    The last pooling is over whatever is left of the image; for 32 × 32 pixels, three groups and unpadded 2×2 patches
    that is the published max-pool 3.

    Args:
        shape: (C, H, W) of one image.
        classes: number of outputs.
        whitening: ``patches`` with the options of ``whitening.PatchWhitening``.
        widths: channels of each group.
        convolutions: of each group: one number for all of them, or a list with one for each.
        residual: add each group's value after its first activation before its last one.
        activation: ``relu``, ``celu`` with ``alpha``, ``gelu`` or ``silu``.
        conv_init: PyTorch's ``default``; ``partial-dirac`` (airbench: each convolution's first filters pass the
            channels on); or ``dirac-restandardised`` (hlb: the first convolution of a group is the default plus the
            identity at the default's mean and spread, the others are the identity).
        norm_momentum: share of the new batch in the running statistics (PyTorch's sense).
        norm_eps: added to the variance.
        norm_scale: train the scales of batch normalisation; otherwise they stay 1.
        pooling: how the last maximum treats ties: ``max-pool`` picks one, ``amax`` shares the gradient.
        head_init: ``default``, or ``unit-std`` for PyTorch's draw divided by its standard deviation.
        logit_scale: factor of the logits.

    Raises:
        ValueError: an option out of range, or an image too small for the groups.
    """
    if conv_init not in _CONVS:
        raise unknown_name("conv_init", conv_init, _CONVS)
    depths = _depths(convolutions, len(widths))
    if not widths or min(depths) < (2 if residual else 1):
        raise ValueError("speednet takes at least one group and one convolution in each, two with residual")
    channels, *size = shape
    whiten = build_whitening(whitening, channels)
    if min(size) - whiten.shrinks < 2 ** len(widths):
        raise ValueError(f"images of {size[0]}×{size[1]} pixels are too small for {len(widths)} groups")
    first, other = _CONVS[conv_init]
    norm = partial(GhostBatchNorm2d, splits=1, eps=norm_eps, momentum=norm_momentum, learned_scale=norm_scale)
    act = partial(build_activation, activation)
    return SpeedNet(
        whiten,
        act(),
        [
            ConvGroup(
                [first(before, width), *(other(width, width) for _ in range(depth - 1))],
                partial(norm, width),
                act,
                residual=residual,
            )
            for (before, width), depth in zip(pairwise((whiten.channels_out, *widths)), depths, strict=True)
        ],
        GlobalMax(pooling),
        Head(widths[-1], classes, scale=logit_scale, start=head_init),
    )


def _depths(convolutions: int | Sequence[int], groups: int) -> list[int]:
    """Return the convolutions of each group."""
    depths = [convolutions] * groups if isinstance(convolutions, int | float) else list(convolutions)
    if len(depths) != groups:
        raise ValueError(f"{groups} widths take one number of convolutions or {groups} of them, not {len(depths)}")
    if fractions := [depth for depth in depths if not isinstance(depth, int)]:
        raise ValueError(f"a group has a whole number of convolutions, not {fractions[0]}")
    return depths
