"""PyTorch's own optimizers, under the names that recipes use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn

from hotlap.optim import OPTIMIZERS
from hotlap.registry import Card


@OPTIMIZERS.register(
    "adadelta",
    Card(
        does="Scales each weight's step by the ratio of running averages of past updates and gradients.",
        effect="The optimizer of PyTorch's MNIST example; needs about two epochs to 99 % on MNIST with one-cycle.",
        source="Zeiler 2012; torch.optim.Adadelta.",
    ),
)
def adadelta(*, params: Iterable[nn.Parameter], lr: float, rho: float, eps: float) -> torch.optim.Optimizer:
    """Build Adadelta; errors are torch's own."""
    return torch.optim.Adadelta(params, lr=lr, rho=rho, eps=eps)


@OPTIMIZERS.register(
    "adam",
    Card(
        does="Scales each weight's step by running averages of the gradient and of its square.",
        effect="With lr 0.01 and betas (0.7, 0.9), 99 % on MNIST in one epoch.",
        source="Kingma and Ba 2014; betas of Oikarinen 2021; torch.optim.Adam.",
    ),
)
def adam(*, params: Iterable[nn.Parameter], lr: float, betas: Sequence[float], eps: float) -> torch.optim.Optimizer:
    """Build Adam; errors are torch's own."""
    first, second = betas
    return torch.optim.Adam(params, lr=lr, betas=(first, second), eps=eps)


@OPTIMIZERS.register(
    "sgd",
    Card(
        does="Steps along a running sum of gradients, optionally looking one step ahead (Nesterov).",
        effect="The optimizer of the CIFAR-10 ladders.",
        source="torch.optim.SGD.",
    ),
)
def sgd(
    *, params: Iterable[nn.Parameter], lr: float, momentum: float, nesterov: bool, weight_decay: float
) -> torch.optim.Optimizer:
    """Build SGD; errors are torch's own."""
    return torch.optim.SGD(params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
