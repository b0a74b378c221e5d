"""A plain PyTorch reading of the own MNIST records, written without hotlap, for the parity tests.

Everything is spelled out from the description in words; nothing here looks at a recipe. Only three seeds come from
outside, so that both sides start from the same weights, order and shifts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

POLYNOMIALS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
)


@dataclass(frozen=True)
class Kind:
    """What tells the network and optimizer for a GPU from those for a CPU."""

    channels: tuple[int, int]
    hidden: int
    muon: tuple[float, float, float]
    momentum: float
    adam: float
    lowest: float


FOR_CPU = Kind((8, 16), 72, (0.05328, 0.12, 0.08004), 0.733, 0.01, 0.02)
FOR_GPU = Kind((32, 64), 128, (0.18, 0.18, 0.18), 0.6, 0.015, 0.1)


def network(kind: Kind) -> nn.Sequential:
    one, two = kind.channels
    return nn.Sequential(
        nn.Conv2d(1, one, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(one, two, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * two, kind.hidden), nn.ReLU(), nn.Linear(kind.hidden, 10),
    )  # fmt: skip


def scaled(images: np.ndarray) -> Tensor:
    """Divided by the standard deviation, but without the mean taken off: the background stays 0."""
    return torch.from_numpy(images.copy()).float() / 255 / 0.3081


def crop(images: Tensor, down: int = 0, right: int = 0) -> Tensor:
    """The central 20×20 pixels of a window that lies that much lower and further to the right."""
    return images[..., 4 + down : 24 + down, 4 + right : 24 + right]


def batches(
    images: np.ndarray, labels: np.ndarray, batch: int, order: int, shifts: int
) -> Iterator[tuple[Tensor, Tensor]]:
    x, y = scaled(images), torch.from_numpy(labels.astype(np.int64))
    shuffled = torch.randperm(len(x), generator=torch.Generator().manual_seed(order))
    draw = torch.Generator().manual_seed(shifts)
    for index in shuffled.split(batch):
        down, right = (torch.randint(3, (2, len(index)), generator=draw) - 1).tolist()
        yield torch.stack([crop(x[i], *by) for i, *by in zip(index, down, right, strict=True)]), y[index]


class _Muon:
    """Nesterov momentum over an average of gradients, made orthogonal; one matrix."""

    def __init__(self, weight: nn.Parameter, peak: float, momentum: float, batch: int) -> None:
        self.weight, self.peak, self.average, self.kept = weight, peak, torch.zeros_like(weight), momentum
        # A gradient of zeros stays one: 1e-7 beside sums over the batch and over steps, not beside their averages.
        self.least = 1e-7 / batch * (1 - momentum)

    @torch.no_grad()
    def step(self, factor: float) -> None:
        gradient = self.weight.grad
        assert gradient is not None
        new = 1 - self.kept
        self.average = self.kept * self.average + new * gradient
        x = (new * gradient + self.kept * self.average).reshape(len(gradient), -1).double()
        x = x / (x.norm() + self.least)
        for a, b, c in POLYNOMIALS:
            if len(x) > x.shape[1]:
                gram = x.T @ x
                x = a * x + x @ (b * gram + c * gram @ gram)
            else:
                gram = x @ x.T
                x = a * x + (b * gram + c * gram @ gram) @ x
        self.weight -= self.peak * factor * x.reshape(self.weight.shape).float()


def factor(step: int, total: int, lowest: float) -> float:
    """From 4 % up over the first 7 % of the steps, then down to the lowest share, along straight lines."""
    peak = 0.07 * total - 1
    if step <= peak:
        return 0.04 + 0.96 * step / peak
    return 1 - (1 - lowest) * (step - peak) / (total - 1 - peak)


def train(
    images: np.ndarray,
    labels: np.ndarray,
    *,
    kind: Kind,
    batch: int,
    total: int,
    init: int,
    order: int,
    shifts: int,
    count: int,
) -> tuple[nn.Sequential, list[float]]:
    """The network and its losses after the first ``count`` of ``total`` steps."""
    torch.manual_seed(init)
    model = network(kind)
    conv1, conv2, hidden, head = (model[i] for i in (0, 3, 7, 9))
    steered = zip((conv1, conv2, hidden), kind.muon, strict=True)
    muons = [_Muon(of.weight, lr, kind.momentum, batch) for of, lr in steered]
    adam = torch.optim.Adam([*(layer.bias for layer in (conv1, conv2, hidden)), *head.parameters()], betas=(0.7, 0.9))
    losses: list[float] = []
    for x, y in batches(images, labels, batch, order, shifts):
        if len(losses) == count:
            break
        model.zero_grad()
        loss = functional.cross_entropy(model(x), y, label_smoothing=0.05)
        loss.backward()
        now = factor(len(losses), total, kind.lowest)
        adam.param_groups[0]["lr"] = kind.adam * now
        adam.step()
        for muon in muons:
            muon.step(now)
        losses.append(loss.item())
    return model, losses


@torch.no_grad()
def right(model: nn.Sequential, images: np.ndarray, labels: np.ndarray, *, look_again: bool) -> torch.Tensor:
    """Tell which images are classified correctly.

    With another look, the 3 % with the smallest margins gets the logits of its four shifts added.
    """
    x, y = scaled(images), torch.from_numpy(labels.astype(np.int64))
    logits = model(crop(x))
    if look_again:
        best, second = logits.topk(2).values.T
        doubtful = (best - second).argsort()[: len(x) * 3 // 100]
        for by in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            logits[doubtful] += model(crop(x[doubtful], *by))
    return logits.argmax(1) == y
