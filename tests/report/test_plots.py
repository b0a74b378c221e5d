from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from ladder_rows import make_rows

from hotlap.errors import InputError
from hotlap.report import plots
from hotlap.report.plots import plot_ladder


def test_writes_png_and_svg_and_nothing_else(tmp_path: Path) -> None:
    written = plot_ladder(make_rows(3, shared=2), tmp_path / "new" / "ladder.v1", title="MNIST to 99 %")
    assert written == [tmp_path / "new" / "ladder.v1.png", tmp_path / "new" / "ladder.v1.svg"]
    assert sorted(written) == sorted((tmp_path / "new").iterdir())
    png = written[0].read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
    assert width > 1200 and 300 < height < width
    assert ET.parse(written[1]).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_same_figures_give_the_same_svg(tmp_path: Path) -> None:
    first = plot_ladder(make_rows(), tmp_path / "a", title="t")[1].read_bytes()
    assert plot_ladder(make_rows(), tmp_path / "b", title="t")[1].read_bytes() == first


def test_what_is_drawn() -> None:
    rows = make_rows(3, shared=2)
    figure = plots._figure(rows, "MNIST to 99 %")
    times, accuracies = figure.axes
    assert times.get_xscale() == "log"
    assert [label.get_text() for label in times.get_yticklabels()] == [
        "0  initial",
        "1  early-stopping",
        "2  one-cycle",
        "3  final",
    ]
    written = [text.get_text() for text in times.texts]
    summary = rows[2].summary
    assert summary is not None and summary.certified_s_median is not None
    assert any(text.endswith(" s ‡") for text in written)
    filled = [line.get_xdata()[0] for line in times.lines if line.get_marker() == "o"]  # type: ignore[index]
    hollow = [line.get_xdata()[0] for line in times.lines if line.get_marker() == "D"]  # type: ignore[index]
    assert filled == [row.summary.certified_s_median for row in rows if row.summary]
    assert hollow == [172.0, 57.4, 3.14]
    low, high = times.get_xlim()
    assert all(low < value < high for value in (*filled, *hollow))
    dashed = [line for line in accuracies.lines if line.get_linestyle() == "--"]
    assert [line.get_xdata()[0] for line in dashed] == [0.99]  # type: ignore[index]
    assert times.get_ylim() == accuracies.get_ylim() == (3.5, -0.5)


@pytest.mark.parametrize("measured", [0, 4])
@pytest.mark.parametrize("n", [1, 3])
def test_no_two_texts_overlap(measured: int, n: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = plots._figure(make_rows(measured, n=n, shared=1), "A ladder")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [*figure.texts]
    for axes in figure.axes:
        texts += [
            *axes.texts,
            *(t for t in axes.get_xticklabels() if axes.get_xlim()[0] <= t.get_position()[0] <= axes.get_xlim()[1]),
        ]
        if axes.get_legend():
            texts += axes.get_legend().get_texts()  # type: ignore[union-attr]
    texts += figure.axes[0].get_yticklabels()
    boxes = [(t.get_text(), t.get_window_extent()) for t in texts if t.get_text() and t.get_visible()]
    assert len(boxes) > 8
    for i, (text, box) in enumerate(boxes):
        for other_text, other in boxes[i + 1 :]:
            assert not box.overlaps(other), f"{text!r} runs into {other_text!r}"


def test_a_name_that_leads_with_its_number_is_not_numbered_twice() -> None:
    row = make_rows(0)[3]
    assert plots._label(row) == "3  final"
    named = type(row)(**{name: getattr(row, name) for name in row.__slots__} | {"name": "3-final"})
    assert plots._label(named) == "3-final"


def test_errors_name_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="without rungs"):
        plot_ladder([], tmp_path / "x", title="t")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        plot_ladder(make_rows(0), tmp_path / "file" / "x", title="t")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'hotlap\[plot\]'"):
        plot_ladder(make_rows(0), tmp_path / "x", title="t")
