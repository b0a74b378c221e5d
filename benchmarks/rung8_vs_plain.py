"""mnist/8-final against a plain PyTorch script of the same recipe, in interleaved processes.

    python benchmarks/rung8_vs_plain.py --pairs 10

Each run is a process of its own (plain hotlap, hotlap plain, …), so neither side warms up the other's memory. Raw times
go to benchmarks/results/rung8_vs_plain.jsonl as they come; pairs that are there already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from hotlap import datasets
from hotlap.bench.order import interleave
from hotlap.report.formats import percent_with_interval, seconds
from hotlap.stats.comparison import time_ratio
from hotlap.stats.intervals import mean, mean_interval

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "rung8_vs_plain.jsonl"


def run(side: str, seed: int) -> dict[str, object]:
    if side == "plain":
        command = [sys.executable, HERE / "plain" / "mnist_rung8.py", "--seed", seed, "--data", datasets.fetch("mnist")]
        fields = json.loads(_output(command))
    else:
        command = [sys.executable, "-m", "hotlap", "train", "mnist/8-final", "--seeds", f"{seed}..{seed}", "--json"]
        document = json.loads(_output(command))
        fields = {"accuracy": document["accuracy_mean"], "seconds": document["certified_s_median"]}
        fields["contention"] = document["runs"][0]["contention"]
    return {"side": side, "seed": seed, **fields}


def _output(command: list[object]) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):  # 1: a single seed below 99 %
        sys.exit(done.stderr)
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10)
    pairs = parser.parse_args().pairs
    RESULTS.parent.mkdir(exist_ok=True)
    lines = RESULTS.read_text().splitlines() if RESULTS.exists() else []
    found = {(r["side"], r["seed"]): r for r in map(json.loads, lines)}
    for seed, side in interleave(("plain", "hotlap"), pairs):
        if (side, seed) not in found:
            result = found[side, seed] = run(side, seed)
            with RESULTS.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(f"seed {seed} {side}: {result['accuracy']:.4f} in {result['seconds']:.2f} s", flush=True)
    times = {side: [found[side, s]["seconds"] for s in range(pairs)] for side in ("plain", "hotlap")}
    for side in times:
        accuracies = [found[side, s]["accuracy"] for s in range(pairs)]
        print(f"{side}: {percent_with_interval(mean(accuracies), mean_interval(accuracies))}, "
              f"median {seconds(sorted(times[side])[pairs // 2])}")  # fmt: skip
    ratio = time_ratio(times["hotlap"], times["plain"])
    low, high = ratio.ci95 or (float("nan"), float("nan"))
    print(f"hotlap takes {ratio.ratio:.3f} [{low:.3f}, {high:.3f}] of the plain script's time, {pairs} pairs")


if __name__ == "__main__":
    main()
