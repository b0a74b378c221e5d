"""``hotlap runs``: what is stored."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout
from hotlap.errors import InputError

if TYPE_CHECKING:
    from hotlap.result import Run


def runs(
    recipe: Annotated[str | None, typer.Argument(help="Recipe name or pattern, e.g. 'mnist/*'.")] = None,
    digest: Annotated[str | None, typer.Option("--digest", help="Digest of a recipe, or its beginning.")] = None,
    seed: Annotated[int | None, typer.Option("--seed")] = None,
    status: Annotated[Literal["done", "failed"] | None, typer.Option("--status")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda:0.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Started on or after, e.g. 2026-11-22.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Show the newest so many.")] = 50,
    all_: Annotated[bool, typer.Option("--all", help="Show all, however many.")] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="One line per recipe and machine instead of per run.")
    ] = False,
    store: options.StorePath = None,
    json: options.Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV on stdout.")] = False,
) -> None:
    """List stored runs, oldest first."""
    from hotlap.report.frames import write_csv
    from hotlap.report.tables import runs_table, summary_line
    from hotlap.stats.summary import group_runs, summarise
    from hotlap.store import Store

    if json and csv:
        raise InputError("--json and --csv exclude each other", "choose one")
    with Store(store, create=False) as opened:
        found = opened.runs(
            recipe=recipe,
            digest=digest,
            seed=seed,
            status=status,
            device=device,
            since=since,
            limit=None if all_ or summary else limit,
        )
        where = opened.path
    if csv:
        write_csv(found, sys.stdout)
        return
    # The same seed twice is no second observation: it counts once, as first run.
    summaries = [summarise(_first_of_each_seed(group)) for group in group_runs(found)] if summary else []
    if json:
        print_json([s.to_dict() for s in summaries] if summary else [run.to_dict() for run in found])
        return
    console = stdout()
    if not found:
        console.print(f"No such runs in {where}. Make one: hotlap train mnist", markup=False, soft_wrap=True)
    elif summary:
        for one in summaries:
            console.print(f"{one.recipe} [{one.digest[:12]}] {one.device}, {one.threads} threads", markup=False)
            console.print(f"  {summary_line(one)}", markup=False, soft_wrap=True)
    else:
        console.print(runs_table(found))


def _first_of_each_seed(runs: list[Run]) -> list[Run]:
    first: dict[int, Run] = {}
    for run in runs:
        first.setdefault(run.seed, run)
    return list(first.values())
