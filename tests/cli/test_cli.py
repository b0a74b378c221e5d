"""The command line as its users meet it: exit status, stdout, stderr."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from factories import make_run
from hotlap import cli
from hotlap.bench.session import Session
from hotlap.cli.app import app
from hotlap.recipe import Recipe
from hotlap.result import Run
from hotlap.store import Store
from tiny import tiny


class Result:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self):  # type: ignore[no-untyped-def]
        return json.loads(self.out)


@pytest.fixture
def hotlap(capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def run(*arguments: object) -> Result:
        status = cli.run([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return run


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(tiny().to_json())
    return path


SYNTHETIC_28 = (
    'data={"name":"synthetic","train":300,"test":100,"size":28,"channels":1,"classes":10,"seed":0,"noise":0.2}'
)

SUMMARY_KEYS = {
    *("recipe", "digest", "n", "target", "accuracy_mean", "accuracy_std", "accuracy_ci95", "reached_share"),
    *("certified_s_median", "certified_s_ci95", "phases_s", "device", "threads", "backend", "timing_valid"),
}


def test_train_reports_and_stores(hotlap, recipe: Path, own_store: Path) -> None:  # type: ignore[no-untyped-def]
    done = hotlap("train", recipe, "--seeds", "2")
    assert done.status == 0
    assert "Certified time = prepare" in done.out
    assert str(own_store) in done.out.replace("\n", "")
    assert "seed 1" in done.err
    with Store() as store:
        assert [run.seed for run in store.runs()] == [0, 1]


def test_train_json_is_one_document(hotlap, recipe: Path) -> None:  # type: ignore[no-untyped-def]
    done = hotlap("train", recipe, "--seeds", "3..4", "--json", "--set", "epochs=1", "--threads", "1")
    assert done.status == 0
    assert "seed 3: " in done.err and "seed 4: " in done.err, "progress stays on stderr"
    quiet = hotlap("train", recipe, "--seeds", "3..4", "--json", "--set", "epochs=1", "--threads", "1", "--quiet")
    assert (quiet.status, quiet.err) == (0, "")
    assert done.json.keys() >= SUMMARY_KEYS
    assert done.json["threads"] == 1
    assert 0 <= done.json["accuracy_mean"] <= 1
    assert [run["seed"] for run in done.json["runs"]] == [3, 4]


def test_train_says_when_the_target_is_missed(hotlap, recipe: Path) -> None:  # type: ignore[no-untyped-def]
    assert hotlap("train", recipe, "--target", "0.2").status == 0
    assert hotlap("train", recipe, "--set", "optimizer.lr=1e-9", "--target", "0.99").status == 1
    assert hotlap("train", recipe, "--set", "optimizer.lr=1e-9", "--target", "0.99", "--seeds", "3").status == 1
    failed = hotlap("train", recipe, "--set", "optimizer.lr=1e30")
    assert failed.status == 1
    assert "seed 0 failed: the loss stopped being a finite number" in failed.out


def test_accuracy_can_be_followed_off_the_clock(hotlap, recipe: Path) -> None:  # type: ignore[no-untyped-def]
    (run,) = hotlap("train", recipe, "--log-accuracy", "--set", "epochs=2", "--json").json["runs"]
    assert [epochs for epochs, _ in run["accuracy_by_epoch"]] == [1.0, 2.0]
    hotlap(
        *("ladder", "mnist", "--rungs", "8", "--seeds", "1", "--set", SYNTHETIC_28, "--set", "epochs=2", "-q"),
        "--log-accuracy",
    )
    with Store() as store:
        assert [epochs for epochs, _ in store.runs()[-1].accuracy_by_epoch] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "mnist/9"], "hotlap: unknown recipe 'mnist/9' → did you mean"),
        (["train", "nothing.json"], "cannot read the recipe"),
        (["train", "mnist/8-final", "--set", "optimizer.lrr=1"], "did you mean 'optimizer.lr'"),
        (["train", "mnist", "--set", "batch_size"], "--set takes path=value"),
        (["train", "mnist", "--set", "batch_size=many"], "takes a whole number, not many"),
        (["train", "mnist", "--target", "99"], "target is an accuracy between 0 and 1"),
        (["train", "mnist", "--seeds", "0"], "names no seeds"),
        (["train", "mnist", "--seeds", "x"], "no choice of seeds"),
        (["train", "mnist", "--seeds", "0..9223372036854775808"], "names more than 1,000,000 seeds"),
        (["train", "mnist", "--seeds", "9223372036854775808..9223372036854775808"], "a seed is from 0 to 2**63 - 1"),
        (["train", "mnist", "--seeds", "1,-1"], "names no seeds"),
        (["train", "mnist", "--device", "cuda:55"], "use --device cpu"),
        (["train", "mnist", "--precision", "fp64"], "unknown engine.precision 'fp64'"),
        (["train", "mnist", "--threads", "0"], "--threads"),
        (["train", "mnist", "--data", "/nowhere"], "no data set at '/nowhere'"),
        (["train"], "nothing to train"),
        (["train", "mnist", "--sed", "1"], "No such option"),
        (["ladder", "mnits"], "did you mean 'mnist'"),
        (["ladder", "mnist", "--rungs", "9"], "has rungs 0..8"),
        (["ladder", "mnist", "--max-minutes", "-1"], "must be positive"),
        (["compare", "mnist"], "nothing to compare with"),
        (["compare", "mnist", "mnist/record"], "are one recipe"),
        (["compare", "mnist", "--set", "epochs=2", "--until", "2"], "--until is an error rate"),
        (["compare", "mnist", "--set", "epochs=2", "--plan"], "--plan and a positive --effect go together"),
        (["compare", "mnist", "--set", "epochs=2", "--plan", "--effect", "0.05"], "no spread is known"),
        (["certify"], "nothing to certify"),
        (["certify", "mnist", "--check", "records"], "no recipe"),
        (["certify", "--check", "/nowhere"], "there are no records below /nowhere"),
        (["certify", "mnist", "--target", "1.5"], "target is an accuracy between 0 and 1"),
        (["show", "mnist", "--diff", "mnist/77"], "unknown recipe"),
        (["data", "info", "nope"], "no data set at 'nope'"),
        (["data", "fetch", "mnits"], "did you mean 'mnist'"),
        (["runs", "--json", "--csv"], "exclude each other"),
        (["runs", "--store", "/nowhere/at/all.sqlite"], "/nowhere/at/all.sqlite"),
        (["dance"], "No such command 'dance'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_status_2(hotlap, arguments: list[str], message: str) -> None:  # type: ignore[no-untyped-def]
    done = hotlap(*arguments)
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("hotlap: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert "→" in done.err or "Traceback" not in done.err


def test_debug_shows_where_an_error_comes_from() -> None:
    from hotlap.errors import InputError

    with pytest.raises(InputError):
        cli.run(["train", "mnist/9", "--debug"])


def test_unexpected_errors_are_one_line_too(hotlap, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    from hotlap.bench import session

    def explode(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(session, "train_seeds", explode)
    done = hotlap("train", recipe)
    assert (done.status, done.out) == (70, "")
    assert "unexpected ZeroDivisionError: oops → repeat with --debug" in done.err

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device", "/some/file")

    monkeypatch.setattr(session, "train_seeds", full)
    done = hotlap("train", recipe)
    assert done.status == 2
    assert "No space left on device (/some/file)" in done.err


def test_help_and_version(hotlap) -> None:  # type: ignore[no-untyped-def]
    assert "train" in hotlap("--help").out
    assert hotlap("--version").out.startswith("hotlap 0.")


def test_every_verb_takes_json(hotlap) -> None:  # type: ignore[no-untyped-def]
    verbs = _verbs(typer.main.get_command(app))
    assert len(verbs) > 15 and {("train",), ("runs", "merge"), ("data", "fetch")} <= verbs
    for verb in verbs:
        assert "--json" in hotlap(*verb, "--help").out, verb


def _verbs(group: Any, *before: str) -> set[tuple[str, ...]]:
    """Every command below a group, by the words that name it."""
    found: set[tuple[str, ...]] = set()
    for name, command in group.commands.items():
        found |= _verbs(command, *before, name) if hasattr(command, "commands") else {(*before, name)}
    return found


def test_show(hotlap) -> None:  # type: ignore[no-untyped-def]
    shown = hotlap("show", "mnist/8-final")
    assert shown.status == 0
    for text in ("optimizer.betas", "(0.7, 0.9)", "24×24×24", "215,194 parameters", "2.49 MFLOP forward", "0.762 s"):
        assert text in shown.out
    document = hotlap("show", "mnist/8-final", "--json").json
    assert document["network"]["parameters"] == 215_194
    assert document["rung"]["parent"] == "mnist/7-narrower"
    changed = hotlap("show", "mnist/8-final", "--set", "model.hidden=[64]", "--json").json
    assert changed["network"]["parameters"] < 215_194
    assert "rung" not in changed
    assert "at most" in hotlap("show", "mnist/1-early-stopping").out


def test_show_diff(hotlap) -> None:  # type: ignore[no-untyped-def]
    shown = hotlap("show", "mnist/8-final", "--diff", "mnist/7-narrower")
    for text in ("change   model.kernels", "retune", "adadelta", "budget   epochs"):
        assert text in shown.out
    changes = hotlap("show", "mnist/8-final", "--diff", "mnist/7-narrower", "--json").json["changes"]
    assert {"path": "epochs", "before": 2.0, "after": 1.0} in changes
    assert "differ in nothing" in hotlap("show", "mnist", "--diff", "mnist/record").out
    assert "change" not in hotlap("show", "mnist/8-final", "--diff", "mnist/5-one-cycle").out.split("after")[1]


HOSTILE = "a [/b] [red]name[/red]"


def test_names_with_brackets_are_shown_as_they_are(hotlap, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    changed = hotlap("show", "mnist/8-final", "--set", "optimizer.lr=0.02")
    assert changed.out.startswith("mnist/8-final [optimizer.lr=0.02]  digest ")
    hostile, other = tmp_path / "hostile.json", tmp_path / "other.json"
    hostile.write_text(replace(tiny(), name=HOSTILE).to_json())
    other.write_text(replace(tiny(batch_size=32), name=f"other {HOSTILE}").to_json())
    assert hotlap("show", hostile).out.startswith(f"{HOSTILE}  digest ")
    difference = " ".join(hotlap("show", other, "--diff", hostile).out.split())
    assert difference.startswith(f"{HOSTILE} → other {HOSTILE} key before after")
    assert f"{HOSTILE} and {HOSTILE} differ in nothing" in hotlap("show", hostile, "--diff", hostile).out


def test_list(hotlap) -> None:  # type: ignore[no-untyped-def]
    assert "mnist/record (= mnist)" in hotlap("list").out
    assert "mnist/record-gpu (= mnist on a GPU)" in hotlap("list").out
    ladders = hotlap("list", "--json").json
    assert len(next(lad for lad in ladders if lad["ladder"] == "mnist")["recipes"]) == 9
    [own] = [lad for lad in ladders if lad["ladder"] is None]
    assert own["title"] == "own records"
    assert {"mnist/record", "mnist/record-plain"} <= {recipe["recipe"] for recipe in own["recipes"]}
    assert "mnist/record" in hotlap("list").out.partition("own records")[2]
    assert "CenterCrop" in hotlap("show", "mnist/record").out


def test_ladder_measures_resumes_and_records(hotlap, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    arguments = ("ladder", "mnist", "--rungs", "7,8", "--seeds", "2", "--set", SYNTHETIC_28, "--set", "epochs=1")
    first = hotlap(*arguments, "--plot", tmp_path / "plot")
    assert first.status == 0
    assert first.err.count("seed 0: ") == 2
    assert "narrower" in first.out
    assert (tmp_path / "plot.png").stat().st_size > 1000
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")
    again = hotlap(*arguments, "--json")
    assert again.err == "4 runs are stored already, 0 to do\n"
    assert [row["summary"]["n"] for row in again.json["rows"]] == [2, 2]
    assert again.json["todo"] == 0
    with Store() as store:
        assert len(store.runs()) == 4
    assert "4 runs are stored already, 0 to do" in hotlap(*arguments).err
    assert hotlap(*arguments, "--record", tmp_path / "record").status == 0
    readme = (tmp_path / "record" / "README.md").read_text()
    assert "--set epochs=1" in readme
    assert readme.count("| 2 | fp32 |") == 2
    assert hotlap("certify", "--check", tmp_path / "record").status == 0
    empty = tmp_path / "elsewhere.sqlite"
    assert "4 added" in hotlap("runs", "merge", tmp_path / "record", "--store", empty).out
    assert "4 runs are stored already, 0 to do" in hotlap(*arguments, "--store", empty).err
    limited = hotlap(*arguments, "--fresh", "--max-minutes", "0.0000001")
    assert limited.status == 0
    assert "did not fit into the time; the same command without --fresh goes on with them" in limited.out
    failed = hotlap(*arguments, "--set", "optimizer.lr=1e30", "--rungs", "8")
    assert failed.status == hotlap(*arguments, "--set", "optimizer.lr=1e30", "--rungs", "8", "--json").status == 1
    assert "failed" in failed.err


@pytest.mark.parametrize(("fresh", "same"), [(False, "the same command"), (True, "the same command without --fresh")])
def test_an_interrupted_ladder_says_what_goes_on(
    hotlap, fresh: bool, same: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    from hotlap.bench.session import Session

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "run", interrupt)
    done = hotlap("ladder", "mnist", "--rungs", "8", "--set", SYNTHETIC_28, *(["--fresh"] if fresh else []))
    assert done.status == 130
    assert f"finished runs are stored; {same} goes on where it stopped" in done.err


def test_a_ladder_replaces_no_other_record_and_says_so_at_once(hotlap, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    place = tmp_path / "mine"
    place.mkdir()
    (place / "README.md").write_text("mine", encoding="utf-8")
    done = hotlap("ladder", "mnist", "--rungs", "8", "--seeds", "1", "--record", place)
    assert done.status == 2 and str(place) in done.err and done.err.count("\n") == 1
    assert (place / "README.md").read_text(encoding="utf-8") == "mine"
    with Store() as store:
        assert len(store) == 0


def test_ladder_retimes_what_shared_the_machine(hotlap) -> None:  # type: ignore[no-untyped-def]
    arguments = ("ladder", "mnist", "--rungs", "8", "--seeds", "1", "--set", SYNTHETIC_28, "--set", "epochs=1")
    hotlap(*arguments, "--shared", "-q")
    assert "1 runs are stored already, 0 to do" in hotlap(*arguments).err
    assert "stored already" not in hotlap(*arguments, "--retime").err
    with Store() as store:
        assert len(store.runs()) == 2


def test_compare(hotlap, recipe: Path) -> None:  # type: ignore[no-untyped-def]
    arguments = ("compare", recipe, "--set", "optimizer.lr=1e-9", "--seeds", "3")
    done = hotlap(*arguments)
    assert done.status == 0
    assert "against tiny: accuracy -" in done.out
    document = hotlap(*arguments, "--json").json
    assert document["a"].keys() >= SUMMARY_KEYS
    assert document["accuracy"]["difference"] < 0
    assert document["time_ratio"]["pairs"] == 3
    failed = hotlap("compare", recipe, "--set", "optimizer.lr=1e30", "--seeds", "1")
    assert failed.status == 1, "as for every training that failed"
    assert "nothing to compare, for no pair of runs finished: tiny [optimizer.lr=1e+30] seed 0: the loss" in failed.err


def test_a_comparison_with_a_failed_run_is_shown_and_exits_1(
    hotlap, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    from hotlap.bench.session import Session

    train = Session.train

    def fails_once(self: Session, recipe: Recipe, seed: int) -> Run:
        run = train(self, recipe, seed)
        return replace(run, status="failed", accuracy=None, error="it is the second") if seed == 1 else run

    monkeypatch.setattr(Session, "train", fails_once)
    done = hotlap("compare", recipe, "--set", "batch_size=32", "--seeds", "3")
    assert done.status == 1
    assert "over 2 interleaved pairs" in done.out


def test_both_sides_of_a_comparison_have_the_same_data(hotlap, recipe: Path) -> None:  # type: ignore[no-untyped-def]
    arguments = ("compare", recipe, "--set", "data.seed=5", "--set", "batch_size=32", "--seeds", "1", "--json")
    document = hotlap(*arguments).json
    assert document["a"]["recipe"] == "tiny [data.seed=5]"
    with Store() as store:
        assert len({run.data_digest for run in store.runs()}) == 1
        assert {run.recipe.data.options["seed"] for run in store.runs()} == {5}
    assert "are one recipe" in hotlap("compare", recipe, "--set", "data.seed=5").err


def test_runs(hotlap, recipe: Path) -> None:  # type: ignore[no-untyped-def]
    hotlap("train", recipe, "--seeds", "2", "-q")
    hotlap("train", recipe, "--seeds", "1", "-q")
    hotlap("train", recipe, "--set", "optimizer.lr=1e30", "-q")
    assert "tiny" in hotlap("runs").out
    assert [run["seed"] for run in hotlap("runs", "tiny", "--json").json] == [0, 1, 0]
    assert [run["status"] for run in hotlap("runs", "--status", "failed", "--json").json] == ["failed"]
    rows = list(csv.DictReader(io.StringIO(hotlap("runs", "--csv").out)))
    assert [row["seed"] for row in rows] == ["0", "1", "0", "0"]
    # The repeated seed is no third observation.
    assert hotlap("runs", "tiny", "--summary", "--json").json[0]["n"] == 2
    assert "n = 2" in hotlap("runs", "tiny", "--summary").out
    assert "No such runs" in hotlap("runs", "nothing*").out
    assert len(hotlap("runs", "--limit", "1", "--json").json) == 1
    assert len(hotlap("runs", "--since", "2000-01-01", "--json").json) == 4
    assert hotlap("runs", "--since", "9999-01-01", "--json").json == []


def test_data(hotlap) -> None:  # type: ignore[no-untyped-def]
    listed = hotlap("data", "list").out
    assert "mnist" in listed
    assert "60,000" in listed
    assert {d["name"] for d in hotlap("data", "list", "--json").json["published"]} >= {"mnist", "cifar10"}
    info = hotlap("data", "info", "synthetic", "-o", "classes=3", "-o", "size=9", "--json").json
    assert (info["classes"], info["size"]) == (3, [9, 9])
    assert "3 classes" in hotlap("data", "info", "synthetic", "-o", "classes=3").out
    assert hotlap("data", "info", "synthetic", "-o", "size").status == 2
    assert "did you mean 'size'" in hotlap("data", "info", "synthetic", "-o", "sise=3").err


def test_data_of_published_sets(hotlap, mnist) -> None:  # type: ignore[no-untyped-def]
    assert hotlap("data", "verify", "mnist").status == 0
    assert hotlap("data", "verify", "mnist", "--json").json["name"] == "mnist"
    assert "mean (0.1307), std (0.3081)" in hotlap("data", "info", "mnist").out
    assert hotlap("data", "fetch", "mnist", "--json").json[0]["name"] == "mnist"
    assert "its SHA-256 is right" in hotlap("data", "fetch", "mnist").err


def test_interrupting_keeps_what_is_finished_and_exits_130(tmp_path: Path, own_store: Path) -> None:
    """A real Ctrl-C, in a process of its own, in the middle of the second run."""
    recipe = tmp_path / "long.json"
    recipe.write_text(tiny(epochs=40.0).to_json())
    environment = {**os.environ, "HOTLAP_STORE": str(own_store)}
    command = [sys.executable, "-c", "from hotlap.cli import main; main()", "train", str(recipe), "--seeds", "1000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    said = process.stderr.readline()
    # Without a C++ compiler that is the first thing hotlap says.
    assert "seed 0: " in (process.stderr.readline() if "compiled kernels" in said else said)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "runs are finished and stored" in err
    assert out == ""
    with Store() as store:
        stored = store.runs()
    assert stored
    assert [run.seed for run in stored] == list(range(len(stored)))


@pytest.mark.parametrize("debug", ["", " --debug"])
def test_a_reader_that_goes_away_is_no_error(debug: str, own_store: Path) -> None:
    with Store() as store:
        for seed in range(400):
            store.add(make_run(seed=seed))
    hotlap = f"{sys.executable} -c 'from hotlap.cli import main; main()' runs --all --csv{debug}"
    whole = subprocess.run(["bash", "-c", hotlap], capture_output=True, text=True, check=False)
    assert (whole.returncode, whole.stderr) == (0, "")
    assert len(whole.stdout) > 2**16, "a pipe holds no more"
    script = f"{hotlap} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    first, status = done.stdout.splitlines()
    assert first == whole.stdout.splitlines()[0]
    assert status == "141"


def test_little_output_to_a_reader_that_has_gone_is_no_error(own_store: Path) -> None:
    """All of it is in Python's own buffer until the end."""
    script = f"{sys.executable} -c 'from hotlap.cli import main; main()' --version | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("141\n", "")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of noise that differ in colour, in images of two sizes, with spaces and accents in the names."""
    from PIL import Image

    rng = np.random.default_rng(0)
    root = tmp_path / "my photos"
    for channel, name in enumerate(("cats é", "dogs")):
        (root / name).mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(0, 100, (32 + 2 * (i % 2), 32, 3), np.uint8)
            pixels[..., channel] += 100
            Image.fromarray(pixels).save(root / name / f"{i} x.png")
    return root


def test_own_images(hotlap, photos: Path) -> None:  # type: ignore[no-untyped-def]
    refused = hotlap("train", "mnist/8-final", "--data", photos)
    assert refused.status == 2
    assert "2 sizes" in refused.err
    assert "as --set data.KEY=VALUE" in refused.err
    assert "as --option KEY=VALUE" in hotlap("data", "info", photos).err
    info = hotlap("data", "info", photos, "-o", "size=28", "-o", "resize=crop", "--json").json
    assert (info["classes"], info["channels"], info["size"]) == (2, 3, [28, 28])
    learn = ("--set", "data.size=28", "--set", "data.resize=crop", "--set", "epochs=20", "--set", "batch_size=16")
    gentle = ("--set", "optimizer.lr=0.001", "--target", "0.9")
    done = hotlap("train", "mnist/8-final", "--data", photos, *learn, *gentle)
    assert done.status == 0, done.out + done.err
    assert "3×28×28" in hotlap("show", "mnist/8-final", "--data", photos, *learn).out


def test_certify_writes_evidence_that_can_be_checked(hotlap, recipe: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "records" / "tiny"
    arguments = ("certify", recipe, "--out", out, "--seeds", "10", "--shared")
    done = hotlap(*arguments, "--target", "0.5")
    assert done.status == 0, done.err
    assert "tiny is certified at 50 %: the lower bound" in done.out
    assert "# tiny: certified at 50 %" in (out / "README.md").read_text()
    with Store() as store:
        assert len(store.runs()) == 10
    missed = hotlap(*arguments, "--target", "1.0", "--json")
    assert missed.status == 1
    assert missed.json["certified"] is False
    assert missed.json["n"] == 10
    with Store() as store:
        assert len(store.runs()) == 10, "stored runs are not repeated"
    assert hotlap("certify", recipe, "--out", out, "--seeds", "3", "--shared").status == 1
    assert "follows from its runs" in hotlap("certify", "--check", tmp_path).out
    claim = out / "record.json"
    claim.write_text(claim.read_text().replace('"certified": false', '"certified": true'))
    forged = hotlap("certify", "--check", tmp_path)
    assert forged.status == 1
    assert "says certified: True, but 3 runs are too few" in forged.err
    assert hotlap("certify", "--check", tmp_path, "--json").json["problems"]
    # A record that is none hides no other.
    claim.write_text('{"kind": "certificate"}')
    good = tmp_path / "records" / "zz"
    assert hotlap("certify", recipe, "--out", good, "--seeds", "3", "--shared").status == 1
    checked = hotlap("certify", "--check", tmp_path)
    assert checked.status == 1 and checked.err.count("\n") == 1
    assert f"{good}: follows from its runs" in checked.out


def test_certify_leaves_files_of_others_alone(hotlap, recipe: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "README.md").write_text("mine")
    refused = hotlap("certify", recipe, "--out", tmp_path, "--seeds", "3", "--shared")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "holds a README.md that is no record's" in refused.err
    assert (tmp_path / "README.md").read_text() == "mine"


def test_certify_tries_no_failed_seed_again(hotlap, recipe: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with Store() as store:
        diverged = Session(store=store, timing_valid=False).train(tiny(optimizer__lr=1e30), 3)
        store.add(replace(diverged, recipe=tiny(), module=None))
    done = hotlap("certify", recipe, "--out", tmp_path / "record", "--seeds", "10", "--shared", "--json")
    assert done.status == 1
    assert (done.json["certified"], done.json["reason"]) == (False, "1 of 10 runs failed")
    with Store() as store:
        assert sorted(run.seed for run in store.runs()) == list(range(10))


def test_a_recipe_without_target_cannot_be_certified(hotlap, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "aimless.json"
    path.write_text(tiny(target=None).to_json())
    assert "has no target" in hotlap("certify", path).err


def test_compare_until_it_is_settled(hotlap, recipe: Path) -> None:  # type: ignore[no-untyped-def]
    arguments = ("compare", recipe, "--set", "optimizer.lr=1e-9", "--seeds", "30", "--until", "0.05")
    done = hotlap(*arguments)
    assert done.status == 0
    assert "settled after" in done.err
    assert "at all looks together" in done.out
    document = hotlap(*arguments, "--json").json
    assert document["sequential"]["settled"] is True
    assert document["sequential"]["p"] <= 0.05
    assert 5 <= document["a"]["n"] == document["b"]["n"] < 30
    limited = hotlap(*arguments, "--max-minutes", "0.00001")
    assert "the next would not fit" in limited.err


def test_compare_plans_from_stored_runs(hotlap, recipe: Path) -> None:  # type: ignore[no-untyped-def]
    hotlap("train", recipe, "--seeds", "4", "-q")
    arguments = ("compare", recipe, "--set", "batch_size=32", "--plan", "--effect")
    assert "runs of each: one run varies by" in hotlap(*arguments, "1").out
    small, large = (hotlap(*arguments, points, "--json").json["runs_of_each"] for points in ("0.5", "2"))
    assert small > large >= 2
    assert "over a million runs of each" in hotlap(*arguments, "1e-300").out
    for points in ("nan", "inf"):
        refused = hotlap(*arguments, points, "--json")
        assert (refused.status, refused.err.count("\n")) == (2, 1)
    with Store() as store:
        assert len(store.runs()) == 4, "planning trains nothing"
