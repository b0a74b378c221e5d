"""What every peer script does alike: arguments, images, shifts, the order of the samples, and the line it prints.

Needs NumPy only, for a peer's environment holds the peer's packages and not hotlap. Nothing here is timed by itself: a
script starts its clock after ``read`` and after its own warm-up, so that reading files, importing and compiling are
left out and everything from the first weight to the last predicted test image is counted.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]

HELD_OUT = 10_000
"""Training images that a peer is tuned on: the last ones, so that the test set stays unseen."""


@dataclass(frozen=True)
class Task:
    """Images (N, 28, 28) uint8 and labels (N,) int32 of both parts, the seed and the hyper-parameters."""

    x: Images
    y: NDArray[np.int32]
    x_test: Images
    y_test: NDArray[np.int32]
    seed: int
    settings: dict[str, Any]


def read(doc: str | None, settings: Mapping[str, Any], arguments: Sequence[str] | None = None) -> Task:
    """Read the command line and the images.

    Args:
        doc: description for ``--help``.
        settings: the peer's hyper-parameters; ``--set NAME=VALUE`` changes one.
        arguments: command line; the process's own when left out.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of x_train.npy, y_train.npy, x_test.npy, …")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--hold-out", action="store_true", help="for tuning: test on the last 10,000 training images")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a hyper-parameter")
    asked = parser.parse_args(arguments)
    chosen = dict(settings)
    for text in asked.set:
        name, _, value = text.partition("=")
        if name not in chosen:
            parser.error(f"no such hyper-parameter: {name}; there are {', '.join(chosen)}")
        chosen[name] = ast.literal_eval(value)
    names = ("x_train", "y_train") if asked.hold_out else ("x_train", "y_train", "x_test", "y_test")
    x, y, *test = (np.array(np.load(asked.data / f"{name}.npy")) for name in names)
    if asked.hold_out:
        test = [x[-HELD_OUT:], y[-HELD_OUT:]]
        x, y = x[:-HELD_OUT], y[:-HELD_OUT]
    # MNIST comes with one channel; the peers add their own where they want it.
    x, test[0] = (images.reshape(-1, *images.shape[-2:]) for images in (x, test[0]))
    labels, test_labels = (values.astype(np.int32) for values in (y, test[1]))
    return Task(x, labels, test[0], test_labels, asked.seed, chosen)


def order(rng: np.random.Generator, n: int, samples: int) -> NDArray[np.int64]:
    """Return which image comes when: passes over all n, each in an order of its own, cut off after ``samples``."""
    passes = [rng.permutation(n) for _ in range(-(-samples // n))]
    return np.concatenate(passes)[:samples]


def shifted_crops(images: Images, rng: np.random.Generator, size: int = 22) -> Images:
    """Cut a square out of the middle of every image, moved by -1, 0 or 1 pixels in both directions."""
    margin = (images.shape[1] - size) // 2
    shifts = rng.integers(-1, 2, (2, len(images)))
    crops = np.empty((len(images), size, size), np.uint8)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            chosen = (shifts[0] == down) & (shifts[1] == right)
            top, left = margin + down, margin + right
            crops[chosen] = images[chosen, top : top + size, left : left + size]
    return crops


def middle_crops(images: Images, size: int = 22) -> Images:
    """Cut the square out of the middle of every image, for evaluation."""
    margin = (images.shape[1] - size) // 2
    return np.ascontiguousarray(images[:, margin : margin + size, margin : margin + size])


def triangle(steps: int, warm: float, start: float, end: float) -> NDArray[np.float32]:
    """Return a factor per step: linear from ``start`` up to 1 over a share ``warm``, then down to ``end``."""
    peak = max(1.0, warm * steps)
    return np.interp(np.arange(steps), [0, peak, max(steps, peak + 1)], [start, 1, end]).astype(np.float32)


def report(accuracy: float, seconds: float, versions: Mapping[str, str]) -> None:
    """Print the one line that the benchmark reads."""
    print(json.dumps({"accuracy": accuracy, "seconds": seconds, "versions": dict(versions)}), flush=True)
