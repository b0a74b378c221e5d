"""``hotlap compare``: two recipes, interleaved, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout
from hotlap.errors import DivergenceError, InputError

if TYPE_CHECKING:
    from hotlap.bench.compare_run import CompareRun
    from hotlap.cli.progress import RunProgress
    from hotlap.recipe import Recipe
    from hotlap.stats.pairs import Comparison
    from hotlap.store import Store


def compare(
    a: Annotated[str, typer.Argument(help="Baseline recipe.")],
    b: Annotated[str | None, typer.Argument(help="Other recipe; the baseline with --set when left out.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="How many seeds of each, at most, or which (3..7).")] = "5",
    until: Annotated[
        float | None,
        typer.Option("--until", metavar="ALPHA", help="Stop when accuracy is settled, with this error rate: 0.05."),
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="Start no pair that is expected to end later than this.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Train nothing: say how many runs would show --effect.")] = False,
    effect: Annotated[
        float | None, typer.Option("--effect", metavar="POINTS", help="Difference to plan for, in percentage points.")
    ] = None,
    set_: options.Set = None,
    data: options.Data = None,
    device: options.Device = "auto",
    backend: options.Backend = "auto",
    threads: options.Threads = None,
    shared: options.Shared = False,
    store: options.StorePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare two recipes by runs in turn (A B B A …): difference of accuracy and ratio of times, with intervals.

    Both recipes run with the same seeds; --set changes the second of them, but --set data.… both. Where model, data,
    feed and batch size are equal, one seed gives both the same first weights and order of images, and the difference is
    taken pair by pair; else the runs count as independent (Welch). With --until the comparison is looked at after every
    pair and stops when the difference of accuracy is settled; its interval and p then hold however often it was looked
    at. Exit status 1 when a training failed.
    """
    from hotlap.bench.compare_run import CompareRun, resolve_pair
    from hotlap.bench.session import Session
    from hotlap.cli.progress import RunProgress
    from hotlap.stats.pairs import finished_pairs
    from hotlap.store import Store

    if b is None and not set_:
        raise InputError("nothing to compare with", "name a second recipe, or change the first with --set")
    baseline, other = resolve_pair(a, b, changes=options.changes(set_), data=data, device=device)
    if baseline.digest == other.digest:
        raise InputError(f"{a} and {b or a} are one recipe (digest {baseline.digest[:12]})")
    if until is not None and not 0 < until < 1:
        raise InputError(f"--until is an error rate between 0 and 1, not {until}", "for example --until 0.05")
    if plan != (effect is not None) or (effect is not None and effect <= 0):
        raise InputError("--plan and a positive --effect go together", "for example --plan --effect 0.05")
    chosen = options.parse_seeds(seeds)
    with Store(store) as opened, RunProgress(2 * len(chosen), quiet=quiet) as progress:
        if effect is not None:
            _plan(opened, baseline, other, effect, as_json=json)
            return
        session = Session(
            device=device,
            threads=threads,
            backend=backend,
            store=opened,
            observer=progress,
            download=progress,
            timing_valid=not shared,
        )
        measured = CompareRun(
            session=session,
            a=baseline,
            b=other,
            seeds=chosen,
            until=until,
            max_seconds=max_minutes * 60 if max_minutes is not None else None,
        )
        _measure(measured, progress)
    failed = [run for run in (*measured.runs_a, *measured.runs_b) if run.status == "failed"]
    if failed and not finished_pairs(measured.runs_a, measured.runs_b):
        first = failed[0]
        raise DivergenceError(
            f"nothing to compare, for no pair of runs finished: {first.recipe.name} seed {first.seed}: {first.error}",
            "lower its learning rate",
        )
    _report(_figures(measured), as_json=json)
    raise typer.Exit(int(bool(failed)))


def _figures(measured: CompareRun) -> Comparison:
    from hotlap.stats.pairs import compare_runs

    return compare_runs(measured.runs_a, measured.runs_b, alpha=measured.until)


def _measure(measured: CompareRun, progress: RunProgress) -> None:
    from hotlap.report.comparison_table import comparison_table, pair_line

    names = measured.a.name, measured.b.name
    for _ in measured.execute():
        progress.table(lambda: comparison_table(names, _figures(measured)))
        if len(measured.runs_a) == len(measured.runs_b):
            progress.say(pair_line(measured.runs_a[-1], measured.runs_b[-1]))
    if measured.stopped is not None:
        progress.say(measured.stopped)


def _report(figures: Comparison, *, as_json: bool) -> None:
    from hotlap.report.comparison_table import comparison_json, quotable
    from hotlap.report.tables import summary_line

    if as_json:
        print_json(comparison_json(figures))
        return
    text = quotable(figures)
    console = stdout()
    for summary in (figures.a, figures.b):
        if summary is not None:
            console.print(f"{summary.recipe}: {summary_line(summary)}", markup=False, soft_wrap=True)
    console.print(text, markup=False, soft_wrap=True)


def _plan(store: Store, a: Recipe, b: Recipe, effect: float, *, as_json: bool) -> None:
    """Say how many runs would show an effect, from the spread of the runs that are stored."""
    from hotlap.report.comparison_table import about
    from hotlap.stats.comparison import POWER, runs_to_resolve
    from hotlap.stats.pairs import stored_spread

    spread = stored_spread(a, b, store.runs(digest=a.digest), store.runs(digest=b.digest))
    if spread is None:
        raise InputError(f"no spread is known of {a.name} or {b.name}", f"hotlap train {a.name} --seeds 5")
    paired = spread.pairs is not None
    needed = runs_to_resolve(effect / 100, spread.deviation, paired=paired)
    if as_json:
        print_json(
            {
                "effect_points": effect,
                "deviation": spread.deviation,
                "stored_pairs": spread.pairs,
                "method": "paired" if paired else "welch",
                "runs_of_each": needed,
                "power": POWER,
            }
        )
        return
    points = f"{100 * spread.deviation:.3f} points"
    count = about(needed or 0)
    if paired:
        runs = f"{count} pairs of runs: one pair's difference varies by {points} (standard deviation, paired t"
        source = f"from {spread.pairs} stored pairs"
    else:
        runs = f"{count} runs of each: one run varies by {points} (standard deviation, Welch's t"
        source = f"from stored runs of {' and '.join(spread.recipes)}"
    stdout().print(
        f"A difference of {effect:g} points shows (p < 0.05) with {POWER:.0%} chance in {runs}, {source}).",
        markup=False,
        soft_wrap=True,
    )
