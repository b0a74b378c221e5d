"""``hotlap report`` as its users meet it; what the page looks like is tested in ``tests/report``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from factories import make_recipe, make_run
from hotlap import cli
from hotlap.datasets import load
from hotlap.ladder import get_ladder, get_recipe
from hotlap.report.ladder_record import write_ladder_record
from hotlap.result import Run
from hotlap.store import Store
from tiny import tiny

Hotlap = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hotlap(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hotlap:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        status = cli.run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def runs_of(name: str, seeds: int = 3, certified_s: float = 15.0) -> list[Run]:
    recipe = get_recipe(name)
    return [
        make_run(seed=seed, accuracy=0.99 + seed / 1000, certified_s=certified_s + seed, recipe=recipe)
        for seed in range(seeds)
    ]


@pytest.fixture
def stored(own_store: Path) -> Path:
    strange = make_recipe("own/<i>x</i>", batch_size=7)
    with Store(own_store) as store:
        store.add_all([*runs_of("mnist/7-narrower", certified_s=30.0), *runs_of("mnist/8-final")])
        store.add(make_run(recipe=strange, loss_by_epoch=(0.5, 0.4)))
    return own_store


def test_everything_that_is_stored(hotlap: Hotlap, stored: Path, tmp_path: Path) -> None:
    assert hotlap("report") == (0, "Wrote report.html.\n", "")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    for text in ("<title>hotlap report</title>", "train_mnist_fast", "own/&lt;i&gt;x&lt;/i&gt;", "plotly.js v"):
        assert text in page
    assert "own/<i>x" not in page
    assert sorted(path.name for path in tmp_path.iterdir() if "sqlite" not in path.name) == ["report.html"]


def test_named_recipes_ladders_and_records(hotlap: Hotlap, stored: Path, tmp_path: Path) -> None:
    status, out, err = hotlap("report", "mnist/8*", "-o", "deep/in/eight.html", "--json", "--title", "Eight & more")
    assert (status, err) == (0, "")
    assert json.loads(out) == {
        "written": ["deep/in/eight.html"],
        "runs": 3,
        "recipes": ["mnist/8-final"],
        "comparisons": [],
    }
    assert "<title>Eight &amp; more</title>" in (tmp_path / "deep" / "in" / "eight.html").read_text()
    assert json.loads(hotlap("report", "mnist", "--json")[1])["runs"] == 6
    write_ladder_record(tmp_path / "record", get_ladder("mnist"), runs_of("mnist/8-final", 4))
    status, out, _ = hotlap("report", "record", "own/*", "--json")
    assert json.loads(out)["runs"] == 5
    assert "hotlap report: record, own/*" in (tmp_path / "report.html").read_text()


def test_records_need_no_store(hotlap: Hotlap, own_store: Path, tmp_path: Path) -> None:
    write_ladder_record(tmp_path / "record", get_ladder("mnist"), runs_of("mnist/8-final", 4))
    assert hotlap("report", "record")[0] == 0
    assert not own_store.exists()


def test_comparing(hotlap: Hotlap, stored: Path, tmp_path: Path) -> None:
    status, out, _ = hotlap("report", "own/*", "--compare", "mnist/7-narrower", "mnist/8-final")
    assert status == 0
    sentence = out.splitlines()[0]
    assert sentence.startswith("mnist/8-final against mnist/7-narrower: accuracy ")
    page = (tmp_path / "report.html").read_text()
    assert "<blockquote>" in page and "mnist/8-final against mnist/7-narrower" in page
    document = json.loads(hotlap("report", "--compare", "mnist/7-narrower", "mnist/8-final", "--json")[1])
    assert document["comparisons"] == [sentence]


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_plots_as_files(hotlap: Hotlap, stored: Path, tmp_path: Path, kind: str) -> None:
    status, out, _ = hotlap("report", "--format", kind, "-o", "plots", "--json")
    assert status == 0
    written = [Path(name) for name in json.loads(out)["written"]]
    assert [path.name for path in written] == [f"mnist.{kind}", f"own-i-x-i-curves.{kind}"]
    assert sorted((tmp_path / "plots").iterdir()) == sorted(tmp_path / path for path in written)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing/*"], "holds no run that matches 'nothing/*' → see them: hotlap runs --all"),
        (["mnist/0-initial"], "→ hotlap train mnist/0-initial"),
        (["--store", "absent.sqlite"], "there is no run store at absent.sqlite → make a run with: hotlap train"),
        (["empty"], "there are no records below empty"),
        (["-o", "empty"], "empty is a folder → -o empty/report.html"),
        (["-o", "file/report.html"], "cannot write file/report.html"),
        (["--compare", "mnist/8-final", "mnist/8-final"], "are one recipe"),
        (["--compare", "mnist", "absent"], "unknown recipe"),
        (["--format", "png", "--compare", "a", "b"], "are for the HTML page"),
        (["mnist/8-final", "--format", "png"], "no ladder and no learning curve"),
        (["--format", "pdf"], "hotlap report --help"),
        (["--model", "absent.safetensors"], "absent.safetensors"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(
    hotlap: Hotlap, stored: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    status, out, err = hotlap("report", *arguments)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "report.html").exists()


def test_an_empty_store_is_no_report(hotlap: Hotlap, own_store: Path) -> None:
    Store(own_store).close()
    status, _, err = hotlap("report")
    assert status == 2
    assert "nothing to report" in err and "→ hotlap train mnist" in err


@pytest.mark.parametrize("library", ["plotly.graph_objects", "plotly.offline", "jinja2"])
def test_a_missing_library_is_named_and_the_old_page_stays(
    hotlap: Hotlap, stored: Path, tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("old")
    monkeypatch.setitem(sys.modules, library, None)
    status, _, err = hotlap("report")
    assert status == 2
    assert "pip install 'hotlap[report]'" in err
    assert (tmp_path / "report.html").read_text() == "old"


def test_a_page_that_cannot_be_written_leaves_the_old_one_and_nothing_else(
    hotlap: Hotlap, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.html").write_text("old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "replace", full)
    status, _, err = hotlap("report")
    assert status == 2
    assert "cannot write report.html: No space left on device → choose another place" in err
    assert (tmp_path / "report.html").read_text() == "old"
    assert [path.name for path in tmp_path.glob("*.part")] == []


@dataclass
class FakeModel:
    """Answers class 0 for the first image and the truth for the others."""

    facts: Any
    labels: Any

    def predict_proba(self, images: Any) -> Any:
        assert images.shape == (len(self.labels), 12, 12, 1) and images.dtype == np.uint8
        answers = np.full((len(self.labels), 4), 0.05)
        answers[np.arange(len(self.labels)), self.labels] = 0.85
        answers[0] = [0.85, 0.05, 0.05, 0.05]
        return answers


def test_predictions_of_a_saved_model(
    hotlap: Hotlap, own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny()
    data = load(recipe.data.name, **recipe.data.options)
    facts = SimpleNamespace(recipe=recipe, classes=data.class_names, seed=3, data_digest=data.digest)
    labels = np.asarray(data.y_test).astype(int)
    monkeypatch.setattr("hotlap.saved.load", lambda path, device: FakeModel(facts, labels))
    status, out, err = hotlap("report", "--model", "any.safetensors", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["runs"] == 0, "the page is about the model alone, and no store is needed"
    page = (tmp_path / "report.html").read_text()
    wrong = int(labels[0] != 0)
    assert "Predictions of tiny, seed 3" in page
    assert f"{len(labels) - wrong} of {len(labels)} images" in page
    assert page.count('<img src="data:image/png;base64,') == 12 + wrong
    facts.data_digest = "another"
    status, _, err = hotlap("report", "--model", "any.safetensors")
    assert status == 2
    assert "is not what any.safetensors was trained on" in err


def test_a_real_model_and_its_test_images(hotlap: Hotlap, tmp_path: Path) -> None:
    import hotlap as package
    from hotlap.saved import save

    save(package.train(tiny(epochs=1.0)), tmp_path / "m.safetensors")
    assert hotlap("report", "--model", "m.safetensors")[0] == 0
    assert "Confusion matrix" in (tmp_path / "report.html").read_text()
