"""A plain PyTorch reading of airbench (Jordan 2024) and what followed, written without hotlap, for the parity tests."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from plain_cifar import Average, Batches, each_loss, numbered, summed_loss
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Facts:
    """A published training by SGD."""

    widths: tuple[int, int, int] = (64, 256, 256)
    epochs: float = 9.9
    lr: float = 11.5
    decay: float = 0.0153
    warmup: float = 0.23
    last: float = 0.07
    norm_momentum: float = 0.4
    depth: int = 2
    residual: bool = False
    translate: int = 2
    cutout: int | None = None
    batch: int = 1024
    smoothing: float = 0.2


_96 = Facts(
    widths=(128, 384, 512), epochs=37, lr=9.0, decay=0.012, warmup=0.1, last=0.0, norm_momentum=0.1,
    depth=3, residual=True, translate=4, cutout=12,
)  # fmt: skip
RUNGS = {"94": Facts(), "95": Facts(widths=(128, 384, 384), epochs=15, lr=10.0), "96": _96}
FASTER = replace(_96, epochs=45)
PROXY = replace(_96, epochs=45, widths=(32, 64, 64), depth=2, residual=False)


@dataclass(frozen=True)
class MuonFacts:
    """A published training by Muon."""

    widths: tuple[int, int, int] = (64, 256, 256)
    batch: int = 2000
    epochs: float = 8.0
    smoothing: float = 0.2
    silu: bool = False
    renormalise_every: int = 1
    jitter: tuple[float, float] | None = None
    selective: bool = False


_JITTER = (0.14, 0.13)
MUON = {
    "94-muon": MuonFacts(),
    "94-batched-muon": MuonFacts(),
    "94-rare-renormalisation": MuonFacts(renormalise_every=5),
    "94-jitter": MuonFacts(jitter=_JITTER),
    "94-silu": MuonFacts(silu=True),
    "94-selective-tta": MuonFacts(selective=True),
    "94-hiverge": MuonFacts(
        batch=1536, epochs=7.6, smoothing=0.09, silu=True, renormalise_every=5, jitter=_JITTER, selective=True
    ),
}


class _Group(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, depth: int, norm_momentum: float) -> None:
        super().__init__()
        self.depth = depth
        for i in range(1, depth + 1):
            conv = nn.Conv2d(channels_in if i == 1 else channels_out, channels_out, 3, padding=1, bias=False)
            norm = nn.BatchNorm2d(channels_out, eps=1e-12, momentum=norm_momentum)
            norm.weight.requires_grad = False
            self.add_module(f"conv{i}", conv)
            self.add_module(f"norm{i}", norm)


class SpeedNet(nn.Module):
    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        whitening_bias: bool = True,
        norm_momentum: float = 0.4,
        depth: int = 2,
        residual: bool = False,
        silu: bool = False,
        global_amax: bool = False,
        logits: float = 1 / 9,
    ) -> None:
        super().__init__()
        self.silu, self.residual, self.global_amax, self.logits = silu, residual, global_amax, logits
        self.whiten = nn.Conv2d(3, 24, 2, bias=whitening_bias)
        self.whiten.weight.requires_grad = False
        self.block1 = _Group(24, widths[0], depth, norm_momentum)
        self.block2 = _Group(widths[0], widths[1], depth, norm_momentum)
        self.block3 = _Group(widths[1], widths[2], depth, norm_momentum)
        self.head = nn.Linear(widths[2], 10, bias=False)

    def act(self, x: Tensor) -> Tensor:
        return functional.silu(x) if self.silu else functional.gelu(x)

    def group(self, x: Tensor, block: nn.Module) -> Tensor:
        x = self.act(block.norm1(functional.max_pool2d(block.conv1(x), 2)))
        start = x
        x = block.norm2(block.conv2(x))
        if self.residual:
            x = block.norm3(block.conv3(self.act(x))) + start
        return self.act(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.whiten(x))
        for block in (self.block1, self.block2, self.block3):
            x = self.group(x, block)
        x = x.amax((2, 3)) if self.global_amax else functional.max_pool2d(x, 3).flatten(1)
        return self.head(x) * self.logits


def net_of(facts: Facts, widths: tuple[int, ...], *, whitening_bias: bool = True) -> SpeedNet:
    return SpeedNet(
        widths,
        whitening_bias=whitening_bias,
        norm_momentum=facts.norm_momentum,
        depth=facts.depth,
        residual=facts.residual,
    )


def muon_net_of(facts: MuonFacts, widths: tuple[int, ...]) -> SpeedNet:
    return SpeedNet(widths, silu=facts.silu, logits=1 / 256)


def kind(name: str) -> str:
    """What a parameter is, by its name in ``SpeedNet``."""
    return "biases" if "norm" in name else "whitening" if "whiten" in name else "head" if "head" in name else "filters"


def rates(facts: Facts, step: int, per_epoch: int, total: int, batch: int) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each kind of parameter for a summed loss, at step ``step`` (from 0)."""
    k = 1024 * (1 + 1 / (1 - 0.85))
    lr, decay = facts.lr / k, facts.decay * batch / k
    rising = int(total * facts.warmup)
    up, down = 0.2 + 0.8 * step / max(rising, 1), 1 + (facts.last - 1) * (step - rising) / (total - rising)
    factor = up if step < rising else down
    others = (factor * lr, decay / lr)
    frozen = step // per_epoch >= 3
    return {
        "filters": others,
        "head": others,
        "whitening": (0.0, decay / lr) if frozen else others,
        "biases": (factor * lr * 64, decay / (lr * 64)),
    }


def muon_rates(step: int, per_epoch: int, total: int, batch: int) -> dict[str, tuple[float, float]]:
    """The same for 94-muon; the filters are Muon's, whose learning rate is not per image."""
    factor = 1 - step / total
    of_whitening = max(0.0, 1 - step / (3 * per_epoch))
    decay = 2e-6 * batch
    return {
        "filters": (0.24 * factor, 0.0),
        "head": (0.67 * factor, decay / 0.67),
        "whitening": (0.053 * of_whitening, decay / 0.053),
        "biases": (0.053 * factor, decay / 0.053),
    }


class _SGD:
    """PyTorch's SGD with Nesterov momentum 0.85, one group for each kind of parameter, rates set at every step."""

    def __init__(self, net: SpeedNet, kinds: tuple[str, ...]) -> None:
        groups: dict[str, list[nn.Parameter]] = {}
        for name, p in net.named_parameters():
            if p.requires_grad and kind(name) in kinds:
                groups.setdefault(kind(name), []).append(p)
        self.kinds = list(groups)
        self.sgd = torch.optim.SGD([{"params": ps} for ps in groups.values()], lr=1.0, momentum=0.85, nesterov=True)

    def step(self, at: dict[str, tuple[float, float]]) -> None:
        for name, group in zip(self.kinds, self.sgd.param_groups, strict=True):
            group["lr"], group["weight_decay"] = at[name]
        self.sgd.step()


_ALL = ("filters", "head", "whitening", "biases")


def train(
    facts: Facts,
    net: SpeedNet,
    batches: Batches,
    *,
    batch: int,
    per_epoch: int,
    total: int,
    count: int,
    proxy: SpeedNet | None = None,
    keep: int | None = None,
) -> list[float]:
    """Train ``net`` for ``count`` of ``total`` steps, leave it with the weights evaluated, return mean losses.

    With a proxy, each batch is cut down to the ``keep`` images that the proxy finds hardest. Published masks come
    from a training of the proxy before that of the network, on the same batches.
    """
    sgd = _SGD(net, _ALL)
    small = _SGD(proxy, _ALL) if proxy is not None else None
    slow = Average(net)
    losses = []
    net.train()
    for step, images, labels in numbered(batches, count):
        at = rates(facts, step, per_epoch, total, batch)
        if proxy is not None and small is not None and keep is not None:
            proxy.train()
            proxy.zero_grad()
            each = each_loss(proxy(images), labels, facts.smoothing)
            hardest = each.detach().argsort()[-keep:]
            if step % 4 == 0:
                each[hardest].sum().backward()
                small.step(at)
            images, labels = images[hardest], labels[hardest]
        net.zero_grad(set_to_none=True)
        if step // per_epoch >= 3:
            net.whiten.bias.requires_grad = False
        loss = summed_loss(net(images), labels, facts.smoothing)
        loss.backward()
        sgd.step(at)
        losses.append(loss.item() / batch)
        done = step + 1
        if done % 5 == 0:
            slow.update(net, 0.95**5 * (done / total) ** 3, copy_back=True)
        if done == total:
            slow.update(net, 1.0, copy_back=True)
    return losses


def _orthogonal(matrix: Tensor) -> Tensor:
    x = matrix / (matrix.norm() + 1e-7)
    if len(x) > x.shape[1]:
        x = x.T
    for _ in range(3):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape != x.shape else x


def train_muon(
    facts: MuonFacts, net: SpeedNet, batches: Batches, *, batch: int, per_epoch: int, total: int, count: int
) -> list[float]:
    """As ``train``."""
    sgd = _SGD(net, ("head", "whitening", "biases"))
    filters = [p for name, p in net.named_parameters() if kind(name) == "filters"]
    momentum = [torch.zeros_like(p) for p in filters]
    losses = []
    net.train()
    for step, images, labels in numbered(batches, count):
        at = muon_rates(step, per_epoch, total, batch)
        net.zero_grad(set_to_none=True)
        if step >= math.ceil(3 * per_epoch):
            net.whiten.bias.requires_grad = False
        loss = summed_loss(net(images), labels, facts.smoothing)
        loss.backward()
        sgd.step(at)
        with torch.no_grad():
            for p, buffer in zip(filters, momentum, strict=True):
                buffer.mul_(0.6).add_(p.grad)
                gradient = p.grad + 0.6 * buffer
                if step % facts.renormalise_every == 0:
                    p *= len(p) ** 0.5 / p.norm()
                p -= at["filters"][0] * _orthogonal(gradient.reshape(len(p), -1)).reshape(p.shape)
        losses.append(loss.item() / batch)
    return losses
