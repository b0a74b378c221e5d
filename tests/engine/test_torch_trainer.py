"""The PyTorch backend: what warm-up may leave behind, which is nothing."""

from __future__ import annotations

import torch

from hotlap import datasets
from hotlap.engine.seeding import Streams, isolated
from hotlap.engine.torch_trainer import TorchTrainer
from tiny import tiny

CPU = torch.device("cpu")


def test_a_rehearsal_leaves_nothing_behind() -> None:
    recipe = tiny(epochs=1.0)
    data = datasets.load(recipe.data.name, **recipe.data.options)

    def losses(*, rehearsed: bool) -> list[float]:
        with isolated(CPU):
            trainer = TorchTrainer(recipe, (data.channels, *data.size), data.classes, CPU, [Streams.of(3)])
            if rehearsed:
                trainer.rehearse(len(data.x_train), len(data.x_test))
            trainer.prepare(data)
            return [loss.item() for loss in trainer.epoch(0, 3)]

    assert losses(rehearsed=True) == losses(rehearsed=False)
