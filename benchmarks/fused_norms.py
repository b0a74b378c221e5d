"""The kernels of hotlap.fused on a GPU: µs of each on the layers of a CIFAR-10 step, for several sizes of its blocks.

    python benchmarks/fused_norms.py OUT [--images 2000] [--sizes 32:64:4:8:1,64:64:8:8:2,…] [--warm]

A size is pixels, channels and warps of a block, programs for each multiprocessor, and stages, for all kernels; without
``--sizes``, each has those that hotlap gives it. Each line of OUT is one size on one layer: µs of every kernel, the
median of several calls after one that compiles, and gigabytes a second over the bytes that must be moved. ``--warm``
only compiles, so that several processes can do it side by side; Triton keeps what it compiled. ``--against`` times
PyTorch's own layers too, eager and compiled; ``--recompute`` pooling's gradient without kept places.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from hotlap.fused import norms, patches
from hotlap.fused.launch import Block
from recomputed_pooling import kept_and_again

LAYERS = [(64, 31, True), (64, 15, False), (256, 15, True), (256, 7, False), (256, 7, True), (256, 3, False)]
"""Channels, side in pixels and whether it is pooled, of each layer of airbench's network on 32×32 pixels."""
KERNELS = ("statistics", "moments", "normalise", "gradient_sums", "add_parts", "gradients")
REPEATS = 7


def layer(channels: int, side: int, pool: bool, n: int) -> tuple[torch.Tensor, nn.Module, torch.Tensor, int]:
    images = torch.randn(n, channels, side, side, device="cuda", dtype=torch.float16)
    images = images.contiguous(memory_format=torch.channels_last).requires_grad_()
    norm = nn.BatchNorm2d(channels, momentum=0.4, device="cuda")
    small = side // 2 if pool else side
    gradient = torch.randn(n, channels, small, small, device="cuda", dtype=torch.float16)
    gradient = gradient.contiguous(memory_format=torch.channels_last)
    large, less = images.numel() * 2, gradient.numel() * 2
    # Forward: read, write pooled, places; read, write. Backward: read two; read two, places, write.
    moved = (large + less * 1.5 + 2 * less) + (2 * less + 2.5 * less + large) if pool else 8 * less
    return images, norm, gradient, moved


def kernel_times(work, repeats: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Return µs of each kernel that some work starts, the median of several calls."""
    work()
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(repeats):
            work()
        torch.cuda.synchronize()
    found = defaultdict(list)
    for event in seen.events():
        found[event.name].append(event.device_time)
    return {name: median(times) * len(times) / repeats for name, times in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--sizes", default="")
    parser.add_argument("--warm", action="store_true")
    parser.add_argument("--against", action="store_true")
    parser.add_argument("--recompute", action="store_true")
    asked = parser.parse_args()
    act = nn.SiLU()
    repeats = 1 if asked.warm else REPEATS
    with asked.out.open("a") as file:

        def write(**fields: object) -> None:
            if not asked.warm:
                file.write(json.dumps(fields) + "\n")
                print(json.dumps(fields), flush=True)

        for size in asked.sizes.split(","):
            if size:
                block = Block(*map(int, size.split(":")))
                norms.BLOCKS.update(dict.fromkeys(norms.BLOCKS, block))
                patches.BLOCK = block._replace(rows=4 * block.rows)
            for channels, side, pool in LAYERS:
                images, norm, gradient, moved = layer(channels, side, pool, asked.images)

                def work() -> None:
                    norms.normalise(images, norm, act, pool=pool).backward(gradient)  # noqa: B023

                times = kernel_times(work, repeats)
                own = {kernel: us for kernel, us in times.items() if kernel in KERNELS}
                total = sum(own.values())
                write(size=size, layer=[channels, side, pool], us=own, total_us=total, gb_per_s=moved / total / 1e3)
            small = torch.randn(asked.images, 3, 32, 32, device="cuda", dtype=torch.float16)
            small = small.contiguous(memory_format=torch.channels_last)
            weight = torch.randn(24, 3, 2, 2, device="cuda", dtype=torch.float16)
            bias = torch.zeros(24, device="cuda", dtype=torch.float16)
            times = kernel_times(lambda: patches.convolve(small, weight, bias, act, 32), repeats)  # noqa: B023
            write(size=size, layer="patches", us=times)
        if asked.recompute:
            for channels, side, pool in LAYERS:
                if pool:
                    images, norm, gradient, _ = layer(channels, side, pool, asked.images)
                    kept, again = kept_and_again(images.detach(), gradient, norm, act)
                    us = {**kernel_times(kept, repeats), **kernel_times(again, repeats)}
                    both = {kernel: us[kernel] for kernel in ("gradients", "gradients_recomputed")}
                    write(how="recompute", layer=[channels, side, pool], us=both)
        if asked.against:
            for name, wrap in (("eager", lambda f: f), ("compiled", torch.compile)):
                for channels, side, pool in LAYERS:
                    images, norm, gradient, moved = layer(channels, side, pool, asked.images)
                    parts = nn.Sequential(*([nn.MaxPool2d(2)] if pool else []), norm, act)
                    run = wrap(parts)
                    times = kernel_times(lambda: run(images).backward(gradient), repeats)  # noqa: B023
                    total = sum(times.values())
                    write(
                        how=name, layer=[channels, side, pool], us=times, total_us=total, gb_per_s=moved / total / 1e3
                    )
                with torch.no_grad():
                    run = wrap(lambda x: act(nn.functional.conv2d(x, weight, bias)))
                    write(how=name, layer="patches", us=kernel_times(lambda: run(small), repeats))  # noqa: B023


if __name__ == "__main__":
    sys.exit(main())
