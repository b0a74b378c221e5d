"""The scripts of the GPU programme as modules; they import one another by name."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ONLY = "cifar10-airbench/94-muon"


def load_gpu() -> ModuleType:
    for name in ("peers", "gpu_results", "gpu_correctness", "gpu"):
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return module


def lines(folder: Path, part: str) -> list[dict[str, Any]]:
    path = folder / f"{part}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tiny(out: Path, parts: str, *options: str, only: str = ONLY) -> list[str]:
    return ["--out", str(out), "--tiny", "--device", "cpu", "--only", only, "--parts", parts, *options]
