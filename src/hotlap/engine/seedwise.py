"""Convolutions of several seeds side by side as one batch of matrix products.

cuDNN runs a grouped convolution of a few channels each far below what the card can do; a matrix product for each image
and seed does the same arithmetic in one kernel, at the cost of writing every window of the images out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_MOST = 2**28
"""Most numbers written out at a time: 1 GiB in float32."""


def convolve(images: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    """Convolve the images of each seed with its own weights, at stride 1.

    Args:
        images: (N, seeds · in, H, W), seed by seed.
        weight: (seeds, out, in, kernel height, kernel width).
        bias: (seeds, out).
        padding: zeros above and below, and left and right.

    Returns:
        (N, seeds · out, H', W'), under autocast in its type; differentiable.
    """
    if torch.is_autocast_enabled(images.device.type):
        # Here rather than product by product, so that what is kept for the backward pass is of one type.
        dtype = torch.get_autocast_dtype(images.device.type)
        images, weight, bias = images.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    seeds, _, channels, *kernel = weight.shape
    places = (images.shape[2] + 2 * padding[0] - kernel[0] + 1) * (images.shape[3] + 2 * padding[1] - kernel[1] + 1)
    at_once = max(1, _MOST // (seeds * channels * kernel[0] * kernel[1] * places))
    parts = images.split(at_once)
    # Few windows are kept for the backward pass, many are written out again, so that a part's are all there ever is.
    keep = len(parts) == 1
    made: list[Tensor] = [_Convolution.apply(p, weight, padding, keep) for p in parts]  # type: ignore[no-untyped-call]
    out = made[0] if len(parts) == 1 else torch.cat(made)
    return out if bias is None else out + bias.flatten()[:, None, None]


def _windows(images: Tensor, seeds: int, kernel: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Write out all windows: (N, seeds · C, H, W) to (N, seeds, C · kernel, H' · W')."""
    if padding != (0, 0):
        images = functional.pad(images, (padding[1], padding[1], padding[0], padding[0]))
    views = images.unfold(2, kernel[0], 1).unfold(3, kernel[1], 1).permute(0, 1, 4, 5, 2, 3)
    return views.reshape(len(images), seeds, -1, views.shape[4] * views.shape[5])


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, padding: tuple[int, int], keep: bool) -> Tensor:
        seeds, out, _, *kernel = weight.shape
        windows = _windows(images, seeds, (kernel[0], kernel[1]), padding)
        ctx.save_for_backward(windows if keep else images, weight)
        ctx.padding, ctx.keep = padding, keep
        ctx.size = (images.shape[2] + 2 * padding[0] - kernel[0] + 1, images.shape[3] + 2 * padding[1] - kernel[1] + 1)
        return (weight.flatten(2) @ windows).view(len(images), seeds * out, *ctx.size)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        kept, weight = ctx.saved_tensors
        seeds, out, channels, *kernel = weight.shape
        (gradient,) = gradients
        gradient = gradient.contiguous()
        to_images = to_weight = None
        if ctx.needs_input_grad[1]:
            windows = kept if ctx.keep else _windows(kept, seeds, (kernel[0], kernel[1]), ctx.padding)
            each = gradient.view(len(gradient), seeds, out, -1) @ windows.transpose(2, 3)
            to_weight = each.sum(0).view_as(weight)
        if ctx.needs_input_grad[0]:
            # The gradient convolved with the kernels turned round; what padding added gets none.
            turned = weight.flip(3, 4).transpose(1, 2).reshape(seeds, channels, -1)
            around = (kernel[0] - 1 - ctx.padding[0], kernel[1] - 1 - ctx.padding[1])
            spread = _windows(gradient, seeds, (kernel[0], kernel[1]), around)
            height, width = (n - k + 1 + 2 * p for n, k, p in zip(ctx.size, kernel, around, strict=True))
            to_images = (turned @ spread).view(len(gradient), seeds * channels, height, width)
        return to_images, to_weight, None, None
