"""The GPU programme: what benchmarks/gpu.sh runs.

    python benchmarks/gpu.py --out results [--parts correctness,mnist,…] [--minutes 9] [--peer FILE[=RECIPE]]

Parts, in this order: ``correctness`` (every recipe's first losses on the GPU against the CPU's, in float32 and in
the recipe's own precision), ``records`` (the fastest recipes, many seeds), ``peers`` (scripts handed in, in turns
with our recipe), ``mnist`` (every rung), ``short`` (two epochs of every CIFAR-10 rung) and ``cifar`` (every rung),
``profile`` (kernels, share of the measured peak, launch gaps), ``memory``. ``references``, on a CPU beforehand, writes
down what ``correctness`` compares with, so that no GPU waits for it.
Everything is appended to the folder as it comes: runs to ``runs.sqlite``, the rest to ``PART.jsonl``, and all of it to
one file where few are given back (``--bundle``). A later call does what is still missing on this GPU. A recipe that
fails has its error for a line and is left out from then on, unless ``--again``; one whose images are not in the cache
is left out. Exit status 3: CUDA refuses everything after an error, and the same call goes on behind it.
What each part of warm-up takes goes to standard error.
``--tiny`` rehearses all of it in a minute on synthetic images, also on a CPU.
"""

from __future__ import annotations

import argparse
import gc
import logging
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType

import peers
from gpu_correctness import References, correctness, references
from gpu_results import LostDeviceError, Programme
from hotlap.bench.session import Session, resolve_recipe
from hotlap.engine.backends import forget_trainers
from hotlap.engine.devices import choose_device, choosing_kernels, synchroniser
from hotlap.engine.environment import capture
from hotlap.engine.program import Program
from hotlap.engine.recording import recorder_for
from hotlap.engine.steps import dummy_batch, make_steps, planned_steps
from hotlap.errors import HotlapError
from hotlap.ladder import Ladder, get_recipe, ladders, recipes, resolve
from hotlap.ladders import ON_GPU
from hotlap.recipe import Recipe
from hotlap.store import Store

FASTEST = [*ON_GPU.values(), "cifar10-airbench/94-muon"]
"""What a data set's name stands for on a GPU, and the published recipe that it is measured against."""

SEEDS_OF_RUNG, SEEDS_OF_RECORD, SEEDS_OF_FINAL, SEEDS_OF_SHORT = {"mnist": 10, "cifar": 5}, 50, 100, 3
ROUNDS, RUNS_OF_ROUND = 3, 5
"""Rounds beside a peer, and runs of each side in one: a peer's own warm-up may take minutes in each."""
FIRST_SEED = 10_000
"""Of the run of ours that comes before the rounds, and does not count."""


def _measure(
    to: Programme,
    part_: str,
    names: Sequence[str],
    seeds_of: Callable[[str], int],
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Train the runs of recipes that the store lacks, one recipe after another: what was recorded is used again."""
    with Store(to.out / "runs.sqlite") as store:
        session = Session(device=str(to.device), store=store)
        for name in to.todo(part_, names):
            with to.trying(part_, name):
                recipe = resolve_recipe(to.recipe(name), changes=changes)
                done = session.finished(recipe)
                for seed in range(to.seeds_at_most(seeds_of(name))):
                    if seed in done:
                        continue
                    if to.left_s <= 0:
                        return
                    run = session.run(recipe, seed)
                    print(f"{recipe.name} seed {seed}: {run.accuracy} in {run.certified_s:.3f} s", flush=True)
                    to.keep(at_once=False)


def records(to: Programme) -> None:
    """(b, c) The recipes that carry claims, over many seeds."""
    seeds_of = lambda name: SEEDS_OF_FINAL if name.startswith("mnist") else SEEDS_OF_RECORD  # noqa: E731
    _measure(to, "records", FASTEST, seeds_of)


def _rungs(of: str, first: int = 0) -> list[str]:
    own = [ladder for name, ladder in ladders().items() if isinstance(ladder, Ladder) and name.startswith(of)]
    return [step.recipe.name for ladder in own for step in resolve(ladder) if step.index >= first]


def mnist(to: Programme) -> None:
    """(b) The MNIST ladder from rung 2 up."""
    _measure(to, "mnist", _rungs("mnist", 2)[::-1], lambda _: SEEDS_OF_RUNG["mnist"])


def cifar(to: Programme) -> None:
    """(c) Every rung of the CIFAR-10 ladders, the shortest first."""
    names = sorted(_rungs("cifar10"), key=lambda name: get_recipe(name).epochs)
    _measure(to, "cifar", names, lambda _: SEEDS_OF_RUNG["cifar"])


def short(to: Programme) -> None:
    """(c) Two epochs of every rung of the CIFAR-10 ladders, over three seeds: that each runs and learns."""
    names = sorted(_rungs("cifar10"), key=lambda name: get_recipe(name).epochs)
    _measure(to, "short", names, lambda _: SEEDS_OF_SHORT, {"epochs": 2.0})


def side_by_side(to: Programme, handed_in: Sequence[str]) -> None:
    """(d) Peers' scripts and our recipe in turns: ours, the peer, the peer, ours …

    Each side writes its line at once. A round is done when both sides of one call have times; the first run of a
    peer's process and of ours are left out.
    """
    call = time.time()
    for text in handed_in:
        file, _, ours = text.partition("=")
        peer, name = Path(file).name, ours or ON_GPU["cifar10"]
        if not to.at_hand(name):
            print(f"peers: {name} is left out: its images are not in the cache", flush=True)
            continue
        with to.trying("peers", name), Store(to.out / "peers.sqlite") as store:
            session = Session(device=str(to.device), store=store)
            first_is_over = False
            for turn in range(rounds_done(to.lines("peers"), peer), 1 if to.tiny else ROUNDS):
                for side in ("ours", "peer") if turn % 2 == 0 else ("peer", "ours"):
                    if to.left_s <= 0:
                        return
                    if side == "ours" and not first_is_over:
                        session.train(to.recipe(name), FIRST_SEED)
                        first_is_over = True
                    result = _ours(to, session, name, turn) if side == "ours" else _of_peer(to, Path(file))
                    to.write("peers", peer=peer, recipe=name, round=turn, call=call, side=side, **result)
                    if "error" in result:
                        break
                else:
                    continue
                break


def _ours(to: Programme, session: Session, name: str, turn: int) -> dict[str, Any]:
    runs = []
    for seed in range(turn * RUNS_OF_ROUND, (turn + 1) * RUNS_OF_ROUND):
        run = session.run(to.recipe(name), seed)
        runs.append({"accuracy": run.accuracy, "seconds": run.certified_s, "phases": run.phases})
    return {"median_s": statistics.median(run["seconds"] for run in runs), "runs": runs}


def _of_peer(to: Programme, script: Path) -> dict[str, Any]:
    found = peers.run_peer(script, to.left_s, RUNS_OF_ROUND + 1)
    later = found["runs"][1:]
    if found["status"] in ("failed", "late") or not later:
        return found | {"error": f"{found['status']} after {len(found['runs'])} runs"}
    return found | {"median_s": statistics.median(run["seconds"] for run in later)}


def rounds_done(lines: Iterable[Mapping[str, Any]], peer: str) -> int:
    """Count the rounds beside a peer in which both sides of one call have times."""
    sides = Counter((line["call"], line["round"]) for line in lines if line.get("peer") == peer and "median_s" in line)
    return sum(count == 2 for count in sides.values())


def stepper(to: Programme, recipe: Recipe, *, by_operation: bool = False) -> Callable[[], None]:
    """Return a function that trains a recipe's network for one step on random images, after two epochs' warm-up."""
    device = to.device
    program = Program(recipe, *to.shape_of(recipe), device, 1)
    steps = make_steps(recipe, program, device, None if by_operation else recorder_for(recipe, device))
    steps.warm_up(2 * recipe.batch_size)
    steps.begin()
    batch = dummy_batch(recipe, program, recipe.batch_size, None, device)
    last = planned_steps(recipe, 2) - 1
    return lambda: steps(batch, 1.0, last, last + 1, 2) and None


def peak_flops(to: Programme) -> float:
    """Return FLOP per second of a large half-precision matrix product (float32 on a CPU), median of ten."""
    n, dtype = (256, torch.float32) if to.device.type == "cpu" else (8192, torch.float16)
    a, b = (torch.randn(n, n, device=to.device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / median_s(lambda: torch.mm(a, b), to.device, 10)


def median_s(work: Callable[[], Any], device: torch.device, times: int) -> float:
    wait = synchroniser(device)
    taken = []
    for repeat in range(times + 3):
        wait()
        start = time.perf_counter()
        work()
        wait()
        if repeat >= 3:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def spent_s(events: Iterable[Any], steps: int, *, gpu: bool) -> dict[str, float]:
    """Return seconds of a step by kernel, or by operation on a CPU.

    A profile of a GPU holds each kernel's time twice: as the kernel's, and as that of the operation that started it.
    """
    spent: Counter[str] = Counter()
    for event in events:
        if not gpu:
            spent[event.key] += event.self_cpu_time_total / 1e6 / steps
        elif event.device_type == DeviceType.CUDA and not getattr(event, "is_user_annotation", False):
            spent[event.key] += event.self_device_time_total / 1e6 / steps
    return dict(spent)


def profile(to: Programme) -> None:
    """(e) Where a training step's time goes, and what share of the measured peak it reaches."""
    peak = peak_flops(to)
    for name in to.todo("profile", FASTEST):
        with to.trying("profile", name), choosing_kernels(to.device):
            to.write("profile", recipe=name, peak_flop_per_s=peak, **_profiled(to, to.recipe(name), peak))


def _profiled(to: Programme, recipe: Recipe, peak: float) -> dict[str, Any]:
    from torch.profiler import ProfilerActivity
    from torch.utils.flop_counter import FlopCounterMode

    device = to.device
    step = stepper(to, recipe)
    alone = median_s(step, device, 20)
    by_operation = stepper(to, recipe.with_changes({"engine.compile": False}), by_operation=True)
    eager = median_s(by_operation, device, 5)
    with FlopCounterMode(display=False) as counted:
        by_operation()
    gpu = device.type == "cuda"
    with torch.profiler.profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]) as seen:
        for _ in range(3):
            step()
        synchroniser(device)()
    spent = spent_s(seen.key_averages(), 3, gpu=gpu)
    flop = counted.get_total_flops()
    return {
        "step_s": alone,
        "step_by_operation_s": eager,
        "flop": flop,
        "flop_per_s": flop / alone,
        "share_of_peak": flop / alone / peak,
        "busy_share": sum(spent.values()) / alone,
        "kernels_s": dict(sorted(spent.items(), key=lambda pair: -pair[1])[:25]),
    }


def memory(to: Programme) -> None:
    """(f) Device memory at the peak of a training step."""
    gpu = to.device.type == "cuda"
    for name in to.todo("memory", sorted(recipes())):
        with to.trying("memory", name), choosing_kernels(to.device):
            # What earlier parts keep for later runs is not this recipe's.
            forget_trainers()
            gc.collect()
            if gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(to.device)
            before = torch.cuda.memory_allocated(to.device) if gpu else 0
            stepper(to, to.recipe(name))()
            held = torch.cuda.max_memory_allocated(to.device) - before if gpu else None
            to.write("memory", recipe=name, peak_bytes=held)


def _budget(text: str) -> tuple[str, float]:
    name, _, minutes = text.partition("=")
    return name, float(minutes)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; grows from call to call")
    parser.add_argument("--parts", default="", help="which parts, divided by commas; all but references when left out")
    parser.add_argument("--minutes", type=float, default=9.0, help="start nothing new after this")
    parser.add_argument(
        "--budget", type=_budget, action="append", default=[], metavar="PART=MINUTES", help="nor in a part after this"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peer", action="append", default=[], metavar="FILE[=RECIPE]", help="a peer's training script")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="recipes of all parts but peers")
    parser.add_argument("--seeds", type=int, metavar="N", help="train no more than so many seeds of a recipe")
    parser.add_argument("--references", type=Path, metavar="FILE", help="losses on a CPU; what it lacks is added")
    parser.add_argument("--bundle", type=Path, metavar="FILE", help="keep the whole folder in this .tar.gz too")
    parser.add_argument("--again", action="store_true", help="try what ended in an error again")
    parser.add_argument("--tiny", action="store_true", help="rehearse: synthetic images, narrow networks, two seeds")
    asked = parser.parse_args(arguments)
    known = References(asked.references)
    parts: Mapping[str, Callable[[Programme], None]] = {
        "references": partial(references, known=known),
        "correctness": partial(correctness, known=known),
        "records": records,
        "peers": partial(side_by_side, handed_in=asked.peer),
        "mnist": mnist,
        "short": short,
        "cifar": cifar,
        "profile": profile,
        "memory": memory,
    }
    budgets = dict(asked.budget)
    chosen = asked.parts.split(",") if asked.parts else list(parts)[1:]
    if unknown := [name for name in (*chosen, *budgets) if name not in parts]:
        print(f"no such part: {', '.join(unknown)}; there are {', '.join(parts)}", file=sys.stderr)
        return 2
    try:
        to = Programme(
            out=asked.out, device=choose_device(asked.device), minutes=asked.minutes, tiny=asked.tiny, only=asked.only,
            again=asked.again, budgets=budgets, bundle=asked.bundle, seeds=asked.seeds,
        )  # fmt: skip
    except HotlapError as error:
        print(error, file=sys.stderr)
        return 2
    if not to.lines("environment"):
        to.write("environment", **asdict(capture(to.device)))
    try:
        for name in chosen:
            to.begin(name)
            if to.left_s <= 0:
                print(f"the time is up before {name}: the same call goes on from here", flush=True)
                break
            if to.given_up(name):
                print(f"{name} is left out: it ended in an error; --again tries it", flush=True)
                continue
            with to.trying(name, ""):
                parts[name](to)
            to.keep()
    except LostDeviceError as lost:
        print(f"the GPU answers no more after {lost}: the same call goes on behind it", file=sys.stderr)
        return 3
    finally:
        to.keep()
    return 0


def _stop(signal_: int, frame: object) -> None:
    """End as on Ctrl-C, so that the bundle is written, when a time limit says so."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("hotlap.engine.warmup").setLevel(logging.DEBUG)
    sys.exit(main())
