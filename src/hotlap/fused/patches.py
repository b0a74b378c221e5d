"""A convolution of few channels with fixed filters, and the activation after it, in one pass over a GPU's memory."""

from __future__ import annotations

import torch
import triton
from torch import Tensor, nn

from hotlap.fused import kernels
from hotlap.fused.launch import KINDS, alpha_of, grid_of, suits

_ROWS, _WARPS = 64, 4
_MOST = 64
"""Most numbers in a patch: beyond them, a matrix product is the better way."""


def handles(images: Tensor, weight: Tensor, padding: int, activation: nn.Module) -> bool:
    """Tell whether ``convolve`` can do a convolution and its activation: without padding, for small patches."""
    return (
        padding == 0
        and weight[0].numel() <= _MOST
        and len(weight) <= _MOST
        and not images.requires_grad
        and suits(images, activation)
    )


def convolve(images: Tensor, weight: Tensor, bias: Tensor | None, activation: nn.Module) -> Tensor:
    """Convolve without padding and activate, as ``activation(conv2d(images, weight, bias))`` does; no gradient.

    What lies between is not rounded to the images' type.

    Args:
        images: (N, C, H, W) in channels-last memory on a GPU.
        weight: (out, C, side, side).
        bias: (out,).
        activation: one that ``launch.suits`` knows.

    Returns:
        (N, out, H - side + 1, W - side + 1), in channels-last memory.
    """
    bias = torch.zeros_like(weight[:, 0, 0, 0]) if bias is None else bias
    return _patches(images, weight.detach(), bias.detach(), KINDS[type(activation)], alpha_of(activation))


def _empty(images: Tensor, weight: Tensor) -> Tensor:
    out, _, side, _ = weight.shape
    shape = (len(images), out, images.shape[2] - side + 1, images.shape[3] - side + 1)
    return torch.empty(shape, dtype=images.dtype, device=images.device, memory_format=torch.channels_last)


@torch.library.custom_op(
    "hotlap::patches",
    mutates_args=(),
    schema="(Tensor images, Tensor weight, Tensor bias, int kind, float alpha) -> Tensor",
)
def _patches(images, weight, bias, kind, alpha):  # type: ignore[no-untyped-def]
    images = images.contiguous(memory_format=torch.channels_last)
    result = _empty(images, weight)
    out, channels, side, _ = weight.shape
    height, width = result.shape[2:]
    rows = len(images) * height * width
    beside = triton.next_power_of_2(out)
    kernels.patches[grid_of(rows, _ROWS, out, beside, images.device)](
        images, weight.permute(2, 3, 1, 0).contiguous(), bias, result, rows, images.shape[2], images.shape[3],
        height, width, alpha, IN=channels, SIDE=side, C=out, ACT=kind, ROWS=_ROWS, CHANNELS=beside, num_warps=_WARPS,
    )  # fmt: skip
    return result


@_patches.register_fake
def _(images, weight, bias, kind, alpha):  # type: ignore[no-untyped-def]
    return _empty(images, weight)
