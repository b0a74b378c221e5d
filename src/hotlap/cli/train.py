"""``hotlap train``: train a recipe with one or several seeds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stderr, stdout
from hotlap.errors import InputError

if TYPE_CHECKING:
    from hotlap.recipe import Recipe
    from hotlap.result import Run, Summary


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(help="Recipe, data set (its fastest recipe), or a .json file; may be left out with --data."),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="How many (10), or which (3..7, or 1,4,9).")] = "1",
    set_: options.Set = None,
    data: options.Data = None,
    target: Annotated[float | None, typer.Option("--target", help="Accuracy to reach, e.g. 0.99.")] = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    threads: options.Threads = None,
    jobs: options.Jobs = 1,
    executor: options.ExecutorName = None,
    address: options.Address = None,
    gpus: options.Gpus = None,
    batch_seeds: options.BatchSeeds = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with an interrupted run, not of --jobs, from the last epoch kept: one every 10 s."
        ),
    ] = False,
    compile_: options.Compile = None,
    precision: options.Precision = None,
    log_accuracy: Annotated[
        bool, typer.Option("--log-accuracy", help="Measure accuracy after every epoch, off the clock.")
    ] = False,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", help="Save the network; several seeds: FILE-seed0, FILE-seed1, …"),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option("--track", metavar="NAME[:DIR]", help="Log to tensorboard, mlflow or wandb, after each run."),
    ] = None,
    shared: options.Shared = False,
    store: options.StorePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a recipe, measure it, and store every run; --data alone inspects the images and chooses a recipe.

    Exit status 1 when the target was missed: the only run is below it, or the 95 % interval of the mean is.
    """
    from hotlap.bench.executors import Job
    from hotlap.bench.executors.choice import backend_for, batched_or, choose_executor, device_here, only_here
    from hotlap.bench.session import Session
    from hotlap.cli.progress import RunProgress
    from hotlap.cli.saving import ModelFiles
    from hotlap.store import Store
    from hotlap.trackers import log_run
    from hotlap.trackers import opened as opened_trackers

    changes = options.changes(set_, compile_=compile_, precision=precision)
    chosen = options.parse_seeds(seeds)
    resolved, inspected = _resolve(recipe, data, changes, "cuda" if gpus else device, quiet=quiet)
    if target is not None:
        resolved = resolved.with_changes({"target": target})
    where_to = choose_executor(kind=executor, jobs=jobs, address=address, threads=threads, device=device, gpus=gpus)
    runs: list[Run] = []
    with (
        opened_trackers(track or [], _complain) as trackers,
        Store(store) as opened,
        RunProgress(len(chosen), quiet=quiet) as progress,
    ):
        session = Session(
            device=device_here(where_to, device),
            threads=threads,
            store=opened,
            observer=progress,
            download=progress,
            timing_valid=not shared,
            log_accuracy=log_accuracy,
            resume=resume,
            backend=backend_for(backend, batch_seeds),
        )
        work = [Job(resolved, seed) for seed in chosen]
        try:
            trainer = batched_or(where_to, batch_seeds, session.train_batch)
            if resume:
                only_here("--resume", trainer)
            files = ModelFiles(save, chosen, trainer) if save is not None else None
            for run in session.run_all(work, files.executor(session) if files else trainer):
                runs.append(run)
                for problem in log_run(run, trackers):
                    _complain(problem)
                if len(chosen) > 1:
                    progress.say(_line(run))
                if files is not None:
                    progress.say(files.save(run))
        except KeyboardInterrupt:
            progress.say(f"interrupted: {len(runs)} of {len(chosen)} runs are finished and stored in {opened.path}")
            raise
        where = opened.path
    runs.sort(key=lambda run: run.seed)
    models = [str(path) for path in files.paths.values()] if files else []
    raise typer.Exit(_report(runs, where, models, inspected, as_json=json))


def _complain(problem: str) -> None:
    stderr().print(problem, markup=False, soft_wrap=True)


def _resolve(
    recipe: str | None, data: str | None, changes: dict[str, Any], device: str, *, quiet: bool
) -> tuple[Recipe, dict[str, Any]]:
    """The recipe to train, and what an inspection found where one had to choose the recipe."""
    from hotlap.bench.session import resolve_recipe

    if recipe is not None:
        return resolve_recipe(recipe, changes=changes, data=data, device=device), {}
    if data is None:
        raise InputError("nothing to train", "hotlap train mnist, or your own images: hotlap train --data FOLDER")
    from hotlap.cli.choosing import choose_aloud

    choice = choose_aloud(data, changes, device, quiet=quiet)
    return choice.recipe, {"inspection": choice.inspection.as_dict(), "choice": list(choice.remarks)}


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


def _report(runs: list[Run], where: Path, models: list[str], inspected: dict[str, Any], *, as_json: bool) -> int:
    from hotlap.report.tables import run_set_table
    from hotlap.stats.summary import summarise

    summary = summarise(runs)
    if as_json:
        found = {"store": str(where), "models": models, **inspected, "runs": [run.to_dict() for run in runs]}
        print_json({**summary.to_dict(), **found})
    else:
        console = stdout()
        console.print(run_set_table(runs))
        if summary.n:
            console.print(_phases(summary), soft_wrap=True)
        env = runs[-1].environment
        console.print(f"On {env.gpu or env.cpu}, {env.threads} threads, torch {env.torch}.", markup=False)
        console.print(f"Stored in {where} (hotlap runs).", markup=False, soft_wrap=True)
        if models:
            console.print(f"Saved in {', '.join(models)} (hotlap predict).", markup=False, soft_wrap=True)
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
