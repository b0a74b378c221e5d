"""``hotlap train --save``, ``predict`` and ``export``, as their users meet them."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from hotlap import cli, datasets, train
from hotlap.cli.predict import _resize_of
from hotlap.ladder import get_recipe
from hotlap.recipe import part
from hotlap.saved import export as exporting
from hotlap.saved import load, save
from hotlap.saved.pictures import Pictures
from tiny import SYNTHETIC, tiny


@pytest.fixture
def hotlap(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def run(*arguments: object) -> tuple[int, str, str]:
        status = cli.run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


AIRBENCH = get_recipe("cifar10-airbench/94")
SPEED: dict[str, Any] = {
    "model": AIRBENCH.model,
    "data.channels": 3,
    "data.size": 20,
    "model.widths": [8, 8, 8],
    "evaluation.augmentation": part("mirror"),
    "target": 0.01,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A grey model of 12 pixels, and a colour model of 20 with batch normalisation and test-time augmentation."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOTLAP_STORE", str(folder / "runs.sqlite"))
        for name, recipe in (("grey", tiny()), ("colour", tiny().with_changes(SPEED))):
            (folder / f"{name}.json").write_text(recipe.to_json())
            saved = str(folder / f"{name}.safetensors")
            assert cli.run(["train", str(folder / f"{name}.json"), "--save", saved, "--quiet", "--json"]) == 0
    return {name: folder / f"{name}.safetensors" for name in ("grey", "colour")}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Twelve test images of the grey model in a folder with a sub-folder, and a note beside them."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    data = datasets.load(SYNTHETIC.name, **SYNTHETIC.options)
    for i in range(12):
        Image.fromarray(data.x_test[i, 0]).save(folder / ("more" if i > 5 else "") / f"{i:02}.png")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_text("no image")
    return folder


# -- train --save ---------------------------------------------------------------------------------------------------


def test_each_of_several_seeds_has_a_file(hotlap, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "tiny.json").write_text(tiny(epochs=1.0, target=0.01).to_json())
    status, out, err = hotlap("train", tmp_path / "tiny.json", "--seeds", "3..4", "--save", tmp_path / "m.safetensors")
    assert status == 0
    for seed in (3, 4):
        assert load(tmp_path / f"m-seed{seed}.safetensors").facts.seed == seed
        assert f"seed {seed} is saved in {tmp_path}" in err.replace("\n", "")
    assert "(hotlap predict)" in out
    assert not (tmp_path / "m.safetensors").exists()


def test_json_names_the_files_and_a_failed_seed_has_none(hotlap, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "tiny.json").write_text(tiny(epochs=1.0).to_json())
    save = ("train", tmp_path / "tiny.json", "--json", "--save", tmp_path / "m.safetensors")
    assert json.loads(hotlap(*save)[1])["models"] == [str(tmp_path / "m.safetensors")]
    (tmp_path / "m.safetensors").unlink()
    status, out, _ = hotlap(*save, "--set", "optimizer.lr=1e30")
    assert (status, json.loads(out)["models"]) == (1, [])
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "2"], "--save needs the networks in this process"),
        (["--executor", "processes"], "--save needs the networks in this process"),
        (["--batch-seeds", "2"], "--save needs the networks in this process"),
        (["--save", "/nowhere/m.safetensors"], "there is no folder /nowhere"),
        (["--save", "/"], "is a folder"),
    ],
)
def test_save_is_refused_before_anything_is_trained(  # type: ignore[no-untyped-def]
    hotlap, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "tiny.json").write_text(tiny().to_json())
    status, out, err = hotlap("train", tmp_path / "tiny.json", "--save", tmp_path / "m.safetensors", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


# -- predict --------------------------------------------------------------------------------------------------------


def test_images_in_folders_are_answered_in_order(hotlap, models, pictures: Path) -> None:  # type: ignore[no-untyped-def]
    status, out, err = hotlap("predict", models["grey"], pictures, "--json", "--quiet", "--top", 2, "--batch", 5)
    answers = json.loads(out)["predictions"]
    assert (status, err) == (0, "")
    assert [Path(a["file"]).name for a in answers] == [f"{i:02}.png" for i in range(12)]
    labels = datasets.load(SYNTHETIC.name, **SYNTHETIC.options).y_test
    assert [a["class"] for a in answers] == [str(label) for label in labels[:12]]
    assert all(len(a["top"]) == 2 and a["top"][0]["probability"] >= a["top"][1]["probability"] for a in answers)
    assert answers[0]["probability"] == answers[0]["top"][0]["probability"]


def test_the_table_shows_file_class_and_probability(  # type: ignore[no-untyped-def]
    hotlap, models, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures)
    status, out, err = hotlap("predict", models["grey"], "00.png", "--top", 3)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["file", "class", "probability"]
    assert "00.png" in out
    assert out.count("%") == 3


def test_other_sizes_and_colours_are_converted_with_one_remark(hotlap, models, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    for name, shape in (("a.png", (30, 20, 3)), ("b.png", (12, 12)), ("c.png", (12, 12, 4))):
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / name)
    status, out, err = hotlap("predict", models["grey"], tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png")
    assert status == 0
    assert "images changed to suit the model: 1 resized to 12×12 (stretch), 2 turned to grey" in err
    status, out, err = hotlap("predict", models["colour"], tmp_path / "b.png", "--json")
    assert (status, err) == (0, "")
    assert (json.loads(out)["resized"], json.loads(out)["recoloured"]) == (1, 1)
    assert hotlap("predict", models["colour"], tmp_path / "b.png", "--quiet")[2] == ""


def test_arrays_are_answered_as_they_are_and_converted(hotlap, models, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    data = datasets.load(SYNTHETIC.name, **SYNTHETIC.options)
    some = data.x_test[:6]
    expected = load(models["grey"], device="cpu").predict_proba(some.transpose(0, 2, 3, 1))
    for name, array in (
        ("nchw", some),
        ("nhw", some[:, 0]),
        ("share", some[:, 0] / 255),
        ("rgb", some.repeat(3, 1).transpose(0, 2, 3, 1)),
    ):
        np.savez(tmp_path / f"{name}.npz", array)
        answers = json.loads(hotlap("predict", models["grey"], tmp_path / f"{name}.npz", "--json")[1])["predictions"]
        np.testing.assert_allclose([a["probability"] for a in answers], expected.max(1), atol=1e-6)
        assert answers[5]["file"].endswith(f"{name}.npz[5]")


def test_unreadable_files_are_named_and_the_others_answered(hotlap, models, pictures: Path) -> None:  # type: ignore[no-untyped-def]
    (pictures / "03.png").write_bytes((pictures / "03.png").read_bytes()[:60])
    np.savez(pictures / "two.npz", a=np.zeros(1), b=np.zeros(1))
    np.savez(pictures / "odd.npz", x=np.zeros((2, 5, 5, 7), np.uint8))
    np.savez(pictures / "objects.npz", x=np.array([{}], dtype=object))
    (pictures / "broken.npz").write_text("no archive")
    wrong = ["two.npz", "odd.npz", "objects.npz", "broken.npz", "notes.txt"]
    status, out, err = hotlap("predict", models["grey"], pictures, *(pictures / name for name in wrong), "--json")
    assert status == 2
    assert len(json.loads(out)["predictions"]) == 11
    found = {Path(one["file"]).name: one["cause"] for one in json.loads(out)["unreadable"]}
    assert set(found) == {"03.png", *wrong}
    assert all(name in err for name in found)
    assert "two.npz holds a, b" in found["two.npz"]
    assert hotlap("predict", models["grey"], pictures / "notes.txt")[:2] == (2, "")


def test_images_are_resized_as_those_of_the_training_were(tmp_path: Path) -> None:
    own = part("folder", path="x", size=12, resize="crop", holdout=0.2, seed=0, channels=None)
    assert _resize_of(tiny(data=own)) == "crop"
    assert _resize_of(tiny(data=own).with_changes({"data.resize": "refuse"})) == "stretch"
    Image.new("L", (40, 20), 9).save(tmp_path / "a.png")
    pictures = Pictures((1, 12, 12), "crop")
    assert [pixels.shape for _, pixels in pictures.batches([tmp_path / "a.png"], 5)] == [(1, 12, 12, 1)]
    assert pictures.remark() == "images changed to suit the model: 1 resized to 12×12 (crop)"


def test_a_model_of_other_channels_takes_arrays_only(tmp_path: Path) -> None:
    Image.new("L", (12, 12)).save(tmp_path / "a.png")
    np.savez(tmp_path / "five.npz", np.zeros((2, 12, 12, 5), np.uint8))
    np.savez(tmp_path / "grey.npz", np.zeros((2, 12, 12), np.uint8))
    pictures = Pictures((5, 12, 12))
    found = list(pictures.batches([tmp_path / name for name in ("a.png", "five.npz", "grey.npz")], 5))
    assert [len(names) for names, _ in found] == [2]
    assert [Path(name).name for name in pictures.unreadable] == ["a.png", "grey.npz"]
    assert "the model takes 5 channels" in pictures.unreadable[str(tmp_path / "a.png")]


def test_linked_folders_are_searched_as_for_training(hotlap, models, pictures: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "there").symlink_to(pictures / "more")
    (tmp_path / "linked" / "again").symlink_to(tmp_path / "linked")
    (tmp_path / "linked" / "itself").symlink_to(tmp_path / "linked" / "itself")
    status, out, err = hotlap("predict", models["grey"], tmp_path / "linked", "--json", "--quiet")
    assert (status, err) == (0, "")
    files = [Path(answer["file"]) for answer in json.loads(out)["predictions"]]
    assert files == [tmp_path / "linked" / "there" / f"{i:02}.png" for i in range(6, 12)]


def test_a_folder_that_cannot_be_read_is_told(  # type: ignore[no-untyped-def]
    hotlap, models, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir

    def refusing(path: Path) -> Any:
        if Path(path).name == "more":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    status, out, err = hotlap("predict", models["grey"], pictures)
    assert (status, out) == (2, "")
    assert "more cannot be read (Permission denied) → make it readable" in err


@pytest.mark.parametrize(("kind", "free"), [(np.uint8, 200_000), (np.float32, 1_000_000)])
def test_arrays_larger_than_the_memory_are_refused_and_other_files_answered(
    hotlap, models, pictures: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, free: int
) -> None:  # type: ignore[no-untyped-def]
    images = np.zeros((2000, 12, 12), kind)
    np.savez_compressed(pictures / "bomb.npz", images)
    needed = iter([free, images.size - 1])
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=next(needed)))
    status, out, err = hotlap("predict", models["grey"], pictures, pictures / "bomb.npz", "--json")
    assert (status, len(json.loads(out)["predictions"])) == (2, 12)
    assert "bomb.npz" in err and "GB of memory" in err


NOT_UTF8 = os.fsdecode(b"\xff.png")


@pytest.fixture
def odd_name(pictures: Path) -> Path:
    """A folder with one picture whose name is not UTF-8."""
    folder = pictures.parent / "odd"
    folder.mkdir()
    try:
        (pictures / "00.png").rename(folder / NOT_UTF8)
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    return folder


def test_names_that_are_not_utf_8_are_escaped(hotlap, models, odd_name: Path) -> None:  # type: ignore[no-untyped-def]
    status, out, _ = hotlap("predict", models["grey"], odd_name)
    assert status == 0
    assert "\\udcff.png" in "".join(line.split("  ")[0].strip() for line in out.splitlines())
    status, out, _ = hotlap("predict", models["grey"], odd_name, "--json")
    assert (status, json.loads(out)["predictions"][0]["file"]) == (0, str(odd_name / NOT_UTF8))


def test_a_class_whose_folder_is_not_utf_8_is_trained_saved_and_answered(  # type: ignore[no-untyped-def]
    hotlap, pictures: Path, tmp_path: Path, own_store: Path
) -> None:
    own = tmp_path / "own"
    name = os.fsdecode(b"d\xffg")
    for folder in ("cat", name):
        try:
            (own / folder).mkdir(parents=True)
        except OSError:
            pytest.skip("this file system takes names in UTF-8 only")
        for i in range(6):
            (own / folder / f"{i}.png").write_bytes((pictures / f"{i:02}.png").read_bytes())
    (tmp_path / "tiny.json").write_text(tiny(epochs=1.0, target=0.01, batch_size=4).to_json())
    saved = tmp_path / "m.safetensors"
    assert hotlap("train", tmp_path / "tiny.json", "--data", own, "--save", saved)[0] in (0, 1)
    assert load(saved, device="cpu").facts.classes == ("cat", name)
    status, out, _ = hotlap("predict", saved, pictures, "--json")
    assert status == 0
    assert {answer["class"] for answer in json.loads(out)["predictions"]} <= {"cat", name}
    assert hotlap("predict", saved, pictures)[0] == 0
    status, out, _ = hotlap("data", "info", own)
    assert (status, "2 classes: cat, d\\udcffg" in out) == (0, True)
    out = hotlap("data", "info", own, "--json")[1]
    assert json.loads(out)["class_names"] == ["cat", name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["MODEL", "/nowhere.png"], "there is no file or folder /nowhere.png"),
        (["MODEL", "EMPTY"], "has no images"),
        (["EMPTY", "EMPTY"], "cannot read the model"),
        (["/nowhere.safetensors", "EMPTY"], "cannot read the model /nowhere.safetensors: No such file"),
        (["MODEL"], "Missing argument"),
        (["MODEL", "EMPTY", "--top", "0"], "--top"),
    ],
)
def test_predict_refuses_in_one_line(  # type: ignore[no-untyped-def]
    hotlap, models, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    names = {"MODEL": models["grey"], "EMPTY": tmp_path / "empty"}
    status, out, err = hotlap("predict", *(names.get(a, a) for a in arguments))
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


# -- export ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["onnx", "torch-export"])
@pytest.mark.parametrize("name", ["grey", "colour"])
def test_what_is_exported_answers_like_the_model(hotlap, models, tmp_path: Path, name: str, format_: str) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / ("m.onnx" if format_ == "onnx" else "m.pt2")
    status, text, err = hotlap("export", models[name], "--format", format_, "-o", out, "--json", "--quiet")
    assert (status, err) == (0, "")
    found = json.loads(text)
    assert found["on_test_set"]
    assert found["images_compared"] == 256
    assert found["largest_difference"] < 1e-5
    assert found["norms_folded"] == found["norms"] == (6 if name == "colour" else 0)
    assert found["augmentation_left_out"] == ("mirror" if name == "colour" else None)
    model = load(models[name], device="cpu").without_augmentation()
    channels, height, width = model.facts.shape
    for count in (1, 5):
        images = np.random.default_rng(count).integers(0, 256, (count, height, width, channels), np.uint8)
        given = images.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        np.testing.assert_allclose(_answer(out, given), model.predict_proba(images), atol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def _answer(path: Path, images: np.ndarray[Any, Any]) -> Any:
    if path.suffix == ".pt2":
        files = {"classes.json": ""}
        program = torch.export.load(path, extra_files=files)
        assert json.loads(files["classes.json"]) == ["0", "1", "2", "3"]
        return program.module()(torch.from_numpy(images)).numpy()
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["0", "1", "2", "3"]
    return session.run(None, {"images": images})[0]


def test_logits_and_a_model_without_its_data(hotlap, models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(exporting, "test_set_of", lambda model: None)
    model = tmp_path / "m.safetensors"
    model.write_bytes(models["colour"].read_bytes())
    status, out, _ = hotlap("export", model, "--logits", "--format", "torch-export")
    assert status == 0
    assert "to logits" in out
    assert "256 random images" in out
    assert "6 of 6 normalisations are folded" in out
    assert "test-time augmentation (mirror) is not exported" in out
    assert _answer(tmp_path / "m.pt2", np.zeros((2, 3, 20, 20), np.float32)).sum(1) != pytest.approx([1, 1])


def test_a_mismatch_leaves_nothing(hotlap, models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    original = exporting.WholeModel.forward
    monkeypatch.setattr(exporting.WholeModel, "forward", lambda self, images: original(self, images * 0.5))
    status, _, err = hotlap("export", models["grey"], "--format", "torch-export", "-o", tmp_path / "m.pt2")
    assert status == 2
    assert "answers otherwise: probabilities differ by up to 0." in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format_", ["onnx", "torch-export"])
def test_answers_that_are_no_numbers_leave_nothing(  # type: ignore[no-untyped-def]
    hotlap, models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str
) -> None:
    original = exporting.WholeModel.forward
    monkeypatch.setattr(exporting.WholeModel, "forward", lambda self, images: original(self, images) * torch.nan)
    status, _, err = hotlap("export", models["grey"], "--format", format_, "-o", tmp_path / "m")
    assert status == 2
    assert "gives answers that are no numbers; nothing is written" in err
    assert list(tmp_path.iterdir()) == []


def test_the_saved_model_is_never_replaced(hotlap, models, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = tmp_path / "m.onnx"
    model.write_bytes(models["grey"].read_bytes())
    (tmp_path / "link").symlink_to(model)
    for arguments in ([], ["-o", model], ["-o", tmp_path / "link"]):
        status, out, err = hotlap("export", model, *arguments)
        assert (status, out) == (2, "")
        assert "is the saved model itself, which would be lost → name another file" in err
    assert model.read_bytes() == models["grey"].read_bytes()


def test_a_model_in_bfloat16_is_compared_in_float32_and_it_is_said(hotlap, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = train(tiny().with_changes({"engine.precision": "bf16"}), device="cpu")
    model = save(run, tmp_path / "m.safetensors")
    status, out, _ = hotlap("export", model, "--format", "torch-export")
    assert status == 0
    assert "its probabilities differ from the model's in float32 by up to" in out
    assert "The model was trained and measured in bfloat16; what is exported computes in float32." in out
    out = hotlap("export", model, "--format", "torch-export", "--json")[1]
    assert [json.loads(out)[key] for key in ("compared_in", "model_precision")] == ["fp32", "bf16"]


def test_export_names_what_is_missing(hotlap, models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    status, _, err = hotlap("export", models["grey"], "--format", "torch-export", "-o", "/nowhere/m.pt2")
    assert (status, "cannot write /nowhere/m.pt2" in err) == (2, True)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    status, _, err = hotlap("export", models["grey"], "-o", tmp_path / "m.onnx")
    assert status == 2
    assert "pip install 'hotlap[onnx]'" in err
