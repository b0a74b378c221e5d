"""``hotlap tune`` as its users meet it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hotlap import cli
from hotlap.recipe import Recipe, part
from hotlap.store import Store
from tiny import tiny


class Result:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def hotlap(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def run(*arguments: object) -> Result:
        status = cli.run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    data = part("synthetic", train=128, test=32, size=12, channels=1, classes=4, seed=0, noise=0.6)
    (tmp_path / "small.json").write_text(tiny(data=data, epochs=1.0, batch_size=16, optimizer__lr=0.0005).to_json())
    monkeypatch.chdir(tmp_path)
    return "small.json"


def test_it_tunes_writes_the_recipe_and_says_what_to_do_next(hotlap, recipe: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = hotlap(
        "tune", recipe, "--param", "optimizer.lr=0.0005,0.02", "--seeds", 2, "--plots", "plots", "--trade-epochs"
    )
    assert done.status in (0, 1)
    assert "trial 0: as it was given: " in done.err
    assert "optimizer.lr: 0.0005 → 0.02" in done.out
    assert "Measured on 21 held-out training images (seed 0), never on the test set." in done.out
    # Tuned on seeds 0 and 1, traded on the ten after them.
    assert "hotlap certify tiny-tuned.json --target 0.5 --seeds 12..41" in done.out
    assert "Fewer epochs" in done.out
    tuned = Recipe.from_json((tmp_path / "tiny-tuned.json").read_text())
    assert tuned.optimizer.options["lr"] == 0.02
    assert tuned.data.name == "synthetic"
    assert tuned.name == "tiny tuned"
    assert (tmp_path / "plots" / "slice.svg").exists()
    with Store() as store:
        assert {run.recipe.data.name for run in store.runs()} == {"held-out"}
        assert not any(run.timing_valid for run in store.runs())
    # The tuned recipe is one that other commands read.
    assert hotlap("show", "tiny-tuned.json").status == 0


def test_json_is_one_document(hotlap, recipe: str) -> None:  # type: ignore[no-untyped-def]
    arguments = ("tune", recipe, "--param", "batch_size=8,16", "--seeds", "5..6", "--hold-out", "0.25", "--json")
    done = hotlap(*arguments, "--out", "x.json")
    assert (done.status, done.err.count("trial ")) == (0, 2), "progress stays on stderr"
    document = json.loads(done.out)
    assert document["hold_out"] == {"images": 32, "seed": 0}
    assert document["out"] == "x.json"
    assert document["recipe"] == json.loads(Path("x.json").read_text())
    assert document["trade"] is None
    assert [trial["values"] for trial in document["trials"]] == [{"batch_size": 16}, {"batch_size": 8}]
    assert all(seed in (5, 6) for trial in document["trials"] for seed, _ in trial["accuracies"])
    assert document["runs_trained"] == 4
    again = json.loads(hotlap(*arguments).out)
    assert again["runs_trained"] == 0
    assert again["trials"] == document["trials"]


def test_equal_flop_shows_and_keeps_the_epochs(hotlap, recipe: str) -> None:  # type: ignore[no-untyped-def]
    arguments = ("tune", recipe, "--param", "model.widths=[8,16],[4,4]", "--seeds", 2, "--equal-flop", "--sweeps", 1)
    document = json.loads(hotlap(*arguments, "--json", "--out", "x.json").out)
    assert document["equal_flop"] is True
    given, narrow = document["trials"]
    assert given["epochs"] == 1
    assert narrow["epochs"] > 2
    assert document["best"]["epochs"] == document["recipe"]["epochs"]
    shown = hotlap(*arguments)
    assert shown.status == 0
    assert f"{narrow['epochs']:g}" in shown.out
    assert "Every point trained with as many FLOP as the recipe" in shown.out
    with Store() as store:
        assert {run.recipe.epochs for run in store.runs()} == {1.0, narrow["epochs"]}
    # Epochs are traded from those of the tuned recipe.
    traded = json.loads(hotlap(*arguments, "--trade-epochs", "--trade-target", "0.01", "--json").out)
    assert traded["trade"]["steps"][0]["epochs"] == traded["best"]["epochs"]


def test_what_is_held_out_and_where_the_study_is_kept(hotlap, recipe: str, own_store: Path) -> None:  # type: ignore[no-untyped-def]
    arguments = ("tune", recipe, "--param", "batch_size=8,16", "--seeds", 2, "--json")
    chosen = ("--hold-out-seed", 7, "--alpha", 0.2, "--study", "mine", "--storage", "kept.sqlite")
    document = json.loads(hotlap(*arguments, *chosen).out)
    assert (document["hold_out"]["seed"], document["study"]) == (7, "mine")
    assert Path("kept.sqlite").exists() and not own_store.with_name("studies.sqlite").exists()
    # The name stands for what was asked.
    other = hotlap(*arguments, *chosen, "--hold-out-seed", 8)
    assert other.status == 2 and "mine" in other.err
    refused = hotlap(*arguments, "--alpha", 2)
    assert refused.status == 2 and "alpha" in refused.err
    with Store() as store:
        assert {run.recipe.data.options["seed"] for run in store.runs()} == {7}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--param", "optimizer.lrr"), "unknown recipe key 'optimizer.lrr' → did you mean 'optimizer.lr'?"),
        (("--param", "epochs=1..2"), "epochs cannot be tuned: more of them nearly always help → find how few are"),
        (("--param", "optimizer.betas.0=0.5..2"), "optimizer.betas.0 cannot be 2: optimizer adam"),
        (("--seeds", "1"), "at least two different seeds → --seeds 3"),
        (("--trade-target", "0.9"), "--trade-target goes with --trade-epochs"),
        (("--set", "target=null", "--trade-epochs"), "no target to trade epochs at → say which: --trade-target 0.99"),
        (("--hold-out", "128"), "images must be from"),
        (
            ("--equal-flop", "--set", 'selection={"name":"x"}'),
            "what a recipe costs that selects its images is not known beforehand → leave out --equal-flop, or",
        ),
        (("--out", "none/x.json"), "there is no folder none → mkdir -p none, or choose another --out"),
        (("--out", "tuned"), "not the name of a recipe → recipes are files that end in .json: --out tuned.json"),
        (("--out", "."), "not the name of a recipe → recipes are files that end in .json: --out recipe.json"),
        (("--out", "folder.json"), "folder.json is a folder → name a file: --out folder.json/recipe.json"),
        (("--trade-epochs", "--trade-target", "99"), "a target is an accuracy between 0 and 1, not 99"),
        (("--trade-epochs", "--trade-target", "nan"), "a target is an accuracy between 0 and 1, not nan"),
        (("--hold-out", "nan"), "nan images cannot be held out"),
        (("--param", "optimizer.lr=log-int:1..4"), "optimizer.lr is 0.0005, which is no whole number"),
        (("--backend", "native", "--batch-seeds", "2"), "--batch-seeds trains in PyTorch"),
    ],
)
def test_bad_input_is_one_line(hotlap, recipe: str, arguments: tuple[str, ...], message: str) -> None:  # type: ignore[no-untyped-def]
    Path("folder.json").mkdir()
    done = hotlap("tune", recipe, *arguments)
    assert done.status == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    with Store() as store:
        assert len(store) == 0


def test_missing_matplotlib_is_said_before_anything_trains(
    hotlap, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = hotlap("tune", recipe, "--plots", "plots")
    assert (done.status, done.err) == (2, "hotlap: --plots needs matplotlib → pip install 'hotlap[plot]'\n")
    for option in ("--plot", "--record"):
        done = hotlap("ladder", "mnist", option, "there")
        assert (done.status, done.err) == (2, f"hotlap: {option} needs matplotlib → pip install 'hotlap[plot]'\n")
    with Store() as store:
        assert len(store) == 0


def test_a_tuned_recipe_replaces_no_other_unless_it_is_told_to(hotlap, recipe: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def tuned(spec: str, *more: str) -> str:
        done = hotlap("tune", recipe, "--param", spec, "--seeds", 2, "--trials", 2, "--quiet", *more)
        assert done.status == 0, done.err
        return done.out.partition("The tuned recipe is in ")[2].partition(". ")[0]

    assert tuned("batch_size=16") == "tiny-tuned.json"
    assert tuned("batch_size=16") == "tiny-tuned.json", "the same again is the same file"
    (tmp_path / "tiny-tuned.json").write_text("something else")
    assert tuned("batch_size=16") == "tiny-tuned-2.json"
    assert (tmp_path / "tiny-tuned.json").read_text() == "something else"
    assert tuned("batch_size=16", "--out", "tiny-tuned.json") == "tiny-tuned.json"
    assert (tmp_path / "tiny-tuned.json").read_text() == (tmp_path / "tiny-tuned-2.json").read_text()


def test_missing_optuna_names_the_command_that_installs_it(
    hotlap, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = hotlap("tune", recipe)
    assert (done.status, done.err) == (2, "hotlap: tuning needs Optuna → pip install 'hotlap[tune]'\n")


def test_a_missed_target_is_said_with_one_that_is_held(hotlap, recipe: str) -> None:  # type: ignore[no-untyped-def]
    done = hotlap(
        "tune", recipe, "--param", "batch_size=16", "--seeds", 2, "--trade-epochs", "--trade-target", "0.99", "--quiet"
    )
    assert (done.status, done.err) == (1, "")
    assert "Nothing that was tried is better than the recipe as it was." in done.out
    assert "On the held-out images this recipe does not hold 99 %, so no epochs are traded." in done.out
    assert "--trade-target 0." in done.out


def test_without_time_nothing_is_written(hotlap, recipe: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = hotlap("tune", recipe, "--param", "batch_size=8,16", "--max-minutes", "0")
    assert done.status == 2
    assert "the time ran out before a value had trained with all its seeds → repeat to go on" in done.err
    assert not (tmp_path / "tiny-tuned.json").exists()


def test_an_interrupt_says_what_is_kept_and_how_to_go_on(
    hotlap, recipe: str, monkeypatch: pytest.MonkeyPatch, own_store: Path
) -> None:  # type: ignore[no-untyped-def]
    from hotlap.bench.session import Session

    original = Session.train
    count = iter(range(100))

    def train(self: Session, *arguments: object) -> object:
        if next(count) == 3:
            raise KeyboardInterrupt
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Session, "train", train)
    arguments = ("tune", recipe, "--param", "batch_size=8,16", "--seeds", 2)
    done = hotlap(*arguments)
    assert done.status == 130
    assert f"every finished run is kept in {own_store} and the study in" in done.err
    assert "the same command goes on" in done.err
    assert hotlap(*arguments).status == 0
    with Store() as store:
        assert len(store) == 4


DIES_AFTER_FIVE_RUNS = """
import os, signal
from hotlap import cli
from hotlap.store import Store
add = Store.add
def add_or_die(self, run):
    if len(self) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return add(self, run)
Store.add = add_or_die
cli.main()
"""
ASCENT = ("--param", "optimizer.lr=log:1e-3..1e-1", "--seeds", "2", "--sweeps", "1")


def test_a_study_that_is_killed_loses_no_finished_run_and_ends_as_an_unbroken_one(
    hotlap, recipe: str, own_store: Path, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    arguments = ("tune", recipe, *ASCENT, "--threads", "1")
    command = [sys.executable, "-c", DIES_AFTER_FIVE_RUNS, *arguments, "--quiet"]
    child = subprocess.run(command, stdout=subprocess.DEVNULL, timeout=300, check=False)
    assert child.returncode == -signal.SIGKILL
    with Store(own_store) as store:
        kept = len(store)
    assert kept == 5
    finished = hotlap(*arguments, "--json")
    assert finished.status == 0
    with Store(own_store) as store:
        keys = [(run.recipe.digest, run.seed) for run in store.runs()]
    assert len(set(keys)) == len(keys)
    document = json.loads(finished.out)
    assert document["runs_trained"] == len(keys) - kept
    unbroken = json.loads(hotlap(*arguments, "--json", "--store", tmp_path / "other" / "runs.sqlite").out)
    assert unbroken["runs_trained"] == len(keys)
    assert document["recipe"] == unbroken["recipe"]
    for mine, theirs in zip(document["trials"], unbroken["trials"], strict=True):
        assert {**mine, "trial": 0} == {**theirs, "trial": 0}
