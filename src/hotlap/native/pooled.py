"""A convolution whose output is pooled, normalised and activated, in bfloat16 on a CPU.

Where its input asks for no gradient, that of its output is never written at full size: it stays pooled, with an index
of which of four pixels each number belongs to, until the filters' gradients are summed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hotlap.native import norms
from hotlap.native.convolver import Convolution, FilterSums
from hotlap.native.library import POOL_OUT


def pooled_layer(conv: nn.Conv2d, norm: nn.BatchNorm2d, act: nn.Module, images: Tensor, summer: FilterSums) -> Tensor:
    """Return ``act(norm(pool(conv(images))))``, as in training; moves the running statistics.

    Args:
        conv: 3×3, without bias.
        norm: one that ``norms.knows``.
        act: likewise.
        images: (N, C, H, W), which get no gradient; rounded to bfloat16.
        summer: sums the filters' gradients.

    Returns:
        (N, C', H // 2, W // 2) bfloat16; differentiable once.
    """
    padding = conv.padding
    assert not isinstance(padding, str)
    result, stats = _PooledLayer.apply(  # type: ignore[no-untyped-call]
        images, conv.weight, norm.weight, norm.bias, padding, norms.Options.of(norm, act, True), summer
    )
    norms.move_statistics(norm, stats, result)
    return result  # type: ignore[no-any-return]


class _PooledLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        filters: Tensor,
        weight: Tensor,
        bias: Tensor,
        padding: tuple[int, int],
        options: norms.Options,
        summer: FilterSums,
    ) -> tuple[Tensor, Tensor]:
        images, rounded = norms.last(images.bfloat16()), norms.last(filters.bfloat16())
        done = norms.normalise_forward(torch.conv2d(images, rounded, padding=padding), None, weight, bias, options)
        ctx.save_for_backward(images, filters, done.values, done.places, done.stats, weight, bias)
        ctx.padding, ctx.options, ctx.summer = padding, options, summer
        ctx.mark_non_differentiable(done.stats)
        return done.result, done.stats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        images, filters, values, places, stats, weight, bias = ctx.saved_tensors
        size = tuple(values.shape[2:])
        pooled, _none, sums = norms.normalise_backward(
            gradient, size, values, None, None, stats, weight, bias, ctx.options
        )
        of_filters = torch.empty(filters.shape, memory_format=torch.channels_last)
        n, channels, height, width = images.shape
        conv = Convolution(n, height, width, channels, len(filters), ctx.padding[0], POOL_OUT)
        strides = of_filters.stride(0), of_filters.stride(1), of_filters.stride(3)
        ctx.summer.sum(
            conv, strides, images.data_ptr(), pooled.data_ptr(), places.data_ptr(), of_filters.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        to_weight, to_bias = (sums[1 - i] if ctx.needs_input_grad[2 + i] else None for i in range(2))
        return None, of_filters, to_weight, to_bias, None, None, None
