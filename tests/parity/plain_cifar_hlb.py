"""A plain PyTorch reading of hlb-CIFAR10 v0.7 (2023), written without hotlap, for the parity tests."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from plain_cifar import Average, Batches, numbered, summed_loss
from plain_cifar_airbench import SpeedNet
from torch.optim.lr_scheduler import OneCycleLR

BATCH = 1024


@dataclass(frozen=True)
class Facts:
    """A published training: width of the first group, and when and how it mixes and averages."""

    base: int = 64
    epochs: float = 12.1
    ema_epochs: int = 10
    cutmix_side: int = 3
    cutmix_epochs: int = 6

    @property
    def widths(self) -> tuple[int, int, int]:
        return self.base, 4 * self.base, 8 * self.base


RUNGS = {
    "94": Facts(),
    "95.79": Facts(base=128, epochs=90, ema_epochs=80, cutmix_side=10, cutmix_epochs=80),
}


def net_of(widths: tuple[int, ...]) -> SpeedNet:
    return SpeedNet(widths, whitening_bias=False, norm_momentum=0.4, global_amax=True, logits=1 / 9)


def decays(batch: int) -> tuple[float, float]:
    """Of weights and of biases, as they act on the summed and scaled loss."""
    return 6.687e-4 * batch, 6.687e-4 * batch / 64


def learning_rates(total: int) -> list[tuple[float, float]]:
    """Of weights and of biases at every step, from PyTorch's own scheduler."""
    found = []
    for peak in (1.525 / 512, 64 * 1.525 / 512):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
        one_cycle = OneCycleLR(
            optimizer, max_lr=peak, total_steps=total, pct_start=0.23, anneal_strategy="linear",
            cycle_momentum=False, div_factor=1e16, final_div_factor=1 / (1e16 * 0.07),
        )  # fmt: skip
        curve = []
        for _ in range(total):
            curve.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            one_cycle.step() if len(curve) < total else None
        found.append(curve)
    return list(zip(*found, strict=True))


def mixes(facts: Facts, epoch: int) -> bool:
    return epoch >= facts.epochs - facts.cutmix_epochs


def average_begins(facts: Facts, per_epoch: int) -> int:
    """The steps done when the average becomes a copy of the weights; updates follow every five steps."""
    first_epoch = math.floor(facts.epochs) - facts.ema_epochs
    done = first_epoch * per_epoch + 1
    while done % 5:
        done += 1
    return done


def train(
    facts: Facts, net: SpeedNet, batches: Batches, *, batch: int, per_epoch: int, total: int, count: int
) -> list[float]:
    """Train ``net`` for ``count`` of ``total`` steps, leave it with the weights evaluated, return mean losses."""
    named = dict(net.named_parameters())
    biases = [p for name, p in named.items() if "bias" in name and p.requires_grad]
    weights = [p for name, p in named.items() if "bias" not in name and p.requires_grad]
    of_weights, of_biases = decays(batch)
    optimizers = [
        torch.optim.SGD(weights, lr=1.0, momentum=0.85, nesterov=True, weight_decay=of_weights),
        torch.optim.SGD(biases, lr=1.0, momentum=0.85, nesterov=True, weight_decay=of_biases),
    ]
    curve = learning_rates(total)
    begins = average_begins(facts, per_epoch)
    average = None
    losses = []
    net.train()
    for step, images, targets in numbered(batches, count):
        net.zero_grad()
        loss = summed_loss(net(images), targets, 0.2) * 512 / batch
        loss.backward()
        for optimizer, lr in zip(optimizers, curve[step], strict=True):
            optimizer.param_groups[0]["lr"] = lr
            optimizer.step()
        losses.append(loss.item() / 512)
        done = step + 1
        if done == begins:
            average = Average(net)
        elif average is not None and done % 5 == 0:
            average.update(net, 0.95**5 * (done / total) ** 3, copy_back=True)
    if average is not None:
        net.load_state_dict(average.weights, strict=False)
    return losses
