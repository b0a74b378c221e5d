"""``hotlap train --data`` without a recipe: what is found, what is chosen, and training from 16 to 128 pixels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hotlap
from hotlap import cli, datasets
from hotlap.bench.own_images import choose
from hotlap.engine.network import least_side
from hotlap.errors import DataError, InputError
from hotlap.ladder import get_recipe


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLAP_DATA", str(tmp_path / "cache"))


def paint(file: Path, size: tuple[int, int], seed: int, *, grey: bool = False) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[..., 0] if grey else pixels).save(file)


def folder(root: Path, size: tuple[int, int], *, each: int = 6, grey: bool = False) -> Path:
    for label, name in enumerate(("cat", "dog")):
        for at in range(each):
            paint(root / name / f"{at}.png", size, 100 * label + at, grey=grey)
    return root


NARROW = {"model.widths": [4, 4, 4], "epochs": 1}


@pytest.mark.parametrize("side", [16, 28, 33, 64, 128])
@pytest.mark.parametrize("grey", [True, False])
def test_images_of_many_sizes_train(tmp_path: Path, side: int, grey: bool) -> None:
    path = folder(tmp_path / "photos", (side, side), grey=grey)
    small = grey and side <= 32
    changes = {"epochs": 1, "model.widths": [4, 4]} if small else NARROW
    run = hotlap.train(data=path, changes=changes)
    assert run.status == "done" and run.steps == 1
    assert run.recipe.name.startswith("mnist/8-final on" if small else "cifar10-airbench/94-muon on")
    assert run.recipe.feed.mean is None and run.recipe.batch_size == 10
    found = datasets.inspect(run.recipe.data.name, **run.recipe.data.options)
    assert (found.size, found.channels, run.data_digest) == ((side, side), 1 if grey else 3, found.digest)


@pytest.mark.parametrize("recipe", ["mnist/8-final", "cifar10-airbench/94-muon"])
@pytest.mark.parametrize("grey", [True, False])
def test_both_recipes_take_both_kinds(tmp_path: Path, recipe: str, grey: bool) -> None:
    path = folder(tmp_path / "photos", (20, 28), grey=grey)
    widths = [4] * len(get_recipe(recipe).model.options["widths"])
    run = hotlap.train(recipe, data=path, changes={"epochs": 1, "batch_size": 5, "model.widths": widths})
    assert run.status == "done" and run.steps == 2


def test_a_chosen_recipe_is_saved_compared_and_certified(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOTLAP_STORE", str(tmp_path / "runs.sqlite"))
    path, saved = folder(tmp_path / "photos", (20, 20)), tmp_path / "photos.json"
    narrow = [option for key, value in NARROW.items() for option in ("--set", f"{key}={json.dumps(value)}")]
    assert cli.run(["show", "--data", str(path), *narrow, "--save", str(saved)]) == 0
    shown = capsys.readouterr()
    assert "recipe: cifar10-airbench/94-muon" in shown.err and f"recipe saved in {saved}" in shown.err
    assert "cifar10-airbench/94-muon on photos" in shown.out
    chosen = choose(path, changes=NARROW).recipe
    assert hotlap.Recipe.from_json(saved.read_text()) == chosen
    assert cli.run(["compare", str(saved), "--set", "label_smoothing=0.1", "--seeds", "2"]) == 0
    assert "on photos" in capsys.readouterr().out
    small = ["--data", str(path), *narrow, "--set", "batch_size=6", "--seeds", "2"]
    assert cli.run(["certify", "cifar10-airbench/94-muon", *small, "--target", "0.01"]) == 1
    assert (tmp_path / "records" / "cifar10-airbench-94-muon-on-photos" / "record.json").exists()
    assert (
        cli.run(["compare", "cifar10-airbench/94-muon", *small[:2], "--set", "epochs=2", "--plan", "--effect", "1"])
        == 2
    )
    assert "no spread is known of cifar10-airbench/94-muon on photos" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["show"], "nothing to show → hotlap show mnist"),
        (["show", "mnist", "--save", "mnist.txt"], "recipes are files that end in .json"),
        (["show", "mnist", "--save", "nowhere/mnist.json"], "there is no folder nowhere → mkdir -p nowhere"),
    ],
)
def test_what_cannot_be_shown_or_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(arguments) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_too_small_images_are_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder(tmp_path / "photos", (8, 8))
    assert cli.run(["train", "--data", str(path), "-q"]) == 2
    told = capsys.readouterr().err
    assert "images of 8×8 pixels are too small: cifar10-airbench/94-muon on photos takes 9×9 and larger" in told
    assert "--set data.size=32 --set data.resize=stretch" in told and told.count("\n") == 1
    assert choose(path, changes={"data.size": 9, "data.resize": "stretch"}).inspection.size == (9, 9)


def test_least_sides_and_what_is_chosen_below_them(tmp_path: Path) -> None:
    small = least_side(get_recipe("mnist/8-final"), 1, 2)
    assert small == 12
    chosen = choose(folder(tmp_path / "photos", (small - 1, small - 1), grey=True))
    assert chosen.recipe.name.startswith("cifar10-airbench/94-muon")
    assert "takes images from 12×12 on" in chosen.remarks[0]


def test_mixed_damaged_and_repeated_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder(tmp_path / "photos", (90, 70), each=10)
    paint(path / "cat" / "wide.png", (50, 200), 7)
    (path / "cat" / "copy.png").write_bytes((path / "dog" / "1.png").read_bytes())
    (path / "dog" / "bad.png").write_bytes(b"no image")
    whole = (path / "dog" / "2.png").read_bytes()
    (path / "dog" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (path / "dog" / "gone.png").symlink_to(path / "nothing")
    (path / "notes.txt").write_text("x")
    narrow = ["--set", "model.widths=[4,4,4]", "--set", "epochs=1"]
    status = cli.run(["train", "--data", str(path), "--target", "0.01", *narrow])
    out, err = capsys.readouterr()
    assert status == 0 and "certified time" in out
    assert "images found of 90×70 (21), 50×200 (1); resized to 64×64" in err
    assert "no test set, so 4 more images" in err
    assert "images left out that cannot be read, 3: dog/gone.png is not a file" in err
    assert "dog/bad.png is not an image" in err and "dog/cut.png cannot be read" in err
    assert "other files, ignored: 1" in err
    assert "a label must be wrong: 1" in err
    assert f"--data {path} --set data.size=64 --set data.resize=crop --set data.unreadable=skip" in err
    assert "images are mirrored" in err
    assert cli.run(["train", "--data", str(path), "--json", *narrow]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["inspection"]["size"] == [64, 64] and document["choice"][0].startswith("recipe: cifar10")


def test_batches_and_epochs_follow_the_number_of_images(tmp_path: Path) -> None:
    def chosen(train: int, **changes: object) -> hotlap.Recipe:
        path = tmp_path / f"{train}.npz"
        labels = np.arange(train) % 2
        np.savez(
            path,
            x_train=np.zeros((train, 28, 28), np.uint8),
            y_train=labels,
            x_test=np.zeros((2, 28, 28)),
            y_test=[0, 1],
        )
        return choose(path, changes=changes).recipe

    of_own = get_recipe("mnist/8-final")
    assert (of_own.batch_size, of_own.epochs) == (256, 1)
    few = chosen(200)
    assert (few.batch_size, few.epochs) == (16, 19)  # 13 steps an epoch, 235 on MNIST
    assert chosen(1000).batch_size == 64
    assert chosen(4000).batch_size == 256
    assert (chosen(1000, batch_size=10).batch_size, chosen(1000, batch_size=10).epochs) == (10, 3)
    assert chosen(1000, epochs=2.0).epochs == 2
    assert chosen(70_000).epochs == 1


def test_the_whitening_bias_is_trained_for_the_same_share_of_more_epochs(tmp_path: Path) -> None:
    path = folder(tmp_path / "photos", (20, 20))
    of_own, few = get_recipe("cifar10-airbench/94-muon"), choose(path).recipe
    spans = [recipe.optimizer.options["whitening_schedule"].options["epochs"] for recipe in (of_own, few)]
    assert few.epochs > of_own.epochs and spans[1] / few.epochs == pytest.approx(spans[0] / of_own.epochs)
    assert few.optimizer.options["whitening_epochs"] is None
    for given in ({"epochs": 2}, {"optimizer.whitening_schedule.epochs": 3.0}):
        changed = choose(path, changes=given).recipe
        assert changed.optimizer.options["whitening_schedule"].options["epochs"] == 3


@pytest.mark.parametrize(
    ("size", "message"),
    [("0", "batch_size must be at least 1, not 0"), ("big", "takes a whole number, not big"), ("null", "whole number")],
)
def test_a_batch_of_no_size_is_refused(
    size: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder(tmp_path / "photos", (16, 16))
    for verb in ("train", "show"):
        assert cli.run([verb, "--data", str(path), "--set", f"batch_size={size}"]) == 2
        assert message in capsys.readouterr().err


def test_a_published_set_keeps_its_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        datasets, "inspect", lambda name, **_: datasets.inspection_of(datasets.load("synthetic"), datasets.Seen())
    )
    assert choose("mnist").recipe == get_recipe("mnist")


def test_nothing_to_train_and_no_such_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train"]) == 2
    assert "nothing to train → hotlap train mnist" in capsys.readouterr().err
    assert cli.run(["train", "--data", "/nowhere"]) == 2
    with pytest.raises(InputError, match="nothing to train"):
        hotlap.train()


def test_a_class_with_one_readable_image_is_told(tmp_path: Path) -> None:
    path = folder(tmp_path / "photos", (16, 16))
    for at in range(1, 6):
        (path / "cat" / f"{at}.png").write_bytes(b"x")
    with pytest.raises(DataError, match="class 'cat' has 1 image"):
        choose(path)


def test_data_info_shows_the_inspection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder(tmp_path / "photos", (16, 16))
    (path / "cat" / "9.png").write_bytes((path / "cat" / "1.png").read_bytes())
    assert cli.run(["data", "info", str(path)]) == 0
    assert "training images by class: cat" in capsys.readouterr().out
    assert cli.run(["data", "info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inspection"]["classes"].keys() == {"cat", "dog"}


def test_data_info_takes_names_with_brackets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder(tmp_path / "photos [old] [" / "b] :cat:", (16, 16))
    assert cli.run(["data", "info", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("b] :cat:: 10 training and 2 test images") and f"from {path};" in out


@pytest.mark.parametrize("key", ["name", "progress", "sise"])
def test_data_info_refuses_options_that_there_are_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    path = folder(tmp_path / "photos", (16, 16))
    assert cli.run(["data", "info", str(path), "-o", f"{key}=3"]) == 2
    assert f"unknown option for folder '{key}'" in capsys.readouterr().err


def test_a_path_that_is_not_utf_8_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    odd = Path(f"{tmp_path}/m\udce4dchen")
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("this file system takes names in UTF-8 only")
    with pytest.raises(InputError, match="is not in UTF-8"):
        hotlap.train("mnist/8-final", data=odd)
