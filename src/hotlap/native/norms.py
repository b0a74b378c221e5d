"""Max-pooling, batch normalisation and activation in the compiled kernels, for PyTorch networks on a CPU.

Operation by operation, PyTorch goes over the images eight to twelve times between one convolution and the next. Here it
is twice, and twice more backwards, since a normalisation needs sums over the whole batch first.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hotlap.native import library as lib
from hotlap.native.forking import fork

KINDS: dict[type[nn.Module], int] = {nn.ReLU: lib.RELU, nn.SiLU: lib.SILU, nn.GELU: lib.GELU, nn.CELU: lib.CELU}
"""Activations by class, and what the kernels call them."""

_TYPES = {torch.float32: lib.FLOAT32, torch.bfloat16: lib.BFLOAT16}


def knows(norm: nn.Module, activation: nn.Module) -> bool:
    """Tell whether the kernels can do a normalisation in training, and an activation."""
    return (
        isinstance(norm, nn.BatchNorm2d)
        and norm.weight is not None
        and norm.running_mean is not None
        and norm.momentum is not None
        and getattr(norm, "splits", 1) == 1
        and norm.weight.dtype == torch.float32
        and type(activation) in KINDS
        and not (isinstance(activation, nn.GELU) and activation.approximate != "none")
        and not lib.missing()
    )


def handles(images: Tensor, norm: nn.Module, activation: nn.Module) -> bool:
    """Tell whether ``normalise`` can do what ``activation(norm(images))`` does in training."""
    return (
        knows(norm, activation)
        and type(images) is Tensor
        and images.device.type == "cpu"
        and images.is_contiguous(memory_format=torch.channels_last)
        and images.dtype in _TYPES
        and images.numel() > images.shape[1]
    )


def normalise(
    images: Tensor, norm: nn.BatchNorm2d, activation: nn.Module, *, pool: bool, added: Tensor | None = None
) -> Tensor:
    """Pool, normalise by the batch, add and activate: ``activation(norm(pool(images)) + added)``, as in training.

    What lies between is not rounded to the images' type. The running statistics of ``norm`` are moved.

    Args:
        images: (N, C, H, W), float32 or bfloat16, on the CPU.
        norm: with float32 weight (a parameter or a buffer), bias and statistics.
        activation: one of ``KINDS``.
        pool: take the greatest of each 2×2 pixels first; a last odd row or column is left out.
        added: like ``images``, added before the activation; not together with ``pool``.

    Returns:
        (N, C, H, W) or (N, C, H // 2, W // 2), of the type of ``images``, in channels-last memory; differentiable once.
    """
    assert added is None or not pool
    result, stats = _Normalise.apply(  # type: ignore[no-untyped-call]
        images, added, norm.weight, norm.bias, Options.of(norm, activation, pool)
    )
    move_statistics(norm, stats, result)
    return result  # type: ignore[no-any-return]


@torch.no_grad()
def move_statistics(norm: nn.BatchNorm2d, stats: Tensor, result: Tensor) -> None:
    """Move the running statistics of a normalisation, in place.

    Args:
        norm: with statistics and momentum.
        stats: (3, C), as in ``Forward``.
        result: (N, C, H, W), what was normalised.
    """
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    count = result.numel() // result.shape[1]
    norm.running_mean.lerp_(stats[0], norm.momentum)
    norm.running_var.lerp_(stats[1] * (count / max(1, count - 1)), norm.momentum)


class Options(NamedTuple):
    """What is done to images besides their scale and bias.

    Attributes:
        eps: added to the variance.
        kind: the activation, as in ``KINDS``.
        alpha: its constant.
        pool: the greatest of each 2×2 pixels is taken first.
    """

    eps: float
    kind: int
    alpha: float
    pool: bool

    @classmethod
    def of(cls, norm: nn.BatchNorm2d, activation: nn.Module, pool: bool) -> Options:
        """Read them off the layers."""
        return cls(norm.eps, KINDS[type(activation)], float(getattr(activation, "alpha", 1.0)), pool)


class Forward(NamedTuple):
    """What a pass forwards leaves.

    Attributes:
        result: (N, C, H, W).
        values: like it, what was normalised: the pooled images, or the images.
        places: like it, which of four pixels each is, with pooling.
        stats: (3, C): mean, biased variance, 1 / sqrt(variance + eps).
    """

    result: Tensor
    values: Tensor
    places: Tensor | None
    stats: Tensor


def normalise_forward(images: Tensor, added: Tensor | None, weight: Tensor, bias: Tensor, options: Options) -> Forward:
    """Pool, normalise, add and activate, without a thought of gradients; arguments as in ``normalise``."""
    images, pool = last(images), options.pool
    height, width = (side // 2 for side in images.shape[2:]) if pool else images.shape[2:]
    result = _empty(images, height, width)
    values = _empty(images, height, width) if pool else images
    places = _empty(images, height, width, torch.uint8) if pool else None
    stats = torch.empty(3, images.shape[1])
    job = _job(images.shape, values, options, pool)
    _call(
        "forward", job, images, added, weight.contiguous(), bias.contiguous(), values if pool else None, places, stats,
        result,
    )  # fmt: skip
    return Forward(result, values, places, stats)


def normalise_backward(
    gradient: Tensor,
    to: tuple[int, int],
    values: Tensor,
    added: Tensor | None,
    places: Tensor | None,
    stats: Tensor,
    weight: Tensor,
    bias: Tensor,
    options: Options,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return the gradients of the images, of what was added, and (2, C) of bias and weight.

    Args:
        gradient: of the result.
        to: rows and columns of the gradient of the images: those of the images before pooling; or of ``values``, for
            the gradient of the pooled images.
        values: as in ``Forward``, and so ``places`` and ``stats``.
        added: as in ``normalise_forward``, and so what follows.
        places: see ``values``.
        stats: see ``values``.
        weight: see ``added``.
        bias: see ``added``.
        options: see ``added``.
    """
    gradient = last(gradient.to(values.dtype))
    pool = options.pool and to != tuple(values.shape[2:])
    out = _empty(values, *to)
    to_added = None if added is None else torch.empty_like(values)
    sums = torch.empty(2, len(weight))
    job = _job(out.shape, values, options, pool)
    _call(
        "backward", job, gradient, values, added, places if pool else None, stats, weight.contiguous(),
        bias.contiguous(), out, to_added, sums,
    )  # fmt: skip
    return out, to_added, sums


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, added: Tensor | None, weight: Tensor, bias: Tensor, options: Options
    ) -> tuple[Tensor, Tensor]:
        added = None if added is None else last(added.to(images.dtype))
        done = normalise_forward(images, added, weight, bias, options)
        ctx.save_for_backward(done.values, added, done.places, done.stats, weight, bias)
        ctx.size, ctx.options = tuple(images.shape[2:]), options
        ctx.mark_non_differentiable(done.stats)
        return done.result, done.stats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        values, added, places, stats, weight, bias = ctx.saved_tensors
        out, to_added, sums = normalise_backward(
            gradient, ctx.size, values, added, places, stats, weight, bias, ctx.options
        )
        to_weight, to_bias = (sums[1 - i] if ctx.needs_input_grad[2 + i] else None for i in range(2))
        return out, to_added, to_weight, to_bias, None


def _job(images: torch.Size, values: Tensor, options: Options, pool: bool) -> Any:
    n, channels, *sizes = images
    return np.array(
        (n, channels, *sizes, *values.shape[2:], pool, options.kind, _TYPES[values.dtype], options.alpha, options.eps),
        lib.Norm,
    )


def _call(name: str, job: Any, *tensors: Tensor | None) -> None:
    library = lib.kernels()
    assert isinstance(library, ctypes.CDLL)
    at = int(job.ctypes.data)
    workspace = np.empty(int(library.hl_norm_workspace(at)), np.float64)
    addresses = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    code = getattr(library, f"hl_norm_{name}")(
        lib.chosen_instruction_set().encode(), torch.get_num_threads(), fork(), at, *addresses,
        int(workspace.ctypes.data),
    )  # fmt: skip
    if code:
        raise ValueError(library.hl_message(code).decode())


def _empty(like: Tensor, height: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    shape = (len(like), like.shape[1], height, width)
    return torch.empty(shape, dtype=dtype or like.dtype, memory_format=torch.channels_last)


def last(x: Tensor) -> Tensor:
    """As (N, H, W, C) in memory; strides of sides of length 1 say nothing, so they are not trusted."""
    _, c, h, w = x.shape
    if x.stride() == (h * w * c, 1, w * c, c):
        return x
    return torch.empty(x.shape, dtype=x.dtype, memory_format=torch.channels_last).copy_(x)
