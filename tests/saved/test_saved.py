"""Saved models: the same answers after loading, and one clear line for every damaged file."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from saved_helpers import images_of, put_together, take_apart, trained

from hotlap.engine.precision import convert
from hotlap.errors import InputError
from hotlap.ladder import get_recipe, recipes
from hotlap.recipe import part
from hotlap.result import Run
from hotlap.saved import SavedModel, load, save
from hotlap.saved.header import Facts
from hotlap.saved.model import _built, _rebuilt
from tiny import tiny

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def run() -> Run:
    return trained()


@pytest.fixture
def path(run: Run, tmp_path: Path) -> Path:
    return save(run, tmp_path / "model.safetensors")


SPEED = {"model": get_recipe("cifar10-airbench/94").model, "data.channels": 3, "data.size": 20, "epochs": 1.0}
NARROW = {"model.widths": [8, 8, 8], "engine.memory_format": "channels_last"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"evaluation.augmentation": part("mirror")},
        {"evaluation.augmentation": part("selective", of=part("six-view", shift=1), share=0.3)},
        {"averaging": part("ema", decay=0.9, every=2, power=0, start=0.0, copy_back=False)},
        {"engine.precision": "bf16", "evaluation.batch_size": 37},
        {"engine.precision": "fp16"},
        SPEED | NARROW,
        {"feed.loading": "per-image", "stop_at": 0.3, "epochs": 2.0},
    ],
    ids=["plain", "mirror", "selective", "average", "bf16", "fp16", "speednet", "stops"],
)
def test_a_loaded_model_is_as_accurate_as_its_run_was(changes: dict[str, Any], tmp_path: Path) -> None:
    run = trained(tiny().with_changes(changes))
    model = load(save(run, tmp_path / "m.safetensors"), device="cpu")
    images, labels = images_of(run.recipe)
    assert (model.predict(images) == labels).mean() == run.accuracy == model.facts.accuracy
    proba = model.predict_proba(images)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(1), 1)
    assert (proba.argmax(1) == model.predict(images)).all()


def test_the_header_says_what_the_model_is(run: Run, path: Path) -> None:
    facts = load(path, device="cpu").facts
    assert facts.recipe == run.recipe
    assert (facts.shape, facts.classes, facts.seed) == ((1, 12, 12), ("0", "1", "2", "3"), 0)
    assert (facts.data_digest, facts.precision) == (run.data_digest, "fp32")
    # The recipe left these to the data.
    assert 0 < facts.mean[0] < 1
    assert 0 < facts.std[0] < 1


def test_grey_images_come_with_and_without_channels_in_any_batches(run: Run, path: Path) -> None:
    model = load(path)
    images, _ = images_of(run.recipe)
    proba = model.predict_proba(images)
    assert (model.predict_proba(images[..., 0]) == proba).all()
    np.testing.assert_allclose(model.predict_proba(images, batch_size=7), proba, atol=1e-6)
    assert model.predict_proba(images[:0]).shape == (0, 4)
    with pytest.raises(InputError, match="at least 1"):
        model.predict(images, batch_size=0)


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 12, 12)), [[0]], np.zeros((2, 12, 13), np.uint8), np.zeros((2, 1, 12, 12), np.uint8)],
    ids=["float", "list", "size", "channels first"],
)
def test_images_of_another_kind_are_refused(path: Path, images: Any) -> None:
    with pytest.raises(InputError, match="images are"):
        load(path).predict(images)


def test_a_pickled_model_answers_as_before_without_pickled_modules(run: Run, path: Path) -> None:
    model = load(path)
    text = pickle.dumps(model)
    assert b"torch" not in text.split(b"__metadata__")[0]
    images, _ = images_of(run.recipe)
    assert (pickle.loads(text).predict_proba(images) == model.predict_proba(images)).all()


def test_loading_leaves_the_global_generators_alone(path: Path) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    load(path)
    assert torch.equal(torch.get_rng_state(), before)


def test_saving_does_not_change_the_run(run: Run, path: Path) -> None:
    assert next(run.module.parameters()).requires_grad
    assert run.module.training


@pytest.mark.parametrize("name", list(recipes()))
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_network_of_every_recipe_can_be_rebuilt(name: str, precision: str) -> None:
    c, side = (1, 28) if name.startswith("mnist") else (3, 32)
    narrow = {"model.widths.0": 4} if name.startswith("mnist/0") else {}
    facts = Facts(
        recipe=recipes()[name].with_changes(narrow),
        shape=(c, side, side),
        classes=tuple("0123456789"),
        mean=(0.5,) * c,
        std=(0.5,) * c,
        precision=precision,
        seed=1,
        accuracy=None,
        data_digest="d",
    )
    assert Facts.from_metadata(facts.to_metadata(), "x") == facts
    with torch.device("meta"):
        state = _built(facts, torch.device("meta")).state_dict()
    rebuilt = _rebuilt(facts, {key: torch.zeros_like(value, device="cpu") for key, value in state.items()}, "x")
    assert {key: value.dtype for key, value in rebuilt.state_dict().items()} == {k: v.dtype for k, v in state.items()}


def test_weights_in_float16_answer_on_a_cpu_and_are_written_as_they_were(run: Run, path: Path) -> None:
    model = load(path, device="cpu")
    half = SavedModel(
        replace(model.facts, precision="fp16"), convert(model.network, "fp16"), torch.device("cpu")
    ).to_bytes()
    again = SavedModel.from_bytes(half, device="cpu")
    assert again.to_bytes() == half
    images, labels = images_of(run.recipe)
    assert (again.predict(images) == labels).mean() > 0.9


def test_a_file_of_format_1_is_read_as_it_was_written() -> None:
    model = load(GOLDEN / "model_v1.safetensors", device="cpu")
    assert (model.facts.recipe.name, model.facts.accuracy, model.facts.seed) == ("tiny", 0.53125, 0)
    ramp = np.arange(144, dtype=np.uint8).reshape(1, 12, 12)
    expected = json.loads((GOLDEN / "model_v1.json").read_text())
    np.testing.assert_allclose(model.predict_proba(ramp)[0], expected, atol=1e-5)


# -- refusals -----------------------------------------------------------------------------------------------------


def _metadata(key: str, value: str | None) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        header, weights = take_apart(path)
        if value is None:
            del header["__metadata__"][key]
        else:
            header["__metadata__"][key] = value
        put_together(path, header, weights)

    return change


def _recipe(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        header, weights = take_apart(path)
        document = json.loads(header["__metadata__"]["recipe"])
        change(document)
        header["__metadata__"]["recipe"] = json.dumps(document)
        put_together(path, header, weights)

    return apply


def _tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        header, _ = take_apart(path)
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path, metadata=header["__metadata__"])

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(b""), "is not a safetensors file"),
        (lambda p: p.write_text("no model at all, but a text"), "is not a safetensors file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "safetensors file, or damaged"),
        (lambda p: p.write_bytes(p.read_bytes()[:300]), "is not a safetensors file"),
        (lambda p: p.write_bytes(p.read_bytes()[:8] + b"{" * 5000), "safetensors file, or damaged"),
        (lambda p: p.unlink(), "cannot read the model .*No such file"),
        (lambda p: save_file({"a": torch.zeros(1)}, p), "is no model of hotlap's"),
        (_metadata("format", "2"), "model format '2', this hotlap reads up to 1 → upgrade hotlap"),
        (_metadata("format", "x"), "model format 'x'"),
        (_metadata("classes", None), "lacks classes"),
        (_metadata("classes", "[1]"), "classes are not names"),
        (_metadata("classes", "{"), "header of .* is damaged"),
        (_metadata("image_shape", "[1, 12]"), "image_shape is not three sizes"),
        (_metadata("image_shape", "[3, 12, 12]"), "do not fit the channels"),
        (_metadata("image_shape", "[1, 3, 3]"), "gives no network: .*too small"),
        (_metadata("mean", "[NaN]"), "mean or std are not numbers"),
        (_metadata("std", "[0.0]"), "mean and std do not fit"),
        (_metadata("accuracy", "7"), "accuracy is not a share"),
        (_metadata("precision", "fp8"), "precision 'fp8' is not known"),
        (_metadata("seed", "x"), "header of .* is damaged"),
        (_metadata("recipe", "[]"), "recipe in .* cannot be used"),
        (_recipe(lambda d: d.update(batchsize=3)), "unknown .*batchsize"),
        (_recipe(lambda d: d["model"].update(name="transformer")), "unknown model 'transformer'"),
        (_recipe(lambda d: d["model"].update(widths=[10**6, 10**6])), "weights in .*conv1"),
        (_tensors(lambda t: t.pop("head.bias")), "head.bias is missing"),
        (_tensors(lambda t: t.update(extra=torch.zeros(1))), "extra is not in the network"),
        (_tensors(lambda t: t.update({"head.bias": torch.zeros(5)})), r"head.bias is \(5,\) where"),
        (_tensors(lambda t: t.update({"head.bias": torch.zeros(4).double()})), "head.bias is torch.float64"),
        (_tensors(lambda t: t["head.bias"].fill_(torch.nan)), "not finite numbers: head.bias"),
    ],
)
def test_what_is_no_model_is_refused_in_one_line(path: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(path)
    with pytest.raises(InputError, match=message) as refused:
        load(path, device="cpu")
    assert "\n" not in str(refused.value)
    assert refused.value.fix


def test_only_finished_runs_with_their_network_and_data_are_saved(run: Run, tmp_path: Path) -> None:
    for other, message in (
        (replace(run, module=None), "has no network"),
        (replace(run, accuracy=None, status="failed", error="nan"), "failed"),
        (replace(run, data_digest="other"), "has changed since"),
    ):
        with pytest.raises(InputError, match=message):
            save(other, tmp_path / "m.safetensors")
    assert not list(tmp_path.glob("*m.safe*"))


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="No space left"):
        save(run, path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 - hidden files too
