"""Rows of a ladder of four rungs for the tests of its table and plot."""

from __future__ import annotations

from factories import make_recipe, make_runs
from hotlap.report.ladder_table import LadderRow
from hotlap.stats import summarise

RUNGS = (
    ("initial", "the usual example", 172.0, "172 s ± 0.04", 0.99185, 172.0, None),
    ("early-stopping", "stops as soon as 99 % is reached", 57.4, "57.4 s ± 6.85", None, 60.0, 0.99),
    ("one-cycle", "two epochs with a one-cycle learning rate", 3.14, "3.14 s ± 0.005", 0.991, 6.0, None),
    ("final", "5×5 first kernel, Adam, one epoch", None, "", 0.99041, 1.5, None),
)


def make_rows(measured: int = 4, *, n: int = 30, shared: int | None = None) -> list[LadderRow]:
    """Rows of which the first ``measured`` have n runs; rung ``shared`` ran on a shared machine."""
    rows = []
    for index, (name, title, published_s, text, accuracy, seconds, stop_at) in enumerate(RUNGS):
        recipe = make_recipe(f"ladder/{name}", batch_size=64 + index, stop_at=stop_at)
        runs = make_runs(n, certified_s=seconds, recipe=recipe, timing_valid=index != shared)
        rows.append(
            LadderRow(
                index=index,
                name=name,
                title=title,
                published_s=published_s,
                published_text=text,
                published_accuracy=accuracy,
                summary=summarise(runs) if index < measured else None,
                running="seed 3 …" if index == measured else None,
            )
        )
    return rows
