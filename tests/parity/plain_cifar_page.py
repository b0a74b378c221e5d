"""A plain PyTorch reading of cifar10-fast (Page 2019), written without hotlap, for the parity tests."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from plain_cifar import Average, Batches, numbered, summed_loss
from torch import Tensor, nn
from torch.nn import functional

BATCH = 512


@dataclass(frozen=True)
class Facts:
    """One published training; learning rates as published, that is, before they are divided by the batch size."""

    epochs: int
    knots: tuple[float, ...]
    rates: tuple[float, ...]
    grouped: bool = True
    cutout: int | None = 8
    pool_first: bool = True
    smoothing: float = 0.2
    celu: float | None = None
    splits: int = 1
    learned_scale: bool = True
    logits: float = 1 / 8
    bias_factor: float = 1.0
    whitened: bool = False
    averaged: bool = False
    mirror: bool = False


def _ramp(epochs: int, peak: float, warmup: float) -> dict[str, object]:
    return {"epochs": epochs, "knots": (0, warmup, epochs), "rates": (0, peak, 0)}


def _floored(epochs: int, peak: float) -> dict[str, object]:
    return {"epochs": epochs, "knots": (0, epochs / 5, epochs - 2), "rates": (0, peak, peak / 10)}


def _rungs() -> tuple[Facts, ...]:
    dawnbench = Facts(**_ramp(24, 0.4, 5), grouped=False, pool_first=False, smoothing=0)  # type: ignore[arg-type]
    on_gpu = replace(dawnbench, grouped=True)
    pool_first = replace(on_gpu, **_ramp(25, 0.4, 5), pool_first=True)  # type: ignore[arg-type]
    smoothing = replace(pool_first, **_ramp(23, 0.4, 23 / 5), smoothing=0.2)  # type: ignore[arg-type]
    celu = replace(smoothing, **_ramp(20, 0.4, 4), celu=0.075)  # type: ignore[arg-type]
    ghost = replace(celu, **_ramp(18, 0.6, 18 / 5), splits=16)  # type: ignore[arg-type]
    frozen = replace(ghost, **_ramp(17, 0.6, 17 / 5), learned_scale=False, celu=0.3, logits=1 / 16, bias_factor=64.0)  # type: ignore[arg-type]
    whitened = replace(frozen, **_ramp(14, 1.0, 14 / 5), whitened=True, cutout=5)  # type: ignore[arg-type]
    average = replace(whitened, **_floored(13, 1.0), averaged=True)  # type: ignore[arg-type]
    mirror = replace(average, **_floored(10, 1.0), mirror=True, cutout=None)  # type: ignore[arg-type]
    return dawnbench, on_gpu, pool_first, smoothing, celu, ghost, frozen, whitened, average, mirror


RUNGS = _rungs()


def long_baseline(epochs: int) -> Facts:
    return replace(RUNGS[1], **_ramp(epochs, 0.4, 5), cutout=12)  # type: ignore[arg-type]


def long_final(epochs: int) -> Facts:
    return replace(RUNGS[9], **_floored(epochs, 0.4), cutout=12)  # type: ignore[arg-type]


def rates(facts: Facts, step: int, per_epoch: int, batch: int) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay, as they act on a summed loss, of step ``step`` (from 0; published from 1)."""
    lr = float(np.interp((step + 1) / per_epoch, facts.knots, facts.rates)) / batch
    decay = 5e-4 * batch
    return {"weights": (lr, decay), "biases": (lr * facts.bias_factor, decay / facts.bias_factor)}


class _GhostNorm(nn.BatchNorm2d):
    """Image i is normalised with all images i + 16·k; the statistics that are kept are the average of all parts'."""

    def __init__(self, channels: int, splits: int) -> None:
        super().__init__(channels)
        self.splits = splits

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.splits == 1:
            return super().forward(x)
        out, means, variances = torch.empty_like(x), [], []
        for i in range(self.splits):
            part = x[i :: self.splits]
            mean, var = part.mean((0, 2, 3)), part.var((0, 2, 3), unbiased=False)
            seen = part.numel() // part.shape[1]
            normal = (part - mean.view(1, -1, 1, 1)) / (var + 1e-5).sqrt().view(1, -1, 1, 1)
            out[i :: self.splits] = normal * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
            means.append(mean.detach())
            variances.append(var.detach() * seen / (seen - 1))
        self.running_mean = 0.9 * self.running_mean + 0.1 * sum(means) / self.splits
        self.running_var = 0.9 * self.running_var + 0.1 * sum(variances) / self.splits
        return out


class PageNet(nn.Module):
    def __init__(self, facts: Facts, prep: int = 64, one: int = 128, two: int = 256, three: int = 512) -> None:
        super().__init__()
        self.facts = facts

        def block(channels_in: int, channels_out: int, kernel: int = 3) -> nn.Module:
            norm = _GhostNorm(channels_out, facts.splits)
            norm.weight.requires_grad = facts.learned_scale
            conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
            return nn.ModuleDict({"conv": conv, "norm": norm})

        if facts.whitened:
            self.whiten = nn.Conv2d(3, 27, 3, padding=1, bias=False)
            self.whiten.weight.requires_grad = False
            self.prep = block(27, prep, kernel=1)
        else:
            self.prep = block(3, prep)
        self.layer1, self.layer2, self.layer3 = block(prep, one), block(one, two), block(two, three)
        self.layer1_a, self.layer1_b = block(one, one), block(one, one)
        self.layer3_a, self.layer3_b = block(three, three), block(three, three)
        self.linear = nn.Linear(three, 10, bias=False)

    def act(self, x: Tensor) -> Tensor:
        return functional.relu(x) if self.facts.celu is None else functional.celu(x, self.facts.celu)

    def conv(self, x: Tensor, block: nn.Module) -> Tensor:
        return self.act(block["norm"](block["conv"](x)))  # type: ignore[index]

    def conv_pool(self, x: Tensor, block: nn.Module) -> Tensor:
        if self.facts.pool_first:
            return self.act(block["norm"](functional.max_pool2d(block["conv"](x), 2)))  # type: ignore[index]
        return functional.max_pool2d(self.conv(x, block), 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.facts.whitened:
            x = self.whiten(x)
        x = self.conv(x, self.prep)
        x = self.conv_pool(x, self.layer1)
        x = x + self.conv(self.conv(x, self.layer1_a), self.layer1_b)
        x = self.conv_pool(x, self.layer2)
        x = self.conv_pool(x, self.layer3)
        x = x + self.conv(self.conv(x, self.layer3_a), self.layer3_b)
        x = functional.max_pool2d(x, 4).flatten(1)
        return self.linear(x) * self.facts.logits


def train(facts: Facts, net: PageNet, batches: Batches, *, batch: int, per_epoch: int, count: int) -> list[float]:
    """Train ``net`` for ``count`` steps, leave it with the weights that are evaluated, return the mean losses."""
    trained = {k: p for k, p in net.named_parameters() if p.requires_grad}
    velocity = {k: torch.zeros_like(p) for k, p in trained.items()}
    average = Average(net)
    losses = []
    net.train()
    for step, images, labels in numbered(batches, count):
        net.zero_grad()
        loss = summed_loss(net(images), labels, facts.smoothing)
        loss.backward()
        at = rates(facts, step, per_epoch, batch)
        with torch.no_grad():
            for name, p in trained.items():
                lr, decay = at["biases" if "bias" in name else "weights"]
                move = -lr * (p.grad + decay * p)
                velocity[name] = 0.9 * velocity[name] + move
                p += move + 0.9 * velocity[name]
        losses.append(loss.item() / batch)
        if facts.averaged and (step + 1) % 5 == 0:
            average.update(net, 0.99**5, copy_back=False)
    if facts.averaged:
        net.load_state_dict(average.weights, strict=False)
    return losses
