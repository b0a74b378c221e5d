"""Precision: what a recipe asks for, what the device can do fast, and how a forward pass runs in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from hotlap.optim import NO_LOSS_SCALE
from hotlap.recipe import Component, Recipe

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]

_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)

_settled: ContextVar[Precision | None] = ContextVar("_settled", default=None)


def precision_of(recipe: Recipe, device: torch.device) -> Precision:
    """Decide in which precision a recipe is trained on a device.

    ``auto`` is float16 on a CUDA GPU, or bfloat16 with an optimizer that cannot do with float16; bfloat16 on a CPU with
    instructions for it; float32 elsewhere. For a recipe with ``engine.winograd``, which makes more of float32, these
    have to be matrix registers. float16 is float32 on a CPU, which is slow at it.
    """
    asked = recipe.engine.precision
    if asked == "auto":
        if device.type == "cuda":
            return "bf16" if _names(recipe.optimizer) & NO_LOSS_SCALE else "fp16"
        return _settled.get() or ("bf16" if _cpu_is_fast_at_bf16(recipe) else "fp32")
    return "fp32" if asked == "fp16" and device.type == "cpu" else asked


@contextmanager
def auto_on_cpu(precision: Precision | None) -> Iterator[None]:
    """Let ``auto`` be a precision on a CPU for the block, whatever its instructions; None leaves it to them."""
    before = _settled.set(precision)
    try:
        yield
    finally:
        _settled.reset(before)


def _names(value: object) -> set[str]:
    """Return the names of a component and of all those in its options."""
    if isinstance(value, Component):
        return {value.name}.union(*map(_names, value.options.values()))
    return set[str]().union(*map(_names, value)) if isinstance(value, tuple) else set()


def remark_on(recipe: Recipe, device: torch.device) -> str | None:
    """Say in a line that a recipe runs in another precision than it asks for; None when it does not."""
    if recipe.engine.precision == "fp16" and precision_of(recipe, device) == "fp32":
        return f"{recipe.name} is written for float16, which is slow on a CPU: it runs in float32"
    return None


def _cpu_is_fast_at_bf16(recipe: Recipe) -> bool:
    checks = ["_is_amx_tile_supported", *(() if recipe.engine.winograd else ("_is_avx512_bf16_supported",))]
    supported = (getattr(torch.cpu, name, None) for name in checks)
    return any(check is not None and check() for check in supported)


def weights_dtype(precision: Precision) -> torch.dtype:
    """Return the type of weights and images; bfloat16 keeps float32 weights and rounds as it computes."""
    return torch.float16 if precision == "fp16" else torch.float32


def convert(network: nn.Module, precision: Precision) -> nn.Module:
    """Bring the weights of a network to a precision, in place; normalisation layers stay in float32."""
    if precision == "fp16":
        network.half()
        for module in network.modules():
            if isinstance(module, _NORMS):
                module.float()
    return network


def context(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which forward passes run."""
    return torch.autocast(device.type, dtype=torch.bfloat16) if precision == "bf16" else nullcontext()
