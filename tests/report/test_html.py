from __future__ import annotations

import base64
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_runs import HOSTILE, hostile_runs, of, predictions, two_rungs
from PIL import Image

from factories import make_environment, make_recipe
from hotlap.errors import InputError
from hotlap.ladder import get_ladder, get_recipe, resolve
from hotlap.report.html import figures
from hotlap.report.html.comparison_section import comparison_section, pair_up
from hotlap.report.html.page import about, machines_section, render, report_sections
from hotlap.report.html.parts import Gallery, Plot, Row, Section, Table, Text
from hotlap.report.html.predictions_section import predictions_section
from hotlap.report.html.selection import Selection, gather, ladder_views, run_sets
from hotlap.report.ladder_record import write_ladder_record
from hotlap.result import PHASES, Run
from hotlap.store import Store

VOID = {"meta", "link", "img", "br", "input"}


class Page(HTMLParser):
    """What a page holds: its tags with their attributes, its texts, and whether every tag was closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def walk(sections: Sequence[Section]) -> Iterator[Any]:
    """Every block, those within rows and sections among them."""
    for section in sections:
        for block in section.blocks:
            yield from block.plots if isinstance(block, Row) else (block,)
        yield from walk(section.sections)


def tables(sections: Sequence[Section]) -> dict[str, Table]:
    return {block.caption: block for block in walk(sections) if isinstance(block, Table)}


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row] for row in table.rows]


@pytest.fixture(scope="module")
def sections() -> list[Section]:
    return report_sections(Selection(runs=[*two_rungs(), *hostile_runs()]))


@pytest.fixture(scope="module")
def page(sections: list[Section]) -> str:
    return render(f"report {HOSTILE}", sections, lead=["lead & more"], plots=False)


def test_the_page_is_whole_and_loads_nothing(page: str) -> None:
    parsed = Page(page)
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "action", "data", "poster"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, value)
    assert "http" not in re.sub(r"<script type.*?</script>", "", page, flags=re.DOTALL).replace("http-equiv", "")
    policy = next(meta for meta in parsed.all("meta") if meta.get("http-equiv"))["content"]
    assert policy is not None and policy.startswith("default-src 'none'")
    targets = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(targets), "ids are unique"
    assert {(a["href"] or "")[1:] for a in parsed.all("a")} <= targets


def test_names_are_text_wherever_they_stand(page: str) -> None:
    parsed = Page(page)
    assert parsed.all("img") == []
    assert page.count("<script") == page.count("</script>"), "no name ends a script"
    assert HOSTILE in "".join(parsed.texts)
    assert "<b>nan</b>" in "".join(parsed.texts)
    for found in re.findall(r'<script type="application/json".*?>(.*?)</script>', page, flags=re.DOTALL):
        drawn = json.dumps(json.loads(found)["data"])
        assert "<img" not in drawn and "hovertemplate" not in drawn


def test_readers_without_eyes_find_their_way(page: str) -> None:
    parsed = Page(page)
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for landmark in ("header", "nav", "main", "footer"):
        assert len(parsed.all(landmark)) == 1
    assert parsed.all("html") == [{"lang": "en"}]
    assert any(a.get("class") == "skip" and a["href"] == "#content" for a in parsed.all("a"))
    assert len(parsed.all("th")) == len(parsed.all("button")) - 1, "each heading sorts; one more button is the theme's"
    canvases = [div for div in parsed.all("div") if div.get("class") == "canvas"]
    assert canvases and all(div["aria-label"] for div in canvases)
    assert len(parsed.all("details")) == len(canvases), "every plot has its table"
    assert all(region.get("aria-label") for region in parsed.all("div") if region.get("role") == "region")


def test_every_row_has_a_cell_for_each_column(sections: list[Section]) -> None:
    found = [*tables(sections).values(), *(block.table for block in walk(sections) if isinstance(block, Plot))]
    assert len(found) > 5
    for table in found:
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.caption


def test_a_ladders_table_sets_published_and_measured_side_by_side(sections: list[Section]) -> None:
    table = tables(sections)[get_ladder("mnist").title]
    rows = {row[0]: row for row in texts(table)}
    assert len(rows) == 9
    assert rows["0-initial"][2:5] == ["172 s ± 0.04", "99.19 %", "0"]
    assert rows["8-final"][3:6] == ["99.04 %", "6", "99.09 % ± 0.01"]
    assert rows["8-final"][6] == "6 of 6"
    assert rows["8-final"][7].startswith("15.2 s [15.0, 15.5]")
    assert rows["8-final"][9] == "2.13×"
    assert [row[0].value for row in table.rows] == [*range(9)]


def test_ladder_plots_hold_both_sorts_of_points(sections: list[Section]) -> None:
    plots = {block.title: block for block in walk(sections[:1]) if isinstance(block, Plot)}
    times = plots["Time, rung by rung"].figure
    names = [trace["name"] for trace in times["data"]]
    assert names == ["change over the one before", "published", "measured, 95 % interval"]
    bar = times["data"][0]
    assert bar["base"][0] + bar["x"][0] == pytest.approx(32.5), "it begins where the rung before ends"
    assert len(times["data"][1]["x"]) == 9 and len(times["data"][2]["x"]) == 2
    scatter = plots["Time and accuracy"].figure
    measured = next(trace for trace in scatter["data"] if trace["name"].startswith("measured"))
    assert measured["text"] == ["7", "8"]
    assert all(width > 0 for width in measured["error_y"]["array"])
    assert [shape["y0"] for shape in scatter["layout"]["shapes"]] == [99.0]


def test_marks_stand_at_what_they_are_about(sections: list[Section]) -> None:
    table = tables(sections)["All recipes"]
    row = next(row for row in texts(table) if row[0] == HOSTILE)
    assert row[2:] == ["2", "99 %", "99.20 % †", "1 of 2", "9.00 s ‡"]
    assert any("†" in note for note in table.notes) and any("‡" in note for note in table.notes)


def test_failed_runs_and_losses_that_are_no_number_are_left_out_of_plots() -> None:
    runs = [replace(run, loss_by_epoch=(0.5, math.nan)) if run.seed == 0 else run for run in two_rungs(2)]
    found = report_sections(Selection(runs=[*runs, *hostile_runs()]))
    assert "NaN" not in render("t", found, plots=False)
    runs_table = next(
        block.table for block in walk(found) if isinstance(block, Plot) and block.table.caption == f"Runs of {HOSTILE}"
    )
    assert texts(runs_table)[1][:3] == ["1", "failed: <b>nan</b>", "no"]


def test_a_recipe_of_which_every_run_failed_has_a_section_without_plots() -> None:
    found = report_sections(Selection(runs=hostile_runs()[1:]))
    assert [section.title for section in found] == ["Recipes", "Machines"]
    assert not [block for block in walk(found) if isinstance(block, Plot)]


def test_without_runs_there_is_no_section() -> None:
    assert report_sections(Selection(runs=[])) == []


def test_phases_say_what_counts(sections: list[Section]) -> None:
    plot = next(block for block in walk(sections) if isinstance(block, Plot) and block.title == "Where the time goes")
    rows = {row[0]: row for row in texts(plot.table)}
    assert rows["train"][3] == "yes" and rows["warmup"][3] == "no"
    hatched = {trace["name"] for trace in plot.figure["data"] if trace["marker"]["pattern"]["shape"]}
    assert hatched == {"load", "warmup", "log"}


def test_learning_curves_need_two_points() -> None:
    flat = [replace(run, loss_by_epoch=(0.5,), accuracy_by_epoch=((1.0, 0.99),)) for run in two_rungs(2)]
    titles = [block.title for block in walk(report_sections(Selection(runs=flat))) if isinstance(block, Plot)]
    assert "Training loss" not in titles
    curved = [block for block in walk(report_sections(Selection(runs=two_rungs(2)))) if isinstance(block, Plot)]
    loss = next(block for block in curved if block.title == "Training loss")
    assert texts(loss.table) == [["1", "0.5000", "2"], ["2", "0.2500", "2"]]
    assert loss.figure["data"][0]["x"] == [1.0, 2.0, None, 1.0, 2.0, None], "the pen is lifted between seeds"


def test_a_repeated_seed_counts_once_and_the_newest_timed_run_stands_for_it() -> None:
    early, timed = of("mnist/8-final", 0, 0.97, 14.0, 1), of("mnist/8-final", 0, 0.99, 15.0, 5)
    shared = of("mnist/8-final", 0, 0.98, 20.0, 9, timing_valid=False)
    assert run_sets([early, shared, timed]) == [[timed]]


def test_runs_of_a_newer_software_are_shown_beside_the_old_ones() -> None:
    """Upgrade torch and train the same seeds again: neither hides the other, and they are not mixed."""
    old = two_rungs(3)
    new = [
        replace(run, id=run.id[::-1], environment=make_environment(torch="3.0"), phases={**run.phases, "train": 1.0})
        for run in old
    ]
    selection = Selection(runs=[*old, *new])
    assert [len(own) for own in run_sets(selection.runs)] == [3, 3, 3, 3]
    table = tables(report_sections(selection))["All recipes"]
    machines = [row[1] for row in texts(table)]
    assert machines == 2 * [
        "Example CPU, cpu, 2 threads, hotlap 0.1.0, torch 2.13.0",
        "Example CPU, cpu, 2 threads, hotlap 0.1.0, torch 3.0",
    ]
    assert [view.machine for view in ladder_views(selection)] == machines[:2]
    assert all(len({run.environment.torch for run in view.runs}) == 1 for view in ladder_views(selection))
    assert about(selection.runs).startswith("12 runs of 2 recipes on 1 machine,")
    titles = [section.title for section in report_sections(selection)[-2].sections]
    assert len(set(titles)) == 4
    _, found = comparison_section("mnist/7-narrower", "mnist/8-final", selection.runs)
    assert len(found) == 2, "versions are not compared with each other"


def test_times_of_two_processors_are_not_pooled() -> None:
    here = two_rungs(2)
    there = [replace(run, id=run.id[::-1], environment=make_environment(cpu="Another CPU")) for run in two_rungs(2)]
    selection = Selection(runs=[*here, *there])
    assert [len(own) for own in run_sets(selection.runs)] == [2, 2, 2, 2]
    assert [view.machine for view in ladder_views(selection)] == [
        "Example CPU, cpu, 2 threads",
        "Another CPU, cpu, 2 threads",
    ]
    assert len(machines_section(selection.runs).blocks[0].rows) == 2  # type: ignore[union-attr]
    assert about(selection.runs).startswith("8 runs of 2 recipes on 2 machines, on 2026-03-01 (UTC)")
    titles = [section.title for section in report_sections(selection)[-2].sections]
    assert len(set(titles)) == 4, "headings tell the sets apart"


def test_accuracies_of_a_cluster_are_one_set() -> None:
    """Where no time counts, the report pools what ``hotlap runs --summary`` pools."""
    nodes = [make_environment(cpu=f"CPU {node}") for node in "AAB"]
    runs = [of("mnist/8-final", k, 0.99, 9.0, k, timing_valid=False, environment=env) for k, env in enumerate(nodes)]
    assert [len(own) for own in run_sets(runs)] == [3]
    section = report_sections(Selection(runs=runs))[0].sections[0]
    assert any(isinstance(block, Text) and block.text.startswith("2 kinds of proc") for block in section.blocks)


def test_a_changed_ladder_has_a_section_of_its_own_without_published_figures() -> None:
    changed = [replace(run, id=f"c{run.id}", recipe=run.recipe.with_changes({"epochs": 3})) for run in two_rungs(2)]
    views = ladder_views(Selection(runs=[*two_rungs(2), *changed]))
    assert [view.changes for view in views] == ["", "--set epochs=3"]
    assert len(views[0].rows) == 9 and len(views[1].rows) == 2
    section = report_sections(Selection(runs=changed))[0]
    assert section.title.endswith("with --set epochs=3")
    assert "published time" not in [column.title for column in tables([section])[section.title].columns]


def test_one_rung_is_no_ladder_unless_it_is_asked_for() -> None:
    alone = [of("mnist/8-final", 0, 0.99, 15.0, 0)]
    assert ladder_views(Selection(runs=alone)) == []
    assert len(ladder_views(Selection(runs=alone, ladders=frozenset({"mnist"})))) == 1


def test_gathering_from_the_store_and_from_records(tmp_path: Path, own_store: Path) -> None:
    with pytest.raises(Exception, match="no run store"):
        gather([])
    with Store() as store:
        store.add_all([*two_rungs(2), *hostile_runs()])
    assert len(gather([]).runs) == 6
    assert len(gather(["own/*"]).runs) == 2
    assert {run.recipe.name for run in gather(["mnist"]).runs} == {"mnist/7-narrower", "mnist/8-final"}
    assert gather(["mnist"]).ladders == {"mnist"}
    with pytest.raises(InputError, match=r"holds no run that matches 'mnist/0-initial'.*hotlap train"):
        gather(["mnist/0-initial"])
    with pytest.raises(InputError, match="hotlap runs"):
        gather(["own/x*"])
    changes = {"epochs": 3}
    changed = [replace(run, recipe=run.recipe.with_changes(changes)) for run in two_rungs(1)]
    write_ladder_record(tmp_path / "records" / "short", get_ladder("mnist"), changed, changes)
    found = gather([str(tmp_path / "records"), str(tmp_path / "records" / "short")])
    assert len(found.runs) == 2 and set(found.changes.values()) == {"--set epochs=3"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no records below"):
        gather([str(tmp_path / "empty")])


def test_runs_in_turn_are_compared_as_interleaved_pairs() -> None:
    section, found = comparison_section("mnist/7-narrower", "mnist/8-final", two_rungs())
    assert len(found) == 1
    assert found[0].startswith("mnist/8-final against mnist/7-narrower: accuracy +0.0")
    assert "2.13 times as fast" in found[0]
    assert found[0].endswith("over 6 interleaved pairs (95 % intervals; for a number of runs fixed beforehand).")
    assert section.blocks[0] == Text(found[0], quotable=True)
    plots = [block for block in walk([section]) if isinstance(block, Plot)]
    assert [plot.title for plot in plots] == ["Difference of accuracy", "Ratio of times"]
    assert len(plots[0].table.rows) == 6
    assert plots[1].figure["data"][1]["x"] == [pytest.approx(2.13, abs=0.01)]


def test_runs_apart_are_not_called_interleaved_and_marks_are_said() -> None:
    a = [of("mnist/7-narrower", seed, 0.99, 30.0, seed) for seed in range(4)]
    b = [of("mnist/8-final", seed, 0.991, 15.0, 100 + seed, timing_valid=False) for seed in range(5)]
    pairs, in_turn = pair_up([*a, *b], a[0].recipe.digest)
    assert len(pairs) == 4 and not in_turn
    _, found = comparison_section("mnist/7-narrower", "mnist/8-final", [*a, *b])
    assert "4 pairs of one seed that are not known to have run in turn (95 % intervals; for a number of" in found[0]
    assert "‡" in found[0] and "†" not in found[0]
    _, stopping = comparison_section("mnist/8-final", HOSTILE, [of("mnist/8-final", 0, 0.99, 9.0, 3), *hostile_runs()])
    assert "†" in stopping[0]


def _short(name: str, seed: int, began_s: float, digits: int = 6) -> Run:
    """A run of a fifth of a second that began so many seconds after a moment, kept to so many digits of a second."""
    run = of(name, seed, 0.99 + seed / 1e4, 0.1, 0)
    moment = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=math.floor(began_s * 10**digits) / 10**digits)
    phases = dict.fromkeys(PHASES, 0.0) | {"train": 0.1, "load": 0.1}
    return replace(run, id=f"{name}{seed}", phases=phases, started_at=moment.isoformat())


@pytest.mark.parametrize("digits", [6, 0])
def test_runs_in_turn_are_known_within_a_second(digits: int) -> None:
    """A B B A …, five a second; runs of the first versions, with whole seconds, by the order in the store."""
    runs = []
    for seed in range(6):
        names = ["mnist/7-narrower", "mnist/8-final"][:: 1 if seed % 2 == 0 else -1]
        runs += [_short(name, seed, 0.4 * seed + 0.2 * at, digits) for at, name in enumerate(names)]
    pairs, in_turn = pair_up(runs, runs[0].recipe.digest)
    assert (in_turn, [a.seed for a, _ in pairs]) == (True, [*range(6)])
    assert {a.recipe.name for a, _ in pairs} == {"mnist/7-narrower"}
    _, found = comparison_section("mnist/7-narrower", "mnist/8-final", runs)
    assert "over 6 interleaved pairs" in found[0]
    # All of the one and then all of the other are not in turn, however short.
    apart = [_short(name, seed, 0.6 * at + 0.2 * seed) for at, name in enumerate(names[::-1]) for seed in range(3)]
    assert not pair_up(apart, apart[0].recipe.digest)[1]


@pytest.mark.parametrize(("gap_s", "expected"), [(1.0, True), (59.0, True), (3600.0, False), (7 * 86400.0, False)])
def test_runs_with_days_between_them_are_not_in_turn(gap_s: float, expected: bool) -> None:
    runs = [_short("mnist/7-narrower", 0, 0.0), _short("mnist/8-final", 0, gap_s)]
    assert pair_up(runs, runs[0].recipe.digest)[1] is expected
    _, found = comparison_section("mnist/7-narrower", "mnist/8-final", runs)
    assert ("interleaved" in found[0]) is expected


def test_of_several_pairs_of_a_seed_the_newest_counts_whose_times_count() -> None:
    runs = [_short(name, 0, at) for at, name in enumerate(["mnist/7-narrower", "mnist/8-final"] * 3)]
    runs = [replace(run, id=str(at), timing_valid=at < 4) for at, run in enumerate(runs)]
    [(a, b)], _ = pair_up(runs, runs[0].recipe.digest)
    assert (a.id, b.id) == ("2", "3")


def test_speed_ups_over_times_that_do_not_count_are_marked() -> None:
    runs = [replace(run, timing_valid=run.recipe.name != "mnist/7-narrower") for run in two_rungs()]
    sections = report_sections(Selection(runs=runs))
    row = next(row for row in texts(tables(sections)[get_ladder("mnist").title]) if row[0] == "8-final")
    assert "‡" not in row[7] and row[9] == "2.13× ‡"
    plot = next(block for block in walk(sections) if isinstance(block, Plot) and block.title == "Time, rung by rung")
    bars = plot.figure["data"][0]
    assert bars["marker"]["pattern"]["shape"] == ["/"]
    assert bars["hovertext"][0].endswith("as fast as the one before ‡")
    assert texts(plot.table)[-1][3] == "2.13× ‡"
    assert any("‡" in note for note in plot.table.notes) and "hatched bars do not count" in plot.summary


@pytest.mark.parametrize(("seeds", "kind"), [(6, "95 % interval"), (4, "range")])
def test_legends_call_a_range_a_range(seeds: int, kind: str) -> None:
    sections = report_sections(Selection(runs=two_rungs(seeds)))
    plots = {block.title: block for block in walk(sections) if isinstance(block, Plot)}
    assert plots["Time, rung by rung"].figure["data"][-1]["name"] == f"measured, {kind}"
    of_both = next(t["name"] for t in plots["Time and accuracy"].figure["data"] if t["name"].startswith("measured"))
    assert of_both == "measured, 95 % intervals" + (", of times range" if kind == "range" else "")
    section, _ = comparison_section("mnist/7-narrower", "mnist/8-final", two_rungs(seeds))
    of_pairs = {block.title: block.figure["data"][1]["name"] for block in walk([section]) if isinstance(block, Plot)}
    assert of_pairs == {"Difference of accuracy": "in all, 95 % interval", "Ratio of times": f"in all, {kind}"}


def test_what_cannot_be_compared() -> None:
    runs = two_rungs(2)
    with pytest.raises(InputError, match=r"unknown recipe.*did you mean 'mnist/8-final'"):
        comparison_section("mnist/7-narrower", "mnist/8-finale", runs)
    with pytest.raises(InputError, match="are one recipe"):
        comparison_section("mnist/8-final", get_recipe("mnist/8-final").digest[:8], runs)
    with pytest.raises(InputError, match="no seed was run with both"):
        comparison_section("mnist/7-narrower", "mnist/8-final", [runs[0], of("mnist/8-final", 7, 0.99, 9.0, 3)])
    changed = replace(runs[1], id="c", recipe=runs[1].recipe.with_changes({"epochs": 3}))
    with pytest.raises(InputError, match=r"stands for 2 recipes.*digest"):
        comparison_section("mnist/7-narrower", "mnist/8-final", [*runs, changed])


def test_predictions_show_classes_confusions_and_pictures() -> None:
    names = ["cat", "<dog>", "%{z}", "ape"]
    section = predictions_section(*predictions(), names, title="Predictions of m")
    assert isinstance(section.blocks[0], Text)
    assert section.blocks[0].text.startswith("38 of 40 images are taken for what they are: 95.00 % [")
    found = tables([section])
    assert [row[:3] for row in texts(found["Classes"])][:2] == [["cat", "10", "9"], ["<dog>", "10", "9"]]
    assert ["cat", "<dog>", "1", "10.00 %"] in texts(found["Most confused pairs"])
    plot = next(block for block in section.blocks if isinstance(block, Plot))
    assert plot.figure["data"][0]["z"][0] == [None, 0.1, 0.0, 0.0]
    assert plot.figure["layout"]["xaxis"]["ticktext"][1] == "&lt;dog&gt;"
    assert texts(plot.table)[0] == ["cat", "9", "1", "0", "0"]
    wrong, unsure = (block for block in section.blocks if isinstance(block, Gallery))
    assert wrong.pictures[0].alt == "test image 0: cat, taken for <dog> (99.0 %)"
    assert unsure.pictures[0].alt == "test image 1: <dog>, taken for cat (25.0 %)"
    png = base64.b64decode(wrong.pictures[0].source.removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), predictions()[2][0])
    text = render("t", [section], plots=False)
    assert "&lt;dog&gt;" in text and "<dog>" not in text
    Page(text)


@pytest.mark.parametrize(("classes", "shape"), [(1, ()), (3, (1,)), (3, (3,)), (120, (3,))])
def test_predictions_of_any_number_of_classes_and_channels(classes: int, shape: tuple[int, ...]) -> None:
    n = 2 * classes
    labels = np.arange(n, dtype=np.uint8) % classes
    images = np.zeros((n, 4, 4, *shape), np.uint8)
    section = predictions_section(np.eye(classes)[labels], labels, images, [str(c) for c in range(classes)])
    assert section.title == "Predictions"
    assert [block.title for block in section.blocks if isinstance(block, Gallery)] == ["Least confident"]
    render("t", [section], plots=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, y, x: (p[:0], y[:0], x[:0]), "no images"),
        (lambda p, y, x: (p[:, :3], y, x), "must be 40 × 4"),
        (lambda p, y, x: (np.where(p > 0.5, np.nan, p), y, x), "no finite number"),
        (lambda p, y, x: (p, y + 1, x), r"labels must be 0\.\.3, these are 1\.\.4"),
        (lambda p, y, x: (p, y.astype(float), x), "whole numbers"),
        (lambda p, y, x: (p, y, x.astype(float)), "uint8"),
        (lambda p, y, x: (p, y, x[:5]), "images must be 40"),
    ],
)
def test_predictions_that_do_not_fit_are_refused(change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        predictions_section(*change(*predictions()), ["a", "b", "c", "d"])


def test_equal_runs_make_equal_pages(sections: list[Section], page: str) -> None:
    again = report_sections(Selection(runs=[*two_rungs(), *hostile_runs()]))
    assert render(f"report {HOSTILE}", again, lead=["lead & more"], plots=False) == page


def test_the_plot_library_is_taken_in_once(sections: list[Section]) -> None:
    whole = render("t", sections)
    assert len(whole) > 3_000_000
    assert whole.count("plotly.js v") == 1


@pytest.mark.parametrize("library", ["plotly.graph_objects", "jinja2"])
def test_a_missing_library_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=r"needs plotly and jinja2 → pip install 'hotlap\[report\]'"):
        render("t", report_sections(Selection(runs=two_rungs(1))), plots=False)


def test_figures_are_checked_and_numbers_that_json_lacks_refused(sections: list[Section]) -> None:
    with pytest.raises(ValueError, match="wdith"):
        figures.figure([{"type": "bar", "wdith": 3}], {})
    drawn = figures.figure([figures.points([math.nan], [1], ["t"])], {})
    plot = Plot(title="t", figure=drawn, height=9, summary="s", table=tables(sections)["All recipes"])
    with pytest.raises(ValueError, match="JSON"):
        render("t", [Section(title="s", blocks=[plot])], plots=False)


@pytest.mark.parametrize("span", [(0.001, 0.002), (0.5, 40.0), (0.01, 90_000.0), (5.0, 5.0)])
def test_log_axes_have_a_few_marks(span: tuple[float, float]) -> None:
    axis = figures.log_axis(span)
    assert 1 <= len(axis["tickvals"]) <= 9
    assert all("e" not in text for text in axis["ticktext"])


def test_long_names_are_cut_at_the_side_of_plots_only() -> None:
    assert len(figures.short("x" * 50)) == figures.LONGEST_NAME
    assert figures.literal("<b>") == "&lt;b&gt;"


def test_lineages_appear_where_they_bring_ladders_together() -> None:
    lineage = get_ladder("cifar10")
    names = [step.recipe.name for step in resolve(lineage)]
    origins = {name.partition("/")[0]: name for name in names}
    runs = [of(name, 0, 0.94, 100.0, minute) for minute, name in enumerate(origins.values())]
    assert "cifar10" in {view.ladder.name for view in ladder_views(Selection(runs=runs))}
    assert "cifar10" not in {view.ladder.name for view in ladder_views(Selection(runs=runs[:1]))}


def test_recipes_of_no_ladder_come_last_by_name() -> None:
    strange = [of("", 0, 0.99, 1.0, 0, recipe=make_recipe(name, batch_size=9)) for name in ("b", "a")]
    strange[1] = replace(strange[1], recipe=make_recipe("a", batch_size=8))
    sets = run_sets([*strange, *two_rungs(1)])
    assert [own[0].recipe.name for own in sets] == ["mnist/7-narrower", "mnist/8-final", "a", "b"]


def test_reports_import_no_torch() -> None:
    code = "import sys, hotlap.report.html.page, hotlap.report.html.predictions_section, hotlap.report.plot_files\n"
    code += "import hotlap.report.html.comparison_section; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
