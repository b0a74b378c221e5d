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
from hotlap.recipe import Recipe
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
