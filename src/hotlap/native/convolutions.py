"""3×3 convolutions of PyTorch networks in the compiled kernels: Winograd's tiles, with max-pooling in the same pass.

On a CPU nearly all of the time of a convolutional network is in convolutions, and PyTorch's compute them directly.
Winograd's algorithm (Lavin and Gray 2016) takes a quarter to a sixth of the multiplications, forwards and backwards.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from hotlap.models.layers import convolve_and_pool
from hotlap.native.convolver import Convolution, Convolver
from hotlap.native.library import POOL_IN, POOL_NONE, POOL_OUT

LEAST_CHANNELS = 8
"""With fewer channels of input or output, transforming the tiles costs more than it saves."""


class WinogradConvolutions(TorchFunctionMode):
    """Inside it, the kernels compute the 3×3 convolutions of a network, and what follows backwards.

    Convolutions of another kind, and images that are not float32 on the CPU, stay with PyTorch. Results differ from
    PyTorch's by rounding: 1e-6 to 2e-5 of their size, more in larger tiles. Not for second derivatives.

    Raises:
        InputError: there are no kernels.
    """

    def __init__(self) -> None:
        super().__init__()
        self._convolver = Convolver(_fork())

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
    images: Tensor, filters: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> bool:
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
        and images.dtype is filters.dtype is torch.float32
    )


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


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, memory_format=torch.channels_last)


def _channels_last(x: Tensor) -> Tensor:
    """As (N, H, W, C) in memory; strides of sides of length 1 say nothing, so they are not trusted."""
    n, c, h, w = x.shape
    return x if x.stride() == (h * w * c, 1, w * c, c) else _empty(n, c, h, w).copy_(x)


def _strides(filters: Tensor) -> tuple[int, int, int]:
    return filters.stride(0), filters.stride(1), filters.stride(3)


def _at(index: Tensor | None) -> int | None:
    return None if index is None else index.data_ptr()


@cache
def _fork() -> int | None:
    """The address of GOMP_parallel in PyTorch's OpenMP library, so that its threads do the work; None without one.

    Threads of our own would share the cores with PyTorch's, which keep spinning for a while after each operation.
    """
    if not sys.platform.startswith("linux"):
        return None
    lines = Path("/proc/self/maps").read_text().splitlines()
    loaded = {fields[5].strip() for line in lines if len(fields := line.split(maxsplit=5)) == 6}
    for path in sorted(loaded):
        if Path(path).name.startswith(("libgomp", "libiomp5", "libomp")):
            library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
            if hasattr(library, "GOMP_parallel"):
                return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
    return None
