"""What float8 could save at most in the convolutions of cifar10/record: products of the matrices behind them, timed.

    python benchmarks/fp8_speed.py OUT [--images 2000] [--device cuda] [--repeats 20]

For each wide convolution of a step at 32×32 pixels, forward, one line of OUT with seconds of: the convolution as it is
(float16, channels last, cuDNN's fastest); the same product as matrices, with the windows already written out, in half
precision and in float8 (e4m3, a scale for each tensor, ``torch._scaled_mm``); and rounding the images to float8 with a
scale that is known. A kernel that reads windows from the images themselves cannot be faster than the product alone, so
``saved_at_most_s`` is the convolution's time less the product's, and ``saved_with_rounding_s`` less the rounding's too,
which falls away where the layer before writes float8 itself. Products are checked against float32. A CPU shows only
that it runs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from gpu import median_s
from hotlap.engine.devices import choosing_kernels

LAYERS = [(32, 64, 31), (64, 64, 15), (64, 256, 15), (256, 256, 7), (256, 256, 7), (256, 256, 3)]
"""Channels in and out and side in pixels of the six convolutions; the first has eight channels of zeros."""

E4M3 = torch.float8_e4m3fn


def scale_for(values: Tensor) -> Tensor:
    """Return what the values are divided by to fit float8."""
    return (values.abs().amax().float() / torch.finfo(E4M3).max).clamp(min=1e-12)


def layer(channels: int, filters: int, side: int, n: int, device: torch.device, repeats: int) -> dict[str, object]:
    half = torch.float16 if device.type == "cuda" else torch.float32
    rng = torch.Generator(device=device).manual_seed(0)
    images = torch.randn((n, channels, side, side), generator=rng, device=device).to(half)
    images = images.contiguous(memory_format=torch.channels_last)
    weight = torch.randn((filters, channels, 3, 3), generator=rng, device=device).to(half) / (3 * channels**0.5)
    weight = weight.contiguous(memory_format=torch.channels_last)
    windows = functional.unfold(images, 3, padding=1).transpose(1, 2).reshape(-1, channels * 9).contiguous()
    matrix = weight.reshape(filters, -1).t()
    of_windows, of_matrix = scale_for(windows), scale_for(matrix)
    small = (windows / of_windows).to(E4M3), (matrix.t() / of_matrix).to(E4M3).contiguous().t()

    def product() -> Tensor:
        return torch._scaled_mm(*small, scale_a=of_windows, scale_b=of_matrix, out_dtype=torch.bfloat16)

    exact = windows[:512].float() @ matrix.float()
    error = (product()[:512].float() - exact).norm() / exact.norm()
    if not error < 0.1:
        raise SystemExit(f"products in float8 are wrong: {float(error):.3g} of their size")
    times = {
        "convolution_s": median_s(lambda: functional.conv2d(images, weight, padding=1), device, repeats),
        "product_half_s": median_s(lambda: windows @ matrix, device, repeats),
        "product_fp8_s": median_s(product, device, repeats),
        "rounding_s": median_s(lambda: (images / of_windows).to(E4M3), device, repeats),
    }
    return {
        "layer": [channels, filters, side], "images": n, "flop": 2 * windows.shape[0] * channels * 9 * filters, **times,
        "saved_at_most_s": times["convolution_s"] - times["product_fp8_s"],
        "saved_with_rounding_s": times["convolution_s"] - times["product_fp8_s"] - times["rounding_s"],
        "relative_error": float(error),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--repeats", type=int, default=20)
    asked = parser.parse_args()
    device = torch.device(asked.device)
    with asked.out.open("a") as file, choosing_kernels(device):
        for channels, filters, side in LAYERS:
            line = layer(channels, filters, side, asked.images, device, asked.repeats)
            file.write(json.dumps(line) + "\n")
            file.flush()
            print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
