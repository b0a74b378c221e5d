"""A convolution of few channels with fixed filters, and the activation after it, in one pass over a GPU's memory."""

from __future__ import annotations

import torch
import triton
from torch import Tensor, nn

from hotlap.fused import kernels
from hotlap.fused.launch import KINDS, LARGEST, Block, alpha_of, named, on_their_gpu, suits

BLOCK = Block(128, 64, 4, 8)
_MOST = 64
"""Most numbers in a patch, and most filters: a program has them all in hand."""


def handles(images: Tensor, weight: Tensor, padding: int, activation: nn.Module, wide: int) -> bool:
    """Tell whether ``convolve`` can do a convolution and its activation: without padding, for small patches."""
    return (
        padding == 0
        and weight[0].numel() <= _MOST
        and len(weight) <= _MOST
        and not images.requires_grad
        and not torch.is_autocast_enabled(images.device.type)
        and suits(images, activation)
        and len(images) * images.shape[2] * images.shape[3] * wide < LARGEST
    )


def convolve(images: Tensor, weight: Tensor, bias: Tensor | None, activation: nn.Module, wide: int) -> Tensor:
    """Convolve without padding and activate, as ``activation(conv2d(images, weight, bias))`` does; no gradient.

    What lies between is not rounded to the images' type.

    Args:
        images: (N, C, H, W) in channels-last memory on a GPU.
        weight: (out, C, side, side).
        bias: (out,).
        activation: one that ``launch.suits`` knows.
        wide: channels of the result, of which those beyond ``out`` are 0: a number that suits the next convolution.

    Returns:
        (N, wide, H - side + 1, W - side + 1), in channels-last memory.
    """
    bias = torch.zeros_like(weight[:, 0, 0, 0]) if bias is None else bias
    kind, alpha = KINDS[type(activation)], alpha_of(activation)
    result: Tensor = _patches(images, weight.detach(), bias.detach(), kind, alpha, wide)
    return result


def _empty(images: Tensor, weight: Tensor, wide: int) -> Tensor:
    side = weight.shape[2]
    shape = (len(images), wide, images.shape[2] - side + 1, images.shape[3] - side + 1)
    return torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=torch.channels_last)


@torch.library.custom_op(
    named("patches", __file__),
    mutates_args=(),
    schema="(Tensor images, Tensor weight, Tensor bias, int kind, float alpha, int wide) -> Tensor",
)
@on_their_gpu
def _patches(images, weight, bias, kind, alpha, wide):  # type: ignore[no-untyped-def]
    images = images.contiguous(memory_format=torch.channels_last)
    result = _empty(images, weight, wide)
    out, channels, side, _ = weight.shape
    height, width = result.shape[2:]
    rows = len(images) * height * width
    depth = max(16, triton.next_power_of_2(side * side * channels))
    kernels.patches[BLOCK.grid(rows, 1, images.device)](
        images, weight.permute(2, 3, 1, 0).contiguous(), bias, result, rows, images.shape[2], images.shape[3],
        height, width, alpha, IN=channels, SIDE=side, C=out, WIDE=wide, ACT=kind, ROWS=BLOCK.rows, DEPTH=depth,
        CHANNELS=max(16, triton.next_power_of_2(wide)), num_warps=BLOCK.warps,
    )  # fmt: skip
    return result


@_patches.register_fake
def _(images, weight, bias, kind, alpha, wide):  # type: ignore[no-untyped-def]
    return _empty(images, weight, wide)
