"""Recipes beside plain scripts, rehearsed with made-up times and a few synthetic images."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def vs_plain() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("vs_plain", BENCHMARKS / "vs_plain.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["vs_plain"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["vs_plain"]


def test_every_rival_is_there(vs_plain: ModuleType) -> None:
    for name, rival in vs_plain.RIVALS.items():
        assert (BENCHMARKS / "plain" / rival.script).exists()
        assert vs_plain.versions(name).keys() == {"plain", "hotlap"}


def test_times_that_other_work_spoilt_do_not_count(vs_plain: ModuleType) -> None:
    found = {}
    for seed in range(8):
        spoilt = 2.0 if seed == 7 else 0.0
        found["plain", seed] = {"accuracy": 0.91, "seconds": 8.0 + seed / 10, "contention": spoilt}
        found["hotlap", seed] = {"accuracy": 0.92, "seconds": 2.0 + seed / 40 + 100 * spoilt, "contention": spoilt}
    text = vs_plain.report("fashion-mnist/record", found, 10)
    assert "takes 0.250 [0.250, 0.250]" in text and "the factor is 4 [4, 4]" in text
    assert "pairs: 7" in text and "beside other work ‡: 1 more" in text
    assert vs_plain.report("fashion-mnist/record", {}, 10) == "no pair is complete yet"


@pytest.mark.parametrize(("script", "images"), [("fashion_mnist.py", 2500), ("fashion_mnist_93.py", 800)])
def test_the_plain_script_for_fashion_mnist_trains(script: str, images: int, tmp_path: Path) -> None:
    """It learns images whose brightness tells their class."""
    rng = np.random.default_rng(0)
    for name, n in (("train", images), ("test", 100)):
        labels = (np.arange(n) % 2).astype(np.uint8)
        pixels = rng.integers(0, 80, (n, 1, 28, 28)) + 120 * labels[:, None, None, None]
        np.save(tmp_path / f"x_{name}.npy", pixels.astype(np.uint8))
        np.save(tmp_path / f"y_{name}.npy", labels)
    command = [sys.executable, str(BENCHMARKS / "plain" / script), "--data", str(tmp_path), "--seed", "1"]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert said["accuracy"] > 0.95 and said["seconds"] > 0
