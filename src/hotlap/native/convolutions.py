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

from hotlap.models.layers import convolve_and_pool, convolve_pool_and_activate
from hotlap.native.convolver import Convolution, Convolver, FilterSums
from hotlap.native.forking import fork
from hotlap.native.library import POOL_IN, POOL_NONE, POOL_OUT
from hotlap.native.pooled import pooled_layer

LEAST_CHANNELS = 8
"""With fewer channels of input or output, transforming the tiles costs more than it saves."""

TILES = "amx"
"""The processor's own tiles."""


class WinogradConvolutions(TorchFunctionMode):
    """Inside it, the kernels compute the 3×3 convolutions of a network, and what follows backwards.

    Convolutions of another kind, and images that are not float32 on the CPU, stay with PyTorch. Results differ from
    PyTorch's by rounding: 1e-6 to 2e-5 of their size, more in larger tiles. Not for second derivatives.

    Raises:
        InputError: there are no kernels.
    """

    def __init__(self) -> None:
        super().__init__()
        self._convolver = Convolver(fork())

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what ``function`` does, or have the kernels do it."""
        if function is convolve_and_pool and _fits_pooled(*args):
            conv, _, images = args
            return _Convolution.apply(images, conv.weight, conv.padding, True, self._convolver)  # type: ignore[no-untyped-call]
        if function is torch.conv2d and not kwargs and len(args) == 7 and _fits(*args):
            return _Convolution.apply(args[0], args[1], args[4], False, self._convolver)  # type: ignore[no-untyped-call]
        return function(*args, **(kwargs or {}))


class TiledConvolutions(TorchFunctionMode):
    """Inside it, the kernels sum the gradients of the filters of 3×3 convolutions in bfloat16, by products of tiles.

    For autocast, whose rounding it takes over: images and filters are rounded to bfloat16, gradients of filters are
    not. All else, and convolutions of another kind, stay with PyTorch. Not for second derivatives.

    Args:
        tiles: ``amx``, or ``plain`` for processors without, which is slow; None for ``TILES``.

    Attributes:
        used: convolutions so far whose gradients the kernels would sum.

    Raises:
        InputError: there are no kernels.
    """

    def __init__(self, tiles: str | None = None) -> None:
        super().__init__()
        self._summer = FilterSums(tiles or TILES, fork())
        self.used = 0

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Do what ``function`` does, or leave the gradients to the kernels."""
        if function is convolve_pool_and_activate and _fits_layer(*args):
            self.used += 1
            conv, norm, act, images = args
            return pooled_layer(conv, norm, act, images, self._summer)
        if function is torch.conv2d and not kwargs and len(args) == 7 and _fits(*args, rounded=True):
            self.used += 1
            return _Bfloat16Convolution.apply(args[0], args[1], args[4], self._summer)  # type: ignore[no-untyped-call]
        return function(*args, **(kwargs or {}))


def _fits_layer(conv: nn.Module, _: nn.Module, __: nn.Module, images: Tensor) -> bool:
    return (
        isinstance(conv, nn.Conv2d)
        and conv.padding_mode == "zeros"
        and _fits(images, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups, rounded=True)
    )


def _fits_pooled(conv: nn.Module, pool: nn.Module, images: Tensor) -> bool:
    return (
        isinstance(pool, nn.MaxPool2d)
        and (pool.kernel_size, pool.stride, pool.padding, pool.dilation) == (2, 2, 0, 1)
        and not pool.ceil_mode
        and not pool.return_indices
        and isinstance(conv, nn.Conv2d)
        and conv.padding_mode == "zeros"
        and _fits(images, conv.weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    )


def _fits(
    images: Tensor, filters: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int,
    *, rounded: bool = False,
) -> bool:  # fmt: skip
    return (
        bias is None
        and filters.shape[2:] == (3, 3)
        and min(filters.shape[:2]) >= LEAST_CHANNELS
        and tuple(stride) == tuple(dilation) == (1, 1)
        and groups == 1
        and not isinstance(padding, str)
        and padding[0] == padding[1] <= 2
        and images.dim() == 4
        and images.device.type == "cpu"
        and images.dtype in ((torch.float32, torch.bfloat16) if rounded else (torch.float32,))
        and filters.dtype is torch.float32
        and torch.is_autocast_enabled("cpu") is rounded
    )


class _Bfloat16Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, filters: Tensor, padding: tuple[int, int], summer: FilterSums) -> Tensor:
        rounded = _channels_last(images.bfloat16()), _channels_last(filters.bfloat16())
        ctx.save_for_backward(*rounded)
        ctx.padding, ctx.summer, ctx.types = padding, summer, (images.dtype, filters.dtype)
        return torch.conv2d(*rounded, padding=padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, filters = ctx.saved_tensors
        gradient = _channels_last(gradient.bfloat16())
        of_images = of_filters = None
        if ctx.needs_input_grad[1]:
            of_filters = torch.empty_like(filters, dtype=torch.float32)
            n, channels, height, width = images.shape
            conv = Convolution(n, height, width, channels, len(filters), ctx.padding[0], POOL_NONE)
            ctx.summer.sum(
                conv, _strides(of_filters), images.data_ptr(), gradient.data_ptr(), None, of_filters.data_ptr(),
                torch.get_num_threads(),
            )  # fmt: skip
            of_filters = of_filters.to(ctx.types[1])
        if ctx.needs_input_grad[0]:
            of_images, _, _ = torch.ops.aten.convolution_backward(
                gradient, images, filters, None, (1, 1), ctx.padding, (1, 1), False, (0, 0), 1, (True, False, False)
            )
            of_images = of_images.to(ctx.types[0])
        return of_images, of_filters, None, None


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, filters: Tensor, padding: tuple[int, int], pool: bool, convolver: Convolver
    ) -> Tensor:
        images, filters = _channels_last(images), _channels_last(filters)
        pad, (n, channels, height, width) = padding[0], images.shape
        conv = Convolution(n, height, width, channels, len(filters), pad, POOL_OUT if pool else POOL_NONE)
        out = _empty(n, len(filters), *conv.out_size)
        index = torch.empty(out.shape, dtype=torch.uint8, memory_format=torch.channels_last) if pool else None
        threads = torch.get_num_threads()
        convolver.forward(
            conv, _strides(filters), images.data_ptr(), filters.data_ptr(), out.data_ptr(), _at(index), threads
        )
        ctx.save_for_backward(images, filters, index)
        ctx.conv, ctx.convolver = conv, convolver
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        images, filters, index = ctx.saved_tensors
        conv, convolver, threads = ctx.conv, ctx.convolver, torch.get_num_threads()
        gradient = _channels_last(gradient)
        of_images = of_filters = None
        if ctx.needs_input_grad[1]:
            of_filters = torch.empty_like(filters)
            convolver.filters(
                conv, _strides(filters), images.data_ptr(), gradient.data_ptr(), _at(index), of_filters.data_ptr(),
                threads,
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
                back, (into, out, -tap), gradient.data_ptr(), last, of_images.data_ptr(), _at(index), threads
            )
        return of_images, of_filters, None, None, None


def _empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, memory_format=torch.channels_last)


def _channels_last(x: Tensor) -> Tensor:
    """As (N, H, W, C) in memory; strides of sides of length 1 say nothing, so they are not trusted."""
    n, c, h, w = x.shape
    return x if x.stride() == (h * w * c, 1, w * c, c) else _empty(n, c, h, w, dtype=x.dtype).copy_(x)


def _strides(filters: Tensor) -> tuple[int, int, int]:
    return filters.stride(0), filters.stride(1), filters.stride(3)


def _at(index: Tensor | None) -> int | None:
    return None if index is None else index.data_ptr()
