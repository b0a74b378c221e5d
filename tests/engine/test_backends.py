"""What is said where the compiled kernels could train a recipe and are missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hotlap import cli
from hotlap.engine.backends import remark_on_missing
from hotlap.native import library as lib
from hotlap.recipe import part
from tiny import tiny

CPU = torch.device("cpu")
SHAPE, CLASSES = (1, 12, 12), 4
REASON = "the package was installed without a C++ compiler"


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib, "kernels", lambda: REASON)


def test_a_remark_names_cause_and_remedy_where_it_would_help(without_kernels: None) -> None:
    remark = remark_on_missing("auto", tiny(), SHAPE, CLASSES, CPU)
    assert remark is not None
    assert f"{REASON} → install g++ or clang" in remark
    assert remark_on_missing("torch", tiny(), SHAPE, CLASSES, CPU) is None
    assert remark_on_missing("auto", tiny(), SHAPE, CLASSES, torch.device("cuda")) is None
    outside = tiny(optimizer=part("adam", lr=0.01, betas=(0.9, 0.99), eps=1e-8), engine__precision="bf16")
    assert remark_on_missing("auto", outside, SHAPE, CLASSES, CPU) is None


def test_there_is_no_remark_where_the_kernels_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lib, "missing", lambda: None)
    assert remark_on_missing("auto", tiny(), SHAPE, CLASSES, CPU) is None


def test_a_command_says_it_once(without_kernels: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(tiny(epochs=0.2, target=None).to_json())
    assert cli.run(["train", str(recipe), "--seeds", "3", "--shared"]) == 0
    assert capsys.readouterr().err.count(REASON) == 1
    assert cli.run(["train", str(recipe), "--seeds", "3", "--shared", "--quiet"]) == 0
    assert REASON not in capsys.readouterr().err


def test_convolutions_that_pytorch_has_to_do_are_remarked_on(without_kernels: None) -> None:
    outside = tiny(engine__precision="bf16", engine__winograd=True)
    assert remark_on_missing("torch", outside, SHAPE, CLASSES, CPU) is not None
