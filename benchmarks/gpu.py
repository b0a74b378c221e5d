"""The GPU programme: what benchmarks/gpu.sh runs.

    python benchmarks/gpu.py --out results [--parts correctness,mnist,…] [--minutes 9] [--peer FILE[=RECIPE]]

Parts, in this order: ``correctness`` (every recipe's first 20 losses on the GPU against the CPU's, in float32 and in
the recipe's own precision), ``records`` (the fastest recipes, many seeds), ``peers`` (scripts handed in, interleaved
with our recipe), ``mnist`` (every rung), ``short`` (two epochs of every CIFAR-10 rung) and ``cifar`` (every rung),
``profile`` (kernels, share of the measured peak, launch gaps), ``memory``.
Everything is appended to the folder as it comes: runs to ``runs.sqlite``, the rest to ``PART.jsonl``. A later call does
what is still missing. ``--tiny`` rehearses all of it in a minute on synthetic images, also on a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import peers
from hotlap import datasets
from hotlap.bench.session import Session, resolve_recipe
from hotlap.datasets import ImageData
from hotlap.engine.devices import choose_device, synchroniser
from hotlap.engine.environment import capture
from hotlap.engine.loop import Silent, train_seeds
from hotlap.engine.program import Program
from hotlap.engine.steps import EagerSteps, Steps, dummy_batch, make_steps, planned_steps
from hotlap.errors import HotlapError
from hotlap.ladder import Ladder, get_recipe, ladders, recipes, resolve
from hotlap.ladders import DEFAULTS
from hotlap.recipe import Recipe, part, paths
from hotlap.store import Store

FASTEST = ["mnist/record-gpu", "cifar10/record", *DEFAULTS.values(), "cifar10-airbench/94-muon"]
"""Own recipes, those for GPUs first, and the published one that they are measured against."""
STEPS = 20
TOLERANCE = {"fp32": 0.02, "fp16": 0.05, "bf16": 0.1}
"""Largest relative difference of any of the first 20 losses: rounding grows from step to step."""

SEEDS_OF_RUNG, SEEDS_OF_RECORD, SEEDS_OF_FINAL, SEEDS_OF_SHORT = {"mnist": 10, "cifar": 5}, 50, 100, 3
TINY_WIDTH = 8


class Programme:
    """What all parts share: where results go, how long there is, and how recipes are made smaller for a rehearsal."""

    def __init__(self, out: Path, device: torch.device, minutes: float, *, tiny: bool, only: str) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.device, self.tiny, self._only = out, device, tiny, only
        self._end = time.monotonic() + 60 * minutes

    @property
    def left_s(self) -> float:
        return self._end - time.monotonic()

    def lines(self, part_: str) -> list[dict[str, Any]]:
        """Return what a part has written so far; a line that an interruption cut off does not count."""
        path = self.out / f"{part_}.jsonl"
        found = []
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def write(self, part_: str, **fields: Any) -> None:
        path = self.out / f"{part_}.jsonl"
        cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
        with path.open("a") as file:
            file.write("\n" * cut_off + json.dumps(fields) + "\n")
        shown = {k: v for k, v in fields.items() if isinstance(v, str | int | float | bool)}
        print(f"{part_}: " + ", ".join(f"{k} {v:.5g}" if isinstance(v, float) else f"{k} {v}" for k, v in shown.items()
                                        if k != "output"), flush=True)  # fmt: skip

    def chosen(self, names: Sequence[str]) -> list[str]:
        """Leave out the recipes that were not asked for."""
        return [name for name in names if fnmatch(name, self._only)]

    def todo(self, part_: str, names: Sequence[str]) -> Iterator[str]:
        """Yield the names without a line yet, as long as there is time."""
        done = {line["recipe"] for line in self.lines(part_)}
        for name in self.chosen(names):
            if name not in done and self.left_s > 0:
                yield name

    def recipe(self, name: str) -> Recipe:
        """Return a recipe, for a rehearsal much smaller and on synthetic images."""
        recipe = get_recipe(name)
        if not self.tiny:
            return recipe
        channels, size = (1, 28) if recipe.data.name == "mnist" else (3, 32)
        small = part(
            "synthetic", train=64, test=32, size=size, channels=channels, classes=10, seed=0, noise=0.2
        )  # fmt: skip
        changes: dict[str, Any] = {"data": small, "batch_size": 16, "epochs": 1.0}
        for path in paths(recipe):
            if path.endswith("widths") or path.endswith("hidden"):
                value = paths(recipe)[path]
                assert isinstance(value, tuple)
                changes[path] = (TINY_WIDTH,) * len(value)
        return recipe.with_changes(changes)


@dataclass(frozen=True)
class _Losses(Silent):
    """An observer that keeps every loss on the device."""

    seen: list[Tensor] = field(default_factory=list)

    def step(self, done: int, loss: Tensor) -> None:
        self.seen.append(loss.detach().clone())


def comparable(recipe: Recipe, precision: str) -> Recipe:
    """Return the recipe's first 20 steps without what draws on the device: augmentation and dropout."""
    changes: dict[str, Any] = {"augment": (), "mixing": None, "stop_at": None, "engine.precision": precision}
    changes |= {path: 0.0 for path in paths(recipe) if path.endswith("dropout")}
    changes["batch_size"] = min(recipe.batch_size, 256)
    return recipe.with_changes(changes)


def losses_of(recipe: Recipe, data: ImageData, device: torch.device) -> list[float]:
    """Train the first steps of a recipe on a device and return their losses."""
    per_epoch = len(data.x_train) // recipe.batch_size
    short = recipe.with_changes({"epochs": min(STEPS, 4 * per_epoch) / per_epoch})
    watch = _Losses()
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = recipe.engine.precision != "fp32"
    try:
        train_seeds(short, lambda: data, (0,), device=device, observer=watch, timing_valid=False)
    finally:
        torch.backends.cudnn.allow_tf32 = before
    return [float(loss) for loss in watch.seen]


def correctness(to: Programme) -> None:
    """(a) Losses on the device against losses on the CPU, for every recipe."""
    for name in to.todo("correctness", sorted(recipes())):
        recipe = to.recipe(name)
        data = datasets.load(recipe.data.name, **recipe.data.options)
        own = recipe.engine.precision if recipe.engine.precision in ("fp16", "bf16") else None
        try:
            expected = losses_of(comparable(recipe, "fp32"), data, torch.device("cpu"))
            result: dict[str, Any] = {}
            for precision in ("fp32", *([own] if own else [])):
                found = losses_of(comparable(recipe, precision), data, to.device)
                worst = max(abs(f - e) / abs(e) for f, e in zip(found, expected, strict=True))
                result |= {precision: worst, f"{precision}_agrees": worst < TOLERANCE[precision]}
            to.write("correctness", recipe=name, steps=len(expected), **result, cpu=expected)
        except HotlapError as error:
            to.write("correctness", recipe=name, error=str(error))


def _measure(
    to: Programme, names: Sequence[str], seeds_of: Callable[[str], int], changes: Mapping[str, Any] | None = None
) -> None:
    """Train the runs of recipes that the store lacks, one recipe after another: what was recorded is used again."""
    with Store(to.out / "runs.sqlite") as store:
        session = Session(device=str(to.device), store=store)
        for name in to.chosen(names):
            recipe = resolve_recipe(to.recipe(name), changes=changes)
            done = session.finished(recipe)
            for seed in range(2 if to.tiny else seeds_of(name)):
                if seed in done:
                    continue
                if to.left_s <= 0:
                    return
                try:
                    run = session.run(recipe, seed)
                except HotlapError as error:
                    to.write("refused", recipe=recipe.name, error=str(error))
                    break
                print(f"{recipe.name} seed {seed}: {run.accuracy} in {run.certified_s:.3f} s", flush=True)


def records(to: Programme) -> None:
    """(b, c) The recipes that carry claims, over many seeds."""
    _measure(to, FASTEST, lambda name: SEEDS_OF_FINAL if name.startswith("mnist") else SEEDS_OF_RECORD)


def _rungs(of: str, first: int = 0) -> list[str]:
    own = [ladder for name, ladder in ladders().items() if isinstance(ladder, Ladder) and name.startswith(of)]
    return [step.recipe.name for ladder in own for step in resolve(ladder) if step.index >= first]


def mnist(to: Programme) -> None:
    """(b) The MNIST ladder from rung 2 up."""
    _measure(to, _rungs("mnist", 2)[::-1], lambda _: SEEDS_OF_RUNG["mnist"])


def cifar(to: Programme) -> None:
    """(c) Every rung of the CIFAR-10 ladders, the shortest first."""
    names = sorted(_rungs("cifar10"), key=lambda name: get_recipe(name).epochs)
    _measure(to, names, lambda _: SEEDS_OF_RUNG["cifar"])


def short(to: Programme) -> None:
    """(c) Two epochs of every rung of the CIFAR-10 ladders, over three seeds: that each runs and learns."""
    names = sorted(_rungs("cifar10"), key=lambda name: get_recipe(name).epochs)
    _measure(to, names, lambda _: SEEDS_OF_SHORT, {"epochs": 2.0})


def side_by_side(to: Programme, handed_in: Sequence[str], rounds: int = 5) -> None:
    """(d) Peers' scripts and our recipe in turns, A B B A."""
    for text in handed_in:
        file, _, ours = text.partition("=")
        name = ours or "cifar10/record"
        done = sum(1 for line in to.lines("peers") if line["peer"] == Path(file).name)
        with Store(to.out / "peers.sqlite") as store:
            session = Session(device=str(to.device), store=store)
            for turn in range(done, 1 if to.tiny else rounds):
                if to.left_s <= 0:
                    return
                result: dict[str, Any] = {}
                for side in ("peer", "ours") if turn % 2 == 0 else ("ours", "peer"):
                    if side == "peer":
                        result["of_peer"] = peers.run_peer(Path(file), max(60.0, to.left_s))
                    else:
                        run = session.run(to.recipe(name), turn)
                        result["of_ours"] = {"accuracy": run.accuracy, "seconds": run.certified_s, "phases": run.phases}
                last = result["of_peer"]["runs"][-1:] or [{}]
                to.write(
                    "peers", peer=Path(file).name, recipe=name, round=turn, **result,
                    peer_s=last[0].get("seconds"), our_s=result["of_ours"]["seconds"],
                )  # fmt: skip


def stepper(recipe: Recipe, device: torch.device, kind: Callable[..., Steps] = make_steps) -> Callable[[], None]:
    """Return a function that trains a recipe's network for one step on random images, after two epochs' warm-up."""
    channels, size = (1, 28) if recipe.feed.mean is not None and len(recipe.feed.mean) == 1 else (3, 32)
    program = Program(recipe, (channels, size, size), 10, device, 1)
    steps = kind(recipe, program, device)
    steps.warm_up(2 * recipe.batch_size)
    steps.begin()
    batch = dummy_batch(recipe, program, recipe.batch_size, None, device)
    last = planned_steps(recipe, 2) - 1
    return lambda: steps(batch, 1.0, last, last + 1, 2) and None


def peak_flops(to: Programme) -> float:
    """Return FLOP per second of a large half-precision matrix product (float32 on a CPU), median of ten."""
    n, dtype = (256, torch.float32) if to.device.type == "cpu" else (8192, torch.float16)
    a, b = (torch.randn(n, n, device=to.device, dtype=dtype) for _ in range(2))
    return 2 * n**3 / _median_s(lambda: torch.mm(a, b), to.device, 10)


def _median_s(work: Callable[[], Any], device: torch.device, times: int) -> float:
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


def profile(to: Programme) -> None:
    """(e) Where a training step's time goes, and what share of the measured peak it reaches."""
    from torch.profiler import ProfilerActivity
    from torch.utils.flop_counter import FlopCounterMode

    peak = peak_flops(to)
    for name in to.todo("profile", FASTEST):
        recipe = to.recipe(name)
        step = stepper(recipe, to.device)
        alone = _median_s(step, to.device, 20)
        by_operation = stepper(recipe.with_changes({"engine.compile": False}), to.device, EagerSteps)
        eager = _median_s(by_operation, to.device, 5)
        with FlopCounterMode(display=False) as counted:
            by_operation()
        gpu = to.device.type == "cuda"
        with torch.profiler.profile(
            activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
        ) as seen:
            for _ in range(3):
                step()
            synchroniser(to.device)()
        table = seen.key_averages()
        spent = {e.key: (e.self_device_time_total if gpu else e.self_cpu_time_total) / 3e6 for e in table}
        top = dict(sorted(spent.items(), key=lambda pair: -pair[1])[:25])
        flop = counted.get_total_flops()
        to.write(
            "profile", recipe=name, step_s=alone, step_by_operation_s=eager, flop=flop, flop_per_s=flop / alone,
            peak_flop_per_s=peak, share_of_peak=flop / alone / peak, busy_share=sum(spent.values()) / alone,
            kernels_s=top,
        )  # fmt: skip


def memory(to: Programme) -> None:
    """(f) Device memory at the peak of a training step."""
    for name in to.todo("memory", sorted(recipes())):
        if to.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        stepper(to.recipe(name), to.device)()
        held = torch.cuda.max_memory_allocated() if to.device.type == "cuda" else None
        to.write("memory", recipe=name, peak_bytes=held)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; grows from call to call")
    parser.add_argument("--parts", default="", help="which parts, divided by commas; all when left out")
    parser.add_argument("--minutes", type=float, default=9.0, help="start nothing new after this")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--peer", action="append", default=[], metavar="FILE[=RECIPE]", help="a peer's training script")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="recipes of all parts but peers")
    parser.add_argument("--tiny", action="store_true", help="rehearse: synthetic images, narrow networks, two seeds")
    asked = parser.parse_args(arguments)
    try:
        to = Programme(asked.out, choose_device(asked.device), asked.minutes, tiny=asked.tiny, only=asked.only)
    except HotlapError as error:
        print(error, file=sys.stderr)
        return 2
    parts: Mapping[str, Callable[[Programme], None]] = {
        "correctness": correctness,
        "records": records,
        "peers": partial(side_by_side, handed_in=asked.peer),
        "mnist": mnist,
        "short": short,
        "cifar": cifar,
        "profile": profile,
        "memory": memory,
    }
    chosen = asked.parts.split(",") if asked.parts else list(parts)
    if unknown := [name for name in chosen if name not in parts]:
        print(f"no such part: {', '.join(unknown)}; there are {', '.join(parts)}", file=sys.stderr)
        return 2
    if not to.lines("environment"):
        to.write("environment", **asdict(capture(to.device)))
    for name in chosen:
        if to.left_s <= 0:
            print(f"the time is up before {name}: the same call goes on from here", flush=True)
            break
        parts[name](to)
    return 0


if __name__ == "__main__":
    sys.exit(main())
