"""3×3 convolutions of PyTorch networks in the compiled kernels: Winograd's tiles, with max-pooling in the same pass.

On a CPU nearly all of the time of a convolutional network is in convolutions, and PyTorch's compute them directly.
Winograd's algorithm (Lavin and Gray 2016) takes a quarter to a sixth of the multiplications, forwards and backwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from hotlap.models.layers import convolve_and_pool, max_pool
from hotlap.models.pooling import pools_squares
from hotlap.native.convolver import Convolution, Convolver
from hotlap.native.forking import fork, threads
from hotlap.native.layouts import channels_last, empty
from hotlap.native.library import POOL_IN, POOL_NONE, POOL_OUT

LEAST_CHANNELS = 8
"""With fewer channels of input or output, transforming the tiles costs more than it saves."""


class WinogradConvolutions(TorchFunctionMode):
    """Inside it, the kernels compute the 3×3 convolutions of a network, and what follows backwards.

    Convolutions of another kind, and images that are not float32 on the CPU, stay with PyTorch. Results differ from
    PyTorch's by rounding: 1e-6 to 2e-5 of their size, more in larger tiles. Not for second derivatives.

    Attributes:
        used: convolutions that the kernels have computed so far.

    Raises:
        InputError: there are no kernels.
    """

    _types: tuple[torch.dtype, ...] = (torch.float32,)
    _rounds = False

    def __init__(self) -> None:
        super().__init__()
        self._convolver = self._make()
        self.used = 0

    def _make(self) -> Convolver:
        return Convolver(fork())

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what ``function`` does, or have the kernels do it."""
        if function is convolve_and_pool:
            conv, pool, images = args
            if _pools_by_squares(conv, pool) and self._fits(
                images, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups, pool=True
            ):
                return self._convolve(images, conv.weight, conv.padding, pool=True)
            with self:
                return max_pool(pool, conv(images))
        if function is torch.conv2d and not kwargs and len(args) == 7 and self._fits(*args):
            return self._convolve(args[0], args[1], args[4], pool=False)
        return function(*args, **(kwargs or {}))

    def _fits(
        self,
        images: Tensor,
        filters: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        *,
        pool: bool = False,
    ) -> bool:
        """Tell whether the kernels can; what PyTorch refuses is left to it, and so are its words."""
        return (
            bias is None
            and filters.shape[2:] == (3, 3)
            and min(filters.shape[:2]) >= LEAST_CHANNELS
            and (stride, dilation, groups) == ((1, 1), (1, 1), 1)
            and padding in ((0, 0), (1, 1), (2, 2))
            and images.dim() == 4
            and images.shape[1] == filters.shape[1]
            and len(images) > 0
            and min(images.shape[2:]) + 2 * padding[0] - 2 >= (2 if pool else 1)
            and images.device.type == filters.device.type == "cpu"
            and images.dtype in self._types
            and filters.dtype is torch.float32
            and torch.is_autocast_enabled("cpu") is self._rounds
        )

    def _convolve(self, images: Tensor, filters: Tensor, padding: tuple[int, int], *, pool: bool) -> Tensor:
        self.used += 1
        images = images.bfloat16() if self._rounds else images
        return _Convolution.apply(images, filters, padding, pool, self._convolver)  # type: ignore[no-any-return, no-untyped-call]


TILES = "amx"
"""The processor's own tiles; ``plain`` ones are for tests, and slow."""


class TiledConvolutions(WinogradConvolutions):
    """Inside it, the kernels compute the 3×3 convolutions of a network in bfloat16, by products of tiles.

    For autocast, whose rounding it takes over: images and filters are rounded to bfloat16, and so are outputs and their
    gradients; gradients of filters are not. All else, and convolutions of another kind, stay with PyTorch. Not for
    second derivatives.

    Raises:
        InputError: there are no kernels.
    """

    _types = (torch.float32, torch.bfloat16)
    _rounds = True

    def _make(self) -> Convolver:
        return Convolver(fork(), TILES)


def _pools_by_squares(conv: nn.Module, pool: nn.Module) -> bool:
    return pools_squares(pool) and isinstance(conv, nn.Conv2d) and conv.padding_mode == "zeros"


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, filters: Tensor, padding: tuple[int, int], pool: bool, convolver: Convolver
    ) -> Tensor:
        images, filters = channels_last(images), channels_last(filters)
        pad, (n, channels, height, width) = padding[0], images.shape
        conv = Convolution(n, height, width, channels, len(filters), pad, POOL_OUT if pool else POOL_NONE)
        out = empty((n, len(filters), *conv.out_size), images.dtype)
        index = empty(out.shape, torch.uint8) if pool else None
        convolver.forward(
            conv, _strides(filters), images.data_ptr(), filters.data_ptr(), out.data_ptr(), _at(index), threads()
        )
        ctx.save_for_backward(images, filters, index)
        ctx.conv, ctx.convolver = conv, convolver
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, filters, index = ctx.saved_tensors
        conv, convolver = ctx.conv, ctx.convolver
        gradient = channels_last(gradient.to(images.dtype))
        of_images = of_filters = None
        if ctx.needs_input_grad[1]:
            of_filters = torch.empty_like(filters)
            convolver.filters(
                conv, _strides(filters), images.data_ptr(), gradient.data_ptr(), _at(index), of_filters.data_ptr(),
                threads(),
            )  # fmt: skip
        if ctx.needs_input_grad[0]:
            of_images = torch.empty_like(images)
            out, into, tap = _strides(filters)
            height, width = (size + 2 * conv.pad - 2 for size in (conv.height, conv.width))
            back = Convolution(
                conv.n, height, width, conv.out, conv.into, 2 - conv.pad, POOL_IN if index is not None else POOL_NONE
            )
            # From the last tap to the first, and with inputs and outputs exchanged.
            last = filters.data_ptr() + 8 * tap * filters.element_size()
            convolver.forward(
                back, (into, out, -tap), gradient.data_ptr(), last, of_images.data_ptr(), _at(index), threads()
            )
        return of_images, of_filters, None, None, None


def _strides(filters: Tensor) -> tuple[int, int, int]:
    return filters.stride(0), filters.stride(1), filters.stride(3)


def _at(index: Tensor | None) -> int | None:
    return None if index is None else index.data_ptr()
