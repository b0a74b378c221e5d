"""Layers that PyTorch lacks: convolutions that start as the identity, scaled heads, activations by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import handle_torch_function, has_torch_function

from hotlap.errors import unknown_name
from hotlap.models.pooling import max_of_squares, pools_squares
from hotlap.recipe import Component

HeadInit: TypeAlias = Literal["default", "unit-std"]
Pooling: TypeAlias = Literal["max-pool", "amax"]
Fused: TypeAlias = Literal["", "triton", "native"]
"""Whose kernels do several layers at once: those of ``hotlap.fused``, those of ``hotlap.native``, or none."""


def _relu() -> nn.Module:
    return nn.ReLU()


def _celu(*, alpha: float) -> nn.Module:
    return nn.CELU(alpha)


def _gelu() -> nn.Module:
    return nn.GELU()


def _silu() -> nn.Module:
    return nn.SiLU()


ACTIVATIONS: Mapping[str, Callable[..., nn.Module]] = {"relu": _relu, "celu": _celu, "gelu": _gelu, "silu": _silu}
"""Activations by the name a recipe gives them; GELU is the exact one."""


def activation(component: Component) -> nn.Module:
    """Build an activation: ``relu``, ``celu`` with its ``alpha``, exact ``gelu``, ``silu``.

    Raises:
        InputError: an unknown name.
        TypeError: an unknown or missing option.
    """
    if component.name not in ACTIVATIONS:
        raise unknown_name("activation", component.name, ACTIVATIONS)
    return ACTIVATIONS[component.name](**component.options)


class CenterCrop(nn.Module):
    """The central square of each image: (N, C, H, W) to (N, C, side, side), a view.

    Where an odd number of rows or columns is left out, the larger part is at the bottom or at the right.

    Args:
        side: height and width of what is kept, in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        """Cut the square out."""
        top, left = ((size - self.side) // 2 for size in images.shape[2:])
        return images[:, :, top : top + self.side, left : left + self.side]

    def extra_repr(self) -> str:
        """Describe the layer."""
        return str(self.side)


def check_size(shape: tuple[int, int, int], height: int, width: int, after: str) -> None:
    """Refuse images of which a network's layers leave nothing.

    Args:
        shape: (C, H, W) of one image.
        height: rows that are left.
        width: columns that are left.
        after: name of the layer after which so many are left.

    Raises:
        ValueError: no row or no column is left.
    """
    if height < 1 or width < 1:
        raise ValueError(f"images of {shape[1]}×{shape[2]} pixels are too small: nothing is left after {after}")


def identity_(filters: Tensor) -> Tensor:
    """Let filters pass channels on unchanged, each its own, as ``nn.init.dirac_`` does channel by channel; in place.

    Args:
        filters: (out, in, height, width) of odd sides; filters beyond the channels become zero.

    Returns:
        The filters.
    """
    own = torch.arange(min(filters.shape[:2]))
    filters.zero_()
    filters[own, own, filters.shape[2] // 2, filters.shape[3] // 2] = 1
    return filters


class Conv3x3(nn.Conv2d):
    """A 3×3 convolution that keeps the image size, without bias, with PyTorch's default initialisation."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__(channels_in, channels_out, 3, padding=1, bias=False)


def convolve_and_pool(conv: nn.Module, pool: nn.Module, images: Tensor) -> Tensor:
    """Convolve, then pool: one step to a ``TorchFunctionMode``, which may do both in one pass.

    Args:
        conv: the convolution.
        pool: the pooling.
        images: (N, C, H, W).
    """
    # Proxies that trace a network are to see its layers.
    if type(images) is Tensor and has_torch_function((images,)):
        return handle_torch_function(convolve_and_pool, (images,), conv, pool, images)
    return max_pool(pool, conv(images))


def max_pool(pool: nn.Module, images: Tensor) -> Tensor:
    """Pool; compiled for a GPU, the greatest of 2×2 pixels is ``pooling.max_of_squares``."""
    if torch.compiler.is_compiling() and images.is_cuda and pools_squares(pool):
        return max_of_squares(images)
    return cast(Tensor, pool(images))


def convolve_and_activate(
    conv: nn.Module,
    norm: nn.Module,
    act: nn.Module,
    images: Tensor,
    *,
    pool: nn.Module | None = None,
    added: Tensor | None = None,
) -> Tensor:
    """Convolve, pool where asked to, normalise, add where asked to, activate.

    In training, all but the convolution are done by the kernels that ``norm`` names in its attribute ``fused``, where
    they can.

    Args:
        conv: the convolution.
        norm: the normalisation.
        act: the activation.
        images: (N, C, H, W); for the kernels, C may be more than ``conv`` takes.
        pool: the pooling.
        added: like the result; not together with ``pool``.
    """
    by: Fused = getattr(norm, "fused", "")
    if norm.training and by:
        norms = _norms(by)
        # Kernels for convolutions on a CPU pool in the same pass.
        together = by == "native" and has_torch_function((images,)) and not _beyond(conv, images)
        first = pool if together else None
        convolved = _convolve_wide(conv, images) if first is None else convolve_and_pool(conv, first, images)
        pool = pool if first is None else None
        squares = pools_squares(pool)
        if (pool is None or squares) and norms.handles(convolved, norm, act, pool=squares):
            return cast(Tensor, norms.normalise(convolved, norm, act, pool=squares, added=added))
        normal = norm(convolved if pool is None else max_pool(pool, convolved))
    else:
        normal = norm(conv(images) if pool is None else convolve_and_pool(conv, pool, images))
    return cast(Tensor, act(normal if added is None else normal + added))


def _norms(by: Fused) -> Any:
    """The module with ``handles`` and ``normalise``."""
    if by == "triton":
        from hotlap.fused import norms as of_triton

        return of_triton
    from hotlap.native import norms

    return norms


def _beyond(conv: nn.Module, images: Tensor) -> int:
    """How many channels of zeros images have beyond those that the filters have."""
    return max(0, images.shape[1] - conv.in_channels) if isinstance(conv, nn.Conv2d) and conv.groups == 1 else 0


def _convolve_wide(conv: nn.Module, images: Tensor) -> Tensor:
    """Convolve images that may have channels of zeros beyond those that the filters have."""
    beyond = _beyond(conv, images)
    if not beyond:
        return cast(Tensor, conv(images))
    assert isinstance(conv, nn.Conv2d)
    weight = functional.pad(conv.weight, (0, 0, 0, 0, 0, beyond))
    return functional.conv2d(images, weight, conv.bias, conv.stride, conv.padding, conv.dilation)


class PartialDiracConv3x3(Conv3x3):
    """As ``Conv3x3``, but its first filters, one for each input channel, pass that channel on unchanged.

    Source: airbench, as in RECIPES.md section 4.
    """

    def reset_parameters(self) -> None:
        """Draw the weights anew from the global generator."""
        super().reset_parameters()
        with torch.no_grad():
            identity_(self.weight[: self.in_channels])


class DiracConv3x3(Conv3x3):
    """As ``Conv3x3``, but passes its channels on unchanged at first; draws nothing."""

    def reset_parameters(self) -> None:
        """Set the weights to the identity."""
        with torch.no_grad():
            identity_(self.weight)


class RestandardisedConv3x3(Conv3x3):
    """As ``Conv3x3``, but its start is the default plus the identity, brought back to the default's mean and spread.

    Source: hlb-CIFAR10, as in RECIPES.md section 3.
    """

    def reset_parameters(self) -> None:
        """Draw the weights anew from the global generator."""
        super().reset_parameters()
        with torch.no_grad():
            std, mean = torch.std_mean(self.weight)
            shifted = self.weight + identity_(torch.empty_like(self.weight))
            std_after, mean_after = torch.std_mean(shifted)
            self.weight.copy_((shifted - mean_after) / std_after * std + mean)


class GlobalMax(nn.Module):
    """The greatest value of each channel: (N, C, H, W) to (N, C).

    Args:
        how: ``max-pool`` sends the gradient to one of several equal maxima, ``amax`` shares it among them.
    """

    def __init__(self, how: Pooling) -> None:
        super().__init__()
        if how not in ("max-pool", "amax"):
            raise ValueError(f"pooling is max-pool or amax, not {how!r}")
        self.how = how

    def forward(self, images: Tensor) -> Tensor:
        """Take the maximum over height and width."""
        if self.how == "amax":
            return images.amax((2, 3))
        return functional.max_pool2d(images, images.shape[2:]).flatten(1)


class Head(nn.Linear):
    """The last layer: linear without bias, its logits multiplied by a constant.

    Args:
        features: inputs.
        classes: outputs.
        scale: factor of the logits.
        start: ``default`` is PyTorch's initialisation, ``unit-std`` that divided by its standard deviation.
    """

    role = "head"

    def __init__(self, features: int, classes: int, *, scale: float, start: HeadInit) -> None:
        if start not in ("default", "unit-std"):
            raise ValueError(f"head_init is default or unit-std, not {start!r}")
        self._start = start
        super().__init__(features, classes, bias=False)
        self.scale = scale

    def reset_parameters(self) -> None:
        """Draw the weights anew from the global generator."""
        super().reset_parameters()
        if self._start == "unit-std":
            with torch.no_grad():
                self.weight.div_(self.weight.std())

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, features) to (N, classes)."""
        return functional.linear(features, self.weight) * self.scale
