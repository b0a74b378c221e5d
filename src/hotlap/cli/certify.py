"""``hotlap certify``: evidence that a recipe reaches its target, and checking such evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stderr, stdout
from hotlap.errors import HotlapError, InputError

if TYPE_CHECKING:
    from hotlap.result import Run


def certify(
    recipe: Annotated[
        str | None, typer.Argument(help="Recipe, data set (its fastest recipe), or a .json file.")
    ] = None,
    target: Annotated[float | None, typer.Option("--target", help="Accuracy to certify; else the recipe's.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="How many (30), or which (100..129).")] = "30",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the record; else records/NAME.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="DIR", help="Derive every record below DIR from its runs again.")
    ] = None,
    set_: options.Set = None,
    data: options.Data = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    threads: options.Threads = None,
    jobs: options.Jobs = 1,
    executor: options.ExecutorName = None,
    address: options.Address = None,
    gpus: options.Gpus = None,
    shared: options.Shared = False,
    store: options.StorePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Certify that a recipe's mean accuracy reaches a target, and write the evidence to a folder.

    Certified means: over at least 10 seeds, the lower bound of the mean's 95 % interval is at or above the target.
    Stored runs whose times count are not repeated; where times will not count anyway (--shared, or an executor other
    than local), nor are others. A cluster's machines are not this one, so with --address every seed is trained.
    Exit status 1 when the target is not certified.
    """
    if check is not None:
        if recipe is not None:
            raise InputError("--check takes a folder of records and no recipe", "hotlap certify --check records")
        _check(check, as_json=json)
        return
    if recipe is None:
        raise InputError("nothing to certify", "hotlap certify RECIPE, or hotlap certify --check records")
    from hotlap.bench.executors import Job
    from hotlap.bench.executors.choice import choose_executor
    from hotlap.bench.session import Session, resolve_recipe
    from hotlap.cli.progress import RunProgress
    from hotlap.report.certificate import identity, write_certificate
    from hotlap.report.formats import target_percent
    from hotlap.report.record_files import check_place
    from hotlap.stats.summary import summarise
    from hotlap.store import Store

    resolved = resolve_recipe(recipe, changes=options.changes(set_), data=data, device="cuda" if gpus else device)
    goal = target if target is not None else resolved.target
    if goal is None:
        raise InputError(f"{resolved.name} has no target", "say which accuracy to certify: --target 0.99")
    resolved = resolved.with_changes({"target": goal})
    folder = out if out is not None else Path("records") / _folder_name(resolved.name)
    check_place(folder, identity(resolved))
    chosen = options.parse_seeds(seeds)
    where_to = choose_executor(kind=executor, jobs=jobs, address=address, threads=threads, device=device, gpus=gpus)
    with Store(store) as opened, RunProgress(len(chosen), quiet=quiet) as progress:
        session = Session(
            device=device if address is None else "auto",
            threads=threads if where_to is None else where_to.threads,
            store=opened,
            observer=progress,
            download=progress,
            timing_valid=not shared,
            backend=backend,
        )
        timed = where_to is None and not shared
        found = session.finished(resolved, timed=timed, failed=True) if address is None else {}

        def note(run: Run) -> None:
            result = "failed" if run.accuracy is None else f"{run.accuracy:.2%} in {run.certified_s:.2f} s"
            progress.say(f"{resolved.name} seed {run.seed}: {result}")

        by_seed = {seed: found[seed] for seed in chosen if seed in found}
        for run in by_seed.values():
            note(run)
        missing = [Job(resolved, seed) for seed in chosen if seed not in found]
        for run in session.run_all(missing, where_to):
            by_seed[run.seed] = run
            note(run)
        runs = [by_seed[seed] for seed in chosen]
    written, verdict = write_certificate(folder, runs, goal)
    if json:
        print_json(
            {
                **summarise(runs).to_dict(),
                "certified": verdict.certified,
                "reason": verdict.reason,
                "record": str(folder),
            }
        )
    else:
        result = "certified" if verdict.certified else "NOT certified"
        console = stdout()
        console.print(
            f"{resolved.name} is {result} at {target_percent(goal)}: {verdict.reason}.", markup=False, soft_wrap=True
        )
        console.print(
            f"The evidence is in {folder}: {', '.join(p.name for p in written)}.", markup=False, soft_wrap=True
        )
    raise typer.Exit(int(not verdict.certified))


def _folder_name(recipe: str) -> str:
    """The name without the changes, and with the data set where it is another."""
    return recipe.partition(" [")[0].replace("/", "-").replace(" ", "-")


def _check(root: Path, *, as_json: bool) -> None:
    from hotlap.report.record import check_record, record_folders

    folders = record_folders(root)
    if not folders:
        raise InputError(f"there are no records below {root}", "make one: hotlap certify RECIPE")
    problems: dict[str, str] = {}
    for folder in folders:
        try:
            check_record(folder)
        except HotlapError as error:
            problems[str(folder)] = str(error)
    if as_json:
        print_json({"records": [str(folder) for folder in folders], "problems": problems})
    else:
        for folder in folders:
            state = "differs" if str(folder) in problems else "follows from its runs"
            stdout().print(f"{folder}: {state}", markup=False, soft_wrap=True)
        for problem in problems.values():
            stderr().print(problem, markup=False, soft_wrap=True)
    raise typer.Exit(int(bool(problems)))
