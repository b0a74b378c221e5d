"""Every snippet of the documentation runs, page by page, and the site builds without a warning."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hotlap import cli, datasets
from hotlap.datasets import ImageData

ROOT = Path(__file__).parents[1]
PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md") if "```" in page.read_text(encoding="utf-8"))
SLOW = {"many-seeds.md"}
"""Pages whose commands start processes, which load the real MNIST."""

_FENCE = re.compile(r"(?P<before><!-- not run: [^>]+ -->\n)?```(?P<kind>\w+)\n(?P<body>.*?)```", re.DOTALL)


def snippets(page: Path) -> Iterator[tuple[str, str]]:
    """Every fenced block that is to be run: its language and text."""
    for found in _FENCE.finditer(page.read_text(encoding="utf-8")):
        if not found["before"]:
            yield found["kind"], found["body"]


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch, mnist: ImageData) -> None:
    """The first images of the real MNIST in place of all, so that a page takes seconds."""
    small = replace(
        mnist, x_train=mnist.x_train[:600], y_train=mnist.y_train[:600], x_test=mnist.x_test[:200],
        y_test=mnist.y_test[:200],
    )  # fmt: skip
    load = datasets.load
    monkeypatch.setattr(datasets, "load", lambda name, **options: small if name == "mnist" else load(name, **options))


def run_page(page: Path, capsys: pytest.CaptureFixture[str]) -> int:
    names: dict[str, Any] = {}
    count = 0
    for kind, body in snippets(page):
        if kind == "python":
            exec(compile(body, f"{page.name}, snippet {count}", "exec"), names)
            count += 1
            continue
        assert kind == "console", f"{page.name} has a block of {kind}"
        for line in body.splitlines():
            assert line.startswith("$ hotlap "), line
            status = cli.run(shlex.split(line.partition("#")[0])[2:])
            shown = capsys.readouterr()
            # 1 says that a target was missed, which a few images may well do.
            assert status in (0, 1), f"{line}\n{shown.out}\n{shown.err}"
            count += 1
    return count


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, id=p.name, marks=pytest.mark.slow if p.name in SLOW else ()) for p in PAGES],
)
def test_every_snippet_of_a_page_runs(
    page: Path, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if page.name not in SLOW:
        request.getfixturevalue("small_mnist")
    monkeypatch.chdir(tmp_path)
    assert run_page(page, capsys) > 0


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    quiet = {"NO_MKDOCS_2_WARNING": "1", "DISABLE_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env={**os.environ, **quiet}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    pages = ("", "tutorial/", "parts/optimizers/muon/", "ladders/mnist/", "ladders/own-records/")
    for page in pages:
        assert (tmp_path / "site" / page / "index.html").stat().st_size > 2000
    part = (tmp_path / "site" / "parts" / "models" / "lean-stack" / "index.html").read_text(encoding="utf-8")
    assert "ladders/own-records/" in part.partition("Used by")[2][:200]
    record = (tmp_path / "site" / "records" / "mnist-ladder" / "index.html").read_text(encoding="utf-8")
    picture = re.search(r'src="(\.\./files/[^"]+\.svg)"', record)
    assert picture is not None
    assert (tmp_path / "site" / "records" / "mnist-ladder" / picture[1]).resolve().exists()
