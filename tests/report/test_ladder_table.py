from __future__ import annotations

import io
import json

import pytest
from ladder_rows import make_rows
from rich.console import Console
from rich.panel import Panel

from hotlap.report.formats import factor, seconds
from hotlap.report.ladder_table import LadderRow, ladder_rows_json, ladder_table


def render(rows: list[LadderRow], width: int, eta_s: float | None = None) -> str:
    file = io.StringIO()
    Console(width=width, file=file).print(ladder_table(rows, title="MNIST to 99 %", eta_s=eta_s))
    return file.getvalue()


def test_at_100_columns_every_kind_of_figure_is_shown() -> None:
    rows = make_rows()
    text = render(rows, 100)
    header = text.split("───")[0]
    for name in ("change", "published", "measured", "target", "rung 0", "before"):
        assert name in header
    last = rows[3].summary
    first = rows[0].summary
    before = rows[2].summary
    assert last is not None and first is not None and before is not None
    assert last.certified_s_median and first.certified_s_median and before.certified_s_median
    line = next(line for line in text.splitlines() if line.startswith("3 "))
    assert "99.04 %" in line  # published
    assert "99.06 % ± 0.03" in line
    assert "25/30" in line
    assert seconds(last.certified_s_median) in line
    assert factor(first.certified_s_median / last.certified_s_median) in line
    assert factor(before.certified_s_median / last.certified_s_median) in line
    assert "2 min 52 s" in text  # rung 0 as published
    assert "runs ≥ 99 %" in text


@pytest.mark.parametrize("width", [60, 70, 80, 90, 100, 120, 160, 250])
def test_every_width_keeps_accuracy_and_time_whole(width: int) -> None:
    rows = make_rows(3, shared=2)
    text = render(rows, width, eta_s=130)
    assert max(map(len, text.splitlines())) <= width
    assert "99.06 % ± 0.03" in text
    assert "‡" in text
    assert "…" not in text.replace("seed 3 …", "")  # nothing is cut
    summary = rows[2].summary
    assert summary is not None
    assert seconds(summary.certified_s_median) in text
    assert "about 2 min 10 s left" in text


def test_columns_give_way_as_the_terminal_narrows() -> None:
    def header(width: int) -> str:
        return render(make_rows(), width).split("───")[0]

    assert "accuracy" in header(80) and "rung 0" in header(80)
    assert "before" not in header(80)
    assert "target" in header(80) and "target" not in header(60)
    wide = render(make_rows(), 160)
    assert "57.4 s ± 6.85" in wide
    assert "6.00 s [" in wide or "5.99 s [" in wide or "6.01 s [" in wide
    assert "57.4 s ± 6.85" not in render(make_rows(), 100)


def test_marks_are_explained_only_where_they_occur() -> None:
    marked = render(make_rows(shared=2), 120)
    assert "† stops on test accuracy" in marked
    assert "‡ times not valid" in marked
    # The time itself, the two speed-ups of that rung, one of the next rung, and the explanation.
    assert marked.count("‡") == 5
    plain = render(make_rows(1), 120)
    assert "†" not in plain and "‡" not in plain and "left" not in plain


def test_a_ladder_in_progress_says_where_it_is() -> None:
    text = render(make_rows(2), 100)
    assert "seed 3 …" in next(line for line in text.splitlines() if line.startswith("2 "))
    row = make_rows(4)[3]
    again = LadderRow(**{name: getattr(row, name) for name in row.__slots__} | {"running": "seed 7 …"})
    assert "(seed 7 …)" in render([again], 160)


def test_nothing_measured_shows_dashes() -> None:
    text = render(make_rows(0), 100)
    assert "–" in text
    assert "×" not in text.replace("5×5", "")


def test_speed_ups_need_both_rungs() -> None:
    rows = make_rows()
    assert [row["speedup_over_first"] is None for row in ladder_rows_json(rows)] == [True, False, False, False]
    late = ladder_rows_json(rows[2:])
    assert late[0]["speedup_over_first"] is late[0]["speedup_over_before"] is None
    assert late[1]["speedup_over_first"] is None
    assert late[1]["speedup_over_before"] == pytest.approx(4, rel=0.05)


def test_json_rows_are_plain_and_complete() -> None:
    rows = ladder_rows_json(make_rows(2))
    read = json.loads(json.dumps(rows, allow_nan=False))
    assert read == rows
    assert read[0]["published_s"] == 172.0
    assert read[0]["summary"]["n"] == 30
    assert read[2]["summary"] is None
    assert read[2]["running"] == "seed 3 …"


def test_the_range_of_few_times_is_named_as_such() -> None:
    assert "their range" in render(make_rows(n=4), 160)
    assert "their range" not in render(make_rows(n=4), 100)  # no intervals are shown there
    assert "their range" not in render(make_rows(n=6), 160)


def test_a_ladder_fits_into_a_panel() -> None:
    file = io.StringIO()
    Console(width=90, file=file).print(Panel.fit(ladder_table(make_rows(), title="MNIST to 99 %", eta_s=None)))
    lines = file.getvalue().splitlines()
    assert {len(line) for line in lines} == {90}
    assert "99.06 % ± 0.03" in file.getvalue()
