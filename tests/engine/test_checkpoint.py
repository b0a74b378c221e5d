"""An interrupted run goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hotlap import datasets
from hotlap.engine.checkpoint import Checkpoint, _flatten, _unflatten
from hotlap.engine.loop import Silent, train_seeds
from hotlap.errors import InputError
from hotlap.ladder import get_recipe
from hotlap.recipe import Recipe, part
from hotlap.result import Run
from tiny import tiny

CPU = torch.device("cpu")
RECIPE = tiny(
    epochs=4.5,
    model__hidden_dropout=0.3,
    augment=[{"name": "translate", "max_px": 1}, {"name": "flip", "share": 0.5}],
)


class _PulledPlugError(Exception):
    pass


class _Interrupts(Silent):
    def __init__(self, at: int) -> None:
        object.__setattr__(self, "at", at)

    def step(self, done: int, loss: torch.Tensor) -> None:
        if done == self.at:  # type: ignore[attr-defined]
            raise _PulledPlugError


def keeper(path: Path, *, resume: bool, **identity: str) -> Checkpoint:
    return Checkpoint(path, identity or {"seed": "1"}, resume=resume, every_s=0)


def go(recipe: Recipe, checkpoint: Checkpoint | None, observer: Any = None) -> Run:
    load = lambda: datasets.load("synthetic", **recipe.data.options)  # noqa: E731
    return train_seeds(recipe, load, [1], device=CPU, checkpoint=checkpoint, observer=observer)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"feed.shuffle": "once", "optimizer": {"name": "adadelta", "lr": 1.0, "rho": 0.9, "eps": 1e-6}},
        {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0}},
        {"feed.loading": "per-image", "augment": []},
    ],
    ids=str,
)
def test_a_resumed_run_ends_bit_equal_to_an_unbroken_one(changes: dict[str, Any], tmp_path: Path) -> None:
    recipe, path = RECIPE.with_changes(changes), tmp_path / "deep" / "run.safetensors"
    unbroken = go(recipe, None)
    for at in (20, 30):  # in the third epoch, then in the fourth
        with pytest.raises(_PulledPlugError):
            go(recipe, keeper(path, resume=True), _Interrupts(at))
        assert path.exists()
    resumed = go(recipe, keeper(path, resume=True))
    assert path.exists(), "the run is not stored yet"
    assert resumed.accuracy == unbroken.accuracy
    assert resumed.loss_by_epoch == unbroken.loss_by_epoch
    assert (resumed.steps, resumed.epochs_run) == (unbroken.steps, unbroken.epochs_run)
    for a, b in zip(resumed.module.parameters(), unbroken.module.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not resumed.timing_valid
    assert list(path.parent.iterdir()) == [path]


CIFAR10 = (
    *("cifar10-page/5-ghost-batch-norm", "cifar10-page/9-flip-tta", "cifar10-hlb/94", "cifar10-airbench/94"),
    *("cifar10-airbench/96-faster", "cifar10-airbench/94-muon", "cifar10-airbench/94-hiverge", "cifar10/record-cpu"),
)


@pytest.mark.parametrize("name", CIFAR10)
def test_resumed_runs_of_recipes_for_cifar10_end_bit_equal(name: str, tmp_path: Path) -> None:
    """Whatever a recipe keeps from step to step comes back, in the layout that it had: momenta, averages, flips."""
    recipe = get_recipe(name)
    small: dict[str, Any] = {
        "data": part("synthetic", train=66, test=20, size=32, channels=3, classes=10, seed=0, noise=0.2),
        "model.widths": [max(8, width // 16) for width in recipe.model.options["widths"]],
        "epochs": 5.5, "batch_size": 16, "evaluation.batch_size": 20,
        "engine.memory_format": "channels_last",
    }  # fmt: skip
    if recipe.selection is not None:
        small["selection.keep"] = 8
        small["selection.model.widths"] = [8, 8, 8]
    if recipe.averaging is not None:
        small["averaging.every"] = 2
    recipe, path = recipe.with_changes(small), tmp_path / "run.safetensors"
    unbroken = go(recipe, None)
    for at in (7, 14):  # in the second epoch, then in the fourth
        with pytest.raises(_PulledPlugError):
            go(recipe, keeper(path, resume=True), _Interrupts(at))
        assert path.exists()
    resumed = go(recipe, keeper(path, resume=True))
    assert (resumed.steps, resumed.loss_by_epoch) == (22, unbroken.loss_by_epoch)
    assert resumed.accuracy == unbroken.accuracy
    for (key, a), b in zip(resumed.module.state_dict().items(), unbroken.module.state_dict().values(), strict=True):
        assert torch.equal(a, b), key


def test_without_resume_a_run_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    with pytest.raises(_PulledPlugError):
        go(RECIPE, keeper(path, resume=False), _Interrupts(20))
    seen: list[int] = []

    class _Steps(Silent):
        def step(self, done: int, loss: torch.Tensor) -> None:
            seen.append(done)

    go(RECIPE, keeper(path, resume=False), _Steps())
    assert seen[0] == 1


def test_short_runs_are_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    with pytest.raises(_PulledPlugError):
        go(RECIPE, Checkpoint(path, {}), _Interrupts(30))
    assert not path.exists()


def test_a_checkpoint_of_something_else_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    with pytest.raises(_PulledPlugError):
        go(RECIPE, keeper(path, resume=True, recipe="a", seed="1"), _Interrupts(30))
    with pytest.raises(InputError, match="is of another recipe than this run → start anew"):
        go(RECIPE, keeper(path, resume=True, recipe="b", seed="1"))
    whole = path.read_bytes()
    for damage in (whole[: len(whole) // 2], b"", b"\x00" * 64, whole.replace(b"feed", b"fees")):
        path.write_bytes(damage)
        with pytest.raises((InputError), match="checkpoint"):
            go(RECIPE, keeper(path, resume=True, recipe="a", seed="1"))


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []

    class _Listens(Silent):
        def remark(self, text: str) -> None:
            said.append(text)

    run = go(RECIPE, keeper(tmp_path / "file" / "run.safetensors", resume=False), _Listens())
    assert run.status == "done"
    assert all("no checkpoint could be written" in text for text in said)
    assert len(said) == 4


def test_layouts_come_back() -> None:
    plain = torch.arange(48.0).reshape(2, 3, 2, 4)
    for tensor in (plain, plain.contiguous(memory_format=torch.channels_last), plain[..., 1:3]):
        tensors: dict[str, torch.Tensor] = {}
        back = _unflatten(_flatten(tensor, tensors), tensors)
        assert torch.equal(back, tensor)
        assert all(stored.is_contiguous() for stored in tensors.values())
        last = tensor.is_contiguous(memory_format=torch.channels_last)
        assert back.is_contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def test_what_takes_long_to_save_is_saved_rarely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 10.0, 10.0, 11.0, 20.0, 60.0, 61.0])
    monkeypatch.setattr("hotlap.engine.checkpoint.time.monotonic", lambda: next(times))
    kept = Checkpoint(tmp_path / "run.safetensors", {}, every_s=10)
    assert kept.save({}) is None  # due at 10 s, and took 1 s
    assert kept.path.exists()
    assert not kept.due  # at 20 s
    assert not kept.due  # at 60 s
    assert kept.due  # at 61 s


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.just(torch.arange(3))
    ),
    max_leaves=12,
)


@given(TREES)
def test_any_nested_state_comes_back(tree: Any) -> None:
    tensors: dict[str, torch.Tensor] = {}
    import json

    back = _unflatten(json.loads(json.dumps(_flatten(tree, tensors))), tensors)
    assert _plain(back) == _plain(tree)


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return ("tensor", value.tolist())
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value
