"""Peak resident memory of training processes.

    python benchmarks/memory.py

Each recipe trains in a process of its own; the figure is the operating system's maximum resident set size,
memory-mapped data included. Limits: 900 MB for mnist/8-final, 3 GB for a CIFAR-10 network at batches of 1024.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from hotlap.ladder import get_recipe
from hotlap.recipe import part

# Convolutions as wide as airbench94's, as far as a plain stack goes: what counts here is the size of the activations.
CIFAR = get_recipe("mnist/8-final").with_changes(
    {
        "data": part("cifar10"),
        "feed.mean": None,
        "feed.std": None,
        "feed.shuffle": "every-epoch",
        "target": None,
        "model": part(
            "conv-stack", widths=(24, 64, 256, 256), kernels=(2, 3, 3, 3), activations=(True,) * 4, pools=(1, 2, 2, 2),
            order="pool-activation", conv_dropout=0.0, hidden=(), hidden_dropout=0.0,
        ),
        "batch_size": 1024,
        "epochs": 0.1,
    },
    name="cifar10-stack-bs1024",
)  # fmt: skip


def peak_mb(recipe: str) -> tuple[float, float]:
    """Train once in a process of its own; returns (peak resident MB, wall seconds of the run)."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "HOTLAP_STORE": str(Path(scratch) / "runs.sqlite")}
        code = (
            "import resource, sys; from hotlap.cli import run; status = run(sys.argv[1:]); "
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr); sys.exit(status)"
        )
        command = [sys.executable, "-c", code, "train", recipe, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode not in (0, 1):
            sys.exit(done.stderr)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return int(done.stderr.split()[-1]) / unit, sum(json.loads(done.stdout)["phases_s"].values())


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        cifar = Path(scratch) / "cifar.json"
        cifar.write_text(CIFAR.to_json())
        for name, recipe, limit in (("mnist/8-final", "mnist/8-final", 900), (CIFAR.name, str(cifar), 3000)):
            peak, wall = peak_mb(recipe)
            print(f"{name}: {peak:.0f} MB at its peak (limit {limit}), {wall:.1f} s", flush=True)


if __name__ == "__main__":
    main()
