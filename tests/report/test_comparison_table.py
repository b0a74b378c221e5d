from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from factories import make_recipe, make_run
from hotlap.errors import InputError
from hotlap.recipe import part
from hotlap.report.comparison_table import about, comparison_json, comparison_table, evidence_text, pair_line, quotable
from hotlap.result import Run
from hotlap.stats.pairs import Comparison, compare_runs
from hotlap.stats.sequential import monitor

A, B = make_recipe("a"), make_recipe("b", optimizer=part("sgd", lr=0.1))
WIDE = make_recipe("wide", batch_size=512)


def runs_of(recipe: Any, accuracies: list[float | None], seconds: float = 10.0, **changes: Any) -> list[Run]:
    return [
        make_run(seed=seed, accuracy=accuracy, certified_s=seconds, recipe=recipe, **changes)
        for seed, accuracy in enumerate(accuracies)
    ]


SEVEN = [0.990, 0.9904, 0.9908, 0.9901, 0.9903, 0.9906, 0.9907]
BETTER = [0.991, 0.9915, 0.9917, 0.9912, 0.9914, 0.9916, 0.9916]


said = quotable


def shown(figures: Comparison) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(comparison_table(("a", "b"), figures))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_the_sentence_says_that_it_is_paired() -> None:
    assert said(compare_runs(runs_of(A, [*SEVEN]), runs_of(B, [*BETTER], 8.0))) == (
        "b against a: accuracy +0.101 points [+0.093, +0.110], p = 9.4e-08 (paired t, 7 pairs); "
        "1.25 times as fast [1.25, 1.25], over 7 interleaved pairs (95 % intervals)."
    )


def test_the_sentence_says_that_it_is_welchs() -> None:
    text = said(compare_runs(runs_of(A, [*SEVEN]), runs_of(WIDE, [*BETTER])))
    assert text.startswith("wide against a: accuracy +0.101 points [+0.069, +0.134], p = ")
    assert "(Welch's t, 7 and 7 runs)" in text


def test_the_sentence_of_what_is_not_resolved_says_how_many_pairs_would() -> None:
    mixed = [0.991, 0.9901, 0.9912, 0.9899, 0.9905, 0.9903, 0.9908]
    text = said(compare_runs(runs_of(A, [*SEVEN]), runs_of(B, [*mixed])))
    assert "(paired t, 7 pairs), unresolved (about " in text
    assert " pairs would settle a difference of this size)" in text
    text = said(compare_runs(runs_of(A, [*SEVEN]), runs_of(WIDE, [*mixed])))
    assert " runs of each would settle a difference of this size)" in text
    assert "points (too few pairs for an interval); 1 times" in said(
        compare_runs(runs_of(A, [0.99]), runs_of(B, [0.991]))
    )


def test_the_sentence_of_looks_says_so() -> None:
    text = said(compare_runs(runs_of(A, [*SEVEN]), runs_of(B, [*BETTER]), alpha=0.05))
    assert "(paired, 7 pairs); 1 times as fast" in text
    assert "(intervals: 0.95 for accuracy, at all looks together, 0.95 for the ratio of times)" in text
    few = said(compare_runs(runs_of(A, SEVEN[:2]), runs_of(B, BETTER[:2]), alpha=0.05))
    assert "points, p = 1 (paired, 2 pairs), unresolved; " in few
    assert "inf" not in few
    equal = said(compare_runs(runs_of(A, [0.9] * 3), runs_of(B, [0.85] * 3), alpha=0.05))
    assert "p = 1 (paired, 3 pairs), unresolved; " in equal


def test_the_table_shows_both_sides_and_their_difference() -> None:
    text = shown(compare_runs(runs_of(A, [*SEVEN]), runs_of(B, [*BETTER], 8.0), alpha=0.05))
    for expected in ("99.04 % ± 0.03", "99.14 % ± 0.02", "10.0 s [10.0, 10.0]", "8.00 s [8.00, 8.00]"):
        assert expected in text
    assert "difference: +0.101 points" in text
    assert "speed: 1.25 times as fast [1.25, 1.25]" in text
    assert "to 1 for a difference; 20 to 1 settles it" in text


def test_the_table_of_a_comparison_that_has_just_begun() -> None:
    nothing = shown(compare_runs([], []))
    assert "│ a      │    0 │        – │              – │" in nothing
    text = shown(compare_runs(runs_of(A, [0.99, None, 0.98]), runs_of(B, [0.97, 0.96], timing_valid=False), alpha=0.1))
    for expected in ("2 + 1 failed", "10.0 s ‡", "‡ times not valid", "nothing is settled before 5 pairs"):
        assert expected in text
    early = shown(compare_runs(runs_of(A, SEVEN[:3]), runs_of(B, BETTER[:3])))
    assert "too few for an interval" in early


def test_evidence_is_written_as_odds() -> None:
    assert evidence_text(monitor([0.0] * 8)) == "evidence so far: 1 to 1 for a difference; 20 to 1 settles it"
    assert "over a million to 1" in evidence_text(monitor([0.1, 0.1001] * 8, alpha=0.01))
    assert "100 to 1 settles it" in evidence_text(monitor([0.1, 0.1001] * 8, alpha=0.01))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (0.99, 0.9912, "seed 3: a 99.00 % in 10.0 s, b 99.12 % in 8.00 s: +0.12 points, 1.25 times as fast"),
        (0.99, None, "seed 3: a 99.00 % in 10.0 s, b failed in 8.00 s"),
    ],
)
def test_a_pair_is_one_line(a: float, b: float | None, expected: str) -> None:
    pair = (
        make_run(seed=3, accuracy=a, certified_s=10.0, recipe=A),
        make_run(seed=3, accuracy=b, certified_s=8.0, recipe=B),
    )
    assert pair_line(*pair) == expected


def test_json_names_the_method_and_holds_no_infinity() -> None:
    for alpha in (None, 0.05):
        figures = compare_runs(runs_of(A, SEVEN[:2]), runs_of(B, BETTER[:2]), alpha=alpha)
        assert figures.a and figures.b and figures.difference and figures.ratio
        document = comparison_json(figures)
        again = json.loads(json.dumps(document, allow_nan=False))
        assert (again["accuracy"]["method"], again["accuracy"]["n_a"]) == ("paired", 2)
        assert again["sentence"] == said(figures)
        assert again["sequential"] is None if alpha is None else again["sequential"]["interval"] is None


def test_json_of_looks_holds_no_interval_of_a_number_fixed_before() -> None:
    fixed, looked = (
        comparison_json(compare_runs(runs_of(A, [*SEVEN]), runs_of(B, [*BETTER]), alpha=alpha))
        for alpha in (None, 0.05)
    )
    names = "ci95", "p", "runs_needed"
    assert all(fixed["accuracy"][name] is not None for name in names)
    assert all(looked["accuracy"][name] is None for name in names)
    assert looked["sequential"]["p"] > fixed["accuracy"]["p"]
    assert looked["accuracy"]["difference"] == fixed["accuracy"]["difference"]


def test_the_sentence_keeps_what_takes_from_it() -> None:
    shared = runs_of(B, [*BETTER], timing_valid=False)
    assert "; times not valid: the machine was shared)." in said(compare_runs(runs_of(A, [*SEVEN]), shared))
    few = said(compare_runs(runs_of(A, SEVEN[:4]), runs_of(B, BETTER[:4])))
    assert few.endswith("over 4 interleaved pairs (95 % intervals; that of the times only their range).")
    failing = runs_of(B, [*BETTER[:5], None, None])
    text = said(compare_runs(runs_of(A, [*SEVEN]), failing))
    assert "over 5 interleaved pairs" in text and "; 2 more left out, of which a run failed" in text
    stops = make_recipe("early", stop_at=0.99)
    text = said(compare_runs(runs_of(A, [*SEVEN]), runs_of(stops, [*BETTER])))
    assert text.endswith("; early stops on test accuracy, which flatters it).")


def test_few_pairs_with_one_difference_are_no_certainty() -> None:
    text = said(compare_runs(runs_of(A, [0.9] * 3), runs_of(B, [0.85] * 3)))
    assert "accuracy -5.000 points (too few pairs for an interval); " in text


@pytest.mark.parametrize(("needed", "text"), [(12, "about 12"), (10**6, "about 1000000"), (10**9, "over a million")])
def test_no_one_is_told_to_make_a_billion_runs(needed: int, text: str) -> None:
    assert about(needed) == text


def test_without_a_finished_pair_there_is_nothing_to_say() -> None:
    with pytest.raises(InputError, match="no pair of runs finished"):
        comparison_json(compare_runs(runs_of(A, [None]), runs_of(B, [0.99])))
