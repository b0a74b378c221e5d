"""Peers side by side on MNIST, on the same cores: accuracy, time, memory.

    benchmarks/cpu.sh --seeds 10

Every contestant trains once per seed and round, in a process of its own, in alternating order (A B C, C B A, …). Its
time is what hotlap calls certified time: preparing, training and evaluating the test images, as the contestant's own
process measures it; the table says what each leaves out. Lines go to the results file as they come; runs that are there
already are not repeated, unless the recipe or the script has changed since.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpu_contestants import CONTESTANTS, FINAL, HERE, RECORD, Setup, install, peer_environment
from cpu_table import table
from hotlap import datasets, get_recipe
from hotlap.bench.order import interleave
from hotlap.engine.contention import Contention, is_contended
from hotlap.engine.environment import available_cores, capture
from hotlap.errors import InputError
from hotlap.recipe import part, paths

RESULTS = HERE / "results" / "cpu-mnist.jsonl"
SMALL = {
    "sklearn_mlp.py": {"hidden": "(8,)", "epochs": 1, "batch": 16},
    "keras_conv.py": {"samples": 32, "batch": 16},
    "tinygrad_conv.py": {"samples": 32, "batch": 16},
}


def stored(results: Path) -> list[dict[str, Any]]:
    """Return the lines of earlier calls; one that an interruption cut off does not count."""
    found = []
    for line in results.read_text().splitlines() if results.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def append(results: Path, line: dict[str, Any]) -> None:
    results.parent.mkdir(parents=True, exist_ok=True)
    cut_off = results.exists() and results.read_bytes()[-1:] not in (b"", b"\n")
    with results.open("a") as file:
        file.write("\n" * cut_off + json.dumps(line) + "\n")


def rehearsal(folder: Path, threads: int, python: Path) -> Setup:
    """Return a setup with a few synthetic images and networks as small as the recipes allow."""
    rng = np.random.default_rng(0)
    for name, n in (("train", 64), ("test", 32)):
        np.save(folder / f"x_{name}.npy", rng.integers(0, 256, (n, 1, 28, 28), np.uint8))
        np.save(folder / f"y_{name}.npy", (np.arange(n) % 10).astype(np.uint8))
    few = part("synthetic", train=64, test=32, size=28, channels=1, classes=10, seed=0, noise=0.2)
    files = {}
    for name in (FINAL, RECORD):
        try:
            recipe = get_recipe(name)
        except InputError:
            continue
        # The compiled backend is made for the record's own widths.
        narrow = {p: (8,) * len(v) for p, v in paths(recipe).items() if p.endswith("widths") and isinstance(v, tuple)}
        changes = {"data": few, "batch_size": 16, "epochs": 1.0, **(narrow if name == FINAL else {})}
        files[name] = folder / f"{name.replace('/', '-')}.json"
        files[name].write_text(recipe.with_changes(changes).to_json())
    return Setup(folder, python, threads, files, SMALL)


def measure(name: str, setup: Setup, seed: int) -> dict[str, Any]:
    """Run a contestant once, in a process of its own.

    Raises:
        ValueError: it failed, or did not print what it should; says what it printed last.
    """
    contestant = CONTESTANTS[name]
    with tempfile.TemporaryDirectory() as scratch:
        notes = Path(scratch) / "notes.json"
        launch = [sys.executable, "-I", "-S", str(HERE / "cpu_launch.py"), str(setup.threads), str(notes)]
        environment = peer_environment() if contestant.packages else None
        if environment is None:
            # Its own store, so that a benchmark leaves none of its runs among the user's.
            environment = {**peer_environment(), "PYTHONPATH": str(HERE.parent / "src")}
            environment["HOTLAP_STORE"] = str(Path(scratch) / "runs.sqlite")
        watch = Contention()
        done = subprocess.run(
            [*launch, *contestant.command(setup, seed)], capture_output=True, text=True, check=False, env=environment
        )
        others = watch.cores()
        try:
            fields = contestant.read(done.stdout)
            used = json.loads(notes.read_text())
        except (ValueError, LookupError, OSError):
            said = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
            raise ValueError(said[-1]) from None
    # A run that watches itself sees its own seconds only, which are few beside those of starting.
    busy = max((value for value in (others, fields.pop("own_contention", None)) if value is not None), default=None)
    return {**fields, **used, "contention": busy, "contended": is_contended(busy, available_cores())}


def run(asked: argparse.Namespace, setup: Setup, names: Sequence[str]) -> int:
    """Make the runs that are missing; returns how many contestants failed."""
    cpu = capture(torch.device("cpu")).cpu
    version = {name: CONTESTANTS[name].version() for name in names}
    facts = {"cpu": cpu, "threads": setup.threads, "tiny": asked.tiny}
    done = {
        (line["contestant"], line["seed"], line["round"])
        for line in stored(asked.results)
        if line["version"] == version.get(line["contestant"]) and facts.items() <= line.items()
    }
    failed: set[str] = set()
    for turn, name in interleave(list(names), asked.seeds * asked.rounds):
        number, seed = divmod(turn, asked.seeds)
        if name in failed or (name, seed, number) in done:
            continue
        try:
            measured = measure(name, setup, seed)
        except ValueError as error:
            failed.add(name)
            print(f"{name} seed {seed} failed and is left out from here on: {error}", flush=True)
            continue
        when = datetime.now(UTC).isoformat(timespec="seconds")
        line = {"contestant": name, "seed": seed, "round": number, **measured, "version": version[name], **facts}
        append(asked.results, {**line, "at": when})
        mark = " ‡" if measured["contended"] else ""
        print(f"{name} seed {seed}: {measured['accuracy']:.2%} in {measured['seconds']:.3g} s{mark}", flush=True)
    return len(failed)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 to N - 1, a turn of every contestant each (10)")
    parser.add_argument(
        "--rounds", type=int, default=1, help="how often every seed is run (1): more times, no more accuracies"
    )
    parser.add_argument("--only", default="", metavar="NAMES", help=f"some of: {','.join(CONTESTANTS)}")
    parser.add_argument(
        "--table", action="store_true", help="run nothing: print the table of what is stored, as Markdown"
    )
    parser.add_argument(
        "--threads", type=int, default=available_cores(), help="threads and cores of each process (all)"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE")
    parser.add_argument("--peers-venv", type=Path, default=HERE.parent / "build" / "peers-venv", metavar="FOLDER")
    parser.add_argument("--no-install", action="store_true", help="leave the peers' environment as it is")
    parser.add_argument("--tiny", action="store_true", help="rehearse on a few synthetic images; needs no MNIST")
    asked = parser.parse_args(arguments)
    asked.names = asked.only.split(",") if asked.only else list(CONTESTANTS)
    if unknown := [name for name in asked.names if name not in CONTESTANTS]:
        parser.error(f"no such contestant: {', '.join(unknown)}; there are {', '.join(CONTESTANTS)}")
    if min(asked.seeds, asked.rounds, asked.threads) < 1:
        parser.error("--seeds, --rounds and --threads are at least 1")
    return asked


def main(arguments: Sequence[str] | None = None) -> int:
    asked = parse(arguments)
    failed = 0
    if not asked.table:
        python = asked.peers_venv.absolute() / "bin" / "python"
        if not asked.no_install:
            install(asked.names, python)
        with tempfile.TemporaryDirectory() as scratch:
            if asked.tiny:
                setup = rehearsal(Path(scratch), asked.threads, python)
            else:
                setup = Setup(datasets.fetch("mnist"), python, asked.threads)
            names = []
            for name in CONTESTANTS:
                if name in asked.names and (why := CONTESTANTS[name].missing(setup)):
                    print(f"{name} is left out: {why}", flush=True)
                elif name in asked.names:
                    names.append(name)
            failed = run(asked, setup, names)
    print(table(stored(asked.results)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
