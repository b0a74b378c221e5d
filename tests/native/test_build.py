"""Building and installing: with a compiler the kernels are there, without one the package works all the same."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tiny import tiny

ROOT = Path(__file__).parents[2]
KERNELS = "src/hotlap/native/kernels"
NO_COMPILER = {"CC": "/nowhere/cc", "CXX": "/nowhere/c++"}
needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX") or "c++") is None, reason="there is no C++ compiler"
)


def copied(to: Path) -> Path:
    """A copy of what is needed to build, without anything built before."""
    left_out = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        to.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, to)
    shutil.copytree(ROOT / "src", to / "src", ignore=left_out)
    return to


def built(kind: str, source: Path, out: Path, **environment: str) -> tuple[Path, str]:
    """What ``pip`` asks for when it builds a wheel or a source distribution: the file, and what was said."""
    code = f"from setuptools import build_meta; print(); print(build_meta.build_{kind}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=source, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out / done.stdout.split()[-1], done.stdout + done.stderr


def installed(wheel: Path, to: Path) -> dict[str, str]:
    """Install a wheel in a folder of its own; the environment in which Python finds it there."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*command, "--no-deps", "--no-compile", "--target", str(to), str(wheel)], check=True)
    return {**os.environ, "PYTHONPATH": str(to)}


def trained(environment: dict[str, str], folder: Path, *options: str) -> tuple[str, list[str]]:
    """The backend that trained a small recipe, and what was printed beside the result."""
    (folder / "recipe.json").write_text(tiny(epochs=0.2, target=None).to_json())
    done = subprocess.run(
        [sys.executable, "-m", "hotlap", "train", "recipe.json", "--seeds", "2", "--shared", "--json", *options],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (backend,) = {run["backend"] for run in json.loads(done.stdout)["runs"]}
    return backend, [line for line in done.stderr.splitlines() if "kernels" in line]


def kernels_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if name.startswith("hotlap/native/") and "kernels" in name]


def test_without_a_compiler_the_package_installs_says_so_and_trains(tmp_path: Path) -> None:
    wheel, said = built("wheel", copied(tmp_path / "source"), tmp_path, **NO_COMPILER)
    (line,) = re.findall(r'.*building extension "hotlap\.native\._kernels" failed.*', said)
    assert "/nowhere/c++" in line
    assert kernels_of(wheel) == []
    environment = installed(wheel, tmp_path / "site")
    assert trained(environment, tmp_path) == (
        "torch",
        [
            "PyTorch does what the faster compiled kernels could: the package was installed without a C++ compiler "
            "→ install g++ or clang, then reinstall hotlap"
        ],
    )
    # Who asks for PyTorch is not told.
    assert trained(environment, tmp_path, "--backend", "torch", "--set", "batch_size=32") == ("torch", [])


def assert_complete(wheel: Path, folder: Path) -> None:
    """Assert that a wheel goes with every Python 3 on one platform, and that its kernels train."""
    assert re.fullmatch(r"hotlap-[\d.]+-py3-none-(?!any)\w+\.whl", wheel.name)
    assert kernels_of(wheel) == ["hotlap/native/_kernels.so"]
    assert trained(installed(wheel, folder / "site"), folder) == ("native", [])


@needs_compiler
def test_with_a_compiler_the_wheel_holds_the_kernels(tmp_path: Path) -> None:
    # Unoptimised, which compiles several times faster.
    wheel, _ = built("wheel", copied(tmp_path / "source"), tmp_path, HOTLAP_CXXFLAGS="-O0")
    assert_complete(wheel, tmp_path)


def test_a_source_distribution_holds_the_kernels_sources(tmp_path: Path) -> None:
    archive, _ = built("sdist", copied(tmp_path / "source"), tmp_path)
    with tarfile.open(archive) as opened:
        names = [Path(*Path(name).parts[1:]) for name in opened.getnames()]
    assert {path for path in names if path.match(f"{KERNELS}/*")} == {
        path.relative_to(ROOT) for path in (ROOT / KERNELS).iterdir()
    }
    assert Path("setup.py") in names


@needs_compiler
@pytest.mark.slow
def test_a_source_distribution_builds_as_users_build_it(tmp_path: Path) -> None:
    archive, _ = built("sdist", copied(tmp_path / "source"), tmp_path)
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    wheel, _ = built("wheel", source, tmp_path)
    assert_complete(wheel, tmp_path)
