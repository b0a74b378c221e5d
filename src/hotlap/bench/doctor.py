"""Looks at the machine: what it has, what is installed, and whether times measured now can be trusted."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

from hotlap import datasets
from hotlap.datasets import cache_dir
from hotlap.engine.contention import Contention, is_contended
from hotlap.engine.devices import use_threads
from hotlap.engine.environment import available_cores, capture
from hotlap.errors import HotlapError
from hotlap.store.sqlite import default_path

SECONDS = 2.0
"""How long the noise check measures, in all."""

PIECE = 0.02
"""About how long one repetition of it takes, in seconds."""

TOLERATED_SPREAD = 1.1
"""From this ratio of the 90th percentile to the median on, times cannot be trusted."""

_SIDE = 256  # of the matrices: they fit into a core's cache, so that the memory of others is not measured
_LIBRARIES = (
    *("numpy", "scipy", "optuna", "ray", "datasets", "safetensors", "onnxruntime"),
    *("scikit-learn", "tensorboard", "mlflow-skinny", "wandb"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what is there, and what to do where something is amiss."""

    name: str
    found: str
    ok: bool = True
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Noise:
    """How steady the machine is.

    Attributes:
        single: 90th percentile over median of the times of a fixed piece of work on one thread.
        all_threads: the same on all threads; None where there is only one.
        threads: how many threads that were.
        contention: cores that other processes kept busy meanwhile; None where that cannot be known.
        cores: cores that this process may use.
    """

    single: float
    all_threads: float | None
    threads: int
    contention: float | None
    cores: int

    @property
    def trusted(self) -> bool:
        """Whether times measured now can be trusted."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """What stands against it."""
        found = []
        if is_contended(self.contention, self.cores):
            found.append(f"other processes keep {self.contention:.1f} of {self.cores} cores busy")
        worst = max(self.single, self.all_threads or 0.0)
        if worst >= TOLERATED_SPREAD:
            found.append(f"equal work takes up to {worst - 1:.0%} longer from one time to the next")
        return tuple(found)

    @property
    def advice(self) -> str | None:
        """What to do about the problems; None where there are none."""
        if self.trusted:
            return None
        if is_contended(self.contention, self.cores):
            return "end other programs, or train with --shared: accuracy counts then, times do not"
        return (
            "close other programs, plug in a laptop, let it cool down, and repeat; virtual machines may stay unsteady"
        )


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found."""

    findings: tuple[Finding, ...]
    noise: Noise

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-able values."""
        noise = {**asdict(self.noise), "trusted": self.noise.trusted, "problems": list(self.noise.problems)}
        return {
            "trusted": self.noise.trusted,
            "advice": self.noise.advice,
            "noise": noise,
            "findings": [asdict(finding) for finding in self.findings],
        }


def examine(*, seconds: float = SECONDS, store: Path | None = None) -> Report:
    """Look at everything; a probe that fails says so in its line.

    Args:
        seconds: how long to measure the noise.
        store: the run store; the user's own when None.
    """
    probes: dict[str, Callable[[], Finding | tuple[str, ...] | str]] = {
        "processor": _processor,
        "memory": _memory,
        "threads": _threads,
        "GPU": _gpu,
        "torch": _torch,
        "versions": _versions,
        "compiler": _compiler,
        "kernels": _kernels,
        "data sets": _data_sets,
        "cache": lambda: _disk("cache", cache_dir()),
        "run store": lambda: _disk("run store", store or default_path()),
    }
    return Report(tuple(_tried(name, probe) for name, probe in probes.items()), measure(seconds))


def measure(seconds: float = SECONDS) -> Noise:
    """Repeat a fixed matrix product on one thread and on all, in turn, and measure how much its time varies.

    Args:
        seconds: how long, in all.
    """
    threads = torch.get_num_threads()
    counts = (1,) if threads == 1 else (1, threads)
    pieces = {count: _calibrated(count) for count in counts}
    times: dict[int, list[float]] = {count: [] for count in counts}
    others, start = Contention(), time.perf_counter()
    while time.perf_counter() - start < seconds or len(times[1]) < 5:
        for count in counts:
            with use_threads(count):
                times[count].append(_timed(pieces[count]))
    return Noise(
        single=spread(times[1]),
        all_threads=spread(times[threads]) if threads > 1 else None,
        threads=threads,
        contention=others.cores(),
        cores=available_cores(),
    )


def spread(times: Sequence[float]) -> float:
    """Return the 90th percentile of two or more times over their median."""
    return statistics.quantiles(times, n=10, method="inclusive")[8] / statistics.median(times)


def _timed(products: int) -> float:
    matrix = torch.full((_SIDE, _SIDE), 1 / _SIDE)
    start = time.perf_counter()
    for _ in range(products):
        matrix = matrix @ matrix
    return time.perf_counter() - start


def _calibrated(threads: int) -> int:
    """How many products take about ``PIECE`` seconds; warms up as well."""
    with use_threads(threads):
        _timed(20)
        fastest = min(_timed(20) for _ in range(5)) / 20
    return max(1, round(PIECE / fastest))


def _tried(name: str, probe: Callable[[], Finding | tuple[str, ...] | str]) -> Finding:
    try:
        found = probe()
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError, psutil.Error, HotlapError) as error:
        return Finding(name, f"cannot be told ({' '.join(str(error).split())})", ok=False)
    return found if isinstance(found, Finding) else Finding(name, found if isinstance(found, str) else ", ".join(found))


def _processor() -> str:
    env = capture(torch.device("cpu"))
    load = f", load average {env.load_average:g}" if env.load_average is not None else ""
    simd = torch.backends.cpu.get_cpu_capability()
    return f"{env.cpu}, {env.cores} of {psutil.cpu_count()} cores usable, {simd}{load}"


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    text = f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free"
    if memory.available < 2**30:
        return Finding("memory", text, ok=False, advice="less than 1 GiB is free: close other programs")
    return Finding("memory", text)


def _threads() -> str:
    set_by = [f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ]
    return f"{torch.get_num_threads()} for one operation" + (f" ({', '.join(set_by)})" if set_by else "")


def _gpu() -> Finding | tuple[str, ...] | str:
    smi = _nvidia_smi()
    if not torch.cuda.is_available():
        if smi:
            return Finding(
                "GPU", f"{smi[0]}, which this build of torch cannot use", ok=False, advice="install a CUDA build"
            )
        return "none that torch can use"
    found = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        found.append(
            f"{about.name}, {about.total_memory / 2**30:.0f} GiB, compute capability {about.major}.{about.minor}"
        )
    return tuple(found) if not smi else (*found, f"nvidia-smi: {'; '.join(smi)}")


def _nvidia_smi() -> list[str]:
    """A line for each GPU: driver, clock and use; none where the tool is not there."""
    if shutil.which("nvidia-smi") is None:
        return []
    fields = "name,driver_version,clocks.sm,clocks.max.sm,temperature.gpu,utilization.gpu"
    asked = ("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader")
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ["it does not answer"]
    lines = []
    for line in done.stdout.splitlines():
        name, driver, clock, most, heat, use = (*(piece.strip() for piece in line.split(",")), *"??????")[:6]
        lines.append(f"{name}, driver {driver}, {clock} of {most}, {heat} °C, {use} busy")
    return lines


def _torch() -> str:
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    return f"{torch.__version__}, {build}, MKL-DNN {'yes' if torch.backends.mkldnn.is_available() else 'no'}"


def _versions() -> str:
    import hotlap

    found = [f"hotlap {hotlap.__version__}", f"Python {platform.python_version()}"]
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def _compiler() -> Finding:
    name = os.environ.get("CXX") or "c++"
    where = shutil.which(name)
    if where is None:
        return Finding(
            "compiler", f"no {name}", ok=False, advice="--compile on a CPU needs a C++ compiler, such as g++"
        )
    done = subprocess.run((where, "--version"), capture_output=True, text=True, timeout=10, check=True)
    return Finding("compiler", f"{where}: {(done.stdout.splitlines() or ['version unknown'])[0]}")


def _kernels() -> Finding | str:
    from hotlap.native.library import chosen_instruction_set, has_amx, instruction_sets, missing

    if reason := missing():
        advice = "install g++ or clang, then reinstall hotlap: small networks train several times faster"
        return Finding("kernels", f"none: {reason}", ok=False, advice=advice)
    tiles = " and AMX" if has_amx() else ""
    return f"{chosen_instruction_set()}{tiles} (of {', '.join(instruction_sets())})"


def _data_sets() -> str:
    found = []
    for name in datasets.names():
        if not datasets.options(name):
            try:
                state = "in the cache" if datasets.info(name).cached else "not fetched"
            except HotlapError as error:
                state = str(error)
            found.append(f"{name} {state}")
    return ", ".join(found)


def _disk(name: str, path: Path) -> Finding:
    folder = next(place for place in (path, *path.parents) if place.is_dir())
    free = shutil.disk_usage(folder).free
    text = f"{path}, {free / 1e9:.1f} GB free"
    if not os.access(folder, os.W_OK):
        return Finding(
            name, f"{text}, cannot be written", ok=False, advice="HOTLAP_DATA and HOTLAP_STORE choose others"
        )
    if free < 1e9:
        return Finding(name, text, ok=False, advice="free some space, or choose another place")
    return Finding(name, text)
