"""The ladder cifar10-cpu beside cifar10-airbench/94-muon written plainly in eager PyTorch, on the same cores.

    python benchmarks/cifar_cpu.py steps --rounds 5 [--minutes 8]
    python benchmarks/cifar_cpu.py certify --seeds 10 [--minutes 8]

``steps`` measures one training step of every size of image that a rung trains on, and one batch of its evaluation, each
in a process of its own, in interleaved rounds; a rung's time is the sum over its steps, as a share of that of the plain
reading. It compares processor time, so that it can be used beside other work, and prints wall time too.

``certify`` trains the last rung with one seed after another and, before each, times steps of the plain reading, whose
whole run would take an hour: 200 times the median step, plus six views of the test images. On a quiet machine only.

Both stop after ``--minutes`` and go on where they were when called again (a run in its middle, from its last whole
epoch). Raw figures go to benchmarks/results/cifar_cpu.jsonl as they come.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from hotlap.bench.order import interleave
from hotlap.ladder import Step, get_ladder, resolve
from hotlap.recipe import Recipe
from hotlap.stats.comparison import time_ratio
from hotlap.stats.intervals import mean, mean_interval

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "cifar_cpu.jsonl"
STORE = HERE / "results" / "cifar_cpu.sqlite"
LADDER = "cifar10-cpu"
TRAIN, TEST, SIDE = 50_000, 10_000, 32
PLAIN_STEPS, PLAIN_BATCH, PLAIN_VIEWS = 200, 2000, 6

Times = list[tuple[float, float]]
"""Of each step: seconds on the clock, and of processor time over all threads."""


def timed(step: Callable[[], Any], count: int) -> Times:
    """Time ``step``, after one that is not timed."""
    taken = []
    for _ in range(count + 1):
        clock, processor = time.perf_counter(), time.process_time()
        step()
        taken.append((time.perf_counter() - clock, time.process_time() - processor))
    return taken[1:]


def plain(count: int) -> dict[str, Times]:
    """Time training steps and evaluated batches of the plain reading."""
    import torch

    sys.path.insert(0, str(HERE.parent / "tests" / "parity"))
    import plain_cifar_airbench as airbench

    facts = airbench.MUON["94-muon"]
    network = airbench.muon_net_of(facts, facts.widths)
    images, labels = torch.randn(PLAIN_BATCH, 3, SIDE, SIDE), torch.randint(10, (PLAIN_BATCH,))
    marks: Times = []

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        # The whitening bias is frozen from the fourth epoch on, as in most of the run; three tiny ones go before.
        yield from [(images[:10], labels[:10])] * 3
        for _ in range(count + 1):
            marks.append((time.perf_counter(), time.process_time()))
            yield images, labels

    airbench.train_muon(
        facts, network, batches(), batch=PLAIN_BATCH, per_epoch=1, total=PLAIN_STEPS, count=count + 4
    )  # fmt: skip
    marks.append((time.perf_counter(), time.process_time()))
    network.eval()
    with torch.no_grad():
        answers = timed(lambda: network(images), count)
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(marks[1:])]
    return {"step": steps, "answer": answers}


def ours(recipe: Recipe, side: int, count: int) -> dict[str, Times]:
    """Time training steps and evaluated batches of a recipe, on images of a size."""
    import torch

    from hotlap.engine.allocator import keeping_memory
    from hotlap.engine.precision import context
    from hotlap.engine.program import Program
    from hotlap.engine.updates import Updates

    def batch(size: int, side: int) -> torch.Tensor:
        return torch.randn(size, 3, side, side).contiguous(memory_format=torch.channels_last)

    with keeping_memory():
        program = Program(recipe, (3, SIDE, SIDE), 10, torch.device("cpu"), 1)
        updates = Updates(recipe, program.weights(recipe))
        images, labels = batch(recipe.batch_size, side), torch.randint(10, (recipe.batch_size,))

        def step() -> None:
            # Late in the run, when the whitening bias has come to rest, as in the plain reading.
            updates.zero_grad(90, 10)
            with context(program.precision, images.device):
                loss = program.losses(images, labels)
            program.backward(loss)
            updates.step(90, 100, 10)

        found = {"step": timed(step, count)}
        program.network.eval()
        views = batch(recipe.evaluation.batch_size, SIDE)
        with torch.no_grad(), context(program.precision, images.device):
            found["answer"] = timed(lambda: program.answer(views), count)
    return found


def sizes(recipe: Recipe) -> dict[int, int]:
    """Count a recipe's training steps by the side of their images."""
    from hotlap.techniques import AUGMENTATIONS
    from hotlap.techniques.base import Resizing

    per_epoch = TRAIN // recipe.batch_size
    total = math.ceil(recipe.epochs * per_epoch - 1e-9)
    found: dict[int, int] = {}
    for epoch in range(math.ceil(total / per_epoch)):
        size = (SIDE, SIDE)
        for component in recipe.augment:
            augment = AUGMENTATIONS.build(component)
            if isinstance(augment, Resizing):
                size = augment.size_at(epoch, recipe.epochs, size)
        found[size[0]] = found.get(size[0], 0) + min(per_epoch, total - epoch * per_epoch)
    return found


def views_of(recipe: Recipe) -> float:
    """Return how many views of each test image the evaluation looks at, on average."""
    how = recipe.evaluation.augmentation
    if how is None:
        return 1.0
    if how.name == "selective":
        return 1.0 + float(how.options["share"]) * PLAIN_VIEWS
    return {"mirror": 2.0, "six-view": 6.0}[how.name]


def measured(step: Step, side: int) -> str:
    """Name what is measured: rungs that share network, optimizer and batch share their steps."""
    same = step.recipe.with_changes({"augment": (), "epochs": 1.0, "evaluation.augmentation": None})
    return f"{same.digest[:12]}@{side}"


def lines() -> list[dict[str, Any]]:
    """Read what was measured before."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def keep(line: dict[str, Any]) -> None:
    """Write one line at once."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


def child(name: str, count: int) -> dict[str, Times]:
    """Measure in a process of its own, so that neither side warms up the other's memory."""
    command = [sys.executable, __file__, "one", "--name", name, "--steps", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Times] = json.loads(done.stdout)
    return found


def steps(rounds: int, count: int, deadline: float) -> None:
    """Measure what is missing, then print every rung's share of the plain reading's time."""
    ladder = resolve(get_ladder(LADDER))
    names = {"plain": "plain"}
    for step in ladder:
        names |= {measured(step, side): f"{step.rung.name}@{side}" for side in sizes(step.recipe)}
    found = {(line["name"], line["round"]): line for line in lines() if line["what"] == "steps"}
    for number, name in interleave(tuple(names), rounds):
        if (name, number) in found:
            continue
        if time.monotonic() > deadline:
            sys.exit("out of time; call again to go on")
        line = {"what": "steps", "name": name, "rung": names[name], "round": number, **child(names[name], count)}
        found[name, number] = line
        keep(line)
        wall, processor = (statistics.median(taken[clock] for taken in line["step"]) for clock in (0, 1))
        print(f"round {number} {names[name]}: {wall:.2f} s a step, {processor:.2f} s of processor time", flush=True)

    def cost(name: str, kind: str, clock: int, number: int) -> float:
        return float(statistics.median(taken[clock] for taken in found[name, number][kind]))

    for clock, title in ((1, "processor time"), (0, "wall time")):
        print(f"\n{title}, as a share of the plain reading's run; medians and ranges over {rounds} rounds")
        for step in ladder:
            shares: list[list[float]] = [[], []]
            for number in range(rounds):
                whole = PLAIN_STEPS * cost("plain", "step", clock, number)
                whole += PLAIN_VIEWS * TEST / PLAIN_BATCH * cost("plain", "answer", clock, number)
                batches = views_of(step.recipe) * TEST / step.recipe.evaluation.batch_size
                by_size = sizes(step.recipe)
                training = sum(n * cost(measured(step, side), "step", clock, number) for side, n in by_size.items())
                shares[0].append(training / whole)
                shares[1].append(batches * cost(measured(step, SIDE), "answer", clock, number) / whole)
            both = [sum(pair) for pair in zip(*shares, strict=True)]
            print(f"  {step.rung.name:24} {statistics.median(both):.3f} [{min(both):.3f}, {max(both):.3f}]: training "
                  f"{statistics.median(shares[0]):.3f}, evaluation {statistics.median(shares[1]):.3f}; "
                  f"steps by side {sizes(step.recipe)}")  # fmt: skip


def certify(seeds: int, deadline: float) -> None:
    """Train the last rung on seeds that are missing, then print its accuracy and its share of the plain time."""
    name = resolve(get_ladder(LADDER))[-1].recipe.name
    plains = {line["seed"]: line for line in lines() if line["what"] == "plain"}
    runs = {line["seed"]: line for line in lines() if line["what"] == "run" and line["recipe"] == name}
    for seed in range(seeds):
        for kind, known in (("plain", plains), ("run", runs)):
            if seed in known:
                continue
            left = deadline - time.monotonic()
            if left < 60:
                sys.exit("out of time; call again to go on")
            line: dict[str, Any] = {"what": kind, "seed": seed, "recipe": name}
            line |= child("plain", 3) if kind == "plain" else one_run(name, seed, left)
            known[seed] = line
            keep(line)
            print(f"seed {seed} {kind}: {line.get('accuracy', '')} {line.get('seconds', '')}", flush=True)
    whole = [
        PLAIN_STEPS * statistics.median(wall for wall, _ in line["step"])
        + PLAIN_VIEWS * TEST / PLAIN_BATCH * statistics.median(wall for wall, _ in line["answer"])
        for line in (plains[seed] for seed in range(seeds))
    ]
    counting = [runs[seed]["seconds"] for seed in range(seeds) if runs[seed]["timing_valid"]]
    accuracies = [runs[seed]["accuracy"] for seed in range(seeds)]
    print(f"{name}: accuracy {mean(accuracies):.4f} {mean_interval(accuracies)}, {seeds} seeds")
    if len(counting) < seeds:
        print(f"{seeds - len(counting)} runs were interrupted or disturbed, so that their times do not count")
    if len(counting) == seeds:
        ratio = time_ratio(counting, whole)
        print(f"it takes {ratio.ratio:.3f} {ratio.ci95} of the plain reading's time")


def one_run(name: str, seed: int, limit: float) -> dict[str, Any]:
    """Train in a process of its own; what does not end in time goes on in the next call."""
    command = [sys.executable, "-m", "hotlap", "train", name, "--seeds", f"{seed}..{seed}", "--json", "--resume",
               "--store", str(STORE)]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        sys.exit("out of time; call again to go on")
    if done.returncode not in (0, 1):  # 1: a single seed below the target
        sys.exit(done.stderr)
    document = json.loads(done.stdout)
    run = document["runs"][0]
    return {
        "accuracy": document["accuracy_mean"],
        "seconds": document["certified_s_median"],
        "timing_valid": run["timing_valid"],
        "contention": run["contention"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("steps", "certify", "one"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2, help="timed steps of each process; one more goes before")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--name", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    deadline = time.monotonic() + 60 * asked.minutes
    if asked.what == "one":
        if asked.name == "plain":
            found = plain(asked.steps)
        else:
            rung, side = asked.name.split("@")
            recipe = next(s.recipe for s in resolve(get_ladder(LADDER)) if s.rung.name == rung)
            found = ours(recipe, int(side), asked.steps)
        print(json.dumps(found))
    elif asked.what == "steps":
        steps(asked.rounds, asked.steps, deadline)
    else:
        certify(asked.seeds, deadline)


if __name__ == "__main__":
    main()
