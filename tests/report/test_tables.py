from __future__ import annotations

import html.parser
import io
import re
from typing import Any

from rich.console import Console

from factories import make_recipe, make_run, make_runs
from hotlap.report.tables import run_set_html, run_set_table, runs_table, summary_line
from hotlap.result import RunSet
from hotlap.stats import summarise


def text_of(renderable: Any, width: int = 120) -> str:
    file = io.StringIO()
    Console(width=width, file=file).print(renderable)
    return file.getvalue()


def flat(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def test_the_summary_line_of_a_certified_run_set() -> None:
    runs = [make_run(seed=seed, accuracy=0.990 + seed % 3 / 1000, certified_s=15 + seed / 100) for seed in range(30)]
    assert summary_line(summarise(runs)) == (
        "99.10 % ± 0.03 (95 % interval, n = 30), 30 of 30 runs ≥ 99 %, mean ≥ 99 % (p < 0.001), "
        "certified time 15.1 s [15.1, 15.2]"
    )


def test_the_summary_line_says_what_was_not_shown() -> None:
    runs = [make_run(seed=seed, accuracy=accuracy) for seed, accuracy in enumerate((0.9885, 0.9905, 0.992))]
    line = summary_line(summarise(runs))
    assert "2 of 3 runs ≥ 99 %, mean ≥ 99 % not shown (p = 0.39)" in line
    assert line.endswith("certified time 15.0 s [15.0, 15.0] (range)")


def test_the_summary_line_names_every_reservation() -> None:
    recipe = make_recipe(stop_at=0.99)
    runs = [make_run(recipe=recipe, timing_valid=False), make_run(recipe=recipe, accuracy=None)]
    assert summary_line(summarise(runs)) == (
        "99.10 % (n = 1, too few for an interval), 1 of 2 runs ≥ 99 %, 1 failed, time 15.0 s; "
        "times not valid: the machine was shared; stops on test accuracy, which flatters it"
    )


def test_the_summary_line_without_target_or_without_finished_runs() -> None:
    assert summary_line(summarise(make_runs(2, recipe=make_recipe(target=None)))).startswith("99.")
    assert "≥" not in summary_line(summarise(make_runs(2, recipe=make_recipe(target=None))))
    assert summary_line(summarise([make_run(accuracy=None)])) == "no finished run, 0 of 1 run ≥ 99 %, 1 failed"


def test_a_short_run_set_is_shown_run_by_run() -> None:
    runs = [make_run(seed=11, accuracy=0.9912), make_run(seed=12, accuracy=0.98), make_run(seed=13, accuracy=None)]
    text = text_of(RunSet(tuple(runs)))
    assert re.search(r"11 │ +99.12 % │ +yes │ +15.0 s │", text)
    assert re.search(r"12 │ +98.00 % │ +no │", text)
    assert re.search(r"13 │ +– │ +failed │", text)
    assert "mnist/tiny" in text
    assert summary_line(summarise(runs)) in flat(text)


def test_a_long_run_set_is_shown_by_its_figures() -> None:
    runs = make_runs(30)
    text = text_of(run_set_table(runs))
    summary = summarise(runs)
    assert re.search(rf"runs ≥ 99 % +│ +{round(summary.reached_share * 30)} of 30 \(83 %\)", text)
    assert "2 threads" in text
    assert "seed" not in text
    assert text.count("\n") < 25
    assert max(map(len, text.splitlines())) <= 120


def test_runs_of_two_machines_are_summed_up_apart() -> None:
    text = flat(text_of(run_set_table([*make_runs(8), *make_runs(8, threads=4)])))
    assert "cpu (Example CPU), 2 threads, eager, fp32, data dddddddd: " in text
    assert "cpu (Example CPU), 4 threads, eager, fp32, data dddddddd: " in text
    assert "n = 8" in text and "n = 16" not in text


def test_no_runs() -> None:
    assert text_of(run_set_table([])).strip() == "no runs"
    assert run_set_html([]) == "<p>no runs</p>"


def test_markup_in_names_is_shown_as_it_is() -> None:
    run = make_run(recipe=make_recipe("[red]mine[/red] :smile: <b>&"))
    for table in (run_set_table([run]), runs_table([run])):
        assert "[red]mine[/red] :smile: <b>&" in text_of(table)


class _Reader(html.parser.HTMLParser):
    """Collects cells and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "br":
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_html_is_escaped_and_well_formed() -> None:
    run = make_run(seed=42, recipe=make_recipe("<script>alert(1)</script>"))
    text = RunSet((run,))._repr_html_()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    reader = _Reader()
    reader.feed(text)
    assert reader.open == []
    assert reader.cells[:2] == ["seed", "accuracy"]
    assert reader.cells[6:9] == ["42", "99.10 %", "yes"]
    assert "src=" not in text and "http" not in text


def test_html_of_a_long_run_set_shows_its_figures() -> None:
    reader = _Reader()
    reader.feed(run_set_html(make_runs(30)))
    assert reader.open == []
    assert reader.cells[:2] == ["runs", "30"]


def test_runs_table_lists_and_marks() -> None:
    runs = [
        make_run(seed=5, timing_valid=False, id="c0ffee00" + "0" * 24),
        make_run(seed=6, accuracy=None, recipe=make_recipe("cifar10/wide")),
    ]
    text = text_of(runs_table(runs), width=100)
    assert re.search(r"c0ffee00 │ 2026-01-02 03:09 │ mnist/tiny +│ +5 │ +99.10 % │ 15.0 s ‡ │ cpu ×2", text)
    assert re.search(r"cifar10/wide +│ +6 │ +failed │", text)
    assert "2 runs; ‡ times not valid" in text
    assert "‡" not in text_of(runs_table(runs[1:]))
    assert max(map(len, text_of(runs_table(runs), width=80).splitlines())) <= 80


def test_an_accuracy_that_misses_the_target_is_not_rounded_up_to_it() -> None:
    text = text_of(RunSet((make_run(accuracy=0.98996), make_run(seed=1, accuracy=0.99))))
    assert re.search(r"0 │ +98.996 % │ +no │", text)
    assert re.search(r"1 │ +99.00 % │ +yes │", text)


def test_few_equal_accuracies_are_no_certainty() -> None:
    line = summary_line(summarise([make_run(seed=seed, accuracy=1.0) for seed in range(2)]))
    assert line.startswith("100.00 % (n = 2, too few for an interval), 2 of 2 runs ≥ 99 %, certified time")
