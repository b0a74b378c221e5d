"""``hotlap doctor``: lines, JSON, and the exit status that says whether to trust times."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hotlap import cli
from hotlap.bench import doctor
from hotlap.bench.doctor import Finding, Noise, Report


def report(**changes: Any) -> Report:
    figures: dict[str, Any] = {"single": 1.01, "all_threads": 1.02, "threads": 2, "contention": 0.0, "cores": 2}
    findings = (Finding("processor", "Example CPU"), Finding("compiler", "no c++", ok=False, advice="install one"))
    return Report(findings, Noise(**{**figures, **changes}))


@pytest.mark.parametrize(("changes", "status"), [({}, 0), ({"contention": 1.9}, 1), ({"contention": None}, 0)])
def test_lines_and_status(
    changes: dict[str, Any], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda **_: report(**changes))
    assert cli.run(["doctor"]) == status
    out = capsys.readouterr().out
    assert "  processor  Example CPU\n! compiler   no c++ → install one\n" in out
    assert "1.010 on one thread, 1.020 on 2" in out
    assert ("Times can be trusted now." in out) == (status == 0)
    assert ("other processes keep 1.9 of 2 cores busy → end other programs" in out) == (status == 1)


def test_json_is_one_document(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "measure", lambda _: report(all_threads=None).noise)
    assert cli.run(["doctor", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["trusted"] is True and document["advice"] is None
    assert {finding["name"] for finding in document["findings"]} >= {"processor", "GPU", "cache"}
