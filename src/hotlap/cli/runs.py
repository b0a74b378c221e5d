"""``hotlap runs``: what is stored, and merging stores."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout
from hotlap.errors import InputError

if TYPE_CHECKING:
    from hotlap.result import Run

_DEFAULT = "list"


class _ListUnlessNamed(TyperGroup):
    """A group whose first command may go unnamed, so that ``hotlap runs 'mnist/*'`` lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        at = self._first_word(args)
        if at is None or args[at] not in self.commands:
            return super().parse_args(ctx, [_DEFAULT, *args])
        # Options may stand before the command: they are the command's own.
        return super().parse_args(ctx, [args[at], *args[:at], *args[at + 1 :]])

    def _first_word(self, args: list[str]) -> int | None:
        """Where the first argument is that is neither an option nor an option's value."""
        options_ = [option for command in self.commands.values() for option in command.params if option.opts]
        valued = {name for option in options_ if not getattr(option, "is_flag", True) for name in option.opts}
        at = 0
        while at < len(args) and args[at] != "--":
            if not args[at].startswith("-"):
                return at
            at += 2 if args[at] in valued else 1
        return None


app = typer.Typer(cls=_ListUnlessNamed, help="List stored runs, or merge other stores into this one.")


@app.command(
    _DEFAULT,
    epilog="The word list may be left out. To copy runs of other stores into this one: hotlap runs merge OTHER...",
)
def list_(
    recipe: Annotated[str | None, typer.Argument(help="Recipe name or pattern, e.g. 'mnist/*'.")] = None,
    digest: Annotated[str | None, typer.Option("--digest", help="Digest of a recipe, or its beginning.")] = None,
    seed: Annotated[int | None, typer.Option("--seed")] = None,
    status: Annotated[Literal["done", "failed"] | None, typer.Option("--status")] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda:0.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Started on or after, e.g. 2026-11-22.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Take the newest so many.")] = 50,
    all_: Annotated[bool, typer.Option("--all", help="Take all, however many.")] = False,
    summary: Annotated[
        bool, typer.Option("--summary", help="One line per recipe, machine and software instead of per run.")
    ] = False,
    store: options.StorePath = None,
    json: options.Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV on stdout.")] = False,
    parquet: Annotated[
        Path | None, typer.Option("--parquet", metavar="FILE", help="Write a Parquet file (needs hotlap[frame]).")
    ] = None,
) -> None:
    """List stored runs, oldest first."""
    from hotlap.report.frames import write_csv, write_parquet
    from hotlap.report.tables import runs_table, summary_line
    from hotlap.stats.summary import group_runs, one_of_each_seed, set_text, summarise
    from hotlap.store import Store

    if json + csv + (parquet is not None) > 1:
        raise InputError("--json, --csv and --parquet exclude each other", "choose one")
    if summary and (csv or parquet is not None):
        raise InputError(
            "--csv and --parquet are of single runs", "hotlap runs --summary --json, or leave out --summary"
        )
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
    console = stdout()
    if parquet is not None:
        write_parquet(found, parquet)
        console.print(f"Wrote {len(found)} runs to {parquet}.", markup=False, soft_wrap=True)
        return
    # The same seed twice is no second observation: it counts once, as in a report.
    sets = [one_of_each_seed(group) for group in group_runs(found)] if summary else []
    summaries = [summarise(own) for own in sets]
    if json:
        of_sets = [{**one.to_dict(), **_software(own[0])} for own, one in zip(sets, summaries, strict=True)]
        print_json(of_sets if summary else [run.to_dict() for run in found])
        return
    if not found:
        console.print(f"No such runs in {where}. Make one: hotlap train mnist", markup=False, soft_wrap=True)
    elif summary:
        for own, one in zip(sets, summaries, strict=True):
            where_ = f"{one.device}, {one.threads} threads"
            alike = [other[0] for other in sets if other[0].recipe.digest == one.digest]
            if len(alike) > 1:
                where_ = set_text(own[0], alike)
            console.print(f"{one.recipe} [{one.digest[:12]}] {where_}", markup=False, soft_wrap=True)
            console.print(f"  {summary_line(one)}", markup=False, soft_wrap=True)
    else:
        console.print(runs_table(found))


@app.command()
def merge(
    others: Annotated[
        list[Path], typer.Argument(metavar="OTHER", help="Run stores or records to copy from; only read.")
    ],
    store: options.StorePath = None,
    json: options.Json = False,
) -> None:
    """Copy the runs of other stores into this one; runs that are here already are left out.

    Each store is merged whole or not at all. Equal seeds of different machines are different runs, and all are kept.
    """
    from hotlap.store import Store
    from hotlap.store.merge import merge as merge_one

    console = stdout()
    done: list[dict[str, Any]] = []
    with Store(store) as opened:
        for other in others:
            merged = merge_one(opened, other)
            done.append({"source": str(merged.source), "added": merged.added, "present": merged.present})
            if not json:
                text = f"{merged.source}: {merged.added} added, {merged.present} already there"
                console.print(text, markup=False, soft_wrap=True)
        count, where = len(opened), str(opened.path)
    if json:
        print_json({"store": where, "runs": count, "merged": done})
    else:
        console.print(f"{where} holds {count} runs.", markup=False, soft_wrap=True)


def _software(run: Run) -> dict[str, Any]:
    """What tells the sets of one recipe and machine apart."""
    return {
        "hotlap": run.environment.hotlap,
        "torch": run.environment.torch,
        "timing_rules": run.timing_rules,
    }
