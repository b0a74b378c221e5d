"""Triton kernels for images in channels-last memory, which they see as rows of channels, one row for each pixel.

Each program takes every so many blocks of rows, and the same block of channels of each. Sums over rows are written as
one part for each program, so that they do not depend on which program ends first.
"""

from __future__ import annotations

import triton
import triton.language as tl

RELU, SILU, GELU, CELU = tl.constexpr(1), tl.constexpr(2), tl.constexpr(3), tl.constexpr(4)


@triton.jit
def _act(u, alpha, KIND: tl.constexpr):
    if KIND == RELU:
        return tl.where(u < 0, 0.0, u)
    elif KIND == SILU:
        return u * tl.sigmoid(u)
    elif KIND == GELU:
        return 0.5 * u * (1.0 + tl.erf(u * 0.7071067811865476))
    else:
        return tl.where(u > 0, u, alpha * (tl.exp(tl.minimum(u, 0.0) / alpha) - 1.0))


@triton.jit
def _slope(u, alpha, KIND: tl.constexpr):
    """The derivative of an activation."""
    if KIND == RELU:
        return tl.where(u > 0, 1.0, 0.0)
    elif KIND == SILU:
        share = tl.sigmoid(u)
        return share * (1.0 + u * (1.0 - share))
    elif KIND == GELU:
        return 0.5 * (1.0 + tl.erf(u * 0.7071067811865476)) + u * 0.3989422804014327 * tl.exp(-0.5 * u * u)
    else:
        return tl.where(u > 0, 1.0, tl.exp(tl.minimum(u, 0.0) / alpha))


@triton.jit
def _greater(best, place, here, corner: tl.constexpr):
    # What is not a number is greater than all numbers, so that it is not lost.
    takes = (here > best) | (here != here)
    return tl.where(takes, here, best), tl.where(takes, corner, place)


@triton.jit
def _greatest(x, rows, channels, mask, width_in, height_in, height, width, C: tl.constexpr):
    """The greatest of each square of 2×2 pixels, and which of the four it is."""
    image = rows // (height * width)
    within = rows - image * (height * width)
    i = within // width
    j = within - i * width
    at = x + (((image * height_in + 2 * i) * width_in + 2 * j) * C)[:, None] + channels[None, :]
    best = tl.load(at, mask, 0.0).to(tl.float32)
    right = tl.load(at + C, mask, 0.0).to(tl.float32)
    below = tl.load(at + width_in * C, mask, 0.0).to(tl.float32)
    across = tl.load(at + width_in * C + C, mask, 0.0).to(tl.float32)
    place = tl.zeros(best.shape, tl.int8)
    best, place = _greater(best, place, right, 1)
    best, place = _greater(best, place, below, 2)
    best, place = _greater(best, place, across, 3)
    return best, place


@triton.jit
def _to_corner(x, value, place, image, i, j, channels, mask, width_in, height_in, C: tl.constexpr):
    """Write each value to the corner ``place`` of its square of 2×2 pixels, zeros to the others."""
    to = x + (((image * height_in + 2 * i) * width_in + 2 * j) * C)[:, None] + channels[None, :]
    right = mask & (2 * j + 1 < width_in)[:, None]
    below = mask & (2 * i + 1 < height_in)[:, None]
    zero = tl.zeros_like(value)
    tl.store(to, tl.where(place == 0, value, zero), mask)
    tl.store(to + C, tl.where(place == 1, value, zero), right)
    tl.store(to + width_in * C, tl.where(place == 2, value, zero), below)
    tl.store(to + width_in * C + C, tl.where(place == 3, value, zero), right & below)


@triton.jit
def statistics(
    x, y, places, parts, rows, height_in, width_in, height, width,
    C: tl.constexpr, POOL: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Pool, and sum what comes of it and its squares, both less the first row, for each channel.

    ``x`` (N, H, W, C) is pooled to ``y`` and ``places`` (rows, C); without pooling it is ``y``. ``parts``
    (2, programs, C) gets sums and sums of squares.
    """
    channels = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channels < C
    if POOL:
        first, _ = _greatest(
            x, tl.zeros([1], tl.int32), channels, inside[None, :], width_in, height_in, height, width, C
        )
    else:
        first = tl.load(x + channels[None, :], inside[None, :], 0.0).to(tl.float32)
    total = tl.zeros([ROWS, CHANNELS], tl.float32)
    squares = tl.zeros([ROWS, CHANNELS], tl.float32)
    for start in tl.range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS, num_stages=STAGES):
        row = start + tl.arange(0, ROWS)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * C + channels[None, :]
        if POOL:
            value, place = _greatest(x, row, channels, mask, width_in, height_in, height, width, C)
            tl.store(y + at, value.to(y.dtype.element_ty), mask)
            tl.store(places + at, place, mask)
        else:
            value = tl.load(x + at, mask, 0.0).to(tl.float32)
        less = tl.where(mask, value - first, 0.0)
        total += less
        squares += less * less
    at = parts + tl.program_id(0) * C + channels
    tl.store(at, tl.sum(total, 0), inside)
    tl.store(at + tl.num_programs(0) * C, tl.sum(squares, 0), inside)


@triton.jit
def moments(parts, y, out, programs, rows, eps, C: tl.constexpr, PARTS: tl.constexpr, CHANNELS: tl.constexpr):
    """Bring the parts together: ``out`` (3, C) gets mean, biased variance and 1 / sqrt(variance + eps)."""
    channels = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channels < C
    total = tl.zeros([PARTS, CHANNELS], tl.float32)
    squares = tl.zeros([PARTS, CHANNELS], tl.float32)
    for start in range(0, programs, PARTS):
        part = start + tl.arange(0, PARTS)
        mask = (part < programs)[:, None] & inside[None, :]
        at = parts + part[:, None] * C + channels[None, :]
        total += tl.load(at, mask, 0.0)
        squares += tl.load(at + programs * C, mask, 0.0)
    beyond = tl.sum(total, 0) / rows
    variance = tl.sum(squares, 0) / rows - beyond * beyond
    variance = tl.where(variance < 0, 0.0, variance)  # unlike a maximum, this keeps what is not a number
    tl.store(out + channels, tl.load(y + channels, inside, 0.0).to(tl.float32) + beyond, inside)
    tl.store(out + C + channels, variance, inside)
    tl.store(out + 2 * C + channels, 1.0 / tl.sqrt(variance + eps), inside)


@triton.jit
def add_parts(parts, out, programs, C: tl.constexpr, PARTS: tl.constexpr, CHANNELS: tl.constexpr):
    """Add ``parts`` (2, programs, C) up: ``out`` (2, C)."""
    channels = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channels < C
    total = tl.zeros([PARTS, CHANNELS], tl.float32)
    for start in range(0, programs, PARTS):
        part = start + tl.arange(0, PARTS)
        mask = (part < programs)[:, None] & inside[None, :]
        total += tl.load(parts + (tl.program_id(1) * programs + part)[:, None] * C + channels[None, :], mask, 0.0)
    tl.store(out + tl.program_id(1) * C + channels, tl.sum(total, 0), inside)


@triton.jit
def normalise(
    y, added, z, stats, weight, bias, rows, alpha,
    C: tl.constexpr, ACT: tl.constexpr, ADD: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Normalise ``y`` (rows, C), scale, shift, add ``added`` where asked to, and activate it: ``z``."""
    channels = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channels < C
    scale = tl.load(stats + 2 * C + channels, inside, 0.0) * tl.load(weight + channels, inside, 0.0)
    shift = tl.load(bias + channels, inside, 0.0) - tl.load(stats + channels, inside, 0.0) * scale
    for start in tl.range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS, num_stages=STAGES):
        row = start + tl.arange(0, ROWS)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * C + channels[None, :]
        u = tl.load(y + at, mask, 0.0).to(tl.float32) * scale[None, :] + shift[None, :]
        if ADD:
            u += tl.load(added + at, mask, 0.0).to(tl.float32)
        tl.store(z + at, _act(u, alpha, ACT).to(z.dtype.element_ty), mask)


@triton.jit
def gradient_sums(
    gradient, y, added, stats, weight, bias, parts, rows, alpha,
    C: tl.constexpr, ACT: tl.constexpr, ADD: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """Sum the gradients of bias and weight: ``parts`` (2, programs, C)."""
    channels = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channels < C
    mean = tl.load(stats + channels, inside, 0.0)[None, :]
    spread = tl.load(stats + 2 * C + channels, inside, 0.0)[None, :]
    scale, shift = tl.load(weight + channels, inside, 0.0)[None, :], tl.load(bias + channels, inside, 0.0)[None, :]
    to_bias = tl.zeros([ROWS, CHANNELS], tl.float32)
    to_weight = tl.zeros([ROWS, CHANNELS], tl.float32)
    for start in tl.range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS, num_stages=STAGES):
        row = start + tl.arange(0, ROWS)
        mask = (row < rows)[:, None] & inside[None, :]
        at = row[:, None] * C + channels[None, :]
        normal = (tl.load(y + at, mask, 0.0).to(tl.float32) - mean) * spread
        u = normal * scale + shift
        if ADD:
            u += tl.load(added + at, mask, 0.0).to(tl.float32)
        inner = tl.load(gradient + at, mask, 0.0).to(tl.float32) * _slope(u, alpha, ACT)
        to_bias += inner
        to_weight += inner * normal
    at = parts + tl.program_id(0) * C + channels
    tl.store(at, tl.sum(to_bias, 0), inside)
    tl.store(at + tl.num_programs(0) * C, tl.sum(to_weight, 0), inside)


@triton.jit
def gradients(
    gradient, y, added, places, stats, weight, bias, sums, out, to_added, rows, squares, height_in, width_in, height,
    width, alpha, C: tl.constexpr, ACT: tl.constexpr, ADD: tl.constexpr, POOL: tl.constexpr, ROWS: tl.constexpr,
    CHANNELS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """The gradient of what was normalised, or of what was pooled before: ``out``, like ``x`` of ``statistics``.

    Where something was added, ``to_added`` gets its gradient; not together with pooling.

    ``sums`` (2, C) are those of ``gradient_sums``, ``rows`` the number of what was normalised, and ``squares`` that of
    2×2 pixels of ``x``, those that reach beyond it included; as many as ``rows`` without pooling.
    """
    channels = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    inside = channels < C
    mean = tl.load(stats + channels, inside, 0.0)[None, :]
    spread = tl.load(stats + 2 * C + channels, inside, 0.0)[None, :]
    scale, shift = tl.load(weight + channels, inside, 0.0)[None, :], tl.load(bias + channels, inside, 0.0)[None, :]
    of_bias = tl.load(sums + channels, inside, 0.0)[None, :] / rows
    of_weight = tl.load(sums + C + channels, inside, 0.0)[None, :] / rows
    for start in tl.range(tl.program_id(0) * ROWS, squares, tl.num_programs(0) * ROWS, num_stages=STAGES):
        row = start + tl.arange(0, ROWS)
        mask = (row < squares)[:, None] & inside[None, :]
        if POOL:
            high, wide = (height_in + 1) // 2, (width_in + 1) // 2
            image = row // (high * wide)
            within = row - image * (high * wide)
            i = within // wide
            j = within - i * wide
            pooled = mask & ((i < height) & (j < width))[:, None]
            at = ((image * height + i) * width + j)[:, None] * C + channels[None, :]
        else:
            pooled = mask
            at = row[:, None] * C + channels[None, :]
        normal = (tl.load(y + at, pooled, 0.0).to(tl.float32) - mean) * spread
        u = normal * scale + shift
        if ADD:
            u += tl.load(added + at, pooled, 0.0).to(tl.float32)
        inner = tl.load(gradient + at, pooled, 0.0).to(tl.float32) * _slope(u, alpha, ACT)
        if ADD:
            tl.store(to_added + at, inner.to(out.dtype.element_ty), pooled)
        value = (scale * spread * (inner - of_bias - normal * of_weight)).to(out.dtype.element_ty)
        if POOL:
            # No corner of a square that was left out: 4.
            place = tl.load(places + at, pooled, 4)
            _to_corner(out, value, place, image, i, j, channels, mask, width_in, height_in, C)
        else:
            tl.store(out + at, value, mask)


@triton.jit
def patches(
    x, weight, bias, out, rows, height_in, width_in, height, width, alpha,
    IN: tl.constexpr, SIDE: tl.constexpr, C: tl.constexpr, WIDE: tl.constexpr, ACT: tl.constexpr,
    ROWS: tl.constexpr, DEPTH: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """Convolve images of few channels ``x`` (N, H, W, IN) without padding, and activate: ``out`` (rows, WIDE).

    ``weight`` (SIDE · SIDE · IN, C) is what a patch's numbers are multiplied with, in the order in which they lie in
    memory. Channels of ``out`` beyond C are what the activation makes of 0.
    """
    channels = tl.arange(0, CHANNELS)
    number = tl.arange(0, DEPTH)
    inside, taken = channels < C, number < SIDE * SIDE * IN
    shift = tl.load(bias + channels, inside, 0.0).to(tl.float32)
    factors = tl.load(weight + number[:, None] * C + channels[None, :], taken[:, None] & inside[None, :], 0.0)
    down = number // (SIDE * IN)
    beside = down * width_in * IN + number - down * (SIDE * IN)
    for start in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = start + tl.arange(0, ROWS)
        there = (row < rows)[:, None]
        image = row // (height * width)
        within = row - image * (height * width)
        i = within // width
        j = within - i * width
        at = x + (((image * height_in + i) * width_in + j) * IN)[:, None] + beside[None, :]
        patch = tl.load(at, there & taken[None, :], 0.0)
        total = tl.dot(patch, factors, input_precision="ieee") + shift[None, :]
        to = out + row[:, None] * WIDE + channels[None, :]
        tl.store(to, _act(total, alpha, ACT).to(out.dtype.element_ty), there & (channels < WIDE)[None, :])


# Else code would be compiled anew for the last images of an epoch, whose number of pixels 16 may not divide.
@triton.jit(do_not_specialize=["numbers"])
def move(
    x, which, moves, out, numbers, HEIGHT: tl.constexpr, WIDTH: tl.constexpr, C: tl.constexpr, BLOCK: tl.constexpr
):
    """Copy images ``which`` (n,) of ``x`` (N, H, W, C), shifted and mirrored by ``moves`` (n, 3): ``out``."""
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = number < numbers
    pixel = number // C
    row = pixel // WIDTH
    image = row // HEIGHT
    by = moves + image * 3
    j = pixel - row * WIDTH
    j = tl.where(tl.load(by + 2, mask, 0) != 0, WIDTH - 1 - j, j) + tl.load(by + 1, mask, 0)
    i = row - image * HEIGHT + tl.load(by, mask, 0)
    # What comes in is reflected, the outermost pixel itself not repeated.
    i, j = tl.abs(i), tl.abs(j)
    i = tl.where(i >= HEIGHT, 2 * (HEIGHT - 1) - i, i)
    j = tl.where(j >= WIDTH, 2 * (WIDTH - 1) - j, j)
    start = tl.load(which + image, mask, 0) * (HEIGHT * WIDTH * C)
    tl.store(out + number, tl.load(x + start + ((i * WIDTH + j) * C + number - pixel * C), mask, 0.0), mask)
