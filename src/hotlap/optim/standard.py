"""PyTorch's own optimizers, under the names that recipes use.

Each undoes the scale of the loss where its steps depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hotlap.optim import OPTIMIZERS
from hotlap.optim._groups import on_gpu
from hotlap.optim.weights import Weights
from hotlap.registry import Card


@OPTIMIZERS.register(
    "adadelta",
    Card(
        does="Scales each weight's step by the ratio of running averages of past updates and gradients.",
        effect="The optimizer of PyTorch's MNIST example; needs about two epochs to 99 % on MNIST with one-cycle.",
        source="Zeiler 2012; torch.optim.Adadelta.",
    ),
)
def adadelta(*, params: Weights, lr: float, rho: float, eps: float) -> torch.optim.Optimizer:
    """Build Adadelta; errors are torch's own."""
    if params.loss_scale != 1:
        raise ValueError("its steps depend on the scale of the loss that float16 needs: use precision fp32 or bf16")
    return torch.optim.Adadelta(params, lr=lr, rho=rho, eps=eps, capturable=on_gpu(params))


@OPTIMIZERS.register(
    "adam",
    Card(
        does="Scales each weight's step by running averages of the gradient and of its square.",
        effect="With lr 0.01 and betas (0.7, 0.9), 99 % on MNIST in one epoch.",
        source="Kingma and Ba 2014; betas of Oikarinen 2021; torch.optim.Adam.",
    ),
)
def adam(*, params: Weights, lr: float, betas: Sequence[float], eps: float) -> torch.optim.Optimizer:
    """Build Adam; errors are torch's own."""
    first, second = betas
    gpu = on_gpu(params)
    return torch.optim.Adam(
        params, lr=lr, betas=(first, second), eps=eps * params.loss_scale, fused=gpu or None, capturable=gpu
    )


@OPTIMIZERS.register(
    "sgd",
    Card(
        does="Steps along a running sum of gradients, optionally looking one step ahead (Nesterov).",
        effect="The optimizer of the CIFAR-10 ladders.",
        source="torch.optim.SGD.",
    ),
)
def sgd(*, params: Weights, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> torch.optim.Optimizer:
    """Build SGD; errors are torch's own."""
    return torch.optim.SGD(
        params,
        lr=lr / params.loss_scale,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay * params.loss_scale,
        fused=on_gpu(params) or None,
    )
