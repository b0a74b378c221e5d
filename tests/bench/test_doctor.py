"""The doctor: every probe has a line, one that fails says so, and noise is judged by its figures."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from hotlap.bench import doctor
from hotlap.bench.doctor import Finding, Noise, examine, measure, spread

NAMES = {
    *(
        "processor",
        "memory",
        "threads",
        "GPU",
        "torch",
        "versions",
        "compiler",
        "kernels",
        "data sets",
        "cache",
        "run store",
    ),
}


def noise(**changes: Any) -> Noise:
    return Noise(**{"single": 1.02, "all_threads": 1.05, "threads": 4, "contention": 0.1, "cores": 4, **changes})


def found(name: str) -> Finding:
    return next(finding for finding in examine(seconds=0).findings if finding.name == name)


def test_every_probe_has_a_line_and_the_report_is_json() -> None:
    report = examine(seconds=0)
    assert {finding.name for finding in report.findings} == NAMES
    document = json.loads(json.dumps(report.as_dict()))
    assert document["noise"]["single"] >= 1 and isinstance(document["trusted"], bool)


def test_noise_is_measured_on_one_and_on_all_threads() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        measured = measure(0.1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert measured.threads == 2 and measured.single >= 1
    assert measured.all_threads is not None and measured.all_threads >= 1


def test_a_single_thread_is_measured_once() -> None:
    assert torch.get_num_threads() == 1
    assert measure(0.05).all_threads is None


def test_the_spread_is_a_ratio() -> None:
    assert spread([2.0] * 10) == 1
    assert spread([1.0] * 8 + [2.0] * 2) == 2


@pytest.mark.parametrize(
    ("changes", "trusted", "told"),
    [
        ({}, True, ""),
        ({"all_threads": None}, True, ""),
        ({"contention": None}, True, ""),
        ({"contention": 1.5}, False, "other processes keep 1.5 of 4 cores busy"),
        ({"single": 1.3}, False, "up to 30% longer"),
        ({"all_threads": 1.5}, False, "up to 50% longer"),
    ],
)
def test_noise_is_judged(changes: dict[str, Any], trusted: bool, told: str) -> None:
    judged = noise(**changes)
    assert judged.trusted == trusted
    assert told in " ".join(judged.problems)
    assert (judged.advice is None) == trusted
    if "contention" in changes and not trusted:
        assert judged.advice is not None and "--shared" in judged.advice


def test_a_probe_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> str:
        raise OSError("no such\nthing")

    monkeypatch.setattr(doctor, "_processor", fails)
    assert found("processor") == Finding("processor", "cannot be told (no such thing)", ok=False)


def test_no_compiler_and_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    missing = found("compiler")
    assert not missing.ok and "no no-such-compiler" in missing.found and missing.advice
    if (false := shutil.which("false")) is not None:
        monkeypatch.setenv("CXX", false)
        assert "cannot be told" in found("compiler").found


def test_places_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLAP_DATA", str(tmp_path / "not" / "yet"))
    assert found("cache").ok and str(tmp_path / "not" / "yet") in found("cache").found
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert "cannot be written" in found("cache").found
    monkeypatch.undo()
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1e6}))
    assert not found("cache").ok


def test_gpus_with_and_without_a_build_that_uses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    line = "Example GPU, 550.1, 1200 MHz, 1980 MHz, 41, 3 %\n"

    def answer(*_: Any, **__: Any) -> Any:
        return subprocess.CompletedProcess((), 0, stdout=line)

    monkeypatch.setattr(doctor.shutil, "which", lambda name: f"/bin/{name}" if name == "nvidia-smi" else None)
    monkeypatch.setattr(doctor.subprocess, "run", answer)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    unused = doctor._gpu()
    assert isinstance(unused, Finding) and "Example GPU, driver 550.1, 1200 MHz of 1980 MHz, 41 °C" in unused.found
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    about = type("About", (), {"name": "Example", "total_memory": 2**33, "major": 9, "minor": 0})
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: about)
    used = doctor._gpu()
    assert isinstance(used, tuple) and used[0] == "Example, 8 GiB, compute capability 9.0"
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert doctor._gpu() == used[:1]


def test_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    little = type("Memory", (), {"total": 2**32, "available": 2**28})
    monkeypatch.setattr(doctor.psutil, "virtual_memory", lambda: little)
    assert not doctor._memory().ok
