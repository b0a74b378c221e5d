"""A trained network and its data, for tests of what is saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import hotlap
from hotlap import datasets
from hotlap.recipe import Recipe
from hotlap.result import Run
from tiny import tiny


def trained(recipe: Recipe | None = None, seed: int = 0) -> Run:
    return hotlap.train(recipe or tiny(), seed, device="cpu")


def images_of(recipe: Recipe) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    data = datasets.load(recipe.data.name, **recipe.data.options)
    return data.x_test.transpose(0, 2, 3, 1), data.y_test


def take_apart(path: Path) -> tuple[dict[str, Any], bytes]:
    """The header and the weights of a safetensors file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def put_together(path: Path, header: dict[str, Any], weights: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + weights)
    return path
