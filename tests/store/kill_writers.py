"""Fork writers, kill each at a random moment of its work, and print as JSON what each had claimed and what was stored.

A script of its own so that it forks from a process with one thread.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sqlite3
import sys
import time
from pathlib import Path

from factories import make_run
from hotlap.store import Store

FRESH = 15  # so many of the writers are killed around the making of a new store
PATIENCE_S = 60.0


def write_for_ever(path: Path, pipe: int) -> None:
    with Store(path) as store:
        run = make_run()
        document = run.to_dict()
        for seed in range(1_000_000):
            run = type(run).from_dict({**document, "seed": seed, "id": f"{os.getpid():08x}{seed:024x}"})
            os.write(pipe, f"start {run.id}\n".encode())
            store.add(run)
            os.write(pipe, f"done {run.id}\n".encode())


def kill_one(path: Path, runs: int, delay_s: float) -> dict[str, object]:
    """Kill a writer so long after it has said that it is done with so many runs."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            write_for_ever(path, write_end)
        finally:
            os._exit(3)  # not reached unless the writer failed
    os.close(write_end)
    said = b""
    while said.count(b"done ") < runs and select.select([read_end], [], [], PATIENCE_S)[0]:
        if not (more := os.read(read_end, 4096)):
            break
        said += more
    time.sleep(delay_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with os.fdopen(read_end, "rb") as pipe:
        lines = (said + pipe.read()).decode().splitlines()
    with Store(path) as store:
        stored = [run.id for run in store.runs()]
    db = sqlite3.connect(path)
    integrity = db.execute("PRAGMA integrity_check").fetchone()[0]
    db.close()
    return {
        "killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL,
        "started": [line.split()[1] for line in lines if line.startswith("start ")],
        "done": [line.split()[1] for line in lines if line.startswith("done ")],
        "stored": stored,
        "integrity": integrity,
        "path": path.name,
    }


def main(directory: Path, rounds: int, seed: int) -> None:
    moments = random.Random(seed)
    results = []
    for number in range(rounds):
        path = directory / (f"fresh{number}.sqlite" if number < FRESH else "one.sqlite")
        runs = 0 if number < FRESH else moments.randint(3, 9)
        # Adding a run takes a few milliseconds.
        results.append(kill_one(path, runs, moments.uniform(0, 0.03 if number < FRESH else 0.006)))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
