"""``hotlap tune``: search hyper-parameters on images held out of the training set."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout
from hotlap.errors import InputError

if TYPE_CHECKING:
    from hotlap.recipe import Recipe
    from hotlap.tune.result import TuneResult
    from hotlap.tune.trade import TradeResult

TRADE_SEEDS = 10
"""Seeds with which each step of --trade-epochs is certified; none that the recipe was tuned with."""


def tune(
    recipe: options.RecipeName,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            metavar="PATH[=SPEC]",
            help="What to tune, as log:1e-3..1e-1, 0.5..0.95, int:0..4, log-int:64..1024, 0.1..0.9:0.2 or cos,linear; "
            "PATH alone takes a default range. Without any: the numbers of optimizer and schedule, label smoothing "
            "and batch size.",
        ),
    ] = None,
    sampler: Annotated[
        Literal["coordinate", "tpe", "random"],
        typer.Option("--sampler", help="One parameter at a time, or one of Optuna's samplers."),
    ] = "coordinate",
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds of every value: how many (3), or which (3..7).")] = "3",
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, help="Most values; else 20, or as many as the ascent takes.")
    ] = None,
    sweeps: Annotated[int, typer.Option("--sweeps", min=1, help="Most sweeps of the ascent, each finer.")] = 2,
    hold_out: Annotated[
        float | None,
        typer.Option("--hold-out", help="Training images to hold out, or their share; else a sixth, at most 10,000."),
    ] = None,
    hold_out_seed: Annotated[int, typer.Option("--hold-out-seed", min=0, help="Decides which images.")] = 0,
    equal_flop: Annotated[
        bool,
        typer.Option(
            "--equal-flop", help="Train every value with as many FLOP as the recipe: larger networks for fewer epochs."
        ),
    ] = False,
    alpha: Annotated[
        float, typer.Option("--alpha", help="Chance of dropping a value as good as the best before its last seed.")
    ] = 0.05,
    study: Annotated[str | None, typer.Option("--study", help="Name of the study; else by what it asks.")] = None,
    storage: Annotated[
        Path | None, typer.Option("--storage", metavar="FILE", help="Optuna's file of studies; else by the run store.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="Start no run that is expected to end later than this.")
    ] = None,
    trade: Annotated[
        bool, typer.Option("--trade-epochs", help="Then lower the epochs as long as the target stays certified.")
    ] = False,
    trade_target: Annotated[
        float | None, typer.Option("--trade-target", help="Validation accuracy to hold; else the recipe's target.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The tuned recipe; else RECIPE-tuned.json, or -tuned-2.json, …"),
    ] = None,
    plots: Annotated[
        Path | None, typer.Option("--plots", metavar="DIR", help="Write plots of the study (SVG).")
    ] = None,
    jobs: options.Jobs = 1,
    executor: options.ExecutorName = None,
    address: options.Address = None,
    gpus: options.Gpus = None,
    batch_seeds: options.BatchSeeds = None,
    set_: options.Set = None,
    data: options.Data = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    threads: options.Threads = None,
    store: options.StorePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Search for better hyper-parameters, measured on images held out of the training set, never on the test set.

    Bad values are dropped after a few seeds, and so are those that cannot be trained. Stored runs of either backend are
    not repeated, unless --backend asks for one. The same command goes on with a study that was interrupted. Exit
    status 1 when --trade-epochs finds that the target is not held even with all epochs, or when all training failed.
    """
    from hotlap.bench.executors.choice import backend_for, batched_or, choose_executor, device_here
    from hotlap.bench.session import Session, resolve_recipe
    from hotlap.cli.progress import RunProgress
    from hotlap.report.plots import need_plots
    from hotlap.store import Store
    from hotlap.tune import check_installed

    check_installed()
    from hotlap.tune.defaults import default_space, parse_parameter
    from hotlap.tune.figures import write_figures
    from hotlap.tune.pace import Pace
    from hotlap.tune.storage import FILE
    from hotlap.tune.study import tune as search
    from hotlap.tune.trade import target_of, trade_epochs

    given = resolve_recipe(recipe, changes=options.changes(set_), data=data, device="cuda" if gpus else device)
    space = [parse_parameter(text, given) for text in param] if param else default_space(given)
    chosen = options.parse_seeds(seeds)
    if trade:
        target_of(given, trade_target)
    elif trade_target is not None:
        raise InputError("--trade-target goes with --trade-epochs")
    if out is not None:
        options.check_recipe_file("--out", out)
    if plots is not None:
        need_plots("--plots")
    where_to = choose_executor(kind=executor, jobs=jobs, address=address, threads=threads, device=device, gpus=gpus)
    pace = Pace(None if max_minutes is None else 60 * max_minutes)
    traded: TradeResult | None = None
    with Store(store) as opened, RunProgress(0, quiet=quiet) as progress:
        file = storage if storage is not None else opened.path.with_name(FILE)
        session = Session(
            device=device_here(where_to, device),
            threads=threads,
            store=opened,
            observer=progress,
            download=progress,
            timing_valid=False,
            backend=backend_for(backend, batch_seeds),
        )
        executor_ = batched_or(where_to, batch_seeds, session.train_batch)
        try:
            result = search(
                given,
                space,
                session=session,
                executor=executor_,
                sampler=sampler,
                seeds=chosen,
                trials=trials,
                sweeps=sweeps,
                hold_out=hold_out,
                hold_out_seed=hold_out_seed,
                equal_flop=equal_flop,
                storage=file,
                name=study,
                alpha=alpha,
                pace=pace,
                say=progress.say,
            )
            if trade and result.complete:
                first = max(chosen) + 1
                traded = trade_epochs(
                    result.recipe,
                    session=session,
                    hold_out=result.hold_out,
                    seeds=range(first, first + TRADE_SEEDS),
                    executor=executor_,
                    target=trade_target,
                    pace=pace,
                    say=progress.say,
                )
        except KeyboardInterrupt:
            progress.say(
                f"interrupted: every finished run is kept in {opened.path} and the study in {file}; "
                "the same command goes on"
            )
            raise
    best = result.recipe if traded is None else traded.recipe
    where = _write(out, best, given)
    figures = write_figures(file, result.study, plots) if plots is not None else []
    if json:
        document = {**result.to_dict(), "recipe": best.to_dict(), "digest": best.digest, "out": str(where)}
        document |= {"trade": None if traded is None else traded.to_dict(), "plots": [str(path) for path in figures]}
        print_json(document)
    else:
        _report(given, result, traded, where, figures, wanted=trade)
    raise typer.Exit(int(traded is not None and traded.steps[0].verdict == "missed"))


def _write(out: Path | None, recipe: Recipe, given: Recipe) -> Path:
    """Write the tuned recipe to the file that was named, else to one that holds nothing else; return which."""
    from hotlap._files import replace_file

    text = recipe.to_json(indent=1) + "\n"
    path = out if out is not None else _unused(f"{given.name.split(' ')[0].replace('/', '-')}-tuned", text)
    replace_file(path, text, fix="choose another --out")
    return path


def _unused(stem: str, text: str) -> Path:
    """Return the first of ``stem.json``, ``stem-2.json``, … that is not there or holds this very text."""
    paths = (Path(f"{stem}{end}.json") for end in itertools.chain([""], (f"-{n}" for n in itertools.count(2))))
    return next(p for p in paths if not p.exists() or (p.is_file() and p.read_bytes() == text.encode()))


def _report(
    given: Recipe, result: TuneResult, traded: TradeResult | None, where: Path, figures: list[Path], *, wanted: bool
) -> None:
    from hotlap.report.formats import percent, target_percent
    from hotlap.tune.tables import result_lines, trade_table, trials_table

    console = stdout()

    def say(text: Any) -> None:
        console.print(text, markup=False, soft_wrap=True)

    console.print(trials_table(result))
    for line in result_lines(result):
        say(line)
    if traded is not None:
        console.print(trade_table(traded))
        if traded.certified:
            say(f"epochs: {given.epochs:g} → {traded.recipe.epochs:g}")
        elif traded.steps[0].verdict == "missed":
            goal = target_percent(traded.target)
            say(f"On the held-out images this recipe does not hold {goal}, so no epochs are traded.")
            if traded.suggestion is not None:
                say(f"It holds {percent(traded.suggestion)} there: --trade-target {traded.suggestion:g}")
    elif wanted:
        say("No epochs were traded, for the time ran out.")
    if figures:
        say(f"Plots: {', '.join(str(path) for path in figures)}.")
    aim = "ACCURACY" if given.target is None else f"{given.target:g}"
    # Seeds that chose the recipe flatter it.
    tried = [*result.trials, *(traded.steps if traded is not None else ())]
    first = 1 + max((seed for one in tried for seed in one.accuracies), default=-1)
    seeds = f"--seeds {first}..{first + 29}"
    say(f"The tuned recipe is in {where}. Measure it on the test set: hotlap certify {where} --target {aim} {seeds}")
