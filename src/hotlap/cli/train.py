"""``hotlap train``: train a recipe with one or several seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout

if TYPE_CHECKING:
    from pathlib import Path

    from hotlap.result import Run, Summary


def train(
    recipe: options.RecipeName,
    seeds: Annotated[str, typer.Option("--seeds", help="How many (10), or which (3..7, or 1,4,9).")] = "1",
    set_: options.Set = None,
    data: options.Data = None,
    target: Annotated[float | None, typer.Option("--target", help="Accuracy to reach, e.g. 0.99.")] = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    jobs: options.Jobs = 1,
    executor: options.ExecutorName = None,
    address: options.Address = None,
    batch_seeds: options.BatchSeeds = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run from its last whole epoch.")
    ] = False,
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
    """Train a recipe, measure it, and store every run.

    Exit status 1 when the target was missed: the only run is below it, or the 95 % interval of the mean is.
    """
    from hotlap.bench.executors import Job
    from hotlap.bench.executors.choice import batched_or, choose_executor
    from hotlap.bench.session import Session, resolve_recipe
    from hotlap.cli.progress import RunProgress
    from hotlap.store import Store

    changes = options.changes(set_, compile_=compile_, precision=precision)
    chosen = options.parse_seeds(seeds)
    resolved = resolve_recipe(recipe, changes=changes, data=data)
    if target is not None:
        resolved = resolved.with_changes({"target": target})
    where_to = choose_executor(kind=executor, jobs=jobs, address=address, threads=threads, device=device)
    runs: list[Run] = []
    with Store(store) as opened, RunProgress(len(chosen), quiet=quiet or json) as progress:
        session = Session(
            # Workers choose their device themselves: the machines they are on need not be like this one.
            device=device if where_to is None else "auto",
            threads=threads,
            store=opened,
            observer=progress,
            download=progress,
            timing_valid=not shared,
            log_accuracy=log_accuracy,
            resume=resume,
        )
        work = [Job(resolved, seed) for seed in chosen]
        try:
            for run in session.run_all(work, batched_or(where_to, batch_seeds, session.train_batch)):
                runs.append(run)
                if len(chosen) > 1:
                    progress.say(_line(run))
        except KeyboardInterrupt:
            progress.say(f"interrupted: {len(runs)} of {len(chosen)} runs are finished and stored in {opened.path}")
            raise
        where = opened.path
    runs.sort(key=lambda run: run.seed)
    raise typer.Exit(_report(runs, where, as_json=json))


def _line(run: Run) -> str:
    from hotlap.report.tables import percent, seconds

    result = "failed" if run.accuracy is None else percent(run.accuracy)
    return f"{run.recipe.name} seed {run.seed}: {result} in {seconds(run.certified_s)}"


def _phases(summary: Summary) -> str:
    from hotlap.report.tables import seconds
    from hotlap.result import CERTIFIED, POLICIES

    counted = " + ".join(f"{name} {seconds(summary.phases_s[name])}" for name in POLICIES[CERTIFIED])
    free = ", ".join(f"{n} {seconds(s)}" for n, s in summary.phases_s.items() if n not in POLICIES[CERTIFIED] and s)
    return f"Certified time = {counted}; not counted: {free}."


def _report(runs: list[Run], where: Path, *, as_json: bool) -> int:
    from hotlap.report.tables import run_set_table
    from hotlap.stats.summary import summarise

    summary = summarise(runs)
    if as_json:
        print_json({**summary.to_dict(), "store": str(where), "runs": [run.to_dict() for run in runs]})
    else:
        console = stdout()
        console.print(run_set_table(runs))
        if summary.n:
            console.print(_phases(summary), soft_wrap=True)
        env = runs[-1].environment
        console.print(f"On {env.gpu or env.cpu}, {env.threads} threads, torch {env.torch}.", markup=False)
        console.print(f"Stored in {where} (hotlap runs).", markup=False, soft_wrap=True)
        for run in runs:
            if run.error:
                console.print(f"seed {run.seed} failed: {run.error}", markup=False, soft_wrap=True)
    if summary.failed:
        return 1
    if summary.target is None or summary.accuracy_mean is None:
        return 0
    # One run is held to the target itself; the mean of several only when its interval tells.
    highest = summary.accuracy_ci95[1] if summary.accuracy_ci95 else summary.accuracy_mean
    return int(highest < summary.target)
