"""Max-pooling, batch normalisation and activation in the compiled kernels, for PyTorch networks on a CPU.

Operation by operation, PyTorch goes over the images eight to twelve times between one convolution and the next. Here it
is twice, and twice more backwards, since a normalisation needs sums over the whole batch first.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hotlap.models.norms import is_ordinary, parts_of
from hotlap.native import library as lib
from hotlap.native.forking import fork, threads
from hotlap.native.layouts import channels_last, empty

KINDS: dict[type[nn.Module], int] = {nn.ReLU: lib.RELU, nn.SiLU: lib.SILU, nn.GELU: lib.GELU, nn.CELU: lib.CELU}
"""Activations by class, and what the kernels call them."""

_TYPES = {torch.float32: lib.FLOAT32, torch.bfloat16: lib.BFLOAT16}


def handles(images: Tensor, norm: nn.Module, activation: nn.Module, *, pool: bool) -> bool:
    """Tell whether ``normalise`` can do what ``activation(norm(images))`` does in training."""
    return (
        is_ordinary(norm, images, pool=pool)
        and type(activation) in KINDS
        and not (isinstance(activation, nn.GELU) and activation.approximate != "none")
        and type(images) is Tensor
        and images.device.type == "cpu"
        and images.is_contiguous(memory_format=torch.channels_last)
        and images.dtype in _TYPES
        and not lib.missing()
    )


def normalise(
    images: Tensor, norm: nn.BatchNorm2d, activation: nn.Module, *, pool: bool, added: Tensor | None = None
) -> Tensor:
    """Pool, normalise by the batch, add and activate: ``activation(norm(pool(images)) + added)``, as in training.

    What lies between is not rounded to the images' type. The running statistics of ``norm`` are moved.

    Args:
        images: (N, C, H, W), float32 or bfloat16, on the CPU.
        norm: with float32 weight (a parameter or a buffer), bias and statistics; it may have splits.
        activation: one of ``KINDS``.
        pool: take the greatest of each 2×2 pixels first; a last odd row or column is left out.
        added: like ``images``, added before the activation; not together with ``pool``.

    Returns:
        (N, C, H, W) or (N, C, H // 2, W // 2), of the type of ``images``, in channels-last memory; differentiable once.
    """
    assert added is None or not pool
    assert norm.running_mean is not None and norm.running_var is not None and norm.momentum is not None
    added = None if added is None else added.expand_as(images)
    alpha = float(getattr(activation, "alpha", 1.0))
    result, stats = _Normalise.apply(  # type: ignore[no-untyped-call]
        images, added, norm.weight, norm.bias, norm.eps, KINDS[type(activation)], alpha, pool,
        parts_of(norm, len(images)),
    )  # fmt: skip
    with torch.no_grad():
        if norm.num_batches_tracked is not None:
            norm.num_batches_tracked.add_(1)
        count = result.numel() // result.shape[1] // len(stats)
        mean, var, _ = stats.mean(0)
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var * (count / max(1, count - 1)), norm.momentum)
    return result  # type: ignore[no-any-return]


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, added: Tensor | None, weight: Tensor, bias: Tensor, eps: float, kind: int,
        alpha: float, pool: bool, splits: int,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        images = channels_last(images)
        added = None if added is None else channels_last(added.to(images.dtype))
        n, channels, *whole = images.shape
        height, width = (side // 2 for side in whole) if pool else whole
        result = _empty(images, height, width)
        values = _empty(images, height, width) if pool else images
        places = _empty(images, height, width, torch.uint8) if pool else None
        stats = torch.empty(splits, 3, channels, dtype=torch.float32, device="cpu")
        job = np.array(
            (n, channels, *whole, height, width, pool, kind, _TYPES[images.dtype], splits, alpha, eps), lib.Norm
        )  # fmt: skip
        weight, bias = weight.contiguous(), bias.contiguous()
        _call(
            "forward", job, images, added, weight, bias, values if pool else None, places, stats, result
        )  # fmt: skip
        ctx.save_for_backward(values, added, places, stats, weight, bias)
        ctx.job = job
        ctx.mark_non_differentiable(stats)
        return result, stats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        values, added, places, stats, weight, bias = ctx.saved_tensors
        job = ctx.job
        gradient = channels_last(gradient.to(values.dtype))
        out = _empty(values, int(job["height_in"]), int(job["width_in"]))
        to_added = None if added is None else torch.empty_like(values)
        sums = torch.empty(2, len(weight), dtype=torch.float32, device="cpu")
        _call("backward", job, gradient, values, added, places, stats, weight, bias, out, to_added, sums)
        return (
            out,
            to_added,
            sums[1] if ctx.needs_input_grad[2] else None,
            sums[0] if ctx.needs_input_grad[3] else None,
            None, None, None, None, None,
        )  # fmt: skip


def _call(name: str, job: Any, *tensors: Tensor | None) -> None:
    library = lib.kernels()
    assert isinstance(library, ctypes.CDLL)
    at = int(job.ctypes.data)
    workspace = np.empty(max(0, int(library.hl_norm_workspace(at))), np.float64)
    addresses = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    code = getattr(library, f"hl_norm_{name}")(
        lib.chosen_instruction_set().encode(), threads(), fork(), at, *addresses,
        int(workspace.ctypes.data),
    )  # fmt: skip
    if code:
        raise ValueError(library.hl_message(code).decode())


def _empty(like: Tensor, height: int, width: int, dtype: torch.dtype | None = None) -> Tensor:
    return empty((len(like), like.shape[1], height, width), dtype or like.dtype)
