"""SGD in the units of recipes that sum the loss over the batch, converted to this package's mean loss.

With a summed loss, ``lr`` and decay mean: weight −= lr · (sum of gradients + decay · weight). The engine's gradients
are that sum divided by the batch size, so the learning rate is multiplied by it and the decay divided by it; the steps
are the same.
"""

from __future__ import annotations

from typing import Literal

import torch

from hotlap.optim import OPTIMIZERS
from hotlap.optim._groups import StepMomentumSGD, biased_groups, nesterov_sgd
from hotlap.optim.weights import Weights
from hotlap.registry import Card


@OPTIMIZERS.register(
    "scaled-sgd",
    Card(
        does="SGD with Nesterov momentum, with learning rate and decay per image of a summed loss; norms apart.",
        effect="The optimizer of the cifar10-fast ladder and of hlb-CIFAR10.",
        source="Page 2019; hlb-CIFAR10 2023.",
    ),
)
def scaled_sgd(
    *,
    params: Weights,
    lr: float,
    momentum: float,
    weight_decay: float,
    bias_scale: float,
    loss_images: int | None,
    momentum_of: Literal["gradients", "steps"],
) -> torch.optim.Optimizer:
    """Build SGD as Page and hlb-CIFAR10 write it.

    Both divide ``lr`` by as many images as the loss is summed over, which makes it the learning rate of the mean loss.

    Args:
        params: the parameters.
        lr: learning rate before that division (Page: 0.4 to 1.0; hlb: 1.525).
        momentum: share of the momentum buffer that is kept.
        weight_decay: decay that, times the batch size, enters the summed loss's gradient (5e-4; 6.687e-4).
        bias_scale: factor of the learning rate, and divisor of the decay, of the norms' parameters.
        loss_images: images that the summed loss is scaled to whatever the batch size (hlb: 512); None for the batch.
        momentum_of: whether the buffer sums ``gradients`` (PyTorch, hlb) or ``steps``, each with the learning rate of
            its time (Page).

    Raises:
        ValueError: an option out of range.
    """
    if momentum_of not in ("gradients", "steps"):
        raise ValueError(f"momentum_of is gradients or steps, not {momentum_of!r}")
    if bias_scale <= 0 or (loss_images is not None and loss_images <= 0):
        raise ValueError("bias_scale and loss_images must be positive")
    decay = weight_decay if loss_images is None else weight_decay * params.batch_size / loss_images

    def options(scale: float) -> dict[str, float]:
        return {"lr": lr * scale / params.loss_scale, "weight_decay": decay / scale * params.loss_scale}

    groups = biased_groups(params, options, bias_scale)
    return StepMomentumSGD(groups, momentum) if momentum_of == "steps" else nesterov_sgd(groups, momentum)


@OPTIMIZERS.register(
    "decoupled-sgd",
    Card(
        does="SGD with Nesterov momentum whose learning rate, momentum and decay can each be tuned alone.",
        effect="The optimizer of airbench94, 95 and 96, and of the biases and the head of its Muon recipe.",
        source="Jordan 2024 (airbench).",
    ),
)
def decoupled_sgd(
    *,
    params: Weights,
    lr: float,
    momentum: float,
    weight_decay: float,
    bias_scale: float,
    unit: Literal["kilostep", "image"],
) -> torch.optim.Optimizer:
    """Build SGD as airbench writes it.

    With ``unit="kilostep"``, learning rate and decay are divided by k = 1024 · (1 + 1 / (1 − momentum)): the images of
    a step of 1024, times how much further Nesterov momentum goes than the gradient where that is constant. The
    decay is then divided by the group's learning rate, so that it does not grow with it.

    Args:
        params: the parameters.
        lr: learning rate of the summed loss; per kilostep, or as it is.
        momentum: share of the momentum buffer that is kept.
        weight_decay: per image of the batch, the share of a weight that a step at the peak takes away; per kilostep, or
            as it is.
        bias_scale: factor of the learning rate, though not of the decay, of the norms' parameters.
        unit: ``kilostep`` (airbench94 to 96) or ``image`` (airbench94_muon's SGD).

    Raises:
        ValueError: an option out of range.
    """
    if unit not in ("kilostep", "image"):
        raise ValueError(f"unit is kilostep or image, not {unit!r}")
    if not (lr > 0 and bias_scale > 0 and 0 <= momentum < 1):
        raise ValueError("lr and bias_scale must be positive, and momentum at least 0 and below 1")
    k = 1024 * (1 + 1 / (1 - momentum)) if unit == "kilostep" else 1.0
    per_image, decay = lr / k, weight_decay * params.batch_size / k

    def options(scale: float) -> dict[str, float]:
        mean_lr = per_image * scale * params.batch_size / params.loss_scale
        return {"lr": mean_lr, "weight_decay": decay / mean_lr}

    return nesterov_sgd(biased_groups(params, options, bias_scale), momentum)
