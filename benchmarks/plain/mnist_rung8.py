"""train_mnist_fast's final recipe as a plain PyTorch script, the way a careful reader would write it.

    python benchmarks/plain/mnist_rung8.py --data FOLDER --seed 0

FOLDER holds x_train.npy, y_train.npy, x_test.npy and y_test.npy, such as hotlap's cache of MNIST. Prints one JSON line.
The time counts what hotlap's certified time counts: weights, moving, normalising and shuffling, training and the final
evaluation; not reading the files, and not the two warm-up steps before.
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


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip


def train(x: Tensor, y: Tensor, model: nn.Module, batch: int = 256) -> None:
    steps = -(-len(x) // batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.7, 0.9))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=max(steps, 2), cycle_momentum=False)
    model.train()
    for step in range(steps):
        span = slice(step * batch, (step + 1) * batch)
        optimizer.zero_grad()
        functional.nll_loss(functional.log_softmax(model(x[span]), dim=1), y[span]).backward()
        optimizer.step()
        if step < steps - 1:
            schedule.step()


@torch.no_grad()
def accuracy(x: Tensor, y: Tensor, model: nn.Module, batch: int = 2000) -> float:
    model.eval()
    correct = sum(int((model(x[i : i + batch]).argmax(1) == y[i : i + batch]).sum()) for i in range(0, len(x), batch))
    return correct / len(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    x, y, x_test, y_test = (np.load(arguments.data / f"{n}.npy") for n in ("x_train", "y_train", "x_test", "y_test"))

    warm = network()
    train(torch.randn(512, 1, 28, 28), torch.randint(10, (512,)), warm)
    accuracy(torch.randn(2000, 1, 28, 28), torch.randint(10, (2000,)), warm)

    start = time.perf_counter()
    torch.manual_seed(arguments.seed)
    order = torch.randperm(len(x))
    images = ((torch.from_numpy(x).float() / 255 - 0.1307) / 0.3081)[order]
    labels = torch.from_numpy(y.astype(np.int64))[order]
    test = (torch.from_numpy(x_test).float() / 255 - 0.1307) / 0.3081
    model = network()
    train(images, labels, model)
    reached = accuracy(test, torch.from_numpy(y_test.astype(np.int64)), model)
    print(json.dumps({"accuracy": reached, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
