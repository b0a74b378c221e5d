"""What is said of a GPU that lacks something, and that the caller's GPUs are left as they were."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hotlap.engine import backends, devices
from hotlap.engine.seeding import isolated
from hotlap.errors import InputError
from hotlap.ladder import get_recipe
from tiny import tiny

GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    devices.no_triton.cache_clear()
    yield
    devices.no_triton.cache_clear()


def triton_that(answer: Any) -> SimpleNamespace:
    return SimpleNamespace(
        runtime=SimpleNamespace(driver=SimpleNamespace(active=SimpleNamespace(get_current_target=answer)))
    )


def test_layers_are_not_fused_where_triton_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("Failed to find C compiler. Please specify via CC.\nMore")

    recipe = get_recipe("cifar10/record")
    monkeypatch.setitem(sys.modules, "triton", triton_that(fails))
    assert devices.fuses(recipe, GPU) == ""
    remark = devices.remark_on_triton(recipe, GPU)
    assert remark is not None and remark.endswith("Failed to find C compiler. Please specify via CC.")
    assert devices.remark_on_triton(recipe, torch.device("cpu")) is None
    assert devices.remark_on_triton(recipe.with_changes({"engine.fused": False}), GPU) is None


def test_layers_are_fused_where_triton_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", triton_that(lambda: "cuda:90"))
    recipe = get_recipe("cifar10/record")
    assert devices.fuses(recipe, GPU) == "triton"
    assert devices.remark_on_triton(recipe, GPU) is None


def test_a_missing_triton_is_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    assert devices.no_triton() == "it is not installed"


def test_too_little_memory_is_one_line_and_lets_go_of_what_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {("a",): object()}
    monkeypatch.setattr(backends, "_kept", kept)
    with pytest.raises(InputError) as refused, devices.explaining_memory(tiny(batch_size=32), backends.forget_trainers):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore")
    assert refused.value.cause.endswith("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert refused.value.fix is not None and refused.value.fix.startswith("--set batch_size=16")
    assert not kept


def test_every_gpu_in_use_gets_its_generator_back(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []

    def fork(devices: Iterable[int]) -> contextlib.AbstractContextManager[None]:
        asked.append(list(devices))
        return contextlib.nullcontext()

    monkeypatch.setattr(torch.random, "fork_rng", fork)
    with isolated(torch.device("cpu")):
        pass
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with isolated(torch.device("cpu")):
        pass
    assert asked[-1] == [0, 1]
    if not torch.cuda.is_available():
        assert asked[0] == []
