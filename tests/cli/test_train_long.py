"""``hotlap train``: several seeds in one program, and going on after an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from hotlap.cli import run
from hotlap.store import Store
from tiny import tiny


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "tiny.json"
    path.write_text(tiny(epochs=2).to_json())
    return str(path)


def test_several_seeds_in_one_program(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", recipe, "--seeds", "5", "--batch-seeds", "3", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [one["seed"] for one in document["runs"]] == [0, 1, 2, 3, 4]
    assert [one["seeds_at_once"] for one in document["runs"]] == [3, 3, 3, 2, 2]
    assert not document["timing_valid"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--batch-seeds", "3", "--jobs", "2"], "--batch-seeds trains in this process → leave out --jobs"),
        (["--batch-seeds", "1"], "at least 2 seeds at once, not 1"),
        (["--batch-seeds", "2", "--set", "stop_at=0.9"], "each stops at an epoch of its own"),
        (["--batch-seeds", "2", "--set", "model.hidden_dropout=0.5"], "draws noise that the seeds would share"),
    ],
)
def test_what_cannot_be_trained_so_is_refused(
    recipe: str, options: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", recipe, "--seeds", "4", *options]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_from_its_last_epoch(tmp_path: Path, own_store: Path, how: signal.Signals) -> None:
    """The real command is killed in mid-training, then resumed; it ends as one that was never killed."""
    path = tmp_path / "long.json"
    path.write_text(tiny(epochs=12).to_json())
    patched = "import hotlap.bench.session as s; from functools import partial; "
    patched += "s.Checkpoint = partial(s.Checkpoint, every_s=0.0); "
    slow = "from hotlap.cli.progress import RunProgress as P; import time; "
    # It waits in its third epoch: from there the end is never reached, however late the kill.
    slow += "P.step = lambda self, done, loss: time.sleep(600 if done == 20 else 0.01); "
    go = [sys.executable, "-c", f"{patched}{slow}from hotlap.cli import main; main()", "train", str(path), "--quiet"]
    environment = {**os.environ, "HOTLAP_STORE": str(own_store)}
    victim = subprocess.Popen(go, env=environment, stderr=subprocess.DEVNULL)
    kept = own_store.parent / "checkpoints"
    try:
        deadline = time.monotonic() + 120
        while not list(kept.glob("*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.02)
        victim.send_signal(how)
        assert victim.wait(60) in (-signal.SIGKILL, 130)
    finally:
        victim.kill()
    assert len(list(kept.glob("*-seed0.safetensors"))) == 1
    assert run(["train", str(path), "--resume", "--quiet"]) == 0
    with Store() as store:
        (resumed,) = store.runs()
    assert not list(kept.iterdir())
    assert not resumed.timing_valid
    assert run(["train", str(path), "--quiet"]) == 0
    with Store() as store:
        unbroken = store.runs()[-1]
    assert (resumed.accuracy, resumed.loss_by_epoch) == (unbroken.accuracy, unbroken.loss_by_epoch)
    assert len(resumed.loss_by_epoch) == 12


def test_a_run_that_cannot_be_stored_keeps_its_checkpoint(
    recipe: str, own_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hotlap.bench import session
    from hotlap.errors import StoreError

    def full(self: Store, run: object) -> None:
        raise StoreError("the disk that holds the run store is full", "free some space")

    monkeypatch.setattr(session, "Checkpoint", partial(session.Checkpoint, every_s=0.0))
    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", full)
        assert run(["train", recipe, "--quiet"]) == 2
    assert "is full → free some space" in capsys.readouterr().err
    kept = own_store.parent / "checkpoints"
    assert len(list(kept.iterdir())) == 1
    assert run(["train", recipe, "--resume", "--quiet"]) == 0
    with Store() as store:
        (resumed,) = store.runs()
    assert not resumed.timing_valid, "its first epoch came from the checkpoint"
    assert list(kept.iterdir()) == []
