"""A plain PyTorch reading of RECIPES' nine MNIST rungs, written without hotlap, for the parity tests.

Everything that a rung changes is spelled out by rung number, straight from the published description; nothing here
looks at a recipe. Only the three seeds come from outside, so that both sides start from the same weights, order and
dropout.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, StepLR
from torch.utils.data import DataLoader, Dataset

BATCH = {0: 64, 1: 64, 2: 64, 3: 64, 4: 128, 5: 128, 6: 256, 7: 256, 8: 256}


class _PerImage(Dataset[tuple[Tensor, int]]):
    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.images[index].copy()).float() / 255
        return (image - 0.1307) / 0.3081, int(self.labels[index])


def network(rung: int) -> nn.Module:
    if rung <= 1:
        return nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten(),
            nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10), nn.LogSoftmax(1),
        )  # fmt: skip
    if rung <= 6:
        return nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(1600, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10), nn.LogSoftmax(1),
        )  # fmt: skip
    if rung == 7:
        return nn.Sequential(
            nn.Conv2d(1, 24, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(24, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(800, 128), nn.ReLU(), nn.Linear(128, 10), nn.LogSoftmax(1),
        )  # fmt: skip
    return nn.Sequential(
        nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10), nn.LogSoftmax(1),
    )  # fmt: skip


def batches(rung: int, images: np.ndarray, labels: np.ndarray, order_seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.Generator().manual_seed(order_seed)
    if rung <= 2:
        yield from DataLoader(_PerImage(images, labels), batch_size=64, shuffle=True, num_workers=1, generator=order)
        return
    permutation = torch.randperm(len(images), generator=order)
    x = ((torch.from_numpy(images.copy()).float() / 255 - 0.1307) / 0.3081)[permutation]
    y = torch.from_numpy(labels.astype(np.int64))[permutation]
    for start in range(0, len(x), BATCH[rung]):
        yield x[start : start + BATCH[rung]], y[start : start + BATCH[rung]]


def optimizer_and_schedule(rung: int, model: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, LRScheduler]:
    """The scheduler is stepped after every batch, ``steps`` of which make an epoch."""
    if rung <= 4:
        adadelta = torch.optim.Adadelta(model.parameters(), lr=1.0)
        return adadelta, StepLR(adadelta, step_size=steps, gamma=0.7)
    if rung <= 7:
        adadelta = torch.optim.Adadelta(model.parameters(), lr=1.0)
        return adadelta, OneCycleLR(adadelta, 4.0, total_steps=2 * steps, cycle_momentum=False)
    adam = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.7, 0.9))
    return adam, OneCycleLR(adam, 0.01, total_steps=steps, cycle_momentum=False)


def losses(
    rung: int, images: np.ndarray, labels: np.ndarray, *, init: int, order: int, noise: int, count: int
) -> list[float]:
    """The first ``count`` training losses of a rung."""
    torch.manual_seed(init)
    model = network(rung)
    torch.manual_seed(noise)
    steps = -(-len(images) // BATCH[rung])
    optimizer, schedule = optimizer_and_schedule(rung, model, steps)
    found = []
    model.train()
    for x, y in batches(rung, images, labels, order):
        optimizer.zero_grad()
        loss = functional.nll_loss(model(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()
        found.append(loss.item())
        if len(found) == count:
            break
    return found
