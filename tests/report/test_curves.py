from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from factories import make_run
from hotlap.errors import InputError
from hotlap.ladder import get_ladder, resolve
from hotlap.report import record
from hotlap.report.curves import changes_text, curves_markdown, plot_curves
from hotlap.report.ladder_record import ladder_rows, write_ladder_record
from hotlap.result import Run

LADDER = get_ladder("mnist")
CHANGES = {"epochs": 2, "engine.precision": "auto"}


def runs() -> list[Run]:
    """Two seeds of rung 7 and one of rung 8, two epochs each."""
    steps = resolve(LADDER)
    return [
        replace(
            make_run(seed=seed, accuracy=last),
            recipe=steps[index].recipe.with_changes(CHANGES),
            epochs_run=2.0,
            loss_by_epoch=(1.0 + seed, 0.5),
            accuracy_by_epoch=((1.0, 0.90 + seed / 100), (2.0, last)),
            timing_valid=index != 8,
        )
        for index, seed, last in ((7, 0, 0.97), (7, 1, 0.98), (8, 0, 0.99))
    ]


def test_changes_are_written_as_options() -> None:
    assert changes_text({"epochs": 2, "engine.precision": "auto", "feed.mean": None}) == (
        "--set engine.precision=auto --set epochs=2 --set feed.mean=null"
    )


def test_the_table_holds_means_over_seeds_after_each_epoch() -> None:
    lines = curves_markdown(ladder_rows(LADDER, runs()), runs())
    seven = next(line for line in lines if line.startswith("| 7-"))
    assert "| 2 | fp32 | 1.500 → 0.500 | 90.50 % → 97.50 % |" in seven
    eight = next(line for line in lines if line.startswith("| 8-"))
    assert "| 1 | fp32 | 1.000 → 0.500 | 90.00 % → 99.00 % |" in eight
    assert "‡" in eight and "‡" not in seven
    assert sum(line.startswith("| ") for line in lines) == 3, "a header and the two rungs that have runs"
    assert any("Other work shared the machine" in line for line in lines)


def test_runs_that_failed_or_ended_early_leave_the_others_means_alone() -> None:
    failed = replace(runs()[0], id="f", seed=2, status="failed", accuracy=None, error="diverged")
    short = replace(runs()[2], id="s", seed=1, epochs_run=0.5, loss_by_epoch=(3.0,), accuracy_by_epoch=((0.5, 0.8),))
    lines = curves_markdown(ladder_rows(LADDER, runs()), [*runs(), failed, short])
    assert "1.500 → 0.500" in next(line for line in lines if line.startswith("| 7-"))
    assert "2.000 → 0.500 | 85.00 % → 99.00 %" in next(line for line in lines if line.startswith("| 8-"))


def test_losses_of_chosen_images_are_explained() -> None:
    ladder = get_ladder("cifar10-airbench")
    chosen = [
        replace(make_run(seed=0), recipe=step.recipe.with_changes({"epochs": 2}), loss_by_epoch=(1.0, 0.5))
        for step in resolve(ladder)
        if step.rung.name in ("96", "96-faster")
    ]
    note = "Losses of 96-faster count images that were not chosen as 0."
    assert note in curves_markdown(ladder_rows(ladder, chosen), chosen)
    assert note not in curves_markdown(ladder_rows(ladder, chosen[:1]), chosen[:1])


def test_a_changed_ladders_record_follows_from_its_runs(tmp_path: Path) -> None:
    tmp_path = tmp_path / "records" / "learned"
    written = write_ladder_record(tmp_path, LADDER, runs(), CHANGES)
    assert {path.name for path in written} == {"runs.jsonl", "record.json", "README.md", "curves.png", "curves.svg"}
    readme = (tmp_path / "README.md").read_text()
    assert "`--set engine.precision=auto --set epochs=2`" in readme
    assert "90.50 % → 97.50 %" in readme
    record.check_record(tmp_path)
    before = (tmp_path / "curves.svg").read_bytes()
    (tmp_path / "README.md").write_text(readme.replace("97.50", "99.50"))
    with pytest.raises(InputError, match="does not follow"):
        record.check_record(tmp_path)
    document = tmp_path / "doc.md"
    document.write_text(f"<!-- record {tmp_path.name} -->\n<!-- end -->\n")
    assert record.main([tmp_path.parent, document]) == 0
    record.check_record(tmp_path)
    assert (tmp_path / "curves.svg").read_bytes() == before
    assert "90.50 % → 97.50 %" in document.read_text()


def test_runs_with_other_changes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no record of the ladder"):
        write_ladder_record(tmp_path / "a", LADDER, runs(), {"epochs": 3})
    with pytest.raises(InputError, match="no record of the ladder"):
        write_ladder_record(tmp_path / "a", LADDER, runs())
    assert not (tmp_path / "a").exists()


def test_nothing_to_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no runs to plot"):
        plot_curves(ladder_rows(LADDER, []), [], tmp_path / "curves", title="t")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match="a plot needs matplotlib"):
        plot_curves(ladder_rows(LADDER, runs()), runs(), tmp_path / "curves", title="t")
