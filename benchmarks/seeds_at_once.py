"""Runs per minute of one recipe: seeds one after another, in one process per core, and several in one program.

    python benchmarks/seeds_at_once.py --seeds 8 --rounds 3 --batch 4 --batch 8

Whole commands are timed, start-up included, in alternating order. Raw walls go to
benchmarks/results/seeds_at_once.jsonl as they come.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hotlap.bench.order import interleave
from hotlap.engine.environment import available_cores

RESULTS = Path(__file__).parent / "results" / "seeds_at_once.jsonl"


def wall(recipe: str, seeds: int, how: list[str]) -> float:
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "HOTLAP_STORE": str(Path(scratch) / "runs.sqlite")}
        command = [sys.executable, "-m", "hotlap", "train", recipe, "--seeds", str(seeds), "--json", *how]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        seconds = time.perf_counter() - start
    if done.returncode not in (0, 1) or json.loads(done.stdout)["n"] != seeds:
        sys.exit(done.stderr)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="mnist/8-final")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, action="append", default=[], help="seeds in one program; may be repeated")
    arguments = parser.parse_args()
    cores = available_cores()
    ways = {"one after another": [], f"{cores} processes": ["--jobs", str(cores)]}
    ways |= {f"{k} in one program": ["--batch-seeds", str(k)] for k in arguments.batch}
    per_minute: dict[str, list[float]] = {way: [] for way in ways}
    RESULTS.parent.mkdir(exist_ok=True)
    for number, way in interleave(list(ways), arguments.rounds):
        seconds = wall(arguments.recipe, arguments.seeds, ways[way])
        per_minute[way].append(60 * arguments.seeds / seconds)
        row = {"recipe": arguments.recipe, "way": way, "seeds": arguments.seeds, "round": number, "wall_s": seconds}
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"round {number}, {way}: {per_minute[way][-1]:.2f} runs a minute", flush=True)
    base, *others = ways
    for way in others:
        ratios = sorted(many / one for one, many in zip(per_minute[base], per_minute[way], strict=True))
        middle = statistics.median(ratios)
        print(f"{way}: {middle:.2f} times the runs a minute of {base} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
