"""What the optimizers here share: parameter groups, and PyTorch's SGD on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from hotlap.optim.weights import Weights


def biased_groups(weights: Weights, options: Callable[[float], dict[str, float]], bias_scale: float) -> list[Any]:
    """Divide parameters into those of norms and all others.

    Args:
        weights: the parameters.
        options: returns a group's options for a factor of its learning rate.
        bias_scale: that factor for the norms.

    Raises:
        ValueError: there is nothing to train.
    """
    norms = weights.by_role["norm"]
    others = [p for role, some in weights.by_role.items() if role != "norm" for p in some]
    groups = [{"params": others, **options(1.0)}, {"params": norms, **options(bias_scale)}]
    return [group for group in groups if group["params"]]


def nesterov_sgd(groups: list[Any], momentum: float) -> torch.optim.SGD:
    """Build PyTorch's SGD with Nesterov momentum, in one fused kernel for each group on a GPU."""
    gpu = on_gpu(p for group in groups for p in group["params"])
    return torch.optim.SGD(groups, momentum=momentum, nesterov=momentum > 0, fused=gpu or None)


def on_gpu(params: Iterable[Tensor]) -> bool:
    """Say whether all parameters are on CUDA GPUs, where PyTorch's optimizers have kernels that a graph can hold."""
    return all(p.is_cuda for p in params)


class StepMomentumSGD(torch.optim.Optimizer):
    """SGD with Nesterov momentum whose buffer sums steps rather than gradients.

    Each gradient is multiplied by the learning rate of its own step before it enters the buffer, so that a change of
    the learning rate takes effect gradually.

    Args:
        groups: parameter groups, each with ``lr`` and ``weight_decay``.
        momentum: share of the buffer that is kept.
    """

    def __init__(self, groups: list[Any], momentum: float) -> None:
        super().__init__(groups, {"momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change the parameters by their gradients."""
        for group in self.param_groups:
            params, grads, buffers = momentum_of(self, group)
            if not params:
                continue
            moves = torch._foreach_add(grads, params, alpha=group["weight_decay"])
            torch._foreach_mul_(moves, -group["lr"])
            torch._foreach_mul_(buffers, group["momentum"])
            torch._foreach_add_(buffers, moves)
            torch._foreach_add_(moves, buffers, alpha=group["momentum"])
            torch._foreach_add_(params, moves)


def momentum_of(
    optimizer: torch.optim.Optimizer, group: dict[str, Any]
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return the parameters of a group that have a gradient, the gradients, and momentum buffers, zero at first."""
    params = [p for p in group["params"] if p.grad is not None]
    for p in params:
        if "momentum_buffer" not in optimizer.state[p]:
            optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return params, [p.grad for p in params], [optimizer.state[p]["momentum_buffer"] for p in params]
