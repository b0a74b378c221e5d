"""Who takes part in benchmarks/cpu.py: how each is started, what its time leaves out, and what it needs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hotlap import get_recipe
from hotlap.errors import InputError

HERE = Path(__file__).resolve().parent
PEERS = HERE / "cpu_peers"
PLAIN = HERE / "plain" / "mnist_rung8.py"
NATIVE = HERE.parent / "src" / "hotlap" / "native"
RECORD, FINAL = "mnist/record", "mnist/8-final"
BASELINE = "plain"


@dataclass(frozen=True)
class Setup:
    """What a round is run with: the images, the peers' Python, threads, and the smaller sizes of a rehearsal.

    Attributes:
        data: folder of ``x_train.npy`` and the others.
        recipes: files to run in place of hotlap's recipes, by their names.
        small: hyper-parameters to change in the peers' scripts, by the scripts' names.
    """

    data: Path
    peers_python: Path
    threads: int
    recipes: Mapping[str, Path] = field(default_factory=dict)
    small: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Contestant:
    """One way to train a classifier of MNIST.

    Attributes:
        label: what the table calls it.
        excluded: what its process does outside the time it reports.
        command: the command line for a seed.
        read: accuracy, seconds and versions out of what it prints.
        missing: why it cannot take part; None when it can.
        version: changes whenever what is measured does.
        packages: what pip has to install for it into the peers' environment.
    """

    label: str
    excluded: str
    command: Callable[[Setup, int], list[str]]
    read: Callable[[str], dict[str, Any]]
    missing: Callable[[Setup], str | None]
    version: Callable[[], str]
    packages: tuple[str, ...] = ()


def _last_line(output: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return fields


def _of_plain(output: str) -> dict[str, Any]:
    return {**_last_line(output), "versions": {"torch": version("torch")}}


def _of_hotlap(output: str) -> dict[str, Any]:
    [run] = json.loads(output)["runs"]
    where = run["environment"]
    return {
        "accuracy": run["accuracy"],
        "seconds": run["certified_s"],
        "phases": run["phases"],
        "own_contention": run["contention"],
        "versions": {"hotlap": where["hotlap"], "torch": where["torch"]},
        "commit": where["commit"],
    }


def _sha(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


@cache
def _options() -> str:
    """What ``hotlap train`` understands."""
    command = [sys.executable, "-m", "hotlap", "train", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _hotlap(recipe: str, backend: str | None, label: str) -> Contestant:
    def command(setup: Setup, seed: int) -> list[str]:
        chosen = str(setup.recipes.get(recipe, recipe))
        asked = ["--backend", backend] if backend and "--backend" in _options() else []
        seeds, threads = ["--seeds", f"{seed}..{seed}"], ["--threads", str(setup.threads)]
        return [sys.executable, "-m", "hotlap", "train", chosen, *seeds, *threads, *asked, "--json", "--quiet"]

    def missing(_: Setup) -> str | None:
        try:
            get_recipe(recipe)
        except InputError as error:
            return str(error)
        if backend == "native" and "--backend" not in _options():
            return "hotlap train has no --backend yet"
        return None

    def digest() -> str:
        own = sorted(p for p in NATIVE.rglob("*") if p.suffix in (".py", ".cpp", ".c", ".h", ".hpp"))
        return get_recipe(recipe).digest[:12] + (f"+{_sha(*own)}" if backend == "native" else "")

    excluded = "importing, loading the images, warm-up on dummy data"
    if backend == "native":
        excluded += ", compiling (done at installation)"
    return Contestant(label, excluded, command, _of_hotlap, missing, digest)


def _peer(script: str, label: str, packages: tuple[str, ...], probe: str, excluded: str, hint: str = "") -> Contestant:
    def command(setup: Setup, seed: int) -> list[str]:
        small = [part for name, value in setup.small.get(script, {}).items() for part in ("--set", f"{name}={value}")]
        return [str(setup.peers_python), str(PEERS / script), "--data", str(setup.data), "--seed", str(seed), *small]

    def missing(setup: Setup) -> str | None:
        if not setup.peers_python.exists():
            return f"{setup.peers_python} does not exist"
        run = [str(setup.peers_python), "-c", probe]
        done = subprocess.run(run, capture_output=True, text=True, check=False, env=peer_environment())
        if done.returncode == 0:
            return None
        return ((done.stderr.strip().splitlines() or ["it does not start"])[-1] + hint)[:300]

    files = PEERS / script, PEERS / "shared.py"
    return Contestant(label, excluded, command, _last_line, missing, lambda: _sha(*files), packages)


def peer_environment() -> dict[str, str]:
    """Return the environment of a peer's process, without the path that leads to hotlap."""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "DEV": "CPU"}
    environment.pop("PYTHONPATH", None)
    return environment


CONTESTANTS: dict[str, Contestant] = {
    BASELINE: Contestant(
        "plain eager PyTorch, rung 8",
        "importing, reading the files, two warm-up steps",
        lambda setup, seed: [sys.executable, str(PLAIN), "--data", str(setup.data), "--seed", str(seed)],
        _of_plain,
        lambda _: None,
        lambda: _sha(PLAIN),
    ),
    "8-final": _hotlap(FINAL, "torch", "hotlap mnist/8-final, torch"),
    "record-torch": _hotlap(RECORD, "torch", "hotlap mnist/record, torch"),
    "record-native": _hotlap(RECORD, "native", "hotlap mnist/record, native"),
    "sklearn": _peer(
        "sklearn_mlp.py", "scikit-learn MLPClassifier", ("scikit-learn",), "import sklearn.neural_network",
        "importing, reading the files",
    ),
    "keras": _peer(
        "keras_conv.py", "Keras on JAX, small network", ("keras", "jax"), "import keras, jax; keras.optimizers.Muon",
        "importing, reading the files, compiling (a fit on blank images)",
    ),
    "tinygrad": _peer(
        "tinygrad_conv.py", "tinygrad, small network", ("tinygrad",),
        "from tinygrad import Tensor; assert (Tensor([1.0]) + 1).tolist() == [2.0]",
        "importing, reading the files, compiling (captured steps on blank images)",
        hint=" (its CPU device needs clang or LLVM: apt-get install clang)",
    ),
}  # fmt: skip


def install(names: Sequence[str], python: Path) -> None:
    """Make the peers' environment where it is missing, and put in what the contestants asked for need.

    A package that cannot be had costs its own contestant only.
    """
    wanted = [CONTESTANTS[name].packages for name in names if CONTESTANTS[name].packages]
    if wanted and not python.exists():
        print(f"making {python.parents[1]}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(python.parents[1])], check=True)
    for packages in wanted:
        look = [str(python), "-m", "pip", "--disable-pip-version-check", "show", "--quiet", *packages]
        if subprocess.run(look, capture_output=True, check=False).returncode == 0:
            continue
        print(f"installing {' '.join(packages)}", flush=True)
        get = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *packages]
        if subprocess.run(get, capture_output=True, env=peer_environment(), check=False).returncode:
            print(f"{' '.join(packages)} could not be installed", flush=True)
