"""Every record in the repository follows from its raw runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotlap.ladder import recipes
from hotlap.report.record import check_record, fill_in, record_folders
from hotlap.report.record_files import RUNS, read_claim, read_runs

ROOT = Path(__file__).parents[1]
FOLDERS = record_folders(ROOT / "records")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_records_figures_follow_from_its_runs(folder: Path) -> None:
    check_record(folder)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_records_runs_are_of_todays_recipes(folder: Path) -> None:
    """Digests are still what they were when the runs were made, and named recipes are still those."""
    changes = read_claim(folder).get("changes", {})
    lines = (folder / RUNS).read_text(encoding="utf-8").splitlines()
    for run, line in zip(read_runs(folder), lines, strict=True):
        assert run.recipe.digest == json.loads(line)["digest"]
        if run.recipe.name in recipes():
            assert recipes()[run.recipe.name].with_changes(changes).digest == run.recipe.digest


def test_the_readmes_tables_follow_from_the_records() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- record " in readme
    assert fill_in(readme, ROOT / "records") == readme
