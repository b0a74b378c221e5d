"""Start-up times: import, help, and loading cached data sets, each in fresh processes.

    python benchmarks/startup.py

Limits: import 0.2 s, help 0.4 s, MNIST from the cache 50 ms, CIFAR-10 150 ms.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

REPEATS = 11


def wall(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def load(name: str) -> float:
    code = (
        "import time; from hotlap import datasets; start = time.perf_counter(); "
        f"datasets.load({name!r}); print(time.perf_counter() - start)"
    )
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def main() -> None:
    bare = statistics.median(wall("-c", "pass") for _ in range(REPEATS))
    figures = {
        "python itself": bare,
        "import hotlap, without python itself": statistics.median(
            wall("-c", "import hotlap") for _ in range(REPEATS)
        ) - bare,
        "hotlap --help, in all": statistics.median(wall("-m", "hotlap", "--help") for _ in range(REPEATS)),
        "load mnist from the cache": statistics.median(load("mnist") for _ in range(REPEATS)),
        "load cifar10 from the cache": statistics.median(load("cifar10") for _ in range(REPEATS)),
    }  # fmt: skip
    for name, value in figures.items():
        print(f"{name}: {1000 * value:.0f} ms (median of {REPEATS})")


if __name__ == "__main__":
    main()
