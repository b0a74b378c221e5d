"""Comparisons of two recipes: the table while they run, a line per pair, and the sentence to quote."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from hotlap.errors import InputError
from hotlap.report.formats import percent, percent_with_interval, seconds, seconds_with_interval
from hotlap.report.tables import NOT_TIMED, RANGES, STOPS_ON_TEST, is_range
from hotlap.result import Run, Summary
from hotlap.stats.comparison import MeanDifference, TimeRatio
from hotlap.stats.intervals import MEDIAN_EXACT_N
from hotlap.stats.pairs import Comparison
from hotlap.stats.sequential import FEWEST_PAIRS, Monitored


def quotable(figures: Comparison) -> str:
    """Write a comparison as one sentence that can be quoted, with whatever takes from what it says.

    Raises:
        InputError: no pair of runs finished.
    """
    a, b, difference, ratio = figures.a, figures.b, figures.difference, figures.ratio
    if a is None or b is None or difference is None or ratio is None:
        raise InputError("no pair of runs finished, so there is nothing to compare", "hotlap runs --status failed")
    caveats = few_or_lost(a, b, ratio)
    if not (a.timing_valid and b.timing_valid):
        caveats.append(NOT_TIMED)
    caveats += [f"{side.recipe} {STOPS_ON_TEST}" for side in (a, b) if side.stops_on_test]
    return sentence(a.recipe, b.recipe, difference, ratio, figures.look, caveats)


def few_or_lost(a: Summary, b: Summary, ratio: TimeRatio) -> list[str]:
    """Say what few pairs or failed runs take from a comparison."""
    caveats = []
    if ratio.ci95 is not None and ratio.pairs < MEDIAN_EXACT_N:
        caveats.append("that of the times only their range")
    if lost := max(a.n + a.failed, b.n + b.failed) - ratio.pairs:
        caveats.append(f"{lost} more left out, of which a run failed")
    return caveats


def sentence(
    a: str,
    b: str,
    difference: MeanDifference,
    ratio: TimeRatio,
    look: Monitored | None = None,
    caveats: Sequence[str] = (),
) -> str:
    """Write a comparison as one sentence that can be quoted; points are percentage points of accuracy.

    Args:
        a: name of the baseline.
        b: name of the candidate.
        difference: of a number of runs fixed in advance; its interval is used unless ``look`` is given.
        ratio: of times.
        look: of a comparison that was looked at after every pair.
        caveats: what is to be said beside the kind of interval.
    """
    kind = "95 % intervals"
    if look is not None:
        kind = f"intervals: {1 - look.alpha:.4g} for accuracy, at all looks together, 0.95 for the ratio of times"
    return (
        f"{b} against {a}: accuracy {points_text(difference, look)}; {ratio_text(ratio)}, "
        f"over {ratio.pairs} interleaved pairs ({'; '.join((kind, *caveats))})."
    )


def points_text(difference: MeanDifference, look: Monitored | None = None) -> str:
    """Write a difference of accuracy with its interval, its p and how both were found.

    For example ``+0.040 points [+0.012, +0.068], p = 0.0095 (paired t, 10 pairs)``.
    """
    text = f"{100 * difference.difference:+.3f} points"
    interval, p = (look.interval, look.p) if look is not None else (difference.ci95, difference.p)
    if interval is None or p is None:
        return f"{text} (too few pairs for an interval)"
    if math.isfinite(interval[0]):  # few pairs, looked at after each, exclude nothing
        low, high = (100 * bound for bound in interval)
        text += f" [{low:+.3f}, {high:+.3f}]"
    text += f", p = {p:.2g} ({_method(difference, look)})"
    settled = look.settled if look is not None else difference.resolved
    if settled:
        return text
    if look is not None:
        # How many pairs it would take with looks is another question than the one that ``runs_needed`` answers.
        return f"{text}, unresolved"
    if not (needed := difference.runs_needed):
        return text
    unit = "pairs" if difference.method == "paired" else "runs of each"
    return f"{text}, unresolved ({about(needed)} {unit} would settle a difference of this size)"


def about(needed: int) -> str:
    """Write a number of runs that are needed; what nobody can make is not counted."""
    return f"about {needed}" if needed <= 1_000_000 else "over a million"


def _method(difference: MeanDifference, look: Monitored | None) -> str:
    if look is not None:
        return f"paired, {look.pairs} pairs"
    if difference.method == "paired":
        return f"paired t, {difference.n_a} pairs"
    return f"Welch's t, {difference.n_a} and {difference.n_b} runs"


def ratio_text(ratio: TimeRatio) -> str:
    """Write a ratio of times with its interval: ``1.24 times as fast [1.2, 1.27]``."""
    text = f"{ratio.ratio:.3g} times as fast"
    return text if ratio.ci95 is None else f"{text} [{ratio.ci95[0]:.3g}, {ratio.ci95[1]:.3g}]"


def evidence_text(look: Monitored) -> str:
    """Say how far a comparison that is looked at after every pair has come."""
    if look.pairs < FEWEST_PAIRS:
        return f"evidence so far: none, nothing is settled before {FEWEST_PAIRS} pairs"
    odds = f"{1 / look.p:.3g}" if look.p > 1e-6 else "over a million"
    return f"evidence so far: {odds} to 1 for a difference; {1 / look.alpha:.3g} to 1 settles it"


def pair_line(a: Run, b: Run) -> str:
    """Say what one pair showed, in one line."""

    def side(run: Run) -> str:
        result = "failed" if run.accuracy is None else percent(run.accuracy)
        return f"{run.recipe.name} {result} in {seconds(run.certified_s)}"

    text = f"seed {a.seed}: {side(a)}, {side(b)}"
    if a.accuracy is None or b.accuracy is None:
        return text
    return f"{text}: {100 * (b.accuracy - a.accuracy):+.2f} points, {a.certified_s / b.certified_s:.3g} times as fast"


def comparison_table(names: tuple[str, str], figures: Comparison) -> Any:
    """Show a comparison under way: a row per recipe, below them what is known of their difference.

    Args:
        names: of the baseline and of the candidate, for a side without runs.
        figures: so far.

    Returns:
        A rich renderable.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("recipe", overflow="fold")
    for heading in ("runs", "accuracy", "certified time"):
        table.add_column(heading, justify="right")
    for name, summary in zip(names, (figures.a, figures.b), strict=True):
        table.add_row(*map(Text, (name, *_cells(summary))))
    return Group(table, *map(Text, _below(figures)))


def _cells(summary: Summary | None) -> tuple[str, str, str]:
    if summary is None:
        return "0", percent(None), seconds(None)
    time = seconds_with_interval(summary.certified_s_median, summary.certified_s_ci95)
    return (
        f"{summary.n} + {summary.failed} failed" if summary.failed else str(summary.n),
        percent_with_interval(summary.accuracy_mean, summary.accuracy_ci95),
        time if summary.timing_valid else f"{time} ‡",
    )


def _below(figures: Comparison) -> list[str]:
    lines = []
    if figures.difference is not None and figures.ratio is not None:
        lines.append(f"difference: {points_text(figures.difference, figures.look)}")
        lines.append(f"speed: {ratio_text(figures.ratio)}")
    if figures.look is not None:
        lines.append(evidence_text(figures.look))
    sides = [summary for summary in (figures.a, figures.b) if summary is not None]
    if any(is_range(summary) for summary in sides):
        lines.append(RANGES)
    if any(not summary.timing_valid for summary in sides):
        lines.append(f"‡ {NOT_TIMED}")
    if any(summary.stops_on_test for summary in sides):
        lines.append(STOPS_ON_TEST)
    return lines


_NO_LOOKS = {"ci95": None, "p": None, "runs_needed": None}
"""What holds for a number of runs that was fixed before, and not where the runs were looked at after every pair."""


def comparison_json(figures: Comparison) -> dict[str, Any]:
    """A finished comparison as plain JSON types.

    Where it was looked at after every pair, interval and p of accuracy are those in ``sequential``, and no others.

    Raises:
        InputError: no pair of runs finished.
    """
    text = quotable(figures)
    a, b, difference, ratio, look = figures.a, figures.b, figures.difference, figures.ratio, figures.look
    assert a is not None and b is not None and difference is not None and ratio is not None
    return {
        "a": a.to_dict(),
        "b": b.to_dict(),
        "accuracy": {
            **asdict(difference),
            "runs_needed": difference.runs_needed,
            **({} if look is None else _NO_LOOKS),
        },
        "time_ratio": asdict(ratio),
        "sequential": None if look is None else _finite(asdict(look)),
        "sentence": text,
    }


def _finite(look: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity: an interval that excludes nothing is none."""
    low, high = look["interval"] or (float("-inf"), float("inf"))
    return {**look, "interval": [low, high] if high < float("inf") else None}
