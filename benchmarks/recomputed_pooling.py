"""Max-pooling's gradient with the place of each maximum found again from the images, not read from where it was kept.

An experiment beside ``hotlap.fused``, which keeps a byte for each maximum and the maxima themselves. Finding the place
again costs no byte on the way forward, but on the way back all four pixels of each square are read in the place of one
maximum and one byte, and the images have to be kept: see ``bytes_moved``. ``fused_norms.py --recompute`` times both.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from hotlap.fused import norms
from hotlap.fused.kernels import _greatest, _slope, _to_corner
from hotlap.fused.launch import KINDS, Block, alpha_of

BLOCK = Block(32, 64, 8, 4, 3)


def bytes_moved(recompute: bool) -> dict[str, float]:
    """Return the bytes in half precision that pooling and normalising must move for each pixel that is left.

    Forward: the four pixels are read, maxima and places written; maxima read, results written. Backward: maxima and
    gradients are read for the sums; then again, with places or the four pixels, and four gradients written.
    """
    image, one, place = 4 * 2.0, 2.0, 1.0
    kept = 0.0 if recompute else place
    again = image if recompute else one + place
    return {
        "forward": image + one + kept + one + one,
        "backward": 2 * one + again + one + image,
        "kept": image + one if recompute else one + place,
    }


@triton.jit
def gradients_recomputed(
    gradient, x, stats, weight, bias, sums, out, rows, squares, height_in, width_in, height, width, alpha,
    C: tl.constexpr, ACT: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """As ``kernels.gradients`` with pooling, from the images ``x`` (N, H, W, C) alone."""
    channels = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channels < C
    mean = tl.load(stats + channels, inside, 0.0)[None, :]
    spread = tl.load(stats + 2 * C + channels, inside, 0.0)[None, :]
    scale, shift = tl.load(weight + channels, inside, 0.0)[None, :], tl.load(bias + channels, inside, 0.0)[None, :]
    of_bias = tl.load(sums + channels, inside, 0.0)[None, :] / rows
    of_weight = tl.load(sums + C + channels, inside, 0.0)[None, :] / rows
    high, wide = (height_in + 1) // 2, (width_in + 1) // 2
    for start in tl.range(tl.program_id(0) * ROWS, squares, tl.num_programs(0) * ROWS, num_stages=STAGES):
        row = start + tl.arange(0, ROWS)
        mask = (row < squares)[:, None] & inside[None, :]
        image = row // (high * wide)
        within = row - image * (high * wide)
        i = within // wide
        j = within - i * wide
        pooled = mask & ((i < height) & (j < width))[:, None]
        number = (image * height + i) * width + j
        best, place = _greatest(x, number, channels, pooled, width_in, height_in, height, width, C)
        normal = (best - mean) * spread
        inner = tl.load(gradient + number[:, None] * C + channels[None, :], pooled, 0.0).to(tl.float32)
        inner *= _slope(normal * scale + shift, alpha, ACT)
        value = (scale * spread * (inner - of_bias - normal * of_weight)).to(out.dtype.element_ty)
        # No corner of a square that was left out: 4.
        place = tl.where(pooled, place, 4)
        _to_corner(out, value, place, image, i, j, channels, mask, width_in, height_in, C)


def kept_and_again(images: Tensor, gradient: Tensor, norm: nn.BatchNorm2d, activation: nn.Module):  # type: ignore[no-untyped-def]
    """Pool, normalise and activate once, and return two ways to take the gradient of the images.

    Args:
        images: (N, C, H, W) in channels-last memory.
        gradient: (N, C, H // 2, W // 2), of the result.
        norm: with weight and bias; its statistics stay.
        activation: one that ``launch.KINDS`` has.

    Returns:
        Two functions without arguments, each of which returns the gradient (N, C, H, W): from places that were kept, as
        ``hotlap.fused`` does it, and from the images.
    """
    kind, alpha = KINDS[type(activation)], alpha_of(activation)
    _, values, places, stats = norms._forward(images, None, norm.weight, norm.bias, norm.eps, kind, alpha, True)
    n, channels, height, width = images.shape
    size = (height // 2, width // 2)
    rows, squares = n * size[0] * size[1], n * ((height + 1) // 2) * ((width + 1) // 2)
    ends = (norm.weight, norm.bias, kind, alpha, True, height, width)
    sums = norms._backward(gradient, values, None, places, stats, *ends)[2]
    out = torch.empty_like(images)

    def kept() -> Tensor:
        result: Tensor = norms._backward(gradient, values, None, places, stats, *ends)[0]
        return result

    def again() -> Tensor:
        gradients_recomputed[BLOCK.grid(squares, channels, images.device)](
            gradient, images, stats, norm.weight, norm.bias, sums, out, rows, squares, height, width, *size, alpha,
            C=channels, ACT=kind, **BLOCK.options,
        )  # fmt: skip
        return out

    return kept, again
