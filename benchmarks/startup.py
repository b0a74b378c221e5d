"""Start-up times: import, help, loading cached data sets, and a whole short run, each in fresh processes.

    python benchmarks/startup.py         # everything
    python benchmarks/startup.py run     # only the run, with the imports of torch deferred and not, in turn

Limits: import 0.2 s, help 0.4 s, MNIST from the cache 50 ms, CIFAR-10 150 ms.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

REPEATS = 11
RUN_REPEATS = 5
# A lower target than the recipe's, which a single seed may miss: then the exit status would be 1.
RUN = ("-m", "hotlap", "train", "mnist/record", "--seeds", "1", "--backend", "native", "--target", "0.98")
# As Python does by itself: modules are compiled once, not by every process anew.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def wall(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=ENVIRONMENT)
    return time.perf_counter() - start


def load(name: str) -> float:
    code = (
        "import time; from hotlap import datasets; start = time.perf_counter(); "
        f"datasets.load({name!r}); print(time.perf_counter() - start)"
    )
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout)


def run(switch: str, store: str) -> tuple[float, float]:
    """Seconds from the command to its end, and of processor time of its own, of one short run."""
    environment = ENVIRONMENT | {"HOTLAP_EAGER_IMPORTS": switch, "HOTLAP_STORE": store}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *RUN], check=True, capture_output=True, env=environment)
    wall = time.perf_counter() - start
    return wall, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before.ru_utime


def runs() -> None:
    seconds: dict[str, list[tuple[float, float]]] = {"0": [], "1": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(RUN_REPEATS):
            for switch, found in seconds.items():
                found.append(run(switch, f"{folder}/runs.sqlite"))
    for switch, found in seconds.items():
        wall, user = (statistics.median(values) for values in zip(*found, strict=True))
        how = "deferred" if switch == "0" else "as ever"
        print(f"train mnist/record, imports {how}: {wall:.2f} s, user {user:.2f} s (median of {RUN_REPEATS})")


def main() -> None:
    if sys.argv[1:] == ["run"]:
        runs()
        return
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
    runs()


if __name__ == "__main__":
    main()
