"""Where to train, as the command line is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hotlap import cli
from hotlap.bench.executors.choice import choose_executor, device_here
from hotlap.bench.executors.processes import ProcessExecutor
from hotlap.bench.executors.ray import RayExecutor
from hotlap.errors import InputError
from hotlap.store import Store
from tiny import tiny

PLAIN: dict[str, Any] = {"kind": None, "jobs": 1, "address": None, "threads": None, "device": "auto"}


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotlap.engine.environment.available_cores", lambda: 4)


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        ({}, None),
        ({"kind": "local"}, None),
        ({"jobs": 2}, ProcessExecutor(2, threads=2)),
        ({"jobs": 8}, ProcessExecutor(8, threads=1)),
        ({"jobs": 2, "threads": 3, "device": "cpu"}, ProcessExecutor(2, threads=3, device="cpu")),
        ({"kind": "processes"}, ProcessExecutor(1, threads=4)),
        ({"kind": "ray"}, RayExecutor()),
        ({"kind": "ray", "jobs": 2}, RayExecutor(workers=2, threads=2)),
        ({"address": "head:6379"}, RayExecutor("head:6379")),
        ({"address": "head:6379", "jobs": 2, "kind": "ray"}, RayExecutor("head:6379", workers=2)),
        ({"address": "auto", "threads": 2, "device": "cpu"}, RayExecutor("auto", threads=2, device="cpu")),
    ],
    ids=str,
)
def test_choices(asked: dict[str, Any], chosen: object, four_cores: None) -> None:
    assert choose_executor(**{**PLAIN, **asked}) == chosen


@pytest.mark.parametrize(("text", "devices"), [("all", ("cuda:0", "cuda:1", "cuda:2")), ("2,0", ("cuda:2", "cuda:0"))])
def test_a_process_for_each_gpu(
    text: str, devices: tuple[str, ...], four_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    chosen = choose_executor(**PLAIN, gpus=text)
    assert chosen == ProcessExecutor(len(devices), threads=4 // len(devices), devices=devices)


@pytest.mark.parametrize(
    ("text", "there", "asked", "cause"),
    [
        ("all", 0, {}, "has no CUDA GPU"),
        ("0", 0, {}, "cuda:0 is not there"),
        ("0,3", 2, {}, "cuda:3 is not there: there are 2 GPUs"),
        ("0,0", 2, {}, "'0,0' is no choice of GPUs"),
        ("every", 2, {}, "'every' is no choice of GPUs"),
        ("all", 2, {"jobs": 2}, "--gpus trains one run on each GPU"),
        ("all", 2, {"device": "cuda:1"}, "--gpus trains one run on each GPU"),
        ("all", 2, {"kind": "ray"}, "--gpus trains one run on each GPU"),
    ],
)
def test_gpus_that_cannot_be_had(
    text: str, there: int, asked: dict[str, Any], cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: there)
    with pytest.raises(InputError, match=cause):
        choose_executor(**{**PLAIN, **asked}, gpus=text)


@pytest.mark.parametrize(
    ("asked", "cause"),
    [
        ({"kind": "local", "jobs": 2}, "one run at a time, not 2"),
        ({"kind": "local", "address": "head:6379"}, "--executor local uses none"),
        ({"kind": "processes", "address": "head:6379"}, "--executor processes uses none"),
        ({"kind": "ray", "device": "cuda:1"}, "'cuda:1' cannot be asked for"),
        ({"jobs": 2, "device": "cuda:77"}, "cuda:77 is not there"),
    ],
    ids=str,
)
def test_contradictions(asked: dict[str, Any], cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        choose_executor(**{**PLAIN, **asked})


def test_the_session_here_stands_for_workers_of_this_machine() -> None:
    here, there = ProcessExecutor(2, device="cpu"), RayExecutor("head:6379", device="cuda")
    assert device_here(None, "cuda:1") == "cuda:1"
    assert device_here(here, "cpu") == "cpu"
    assert device_here(there, "cpu") == "cpu"
    assert device_here(there, "cuda") == "auto", "the cluster's GPUs need not be here"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.json"
    path.write_text(tiny(epochs=1).to_json())
    return path


@pytest.mark.parametrize("verb", ["train", "certify"])
def test_contradictions_are_one_line(verb: str, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([verb, str(recipe), "--executor", "processes", "--address", "head:6379"]) == 2
    assert capsys.readouterr().err == (
        "hotlap: --address names a Ray cluster, --executor processes uses none → leave one of them out\n"
    )
    assert cli.run([verb, str(recipe), "--executor", "submarine"]) == 2
    assert "submarine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--resume", "--jobs", "2"], "--resume needs the runs in this process, one after another → leave out --jobs"),
        (["--resume", "--batch-seeds", "2"], "--resume needs the runs in this process"),
        (["--backend", "native", "--batch-seeds", "2"], "--batch-seeds trains in PyTorch, not in the compiled kernels"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    options: list[str], message: str, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", str(recipe), "--seeds", "2", *options]) == 2
    assert message in capsys.readouterr().err
    with Store() as store:
        assert len(store.runs()) == 0


def test_processes_measure_accuracy_after_every_epoch_too(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", str(recipe), "--set", "epochs=3", "--jobs", "2", "--seeds", "2", "--log-accuracy"]) == 0
    with Store() as store:
        assert [len(run.accuracy_by_epoch) for run in store.runs()] == [3, 3]


def test_a_certificate_from_several_processes_claims_no_time(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "record"
    arguments = ["certify", str(recipe), "--target", "0.1", "--out", str(out), "--jobs", "2", "--json", "--seeds"]
    assert cli.run([*arguments, "10"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["n"], document["timing_valid"], document["certified"]) == (10, False, True)
    runs = [json.loads(line) for line in (out / "runs.jsonl").read_text().splitlines()]
    assert [run["seed"] for run in runs] == list(range(10))
    assert not any(run["timing_valid"] for run in runs)
    assert cli.run([*arguments, "10"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 10
    with Store() as store:
        assert len(store.runs()) == 10, "stored runs of equal workers are not repeated"
