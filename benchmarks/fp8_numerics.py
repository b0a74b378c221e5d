"""What float8 would do to the accuracy of cifar10/record: operands of its widest convolutions rounded to it, on a CPU.

    python benchmarks/fp8_numerics.py OUT [--seeds 4] [--epochs 2] [--variants none,forward,both] [--minutes 20]

Nothing gets faster here: products and sums are what they were (bfloat16 and float32), and only what goes into them has
the values that a GPU's matrix units would see. Images and filters are rounded to e4m3, gradients to e5m2, each tensor
with a scale of its own, a power of two by which its greatest value just fits. ``forward`` leaves gradients alone.
Accuracy is that on 5,000 images held out of the training set. Each line of OUT is one run; what is there is not
repeated, and seeds are taken in turns, so that variants share them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hotlap import datasets
from hotlap.engine.loop import train_once
from hotlap.ladder import get_recipe
from hotlap.models.layers import Conv3x3
from hotlap.recipe import part

VARIANTS = {"none": (), "forward": ("operands",), "both": ("operands", "gradients")}
WIDE = 64
"""Channels that a convolution has at least, coming in and going out: all but the first one of the network."""

HELD_OUT = part("held-out", of=part("cifar10"), images=5000, seed=0)


def rounded(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Round to float8 with a scale for the tensor; the type stays what it was."""
    greatest = values.detach().abs().amax().float().clamp(min=1e-30)
    scale = torch.exp2(torch.floor(torch.log2(torch.finfo(dtype).max / greatest)))
    return ((values * scale).to(dtype).to(values.dtype) / scale).to(values.dtype)


class _Operand(torch.autograd.Function):
    """Rounds forwards; the gradient passes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return rounded(values, torch.float8_e4m3fn)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class _Gradient(torch.autograd.Function):
    """Rounds the gradient; forwards nothing changes."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return rounded(gradient, torch.float8_e5m2)


def convolution(rounds: tuple[str, ...]) -> Any:
    def forward(self: Conv3x3, images: Tensor) -> Tensor:
        filters = self.weight
        wide = rounds and min(self.in_channels, self.out_channels) >= WIDE
        if wide and "operands" in rounds:
            images, filters = _Operand.apply(images), _Operand.apply(filters)
        out = functional.conv2d(images, filters, None, self.stride, self.padding)
        return _Gradient.apply(out) if wide and "gradients" in rounds else out

    return forward


def run(variant: str, seed: int, epochs: float) -> dict[str, Any]:
    recipe = get_recipe("cifar10/record-cpu").with_changes(
        {
            "data": HELD_OUT, "epochs": epochs, "engine.precision": "bf16", "engine.winograd": False,
            "engine.amx": False,
        }
    )  # fmt: skip
    kept = Conv3x3.forward
    Conv3x3.forward = convolution(VARIANTS[variant])  # type: ignore[method-assign]
    start = time.perf_counter()
    try:
        done = train_once(
            recipe, lambda: datasets.load(recipe.data.name, **recipe.data.options), seed,
            device=torch.device("cpu"), timing_valid=False, backend="torch",
        )  # fmt: skip
    finally:
        Conv3x3.forward = kept  # type: ignore[method-assign]
    return {
        "variant": variant, "seed": seed, "epochs": epochs, "accuracy": done.accuracy, "losses": done.loss_by_epoch,
        "wall_s": round(time.perf_counter() - start, 1), "torch": torch.__version__,
    }  # fmt: skip


def summary(lines: list[dict[str, Any]]) -> str:
    """Say, for each variant, how far it is from none with the same seeds."""
    of = {(line["variant"], line["seed"]): line["accuracy"] for line in lines}
    text = []
    for variant in VARIANTS:
        apart = [of[variant, s] - of["none", s] for v, s in of if v == variant and ("none", s) in of]
        mean = statistics.mean(of[key] for key in of if key[0] == variant) if apart else float("nan")
        error = statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else float("nan")
        if apart:
            text.append(
                f"{variant}: {100 * mean:.2f} %, {100 * statistics.mean(apart):+.2f} ± {100 * error:.2f} points "
                f"(standard error, {len(apart)} pairs)"
            )
    return "\n".join(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--minutes", type=float, default=20.0, help="start nothing new after this")
    asked = parser.parse_args()
    end = time.monotonic() + 60 * asked.minutes
    lines = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.exists() else []
    done = {(line["variant"], line["seed"]) for line in lines if line["epochs"] == asked.epochs}
    for seed in range(asked.seeds):
        for variant in asked.variants.split(","):
            if (variant, seed) in done or time.monotonic() > end:
                continue
            lines.append(run(variant, seed, asked.epochs))
            with asked.out.open("a") as file:
                file.write(json.dumps(lines[-1]) + "\n")
            print(lines[-1], flush=True)
    print(summary([line for line in lines if line["epochs"] == asked.epochs]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
