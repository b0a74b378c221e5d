"""Two recipes against each other: the sentence to quote, and their difference with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from hotlap.errors import InputError, unknown_name
from hotlap.ladders import names_of
from hotlap.report.comparison_table import few_or_lost, points_text, ratio_text, sentence
from hotlap.report.formats import percent, seconds
from hotlap.report.html import figures
from hotlap.report.html.parts import Block, Cell, Column, Plot, Row, Section, Table, Text
from hotlap.report.html.recipe_section import overview
from hotlap.report.html.selection import machine_text, setting_of
from hotlap.result import Run
from hotlap.stats.comparison import MeanDifference, TimeRatio
from hotlap.stats.intervals import MEDIAN_EXACT_N
from hotlap.stats.pairs import Comparison, RunPair, compare_runs, finished_pairs
from hotlap.stats.summary import one_of_each_seed

FEWEST_IN_TURN = 3
"""Pairs run in turn that are needed to leave the other pairs out: fewer have no interval."""

MOST_BETWEEN_S = 60.0
"""Seconds between two runs up to which they count as made in turn; as long as the first took, where that is longer."""


def comparison_section(a: str, b: str, runs: Sequence[Run]) -> tuple[Section, list[str]]:
    """Compare two recipes by the runs that they made with the same seeds, on each machine and software that has some.

    How the runs came about is not stored, so intervals and p are those of a number of runs that was fixed before.

    Args:
        a: name of the baseline, or how its digest begins.
        b: name of the candidate.
        runs: of these and of any other recipes; those that began at the same time, oldest first.

    Returns:
        The section, and its sentences.

    Raises:
        InputError: no runs of one of them, both are one, or no seed was run with both on one machine.
    """
    of_a, of_b = _find(a, runs), _find(b, runs)
    digests = of_a[0].recipe.digest, of_b[0].recipe.digest
    if digests[0] == digests[1]:
        raise InputError(f"{a} and {b} are one recipe (digest {digests[0][:12]})", "compare two others")
    blocks: list[Block] = []
    sentences: list[str] = []
    for setting in dict.fromkeys(map(setting_of, of_a)):
        here = [run for run in runs if run.recipe.digest in digests and setting_of(run) == setting]
        pairs, in_turn = pair_up(here, digests[0])
        if not finished_pairs(*_sides(pairs)):
            continue
        figures_ = compare_runs(*_sides(pairs))
        text = comparison_sentence(figures_, in_turn=in_turn)
        sentences.append(text)
        blocks += [Text(text, quotable=True), *_blocks(figures_, pairs), Text(f"Machine: {machine_text(here, of_a)}.")]
    if not sentences:
        name_a, name_b = of_a[0].recipe.name, of_b[0].recipe.name
        raise InputError(f"no seed was run with both {name_a} and {name_b} on one machine", "hotlap compare A B")
    return Section(title=f"{of_b[0].recipe.name} against {of_a[0].recipe.name}", blocks=blocks), sentences


def comparison_sentence(compared: Comparison, *, in_turn: bool) -> str:
    """The sentence to quote; runs that were not made in turn are not called interleaved."""
    a, b, difference, ratio = compared.a, compared.b, compared.difference, compared.ratio
    assert a is not None and b is not None and difference is not None and ratio is not None
    caveats = ["for a number of runs fixed beforehand", *few_or_lost(a, b, ratio)]
    if in_turn:
        text = sentence(a.recipe, b.recipe, difference, ratio, caveats=caveats)
    else:
        text = (
            f"{b.recipe} against {a.recipe}: accuracy {points_text(difference)}; {ratio_text(ratio)}, over "
            f"{ratio.pairs} pairs of one seed that are not known to have run in turn "
            f"({'; '.join(('95 % intervals', *caveats))})."
        )
    if not (a.timing_valid and b.timing_valid):
        text += " ‡ The machine was shared during at least one run: the times do not count."
    if a.stops_on_test or b.stops_on_test:
        text += " † At least one of them stops on test accuracy, which flatters it."
    return text


def pair_up(runs: Sequence[Run], digest: str) -> tuple[list[RunPair], bool]:
    """Pair runs of one seed.

    Pairs of runs that followed each other within ``MOST_BETWEEN_S`` are taken alone where there are enough: what slows
    the machine for a while slows both of such a pair.

    Args:
        runs: of two recipes on one machine and the same data; those that began at the same time, oldest first.
        digest: of the baseline.

    Returns:
        The pairs in the order of their seeds, the baseline's run first, and whether they were run in turn.
    """
    adjacent: dict[int, RunPair] = {}
    for one, other in pairwise(sorted(runs, key=lambda run: run.began)):
        if one.seed == other.seed and one.recipe.digest != other.recipe.digest and _follows(one, other):
            pair = (one, other) if one.recipe.digest == digest else (other, one)
            # Of several the newest whose times count, as everywhere.
            if one.seed not in adjacent or _timed(pair) >= _timed(adjacent[one.seed]):
                adjacent[one.seed] = pair
    a = one_of_each_seed(run for run in runs if run.recipe.digest == digest)
    by_seed = {run.seed: run for run in one_of_each_seed(run for run in runs if run.recipe.digest != digest)}
    pairs = [(run, by_seed[run.seed]) for run in a if run.seed in by_seed]
    if len(adjacent) >= min(FEWEST_IN_TURN, len(pairs)) and adjacent:
        return [adjacent[seed] for seed in sorted(adjacent)], True
    return pairs, False


def _find(name: str, runs: Sequence[Run]) -> list[Run]:
    wanted = names_of(name)
    found = [run for run in runs if run.recipe.name in wanted]
    if not found and len(name) >= 6:
        found = [run for run in runs if run.recipe.digest.startswith(name.lower())]
    if not found:
        names = dict.fromkeys(run.recipe.name for run in runs)
        raise unknown_name("recipe of these runs", name, names, fix="see them: hotlap runs --summary")
    if len(digests := dict.fromkeys(run.recipe.digest for run in found)) > 1:
        raise InputError(
            f"{name} stands for {len(digests)} recipes that differ",
            f"name one by its digest: {', '.join(digest[:8] for digest in digests)}",
        )
    return found


def _timed(pair: RunPair) -> bool:
    return all(run.timing_valid for run in pair)


def _follows(one: Run, other: Run) -> bool:
    """Whether a run began soon after one before it had ended."""
    took = sum(one.phases.values())
    return (other.began - one.began).total_seconds() - took <= max(MOST_BETWEEN_S, took)


def _sides(pairs: Sequence[RunPair]) -> tuple[list[Run], list[Run]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


def _blocks(compared: Comparison, pairs: Sequence[RunPair]) -> list[Block]:
    done = finished_pairs(*_sides(pairs))
    assert compared.difference is not None and compared.ratio is not None
    table = _pairs_table(done)
    return [
        overview(_sides(pairs), "Runs that are compared"),
        Row([_difference_plot(compared.difference, done, table), _ratio_plot(compared.ratio, done, table)]),
    ]


def _pairs_table(done: Sequence[RunPair]) -> Table:
    columns = [Column("seed"), Column("accuracy A"), Column("accuracy B"), Column("difference")]
    columns += [Column("time A"), Column("time B"), Column("times as fast")]
    rows = [
        [
            Cell(str(a.seed), a.seed),
            Cell(percent(a.accuracy), a.accuracy),
            Cell(percent(b.accuracy), b.accuracy),
            Cell(f"{points:+.2f} points", points),
            Cell(seconds(a.certified_s), a.certified_s),
            Cell(seconds(b.certified_s), b.certified_s),
            Cell(f"{a.certified_s / b.certified_s:.3g}", a.certified_s / b.certified_s),
        ]
        for a, b in done
        for points in [_points(a, b)]
    ]
    name_a, name_b = (run.recipe.name for run in done[0])
    return Table(caption=f"Pairs: A is {name_a}, B is {name_b}", columns=columns, rows=rows)


def _points(a: Run, b: Run) -> float:
    """Difference in percentage points of accuracy."""
    return 100 * ((b.accuracy or 0.0) - (a.accuracy or 0.0))


def _difference_plot(difference: MeanDifference, done: Sequence[RunPair], table: Table) -> Plot:
    bounds = None if difference.ci95 is None else (100 * difference.ci95[0], 100 * difference.ci95[1])
    each = [(_points(a, b), f"seed {a.seed}: {_points(a, b):+.2f} points") for a, b in done]
    return _interval_plot(
        "Difference of accuracy",
        each,
        (100 * difference.difference, bounds, points_text(difference)),
        figures.plain_axis("percentage points, B − A"),
        0.0,
        table,
        "95 % interval",
    )


def _ratio_plot(ratio: TimeRatio, done: Sequence[RunPair], table: Table) -> Plot:
    ratios = [(a.seed, a.certified_s / b.certified_s) for a, b in done]
    each = [(value, f"seed {seed}: {value:.3g} times as fast") for seed, value in ratios]
    return _interval_plot(
        "Ratio of times",
        each,
        (ratio.ratio, ratio.ci95, ratio_text(ratio)),
        figures.plain_axis("time of A / time of B", ticksuffix="×"),
        1.0,
        table,
        "range" if ratio.ci95 is not None and ratio.pairs < MEDIAN_EXACT_N else "95 % interval",
    )


def _interval_plot(
    title: str,
    each: Sequence[tuple[float, str]],
    middle: tuple[float, figures.Interval | None, str],
    axis: dict[str, Any],
    nothing: float,
    table: Table,
    kind: str,
) -> Plot:
    """Every pair above, what follows from them below, and a line where there would be no difference."""
    centre, bounds, text = middle
    pairs = figures.points(
        [value for value, _ in each],
        [0] * len(each),
        [figures.hover(line) for _, line in each],
        name="each pair",
        marker={"color": figures.GREY, "size": 8, "opacity": 0.8},
    )
    found = figures.points(
        [centre],
        [1],
        [figures.hover(text)],
        name=f"in all, {kind}",
        marker={"color": figures.MEASURED, "size": 11, "symbol": "diamond"},
        error_x=figures.error_bars([centre], [bounds], color=figures.MEASURED),
    )
    line = figures.target_line(nothing, vertical=True)
    line["line"] = {**line["line"], "color": figures.GREY}
    values = [*(value for value, _ in each), centre, *(bounds or ()), nothing]
    room = 0.06 * (max(values) - min(values)) or 0.05
    layout = figures.layout(
        xaxis={**axis, "range": [min(values) - room, max(values) + room]},
        yaxis=figures.bare_axis(range=[1.6, -0.6]),
        shapes=[line],
    )
    return Plot(
        title=title, figure=figures.figure([pairs, found], layout), height=220, summary=f"{title}: {text}.", table=table
    )
