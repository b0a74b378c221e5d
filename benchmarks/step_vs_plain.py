"""A training step of cifar10-airbench/94-muon against a plain eager PyTorch reading of it, in interleaved processes.

    python benchmarks/step_vs_plain.py --pairs 5

Both train in float32 on random images at the published batch of 2,000, after one step that is not timed; the plain side
is the reading that the parity tests hold the recipe against. Raw seconds go to
benchmarks/results/step_vs_plain.jsonl as they come; pairs that are there already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from hotlap.bench.order import interleave
from hotlap.stats.comparison import time_ratio

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "step_vs_plain.jsonl"
BATCH, TOTAL, PER_EPOCH = 2000, 200, 25


def plain(steps: int) -> list[float]:
    """Seconds of each step, of the plain reading."""
    import torch

    sys.path.insert(0, str(HERE.parent / "tests" / "parity"))
    import plain_cifar_airbench as airbench

    facts = airbench.MUON["94-muon"]
    network = airbench.muon_net_of(facts, facts.widths)
    images, labels = torch.randn(BATCH, 3, 32, 32), torch.randint(10, (BATCH,))
    starts: list[float] = []

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for _ in range(steps):
            starts.append(time.perf_counter())
            yield images, labels

    airbench.train_muon(facts, network, batches(), batch=BATCH, per_epoch=PER_EPOCH, total=TOTAL, count=steps)
    ends = [*starts[1:], time.perf_counter()]
    return [end - start for start, end in zip(starts, ends, strict=True)]


def ours(steps: int) -> list[float]:
    """The same, of hotlap's engine."""
    import torch

    from hotlap import get_recipe
    from hotlap.engine.allocator import keeping_memory
    from hotlap.engine.program import Program
    from hotlap.engine.updates import Updates

    recipe = get_recipe("cifar10-airbench/94-muon").with_changes({"engine.precision": "fp32"})
    taken = []
    with keeping_memory():
        program = Program(recipe, (3, 32, 32), 10, torch.device("cpu"), 1)
        updates = Updates(recipe, program.weights(recipe))
        images = torch.randn(BATCH, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(10, (BATCH,))
        for step in range(steps):
            start = time.perf_counter()
            updates.zero_grad()
            program.backward(program.losses(images, labels))
            updates.step(step, TOTAL, PER_EPOCH)
            taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of each process; the first is not counted")
    parser.add_argument("--side", choices=("plain", "hotlap"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps((plain if asked.side == "plain" else ours)(asked.steps)))
        return
    RESULTS.parent.mkdir(exist_ok=True)
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    found = {(r["side"], r["pair"]): r["seconds"] for r in map(json.loads, lines)}
    for pair, side in interleave(("plain", "hotlap"), asked.pairs):
        if (side, pair) in found:
            continue
        command = [sys.executable, __file__, "--side", side, "--steps", str(asked.steps)]
        seconds = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)[1:]
        found[side, pair] = seconds
        with RESULTS.open("a") as file:
            file.write(json.dumps({"side": side, "pair": pair, "seconds": seconds}) + "\n")
        print(f"pair {pair} {side}: {statistics.median(seconds):.2f} s a step", flush=True)
    times = {
        side: [statistics.median(found[side, pair]) for pair in range(asked.pairs)] for side in ("plain", "hotlap")
    }
    ratio = time_ratio(times["hotlap"], times["plain"])
    low, high = ratio.ci95 or (float("nan"), float("nan"))
    print(f"hotlap takes {ratio.ratio:.3f} [{low:.3f}, {high:.3f}] of the plain step's time, {asked.pairs} pairs")


if __name__ == "__main__":
    main()
