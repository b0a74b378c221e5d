"""Max-pooling, batch normalisation and activation in two passes over a GPU's memory, and back in two more.

Written operation by operation, PyTorch goes over the images of a training step eight to twelve times between one
convolution and the next; its compiler still takes half as many again. The gradient of a normalisation needs sums of the
whole batch first, so fewer than two passes each way cannot be had.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor, nn

from hotlap.fused import kernels
from hotlap.fused.launch import KINDS, Block, alpha_of, named, on_their_gpu, suits
from hotlap.models.norms import is_ordinary, parts_of

BLOCKS = {
    "statistics": Block(64, 32, 4, 8, 2),
    "statistics, pooled": Block(16, 64, 4, 8, 1),
    "normalise": Block(32, 64, 4, 8, 2),
    "gradient_sums": Block(32, 64, 4, 8, 2),
    "gradients": Block(32, 64, 4, 8, 2),
    "gradients, pooled": Block(32, 64, 8, 4, 3),
}
"""The blocks of each kernel: what was fastest on an H200 for the layers of airbench's network."""

_PARTS = 128


def handles(images: Tensor, norm: nn.Module, activation: nn.Module, *, pool: bool) -> bool:
    """Tell whether ``normalise`` can do what ``activation(norm(images))`` does in training."""
    return is_ordinary(norm, images, pool=pool) and parts_of(norm, len(images)) == 1 and suits(images, activation)


def normalise(
    images: Tensor, norm: nn.BatchNorm2d, activation: nn.Module, *, pool: bool, added: Tensor | None = None
) -> Tensor:
    """Pool, normalise by the batch, add and activate: ``activation(norm(pool(images)) + added)``, as in training.

    What lies between is not rounded to the images' type. The running statistics of ``norm`` are moved.

    Args:
        images: (N, C, H, W) in channels-last memory, float32, float16 or bfloat16, on a GPU.
        norm: with float32 weight (a parameter or a buffer), bias and statistics.
        activation: one that ``launch.suits`` knows.
        pool: take the greatest of each 2×2 pixels first; a last odd row or column is left out.
        added: like ``images``, added before the activation; not together with ``pool``.

    Returns:
        (N, C, H, W) or (N, C, H // 2, W // 2), of the type and in the memory format of ``images``; differentiable.
    """
    assert added is None or not pool
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    kind = KINDS[type(activation)]
    alpha = alpha_of(activation)
    result: Tensor
    result, _, _, stats = _forward(images, added, norm.weight, norm.bias, norm.eps, kind, alpha, pool)
    with torch.no_grad():
        count = result.numel() // result.shape[1]
        norm.running_mean.lerp_(stats[0], norm.momentum)
        norm.running_var.lerp_(stats[1] * (count / max(1, count - 1)), norm.momentum)
    return result


def _last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _empty(like: Tensor, height: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    shape = (len(like), like.shape[1], height, width)
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device, memory_format=torch.channels_last)


def _pooled_size(images: Tensor, pool: bool) -> tuple[int, int]:
    height, width = images.shape[2:]
    return (height // 2, width // 2) if pool else (height, width)


@torch.library.custom_op(
    named("normalise", __file__),
    mutates_args=(),
    schema="(Tensor images, Tensor? added, Tensor weight, Tensor bias, float eps, int kind, float alpha, bool pool)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)
@on_their_gpu
def _forward(images, added, weight, bias, eps, kind, alpha, pool):  # type: ignore[no-untyped-def]
    images = _last(images)
    added = added if added is None else _last(added)
    channels = images.shape[1]
    height, width = _pooled_size(images, pool)
    result = _empty(images, height, width)
    pooled = _empty(images, height, width) if pool else images.new_empty(0)
    places = _empty(images, height, width, torch.int8) if pool else images.new_empty(0, dtype=torch.int8)
    rows = len(images) * height * width
    stats = images.new_empty((3, channels), dtype=torch.float32)
    block = BLOCKS["statistics, pooled" if pool else "statistics"]
    grid = block.grid(rows, channels, images.device)
    parts = images.new_empty((2, grid[0], channels), dtype=torch.float32)
    kernels.statistics[grid](
        images, pooled, places, parts, rows, images.shape[2], images.shape[3], height, width,
        C=channels, POOL=pool, **block.options,
    )  # fmt: skip
    values = pooled if pool else images
    kernels.moments[(triton.cdiv(channels, 16),)](
        parts, values, stats, grid[0], rows, eps, C=channels, PARTS=_PARTS, CHANNELS=16
    )
    block = BLOCKS["normalise"]
    kernels.normalise[block.grid(rows, channels, images.device)](
        values, values if added is None else added, result, stats, weight, bias, rows, alpha,
        C=channels, ACT=kind, ADD=added is not None, **block.options,
    )  # fmt: skip
    return result, pooled, places, stats


@_forward.register_fake
def _(images, added, weight, bias, eps, kind, alpha, pool):  # type: ignore[no-untyped-def]
    height, width = _pooled_size(images, pool)
    result = _empty(images, height, width)
    pooled = _empty(images, height, width) if pool else images.new_empty(0)
    places = _empty(images, height, width, torch.int8) if pool else images.new_empty(0, dtype=torch.int8)
    return result, pooled, places, images.new_empty((3, images.shape[1]), dtype=torch.float32)


@torch.library.custom_op(
    named("normalise_backward", __file__),
    mutates_args=(),
    schema="(Tensor gradient, Tensor values, Tensor? added, Tensor places, Tensor stats, Tensor weight, Tensor bias,"
    " int kind, float alpha, bool pool, int height, int width) -> (Tensor, Tensor, Tensor)",
)
@on_their_gpu
def _backward(gradient, values, added, places, stats, weight, bias, kind, alpha, pool, height, width):  # type: ignore[no-untyped-def]
    gradient = _last(gradient)
    add = added is not None
    also = _last(added) if add else values
    n, channels, *size = values.shape
    rows = n * size[0] * size[1]
    squares = n * ((height + 1) // 2) * ((width + 1) // 2) if pool else rows
    out = _empty(values, height, width)
    to_added = _empty(values, height, width) if add else values.new_empty(0)
    sums = values.new_empty((2, channels), dtype=torch.float32)
    block = BLOCKS["gradient_sums"]
    grid = block.grid(rows, channels, values.device)
    parts = values.new_empty((2, grid[0], channels), dtype=torch.float32)
    kernels.gradient_sums[grid](
        gradient, values, also, stats, weight, bias, parts, rows, alpha, C=channels, ACT=kind, ADD=add, **block.options
    )
    kernels.add_parts[(triton.cdiv(channels, 16), 2)](parts, sums, grid[0], C=channels, PARTS=_PARTS, CHANNELS=16)
    block = BLOCKS["gradients, pooled" if pool else "gradients"]
    kernels.gradients[block.grid(squares, channels, values.device)](
        gradient, values, also, places, stats, weight, bias, sums, out, to_added, rows, squares, height, width, *size,
        alpha, C=channels, ACT=kind, ADD=add, POOL=pool, **block.options,
    )  # fmt: skip
    return out, to_added, sums


@_backward.register_fake
def _(gradient, values, added, places, stats, weight, bias, kind, alpha, pool, height, width):  # type: ignore[no-untyped-def]
    to_added = values.new_empty(0) if added is None else _empty(values, height, width)
    return _empty(values, height, width), to_added, values.new_empty((2, values.shape[1]), dtype=torch.float32)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    images, added, weight, bias, _, kind, alpha, pool = inputs
    _, pooled, places, stats = output
    ctx.save_for_backward(pooled if pool else images, added, places, stats, weight, bias)
    ctx.options = kind, alpha, pool, images.shape[2], images.shape[3]
    ctx.mark_non_differentiable(pooled, places, stats)


def _differentiate(ctx: Any, gradient: Tensor, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    values, added, places, stats, weight, bias = ctx.saved_tensors
    out, to_added, sums = _backward(gradient, values, added, places, stats, weight, bias, *ctx.options)
    to_weight = sums[1] if ctx.needs_input_grad[2] else None
    to_bias = sums[0] if ctx.needs_input_grad[3] else None
    return out, None if added is None else to_added, to_weight, to_bias, None, None, None, None


_forward.register_autograd(_differentiate, setup_context=_keep)
