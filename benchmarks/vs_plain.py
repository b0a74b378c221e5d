"""A recipe against a plain PyTorch script for the same target, in interleaved processes.

    python benchmarks/vs_plain.py mnist/8-final --pairs 10
    python benchmarks/vs_plain.py fashion-mnist/record --pairs 10 [--minutes 1]

Each run is a process of its own (plain hotlap, hotlap plain, …), so neither side warms up the other's memory. Raw times
go to a file in benchmarks/results as they come; pairs that are there already are not repeated, unless the recipe or
the script has changed since. It stops after ``--minutes`` and goes on where it was when called again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hotlap import datasets, get_recipe
from hotlap.bench.order import interleave
from hotlap.engine.contention import Contention, is_contended
from hotlap.engine.environment import available_cores
from hotlap.report.formats import percent_with_interval, seconds
from hotlap.stats.comparison import time_ratio
from hotlap.stats.intervals import mean, mean_interval, median

HERE = Path(__file__).parent
SIDES = ("plain", "hotlap")


@dataclass(frozen=True)
class Rival:
    """A plain script in ``plain``, and the file of results."""

    script: str
    results: str


RIVALS = {
    "mnist/8-final": Rival("mnist_rung8.py", "rung8_vs_plain.jsonl"),
    "fashion-mnist/record": Rival("fashion_mnist.py", "fashion_vs_plain.jsonl"),
    "fashion-mnist/record-93": Rival("fashion_mnist_93.py", "fashion_93_vs_plain.jsonl"),
}


def versions(recipe: str) -> dict[str, str]:
    """Return, for each side, what changes whenever what is measured does."""
    script = HERE / "plain" / RIVALS[recipe].script
    return {
        "plain": hashlib.sha256(script.read_bytes()).hexdigest()[:12],
        "hotlap": get_recipe(recipe).digest[:12],
    }


def run(recipe: str, side: str, seed: int) -> dict[str, Any]:
    rival = RIVALS[recipe]
    watch = Contention()
    if side == "plain":
        data = datasets.fetch(get_recipe(recipe).data.name)
        command = [sys.executable, HERE / "plain" / rival.script, "--seed", seed, "--data", data]
        fields = json.loads(_output(command))
        fields["contention"] = watch.cores()
    else:
        with tempfile.TemporaryDirectory() as scratch:
            store = ["--store", Path(scratch) / "runs.sqlite"]
            command = [sys.executable, "-m", "hotlap", "train", recipe, "--seeds", f"{seed}..{seed}", *store, "--json"]
            document = json.loads(_output(command))
        fields = {"accuracy": document["accuracy_mean"], "seconds": document["certified_s_median"]}
        fields["contention"] = document["runs"][0]["contention"]
    return {"side": side, "seed": seed, **fields}


def _output(command: list[object]) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):  # 1: a single seed below the target
        sys.exit(done.stderr)
    return done.stdout


def stored(results: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def report(recipe: str, found: dict[tuple[str, int], dict[str, Any]], pairs: int) -> str:
    """Say what the pairs that are there tell: of those that other work disturbed, only the accuracies."""
    whole = [s for s in range(pairs) if ("plain", s) in found and ("hotlap", s) in found]
    if not whole:
        return "no pair is complete yet"
    cores = available_cores()
    quiet = [s for s in whole if not any(is_contended(found[side, s].get("contention"), cores) for side in SIDES)]
    lines = []
    for side in SIDES:
        accuracies = [found[side, s]["accuracy"] for s in whole]
        taken = [found[side, s]["seconds"] for s in quiet or whole]
        accuracy = percent_with_interval(mean(accuracies), mean_interval(accuracies))
        lines.append(f"{side}: {accuracy}, median {seconds(median(taken))}")
    times = {side: [found[side, s]["seconds"] for s in quiet or whole] for side in SIDES}
    ratio = time_ratio(times["hotlap"], times["plain"])
    share, gain = f"{ratio.ratio:.3f}", f"{1 / ratio.ratio:.3g}"
    if ratio.ci95 is not None:
        low, high = ratio.ci95
        share, gain = f"{share} [{low:.3f}, {high:.3f}]", f"{gain} [{1 / high:.3g}, {1 / low:.3g}]"
    pairs_used = len(quiet or whole)
    lines.append(f"{recipe} takes {share} of the plain script's time, the factor is {gain}; pairs: {pairs_used}")
    if len(quiet) < len(whole):
        spoilt = len(whole) - len(quiet)
        lines.append(f"beside other work ‡: {'all' if not quiet else f'{spoilt} more'}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", choices=tuple(RIVALS), default="mnist/8-final")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after so many")
    asked = parser.parse_args()
    results = HERE / "results" / RIVALS[asked.recipe].results
    results.parent.mkdir(exist_ok=True)
    now, cores = versions(asked.recipe), available_cores()
    # Lines of before versions were noted count. A time that other work spoilt is taken again.
    found = {
        (line["side"], line["seed"]): line
        for line in stored(results)
        if line.get("version", now[line["side"]]) == now[line["side"]]
    }
    begun = time.monotonic()
    for seed, side in interleave(SIDES, asked.pairs):
        if (line := found.get((side, seed))) and not is_contended(line.get("contention"), cores):
            continue
        if time.monotonic() - begun > 60 * asked.minutes:
            break
        result = found[side, seed] = {**run(asked.recipe, side, seed), "version": now[side]}
        with results.open("a") as file:
            file.write(json.dumps(result) + "\n")
        print(f"seed {seed} {side}: {result['accuracy']:.4f} in {result['seconds']:.2f} s", flush=True)
    print(report(asked.recipe, found, asked.pairs))


if __name__ == "__main__":
    main()
