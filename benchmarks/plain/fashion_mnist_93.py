"""Fashion-MNIST to 93 % in plain PyTorch: three convolutions with batch norm, Adam, a one-cycle learning rate, flips.

    python benchmarks/plain/fashion_mnist_93.py --data FOLDER --seed 0

FOLDER holds x_train.npy, y_train.npy, x_test.npy and y_test.npy, such as hotlap's cache of Fashion-MNIST. Prints one
JSON line. The time counts what hotlap's certified time counts: weights, moving and normalising, training and the final
evaluation; not reading the files, and not the two warm-up steps before.

Tuned on 10,000 of the training images, held out (one run each, image and mirror image evaluated; processor time of one
thread): as it is, for 4 epochs 93.97 % in 158 s; pooled after the second convolution and not after the third, 5 epochs
93.81 % in 127 s, 4 without smoothing 93.71 % in 101 s; with 128 channels at the end, pooled three times, 4 without
smoothing 93.59 % in 110 s; four convolutions (32, 32, 64, 64) for 3 epochs 93.95 % in 198 s, without smoothing 93.98 %.
Network, learning rate and batches are otherwise those that were best for 91 %.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

MEAN, STD = 0.286, 0.353
LR, BATCH, EPOCHS, SMOOTHING = 0.01, 256, 5.0, 0.1
LAYOUT = torch.channels_last


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10),
    ).to(memory_format=LAYOUT)  # fmt: skip


def train(x: Tensor, y: Tensor, model: nn.Module, epochs: float) -> None:
    per_epoch = -(-len(x) // BATCH)
    total = max(2, round(epochs * per_epoch))
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=total, cycle_momentum=False)
    model.train()
    for step in range(total):
        at = step % per_epoch
        if at == 0:
            order = torch.randperm(len(x))
        chosen = order[at * BATCH : (at + 1) * BATCH]
        images = x[chosen]
        mirrored = torch.rand(len(images)) < 0.5
        images = torch.where(mirrored[:, None, None, None], images.flip(-1), images).contiguous(memory_format=LAYOUT)
        optimizer.zero_grad()
        functional.cross_entropy(model(images), y[chosen], label_smoothing=SMOOTHING).backward()
        optimizer.step()
        if step < total - 1:
            schedule.step()


@torch.no_grad()
def accuracy(x: Tensor, y: Tensor, model: nn.Module, batch: int = 1000) -> float:
    model.eval()
    correct = 0
    for images, labels in zip(x.split(batch), y.split(batch), strict=True):
        views = (images.contiguous(memory_format=LAYOUT), images.flip(-1).contiguous(memory_format=LAYOUT))
        correct += int((sum(model(view) for view in views).argmax(1) == labels).sum())
    return correct / len(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    x, y, x_test, y_test = (np.load(arguments.data / f"{n}.npy") for n in ("x_train", "y_train", "x_test", "y_test"))

    warm = network()
    train(torch.randn(2 * BATCH, 1, 28, 28), torch.randint(10, (2 * BATCH,)), warm, 1.0)
    accuracy(torch.randn(2000, 1, 28, 28), torch.randint(10, (2000,)), warm)

    start = time.perf_counter()
    torch.manual_seed(arguments.seed)
    images, test = (((torch.from_numpy(part).float() / 255) - MEAN) / STD for part in (x, x_test))
    labels, test_labels = (torch.from_numpy(part.astype(np.int64)) for part in (y, y_test))
    model = network()
    train(images, labels, model, EPOCHS)
    reached = accuracy(test, test_labels, model)
    print(json.dumps({"accuracy": reached, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
