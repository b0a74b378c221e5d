"""Convolution with 2×2 max-pooling and ReLU, forward and backward: the compiled kernels against Numba, on one thread.

    python -m venv build/numba && build/numba/bin/pip install numba scipy
    PYTHONPATH=src build/numba/bin/python benchmarks/numba_conv.py

The layers are those of mnist/record; the forward pass leaves out no blank fields. Both sides get the same arrays, and
have to agree to 1e-4 before they are timed; then they take turns. The kernels' side is compiled here, from the same
headers with the same flags as the package's. Numba's side is written as its compiler likes it best: sizes are
constants, channels lie innermost, and taps are written out so that each weight that is loaded serves four fields.
"""

from __future__ import annotations

import argparse
import ctypes
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from hotlap.native.library import instruction_sets
from hotlap.stats.comparison import time_ratio

HERE = Path(__file__).parent
KERNELS = HERE.parent / "src" / "hotlap" / "native" / "kernels"
FLAGS = ["-std=c++20", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-shared"]
FLAGS_OF = {
    "generic": ["-DHL_LANES=8"],
    "avx2": ["-DHL_LANES=8", "-mavx2", "-mfma"],
    "avx512": ["-DHL_LANES=16", "-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"],
}
KERNEL, CLASSES = 3, 1
IMAGES = 24
"""Images of a call, as many as the kernels take through a layer together."""
GROUP = 4
"""Images whose gradients are listed together."""
SLACK = 64
"""Floats behind an array that a vector may reach into."""
LINE = 16
"""Floats of a cache line."""
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Shape:
    """A layer: side of its input, channels in and out."""

    side: int
    channels_in: int
    channels_out: int

    @property
    def out(self) -> int:
        return (self.side - KERNEL + 1) // 2


LAYERS = {"first layer, 1 → 16 channels": Shape(22, 1, 16), "second layer, 16 → 32 channels": Shape(10, 16, 32)}


class Compiled:
    """The kernels' side."""

    def __init__(self, library: ctypes.CDLL, shape: Shape, values: NDArray[np.float32]) -> None:
        self._library = library
        library.bench_make.restype = ctypes.c_void_p
        self._made = ctypes.c_void_p(
            library.bench_make(shape.side, shape.channels_in, shape.channels_out, KERNEL, _at(values))
        )
        assert self._made

    def forward(self, x: NDArray[Any], out: NDArray[Any], chosen: NDArray[Any], *, plain: bool) -> None:
        self._library.bench_forward(self._made, int(plain), IMAGES, _at(x), _at(out), _at(chosen))

    def backward(
        self, x: NDArray[Any], out: NDArray[Any], delta: NDArray[Any], chosen: NDArray[Any], dx: NDArray[Any] | None
    ) -> None:
        to = None if dx is None else _at(dx)
        self._library.bench_backward(self._made, IMAGES, _at(x), _at(out), _at(delta), _at(chosen), to)

    def gradients(self, count: int) -> NDArray[np.float32]:
        values = np.empty(count, np.float32)
        self._library.bench_gradients(self._made, _at(values))
        return values


def _at(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def compiled_library(name: str, folder: Path) -> ctypes.CDLL:
    made = folder / "conv.so"
    sources = [HERE / "numba_conv.cpp", KERNELS / "layout.cpp"]
    command = [os.environ.get("CXX", "c++"), *FLAGS, *FLAGS_OF[name], f"-DHL_SPACE={name}", f"-I{KERNELS}"]
    subprocess.run([*map(str, [*command, *sources]), "-o", str(made)], check=True)
    return ctypes.CDLL(str(made))


def numba_forward(shape: Shape, block: int) -> Callable[..., None]:
    """Write the forward pass for one shape and compile it.

    The made function takes x (n, side · side · in), weights (3, 3 · in, out), bias (out), out and chosen (n, places,
    out) and, as memory, sums (4, out).

    Args:
        shape: of the layer.
        block: taps of a row that are written out; all of one row where it has no more.
    """
    c_in, c_out, out = shape.channels_in, shape.channels_out, shape.out
    row, taps = shape.side * c_in, KERNEL * c_in
    fields = {"a": 0, "b": c_in, "d": row, "e": row + c_in}
    # With one channel all nine taps are written out, otherwise a block of one row.
    rows = range(KERNEL) if taps == block else range(1)
    each = [(y, i) for y in rows for i in range(block)]
    loads = [
        f"x{field}{y}_{i} = image[at + U{place + y * row + i}]" for field, place in fields.items() for y, i in each
    ]
    sums = {field: " + ".join(f"x{field}{y}_{i} * w{y}_{i}" for y, i in each) for field in fields}
    lines = ["def forward(x, w, bias, out, chosen, sums):", " for s in range(x.shape[0]):", "  image = x[s]"]
    lines += [f"  for place in range({out * out}):"]
    lines += [f"   field = np.uint64(place // {out} * {2 * row} + place % {out} * {2 * c_in})"]
    if taps == block:
        lines += ["   at = field", *(f"   {load}" for load in loads)]
        lines += [f"   for c in range({c_out}):"]
        lines += [f"    w{y}_{i} = w[{y}, {i}, c]" for y, i in each]
        lines += [f"    {field} = {text}" for field, text in sums.items()]
    else:
        lines += [f"   for c in range({c_out}):", *(f"    sums[{n}, c] = 0" for n in range(4))]
        lines += [f"   for y in range({KERNEL}):", f"    for first in range(0, {taps}, {block}):"]
        lines += [f"     at = field + np.uint64(y * {row} + first)", *(f"     {load}" for load in loads)]
        lines += [f"     for c in range({c_out}):"]
        lines += [f"      w0_{i} = w[y, first + {i}, c]" for i in range(block)]
        lines += [f"      sums[{n}, c] += {text}" for n, text in enumerate(sums.values())]
        lines += [f"   for c in range({c_out}):"]
        lines += [f"    {field} = sums[{n}, c]" for n, field in enumerate(fields)]
    lines += ["    top, low = max(a, b), max(d, e)"]
    lines += [f"    of_top = np.int32(field + U{c_in}) if b > a else np.int32(field)"]
    lines += [f"    of_low = np.int32(field + U{row + c_in}) if e > d else np.int32(field + U{row})"]
    lines += ["    out[s, place, c] = max(max(top, low) + bias[c], np.float32(0))"]
    lines += ["    chosen[s, place, c] = of_low if low > top else of_top"]
    return _compiled("forward", lines)


def numba_backward(shape: Shape, *, inputs: bool) -> Callable[..., None]:
    """Write the backward pass for one shape and compile it: the kernels' way, field by field, zeros left out.

    The made function takes x, out, delta and chosen as the forward pass; weights (out, 3, 3 · in), dx as x, grad as
    weights, bias_grad (out) and, as memory, value and field (out, GROUP · places).

    Args:
        shape: of the layer.
        inputs: also set dx.
    """
    c_in, c_out, places = shape.channels_in, shape.channels_out, shape.out**2
    row, taps, size = shape.side * c_in, KERNEL * c_in, shape.side**2 * c_in
    lines = ["def backward(x, out, delta, chosen, w, dx, grad, bias_grad, value, field, count):"]
    lines += [f" for begin in range(0, x.shape[0] // {size}, {GROUP}):"]
    lines += [f"  end = min(begin + {GROUP}, x.shape[0] // {size})"]
    lines += ["  count[:] = 0", "  for s in range(begin, end):", f"   for place in range({places}):"]
    lines += [f"    for c in range({c_out}):"]
    lines += ["     d = delta[s, place, c] if out[s, place, c] > 0 else np.float32(0)"]
    lines += ["     bias_grad[c] += d", "     n = count[c]", "     value[c, n] = d"]
    lines += [f"     field[c, n] = s * {size} + chosen[s, place, c]", "     count[c] = n + (d != 0)"]
    if inputs:
        lines += [f"  dx[begin * {size} : end * {size}] = 0"]
    lines += [f"  for c in range({c_out}):", "   n = count[c]"]
    if c_in == 1:
        taps_of = [(y, i) for y in range(KERNEL) for i in range(taps)]
        lines += [f"   g{y}{i} = np.float32(0)" for y, i in taps_of]
        lines += ["   for k in range(n):", "    d, at = value[c, k], np.uint64(field[c, k])"]
        lines += [f"    g{y}{i} += d * x[at + U{y * row + i}]" for y, i in taps_of]
        lines += [f"   grad[c, {y}, {i}] += g{y}{i}" for y, i in taps_of]
        return _compiled("backward", lines)
    lines += ["   for k in range(n, (n + 3) // 4 * 4):", "    value[c, k], field[c, k] = 0, field[c, 0]"]
    lines += ["   for k in range(0, (n + 3) // 4 * 4, 4):"]
    lines += [f"    d{j}, at{j} = value[c, k + {j}], np.uint64(field[c, k + {j}])" for j in range(4)]
    lines += [f"    for y in range(U{KERNEL}):"]
    lines += [f"     p{j} = at{j} + y * U{row}" for j in range(4)]
    lines += [f"     for i in range(U{taps}):"]
    lines += ["      grad[c, y, i] += " + " + ".join(f"d{j} * x[p{j} + i]" for j in range(4))]
    if inputs:
        # One after another, since fields overlap.
        for j in range(4):
            lines += [f"     for i in range(U{taps}):", f"      dx[p{j} + i] += d{j} * w[c, y, i]"]
    return _compiled("backward", lines)


def _compiled(name: str, lines: list[str]) -> Callable[..., None]:
    text = "\n".join(lines)
    # Unsigned numbers are places from the beginning; of a signed one Numba has to ask whether it counts from the end.
    scope: dict[str, Any] = {f"U{n}": np.uint64(n) for n in map(int, re.findall(r"\bU(\d+)", text))}
    scope["np"] = np
    exec(text, scope)
    return numba.njit(fastmath=True, boundscheck=False, error_model="numpy")(scope[name])  # type: ignore[no-any-return]


@dataclass
class Case:
    """One thing to time: the kernels' calls by name, and Numba's."""

    name: str
    compiled: dict[str, Callable[[], None]]
    numba: Callable[[], None]


def zeros(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Return zeros that begin at a cache line: where NumPy puts them differs from process to process, and tells."""
    count = math.prod(shape)
    memory = np.zeros(count + LINE + SLACK, dtype)
    start = -memory.ctypes.data // memory.itemsize % LINE
    return memory[start : start + count].reshape(shape)


def assert_close(found: NDArray[Any], expected: NDArray[Any], what: str) -> None:
    apart = float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())
    if not apart <= TOLERANCE:
        sys.exit(f"{what}: Numba and the kernels are {apart:.1e} apart")


def cases_of(name: str, shape: Shape, library: ctypes.CDLL, block: int) -> list[Case]:
    """Make both sides of a layer's forward and backward pass, checked against each other."""
    rng = np.random.default_rng(0)
    c_in, c_out, places = shape.channels_in, shape.channels_out, shape.out**2
    size, taps = shape.side**2 * c_in, KERNEL * c_in
    weights = rng.standard_normal((c_out, c_in, KERNEL, KERNEL), np.float32) / np.sqrt(np.float32(9 * c_in))
    bias = rng.standard_normal(c_out, np.float32) * np.float32(0.1)
    rest = np.zeros(places * c_out * CLASSES + CLASSES, np.float32)
    values = np.concatenate([weights.ravel(), bias, rest])
    compiled = Compiled(library, shape, values)

    def activations(dtype: Any = np.float32) -> NDArray[Any]:
        return zeros(IMAGES, places, c_out, dtype=dtype)

    x = zeros(IMAGES * size)
    # What a layer gets to see: a third of it zeros, the rest positive.
    x[:] = np.maximum(rng.standard_normal(IMAGES * size, np.float32) + np.float32(0.4), 0)
    taps_first, channel_first = zeros(KERNEL, taps, c_out), zeros(c_out, KERNEL, taps)
    taps_first[:] = weights.transpose(2, 3, 1, 0).reshape(taps_first.shape)
    channel_first[:] = weights.transpose(0, 2, 3, 1).reshape(channel_first.shape)
    outs, fields = [activations() for _ in range(3)], [activations(np.int32) for _ in range(3)]
    forward = numba_forward(shape, taps if c_in == 1 else block)
    sums = zeros(4, c_out)

    def by_numba() -> None:
        forward(x.reshape(IMAGES, size), taps_first, bias, outs[2], fields[2], sums)

    ways = {"as used": lambda: compiled.forward(x, outs[0], fields[0], plain=False)}
    ways["plain sums"] = lambda: compiled.forward(x, outs[1], fields[1], plain=True)
    for run in (*ways.values(), by_numba):
        run()
    assert_close(outs[2], outs[0], f"{name}, forward")
    assert_close(outs[2], outs[1], f"{name}, forward, plain sums")
    if not np.array_equal(fields[1], fields[2]):
        sys.exit(f"{name}: Numba chooses other fields than the kernels")
    if c_in == 1:
        del ways["plain sums"]
    found = [Case(f"{name}, forward", ways, by_numba)]

    delta = activations()
    delta[:] = rng.standard_normal(delta.shape, np.float32)
    inputs = c_in > 1
    dxs = [zeros(IMAGES * size) for _ in range(2)]
    grad, bias_grad = zeros(c_out, KERNEL, taps), zeros(c_out)
    value = zeros(c_out, GROUP * places + 4)
    field, count = zeros(*value.shape, dtype=np.int32), zeros(c_out, dtype=np.int32)
    backward = numba_backward(shape, inputs=inputs)
    out, chosen = outs[1], fields[1]

    def back_by_numba() -> None:
        backward(x, out, delta, chosen, channel_first, dxs[1], grad, bias_grad, value, field, count)

    # The kernels set to zero in delta what ReLU cut, which the next call finds done.
    mine = activations()
    mine[:] = delta

    def back_by_kernels() -> None:
        compiled.backward(x, out, mine, chosen, dxs[0] if inputs else None)

    for run in (back_by_kernels, back_by_numba):
        run()
    expected = compiled.gradients(len(values))
    in_order = grad.reshape(c_out, KERNEL, KERNEL, c_in).transpose(0, 3, 1, 2).ravel()
    assert_close(in_order, expected[: weights.size], f"{name}, gradients of the weights")
    assert_close(bias_grad, expected[weights.size : weights.size + c_out], f"{name}, gradients of the biases")
    if inputs:
        assert_close(dxs[1], dxs[0], f"{name}, gradients of the input")
    found.append(Case(f"{name}, backward", {"as used": back_by_kernels}, back_by_numba))
    return found


def timed(run: Callable[[], None], calls: int) -> float:
    """Microseconds of a call; of the thread's own time, which leaves out those in which others had the core."""
    start = time.thread_time()
    for _ in range(calls):
        run()
    return (time.thread_time() - start) / calls * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=201)
    parser.add_argument("--calls", type=int, default=4, help="calls of a side in a round")
    parser.add_argument("--block", type=int, default=3, help="taps that Numba's forward pass has written out")
    asked = parser.parse_args()
    name = os.environ.get("HOTLAP_ISA") or instruction_sets()[0]
    with tempfile.TemporaryDirectory() as folder:
        library = compiled_library(name, Path(folder))
        cases = [c for layer, shape in LAYERS.items() for c in cases_of(layer, shape, library, asked.block)]
    print(f"{IMAGES} images, {name}, numba {numba.__version__}, {asked.rounds} rounds of {asked.calls} calls")
    print("| pass | kernels | µs | Numba, µs | Numba's time over the kernels' [95 %] |")
    print("|---|---|---|---|---|")
    for case in cases:
        sides = {**case.compiled, "numba": case.numba}
        taken: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(asked.rounds):
            for side in sides if number % 2 else reversed(sides):
                taken[side].append(timed(sides[side], asked.calls))
        for side in case.compiled:
            ratio = time_ratio(taken["numba"], taken[side])
            low, high = ratio.ci95 or (float("nan"), float("nan"))
            medians = [float(np.median(taken[which])) for which in (side, "numba")]
            interval = f"{ratio.ratio:.2f} [{low:.2f}, {high:.2f}]"
            print(f"| {case.name} | {side} | {medians[0]:.0f} | {medians[1]:.0f} | {interval} |")


if __name__ == "__main__":
    main()
