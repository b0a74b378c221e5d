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
from hotlap.report.html.selection import first_of_each_seed, machine_of, machine_text
from hotlap.result import Run
from hotlap.stats.comparison import MeanDifference, TimeRatio
from hotlap.stats.pairs import Comparison, RunPair, compare_runs, finished_pairs

FEWEST_IN_TURN = 3
"""Pairs run in turn that are needed to leave the other pairs out: fewer have no interval."""


def comparison_section(a: str, b: str, runs: Sequence[Run]) -> tuple[Section, list[str]]:
    """Compare two recipes by the runs that they made with the same seeds, on each machine that has some.

    Args:
        a: name of the baseline, or how its digest begins.
        b: name of the candidate.
        runs: of these and of any other recipes.

    Returns:
        The section, and its sentences.

    Raises:
        InputError: no runs of one of them, both are one, or no seed was run with both on one machine.
    """
    of_a, of_b = _find(a, runs), _find(b, runs)
    if of_a[0].recipe.digest == of_b[0].recipe.digest:
        raise InputError(f"{a} and {b} are one recipe (digest {of_a[0].recipe.digest[:12]})", "compare two others")
    blocks: list[Block] = []
    sentences: list[str] = []
    for machine in dict.fromkeys(map(_where, of_a)):
        here_a = [run for run in of_a if _where(run) == machine]
        here_b = [run for run in of_b if _where(run) == machine]
        pairs, in_turn = pair_up(here_a, here_b)
        if not finished_pairs(*_sides(pairs)):
            continue
        figures_ = compare_runs(*_sides(pairs))
        text = comparison_sentence(figures_, in_turn=in_turn)
        sentences.append(text)
        blocks += [Text(text, quotable=True), *_blocks(figures_, pairs), Text(f"Machine: {machine_text(here_a[0])}.")]
    if not sentences:
        name_a, name_b = of_a[0].recipe.name, of_b[0].recipe.name
        raise InputError(f"no seed was run with both {name_a} and {name_b} on one machine", "hotlap compare A B")
    return Section(title=f"{of_b[0].recipe.name} against {of_a[0].recipe.name}", blocks=blocks), sentences


def comparison_sentence(compared: Comparison, *, in_turn: bool) -> str:
    """The sentence to quote; runs that were not made in turn are not called interleaved."""
    a, b, difference, ratio = compared.a, compared.b, compared.difference, compared.ratio
    assert a is not None and b is not None and difference is not None and ratio is not None
    caveats = few_or_lost(a, b, ratio)
    if in_turn:
        text = sentence(a.recipe, b.recipe, difference, ratio, caveats=caveats)
    else:
        text = (
            f"{b.recipe} against {a.recipe}: accuracy {points_text(difference)}; {ratio_text(ratio)}, over "
            f"{ratio.pairs} pairs of one seed that were not run in turn ({'; '.join(('95 % intervals', *caveats))})."
        )
    if not (a.timing_valid and b.timing_valid):
        text += " ‡ The machine was shared during at least one run: the times do not count."
    if a.stops_on_test or b.stops_on_test:
        text += " † At least one of them stops on test accuracy, which flatters it."
    return text


def pair_up(a: Sequence[Run], b: Sequence[Run]) -> tuple[list[RunPair], bool]:
    """Pair runs of one seed.

    Pairs of runs that followed each other are taken alone where there are enough: what slows the machine for a while
    slows both of such a pair.

    Args:
        a: runs of the baseline on one machine and the same data.
        b: runs of the candidate there.

    Returns:
        The pairs in the order of their seeds, and whether they were run in turn.
    """
    digest = a[0].recipe.digest if a else ""
    order = sorted([*a, *b], key=lambda run: run.started_at)
    adjacent: dict[int, RunPair] = {}
    for one, other in pairwise(order):
        if one.seed == other.seed and one.recipe.digest != other.recipe.digest:
            adjacent.setdefault(one.seed, (one, other) if one.recipe.digest == digest else (other, one))
    by_seed = {run.seed: run for run in first_of_each_seed(b)}
    pairs = [(run, by_seed[run.seed]) for run in first_of_each_seed(a) if run.seed in by_seed]
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


def _where(run: Run) -> tuple[object, ...]:
    return *machine_of(run), run.data_digest


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
    )


def _interval_plot(
    title: str,
    each: Sequence[tuple[float, str]],
    middle: tuple[float, figures.Interval | None, str],
    axis: dict[str, Any],
    nothing: float,
    table: Table,
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
        name="in all, 95 % interval",
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
