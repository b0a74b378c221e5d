"""``hotlap ladder``: measure the rungs of a ladder on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from hotlap.bench.ladder_run import LadderRun
    from hotlap.cli.progress import RunProgress
    from hotlap.report.ladder_table import LadderRow


def ladder(
    name: Annotated[str, typer.Argument(help="Ladder, e.g. mnist.")],
    rungs: Annotated[str | None, typer.Option("--rungs", help="Which rungs: 3..8, 0,5, or names.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="How many runs of each rung (5), or which (3..7).")] = "3",
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="Start no run expected to end later than this.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Repeat runs that are stored already.")] = False,
    retime: Annotated[
        bool,
        typer.Option("--retime", help="Repeat stored runs whose times do not count (shared machine)."),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="STEM", help="Write STEM.png and STEM.svg at the end.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="DIR", help="Write raw runs, tables and plots to a folder.")
    ] = None,
    set_: options.Set = None,
    device: options.Device = "auto",
    backend: options.Backend = "torch",
    threads: options.Threads = None,
    compile_: options.Compile = None,
    precision: options.Precision = None,
    log_accuracy: Annotated[
        bool, typer.Option("--log-accuracy", help="Measure accuracy after every epoch, off the clock.")
    ] = False,
    shared: options.Shared = False,
    store: options.StorePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure a ladder, rung by rung, beside its published figures; stored runs are not repeated.

    Exit status 1 when a training failed.
    """
    from hotlap.bench.ladder_run import LadderRun
    from hotlap.bench.session import Session
    from hotlap.cli.progress import RunProgress
    from hotlap.errors import InputError
    from hotlap.ladder import get_ladder, parse_rungs, resolve
    from hotlap.report.ladder_record import check_ladder_place
    from hotlap.report.plots import need_plots
    from hotlap.store import Store

    chosen = get_ladder(name)
    indices = parse_rungs(rungs, chosen) if rungs else tuple(range(len(resolve(chosen))))
    changes = options.changes(set_, compile_=compile_, precision=precision)
    if max_minutes is not None and max_minutes <= 0:
        raise InputError(f"--max-minutes must be positive, not {max_minutes}")
    for option, wanted in (("--plot", plot), ("--record", record)):
        if wanted is not None:
            need_plots(option)
    if record is not None:
        check_ladder_place(record, chosen, changes)
    # Where stored runs are repeated, so would be those of this very command.
    same = "the same command without --fresh" if fresh else "the same command"
    with Store(store) as opened, RunProgress(0, quiet=quiet) as progress:
        session = Session(
            device=device,
            threads=threads,
            backend=backend,
            store=opened,
            observer=progress,
            download=progress,
            timing_valid=not shared,
            log_accuracy=log_accuracy,
        )
        measured = LadderRun(
            ladder=chosen,
            rungs=indices,
            seeds=options.parse_seeds(seeds),
            session=session,
            fresh=fresh,
            timed=retime,
            change=lambda recipe: recipe.with_changes(changes),
        )
        try:
            _measure(measured, progress, max_seconds=max_minutes * 60 if max_minutes else None)
        except KeyboardInterrupt:
            progress.say(f"interrupted: finished runs are stored; {same} goes on where it stopped")
            raise
        where = opened.path
    rows = rows_of(measured)
    if plot is not None:
        _plot(rows, plot, chosen.title)
    if record is not None:
        _record(measured, record, changes)
    if json:
        print_json({"ladder": chosen.name, "rows": _rows_json(rows), "todo": len(measured.todo()), "store": str(where)})
        raise typer.Exit(_status(measured))
    from hotlap.report.ladder_table import ladder_table

    console = stdout()
    console.print(ladder_table(rows, title=chosen.title, eta_s=None))
    if measured.skipped_for_time:
        console.print(f"{measured.skipped_for_time} runs did not fit into the time; {same} goes on with them.")
    from hotlap.result import POLICIES

    counted = " + ".join(POLICIES[chosen.policy])
    console.print(f"Published on: {chosen.hardware}; its times count {counted}.", markup=False, soft_wrap=True)
    console.print(f"Stored in {where} (hotlap runs).", markup=False, soft_wrap=True)
    raise typer.Exit(_status(measured))


def _status(measured: LadderRun) -> int:
    return int(any(run.status == "failed" for runs in measured.runs.values() for run in runs.values()))


def rows_of(measured: LadderRun, running: tuple[int, int] | None = None) -> list[LadderRow]:
    """Return a table row for each chosen rung; the rung being run says so."""
    from dataclasses import replace

    from hotlap.report.ladder_record import ladder_rows

    runs = [run for by_seed in measured.runs.values() for run in by_seed.values()]
    rows = ladder_rows(measured.ladder, runs, rungs=measured.rungs)
    if running is None:
        return rows
    return [replace(row, running=f"seed {running[1]} …") if row.index == running[0] else row for row in rows]


def _measure(measured: LadderRun, progress: RunProgress, *, max_seconds: float | None) -> None:
    from hotlap.report.tables import percent, seconds

    todo = len(measured.todo())
    progress.total_runs = todo
    stored = sum(len(runs) for runs in measured.runs.values())
    if stored:
        progress.say(f"{stored} runs are stored already, {todo} to do")
    for rung, seed, run in measured.execute(max_seconds=max_seconds):
        left = measured.time_left()
        progress.table(lambda r=rung, s=seed, e=left: _live(measured, (r, s), e))  # type: ignore[misc]
        if run is not None:
            result = "failed" if run.accuracy is None else percent(run.accuracy)
            more = f", about {seconds(left)} left" if left else ""
            progress.say(f"{run.recipe.name} seed {seed}: {result} in {seconds(run.certified_s)}{more}")


def _live(measured: LadderRun, running: tuple[int, int], left: float | None) -> Any:
    from hotlap.report.ladder_table import ladder_table

    return ladder_table(rows_of(measured, running), title=measured.ladder.title, eta_s=left)


def _rows_json(rows: list[LadderRow]) -> list[dict[str, Any]]:
    from hotlap.report.ladder_table import ladder_rows_json

    return ladder_rows_json(rows)


def _plot(rows: list[LadderRow], stem: Path, title: str) -> None:
    from hotlap.report.plots import plot_ladder

    for path in plot_ladder(rows, stem, title=title):
        stderr().print(f"wrote {path}", markup=False, soft_wrap=True)


def _record(measured: LadderRun, folder: Path, changes: dict[str, Any]) -> None:
    from hotlap.report.ladder_record import write_ladder_record

    runs = [run for by_seed in measured.runs.values() for run in by_seed.values()]
    for path in write_ladder_record(folder, measured.ladder, runs, changes):
        stderr().print(f"wrote {path}", markup=False, soft_wrap=True)
