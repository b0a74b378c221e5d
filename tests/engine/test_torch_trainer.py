"""The PyTorch backend: what warm-up may leave behind, which is nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from hotlap import datasets
from hotlap.engine import torch_trainer, warmup
from hotlap.engine.backends import make_trainer
from hotlap.engine.seeding import Streams, isolated
from hotlap.engine.torch_trainer import TorchTrainer
from hotlap.errors import InputError
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


def test_memory_is_asked_for_after_steps_have_been_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording gives back what lies idle."""
    trainer = TorchTrainer(tiny(), (1, 12, 12), 4, CPU, [Streams.of(0)])
    done: list[str] = []
    monkeypatch.setattr(torch_trainer, "warm_up", lambda *_: done.append("steps are recorded"))
    monkeypatch.setattr(trainer, "prepare", lambda data: done.append(f"{len(data.x_train)} images are prepared"))
    monkeypatch.setattr(trainer, "_feed", _OneBatch(), raising=False)
    trainer.warm_up(512, 256)
    assert done == ["steps are recorded"], "a CPU has memory enough"
    trainer._device = torch.device("cuda")
    for _ in range(2):
        trainer.warm_up(512, 256)
    assert done[1:] == ["steps are recorded", "512 images are prepared", "steps are recorded"]


class _OneBatch:
    def epoch(self) -> Iterator[None]:
        yield None


@pytest.mark.parametrize("backend", ["torch", "native"])
def test_data_is_refused_under_its_name_before_anything_is_warmed_up(backend: str) -> None:
    data = replace(datasets.load("synthetic", train=20, test=10, size=12, classes=4), name="my photos")
    with pytest.raises(InputError, match="my photos has 20 training images, less than one batch of 64"):
        make_trainer(tiny(feed__drop_last=True), data, [0], CPU, backend)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"feed\.mean has 3 values, my photos has 1 channels"):
        make_trainer(tiny(feed__mean=(0.0, 0.0, 0.0)), data, [0], CPU, backend)  # type: ignore[arg-type]


def test_each_part_of_warm_up_tells_its_time_to_those_who_listen(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(warmup, "synchroniser", lambda device: lambda: waited.append(device))
    trainer = TorchTrainer(tiny(), (1, 12, 12), 4, CPU, [Streams.of(0)])
    trainer.warm_up(64, 16)
    assert not caplog.records and not waited, "waiting for a device takes time"
    caplog.set_level(logging.DEBUG, "hotlap.engine.warmup")
    trainer.warm_up(64, 16)
    parts = [record.getMessage().removeprefix("warm-up: ").rpartition(" ")[0] for record in caplog.records]
    assert [part.rstrip("0123456789. ") for part in parts] == ["augmentation", "training steps", "evaluation"]
    assert waited == [CPU] * 6
