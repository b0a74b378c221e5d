"""``hotlap compare``: two recipes, interleaved, with intervals."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hotlap.cli import options
from hotlap.cli.output import print_json, stdout
from hotlap.errors import InputError

if TYPE_CHECKING:
    from hotlap.result import Run
    from hotlap.stats.comparison import MeanDifference, TimeRatio


def compare(
    a: Annotated[str, typer.Argument(help="Baseline recipe.")],
    b: Annotated[str | None, typer.Argument(help="Other recipe; the baseline with --set when left out.")] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="How many seeds of each (10), or which (3..7).")] = "5",
    set_: options.Set = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    shared: options.Shared = False,
    store: options.StorePath = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare two recipes by runs in turn (A B B A …): difference of accuracy and ratio of times, with intervals."""
    from hotlap.bench.order import interleave
    from hotlap.bench.session import Session, resolve_recipe
    from hotlap.cli.progress import RunProgress
    from hotlap.store import Store

    baseline = resolve_recipe(a)
    if b is None and not set_:
        raise InputError("nothing to compare with", "name a second recipe, or change the first with --set")
    other = resolve_recipe(b if b is not None else a, changes=options.changes(set_))
    if baseline.digest == other.digest:
        raise InputError(f"{a} and {b or a} are one recipe (digest {baseline.digest[:12]})")
    chosen = options.parse_seeds(seeds)
    runs: dict[str, list[Run]] = {baseline.digest: [], other.digest: []}
    with Store(store) as opened, RunProgress(2 * len(chosen), quiet=quiet or json) as progress:
        session = Session(
            device=device,
            threads=threads,
            store=opened,
            observer=progress,
            download=progress,
            timing_valid=not shared,
        )
        for number, recipe in interleave((baseline, other), len(chosen)):
            run = session.run(recipe, chosen[number])
            runs[recipe.digest].append(replace(run, module=None))
            progress.say(f"{recipe.name} seed {run.seed}: {run.accuracy or 0:.2%} in {run.certified_s:.2f} s")
    _report(runs[baseline.digest], runs[other.digest], as_json=json)


def _report(a: list[Run], b: list[Run], *, as_json: bool) -> None:
    from hotlap.report.tables import summary_line
    from hotlap.stats.comparison import time_ratio, welch_difference
    from hotlap.stats.summary import summarise

    finished = [(x, y) for x, y in zip(a, b, strict=True) if x.accuracy is not None and y.accuracy is not None]
    if not finished:
        raise InputError("no pair of runs finished, so there is nothing to compare", "hotlap runs --status failed")
    difference = welch_difference([x.accuracy or 0.0 for x, _ in finished], [y.accuracy or 0.0 for _, y in finished])
    ratio = time_ratio([x.certified_s for x, _ in finished], [y.certified_s for _, y in finished])
    summaries = summarise(a), summarise(b)
    if as_json:
        document: dict[str, Any] = {
            "a": summaries[0].to_dict(),
            "b": summaries[1].to_dict(),
            "accuracy": asdict(difference),
            "time_ratio": asdict(ratio),
            "sentence": sentence(a[0].recipe.name, b[0].recipe.name, difference, ratio),
        }
        print_json(document)
        return
    console = stdout()
    for summary in summaries:
        console.print(f"{summary.recipe}: {summary_line(summary)}", markup=False, soft_wrap=True)
    console.print(sentence(a[0].recipe.name, b[0].recipe.name, difference, ratio), markup=False, soft_wrap=True)


def sentence(a: str, b: str, difference: MeanDifference, ratio: TimeRatio) -> str:
    """Write a comparison as one sentence that can be quoted; points are percentage points of accuracy."""
    points = f"{100 * difference.difference:+.3f} points"
    if difference.ci95 is not None:
        low, high = (100 * bound for bound in difference.ci95)
        points += f" [{low:+.3f}, {high:+.3f}], p = {difference.p:.2g}"
        if not difference.resolved and difference.runs_needed:
            points += (
                f", unresolved (about {difference.runs_needed} runs of each would settle a difference of this size)"
            )
    times = f"{ratio.ratio:.3g} times as fast"
    if ratio.ci95 is not None:
        times += f" [{ratio.ci95[0]:.3g}, {ratio.ci95[1]:.3g}]"
    return f"{b} against {a}: accuracy {points}; {times}, over {ratio.pairs} interleaved pairs (95 % intervals)."
