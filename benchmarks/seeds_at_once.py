"""Runs per minute: seeds one after another with all threads, against one single-thread process per core.

    python benchmarks/seeds_at_once.py --seeds 6 --rounds 2

Whole commands are timed, start-up included, in alternating order. Raw walls go to
benchmarks/results/seeds_at_once.jsonl as they come.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hotlap.bench.order import interleave
from hotlap.engine.environment import available_cores

RESULTS = Path(__file__).parent / "results" / "seeds_at_once.jsonl"


def wall(recipe: str, seeds: int, jobs: int) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "HOTLAP_STORE": str(Path(scratch) / "runs.sqlite")}
        options = ["--seeds", str(seeds), "--jobs", str(jobs), "--json"]
        command = [sys.executable, "-m", "hotlap", "train", recipe, *options]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        seconds = time.perf_counter() - start
    if done.returncode not in (0, 1) or json.loads(done.stdout)["n"] != seeds:
        sys.exit(done.stderr)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="mnist/8-final")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    cores = available_cores()
    per_minute: dict[int, list[float]] = {1: [], cores: []}
    RESULTS.parent.mkdir(exist_ok=True)
    for number, jobs in interleave((1, cores), arguments.rounds):
        seconds = wall(arguments.recipe, arguments.seeds, jobs)
        per_minute[jobs].append(60 * arguments.seeds / seconds)
        row = {"recipe": arguments.recipe, "jobs": jobs, "seeds": arguments.seeds, "round": number, "wall_s": seconds}
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"round {number}, {jobs} at once: {per_minute[jobs][-1]:.2f} runs a minute", flush=True)
    ratios = sorted(many / one for one, many in zip(per_minute[1], per_minute[cores], strict=True))
    middle = ratios[len(ratios) // 2]
    print(f"{cores} at once give {middle:.2f} times the runs a minute ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
