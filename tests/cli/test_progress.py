"""Progress as plain lines, where there is no terminal."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotlap.cli import progress
from hotlap.cli.progress import RunProgress
from tiny import tiny


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_S", -1.0)


@pytest.mark.parametrize(
    ("epochs", "text"), [(1.0, "14.98 % after 1 epoch"), (2.0, "14.98 % after 2 epochs"), (0.5, "% after 0.5 epochs")]
)
def test_a_long_run_says_how_far_it_is(
    epochs: float, text: str, every_step: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunProgress(1) as shown:
        shown.begin(tiny(epochs=4), 0, 40, 64)
        shown.accuracy(epochs, 0.1498)
        shown.step(10, None)
    line = capsys.readouterr().err
    assert line.startswith("tiny seed 0: 25 %, epoch 1.0 of 4, ")
    assert line.endswith(f"{text}\n")


def test_a_recipes_name_is_shown_as_it_is(every_step: None, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a [/b] with a long name, so that it and what is said of it need more than one line of a narrow terminal"
    with RunProgress(1) as shown:
        shown.begin(replace(tiny(), name=name), 0, 40, 64)
        shown.step(20, None)
        shown.start("fetching [/c]", None)
    run, download = capsys.readouterr().err.splitlines()
    assert run.startswith(f"{name} seed 0: 50 %")
    assert download == "fetching [/c]"
