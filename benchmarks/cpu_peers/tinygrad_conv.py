"""The small network in tinygrad, its steps captured by TinyJit, on the CPU device.

    python benchmarks/cpu_peers/tinygrad_conv.py --data FOLDER --seed 0

Excluded from the time: reading the files, importing, and compiling (the captured steps run on blank images first).
"""

from __future__ import annotations

import os
import time
from importlib.metadata import version

import numpy as np

os.environ.setdefault("DEV", "CPU")

import shared
from tinygrad import Context, Tensor, TinyJit, nn
from tinygrad.nn import optim

SETTINGS = {
    "samples": 21600, "batch": 144, "lr_conv1": 0.08, "lr_conv2": 0.18, "lr_dense": 0.12, "momentum": 0.7,
    "ns_steps": 3, "lr_adam": 0.01, "smoothing": 0.05, "warm": 0.07,
}  # fmt: skip
TEST_BATCH = 1000


class Network:
    def __init__(self) -> None:
        self.conv1, self.conv2 = nn.Conv2d(1, 16, 3), nn.Conv2d(16, 32, 3)
        self.dense, self.out = nn.Linear(512, 96), nn.Linear(96, 10)

    def __call__(self, x: Tensor) -> Tensor:
        # Without subtracting the mean the blank background stays zero.
        x = x.reshape(-1, 1, 22, 22).cast("float32") * (1 / 255 / 0.3081)
        x = self.conv1(x).max_pool2d(2).relu()
        x = self.conv2(x).max_pool2d(2).relu()
        return self.out(self.dense(x.flatten(1)).relu())


class Trainer:
    """One network with its captured steps; ``start`` draws new weights into the buffers that the steps are bound to."""

    def __init__(self, settings: dict[str, float]) -> None:
        self.settings = settings
        self.net = net = Network()
        self.params = nn.state.get_parameters(net)
        muon = {"momentum": settings["momentum"], "weight_decay": 0.0, "ns_steps": settings["ns_steps"]}
        others = [net.conv1.bias, net.conv2.bias, net.dense.bias, net.out.weight, net.out.bias]
        self.groups = [
            (optim.Muon([net.conv1.weight], **muon), settings["lr_conv1"]),
            (optim.Muon([net.conv2.weight], **muon), settings["lr_conv2"]),
            (optim.Muon([net.dense.weight], **muon), settings["lr_dense"]),
            (optim.Adam(others, b1=0.7, b2=0.9), settings["lr_adam"]),
        ]
        self.all = optim.OptimizerGroup(*(optimizer for optimizer, _ in self.groups))
        self.step, self.hits = TinyJit(self._step), TinyJit(self._hits)

    def start(self, seed: int) -> None:
        Tensor.manual_seed(seed)
        fresh = nn.state.get_parameters(Network())
        for old, new in zip(self.params, fresh, strict=True):
            old.assign(new)
        states = [state for optimizer, _ in self.groups for state in nn.state.get_parameters(optimizer)]
        own = {id(p) for p in [*self.params, *(optimizer.lr for optimizer, _ in self.groups)]}
        kept = [state for state in dict.fromkeys(states) if id(state) not in own]
        for state in kept:
            # Adam's running powers of its betas start at one; momenta and squares at zero.
            state.assign(state.ones_like() if state.shape == (1,) else state.zeros_like())
        Tensor.realize(*self.params, *kept)

    def _step(self, x: Tensor, y: Tensor, factor: Tensor) -> Tensor:
        for optimizer, lr in self.groups:
            optimizer.lr = factor * lr
        with Context(TRAINING=1):
            self.all.zero_grad()
            loss = self.net(x).sparse_categorical_crossentropy(y, label_smoothing=self.settings["smoothing"]).backward()
            return loss.realize(*self.all.schedule_step())

    def _hits(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.net(x).argmax(1) == y).sum().realize()

    def train(self, x: shared.Images, y: np.ndarray, steps: int) -> None:
        batch, factors = int(self.settings["batch"]), shared.triangle(steps, self.settings["warm"], 0.04, 0.02)
        for i in range(steps):
            span = slice(i * batch, (i + 1) * batch)
            self.step(Tensor(x[span]).realize(), Tensor(y[span]).realize(), Tensor(factors[i : i + 1]).realize())

    def accuracy(self, x: shared.Images, y: np.ndarray) -> float:
        spans = [slice(i, i + TEST_BATCH) for i in range(0, len(x), TEST_BATCH)]
        # All that are full; a last one that is not runs uncaptured, for a captured step has one shape.
        found = [
            (self.hits if len(x[s]) == TEST_BATCH else self._hits)(
                Tensor(x[s]).realize(), Tensor(y[s]).realize()
            ).item()
            for s in spans
        ]
        return sum(found) / len(x)


def main() -> None:
    task = shared.read(__doc__, SETTINGS)
    settings = task.settings
    samples, batch = int(settings["samples"]), int(settings["batch"])
    trainer = Trainer(settings)
    trainer.start(0)
    # The first call runs as written, the second is captured, the third is the captured one.
    blank, labels = np.zeros((max(3 * batch, 3 * TEST_BATCH), 22, 22), np.uint8), np.zeros(3 * TEST_BATCH, np.int32)
    trainer.train(blank, labels, 3)
    trainer.accuracy(blank[: 3 * TEST_BATCH], labels)

    start = time.perf_counter()
    rng = np.random.default_rng(task.seed)
    chosen = shared.order(rng, len(task.x), samples)
    x, y = shared.shifted_crops(task.x[chosen], rng), task.y[chosen]
    x_test = shared.middle_crops(task.x_test)
    trainer.start(task.seed)
    trainer.train(x, y, samples // batch)
    reached = trainer.accuracy(x_test, task.y_test)
    shared.report(reached, time.perf_counter() - start, {"tinygrad": version("tinygrad")})


if __name__ == "__main__":
    main()
