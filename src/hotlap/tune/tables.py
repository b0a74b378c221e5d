"""A study as a table for the terminal, and the lines that say what it found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hotlap.recipe import show_value
from hotlap.report.formats import NONE, percent_with_interval
from hotlap.tune.result import Measured, TuneResult

if TYPE_CHECKING:
    from hotlap.tune.trade import TradeResult


def trials_table(result: TuneResult) -> Any:
    """Return a rich table with a row for every point that was tried, best first, dropped ones last."""
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{len(result.trials)} points of the study {result.study}", "table.title")
    table = Table(title=title, title_justify="left")
    table.add_column("changed", overflow="fold", ratio=1)
    for name in (*(["epochs"] if result.equal_flop else []), "validation accuracy", "runs"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    order = sorted(result.trials, key=lambda t: (t.dropped is not None, -(t.mean or 0.0), t.number))
    for tried in order:
        changed = "\n".join(f"{c.path} {show_value(c.after)}" for c in tried.changes if c.path in tried.values)
        epochs = [NONE if tried.epochs is None else show_value(tried.epochs)] if result.equal_flop else []
        note = "best" if tried is result.best else "dropped: " + tried.dropped if tried.dropped else ""
        table.add_row(Text(changed or "as it was given"), *epochs, shown(tried), str(tried.n), Text(note))
    return table


def shown(measured: Measured) -> str:
    """Write a mean with half its interval's width."""
    return percent_with_interval(measured.mean, measured.ci95)


def result_lines(result: TuneResult) -> list[str]:
    """Say what changed, by how much that helped, and what the figures are worth."""
    best, baseline, hold_out = result.best, result.baseline, result.hold_out
    lines = [str(change) for change in best.changes] or ["Nothing that was tried is better than the recipe as it was."]
    before = f"dropped, {baseline.dropped}" if baseline.dropped else f"{shown(baseline)} before"
    what = "95 % interval, " if best.ci95 is not None else ""
    lines.append(f"Validation accuracy: {shown(best)} ({what}n = {best.n}); {before}.")
    lines.append(
        f"Measured on {hold_out.images:,} held-out training images (seed {hold_out.seed}), never on the test set."
    )
    if result.equal_flop:
        lines.append("Every point trained with as many FLOP as the recipe as it was given, so its epochs follow.")
    if len(result.trials) > 1:
        lines.append(f"The best of {len(result.trials)} values flatters itself a little: certify it with new seeds.")
    lines += [
        f"The best {path} is at the end of its range, {show_value(best.values[path])}: a better one may lie beyond."
        for path in result.at_end
    ]
    if not result.complete:
        lines.append("The time ran out before the search had ended; the same command goes on with it.")
    return lines


def trade_table(trade: TradeResult) -> Any:
    """Return a rich table with a row for every number of epochs."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Fewer epochs", title_justify="left")
    for name in ("epochs", "validation accuracy", "runs"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for step in trade.steps:
        verdict = f"{step.verdict}: {step.reason}" if step.reason else "the time ran out"
        accuracy = shown(step) if step.n else NONE
        table.add_row(f"{step.epochs:g}", accuracy, str(step.n), Text(verdict))
    return table
