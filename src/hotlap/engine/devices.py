"""Devices: choosing one, waiting for it, and the number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import torch

from hotlap.engine.precision import precision_of
from hotlap.errors import InputError
from hotlap.models.layers import Fused
from hotlap.native.library import missing
from hotlap.recipe import Recipe


def choose_device(name: str = "auto") -> torch.device:
    """Resolve ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; auto takes a CUDA GPU where there is one.

    Raises:
        InputError: not a device, or one that is not there.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"{name!r} is not a device", "use --device auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            has = f"there are {count} GPUs" if count else "this machine or this build of torch has no CUDA GPU"
            raise InputError(f"{name} is not there: {has}", "use --device cpu, or auto")
        return torch.device("cuda", device.index or 0)
    if device.type != "cpu":
        raise InputError(f"device {name!r} is not supported", "use --device auto, cpu, cuda or cuda:N")
    return device


def choose_gpus(text: str) -> tuple[str, ...]:
    """Read a choice of this machine's CUDA GPUs: ``all``, or numbers such as ``0,2``.

    Raises:
        InputError: neither, a number twice, or a GPU that is not there.
    """
    count = torch.cuda.device_count()
    if text == "all":
        if not count:
            raise InputError("this machine or this build of torch has no CUDA GPU", "leave out --gpus")
        return tuple(f"cuda:{index}" for index in range(count))
    numbers = text.split(",")
    if not all(number.isdecimal() for number in numbers) or len(set(numbers)) < len(numbers):
        raise InputError(f"{text!r} is no choice of GPUs", "--gpus all, or --gpus 0,1")
    return tuple(str(choose_device(f"cuda:{int(number)}")) for number in numbers)


def fuses(recipe: Recipe, device: torch.device) -> Fused:
    """Tell whose fused layers a recipe is to use on a device, if any.

    Returns:
        ``triton`` for ``hotlap.fused`` on a CUDA GPU; ``native`` for the compiled kernels on a CPU, in bfloat16 or with
        ``engine.winograd``; or nothing.
    """
    if recipe.engine.fused and device.type == "cuda" and find_spec("triton") is not None:
        return "triton"
    # In plain float32 a recipe keeps PyTorch's own bits. torch.compile knows nothing of the kernels, and fuses itself.
    rounds = recipe.engine.winograd or precision_of(recipe, device) == "bf16"
    suits = device.type == "cpu" and rounds and not recipe.engine.compile and not missing()
    return "native" if recipe.engine.fused and suits else ""


def synchroniser(device: torch.device) -> Callable[[], None]:
    """Return a function that waits until the device has finished its work."""
    return (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)


@contextmanager
def choosing_kernels(device: torch.device) -> Iterator[None]:
    """Let cuDNN choose the fastest convolutions by trying them for the block; a CPU has nothing to choose."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


@contextmanager
def use_threads(threads: int | None) -> Iterator[None]:
    """Set the number of threads of one operation for the block; None leaves it.

    Raises:
        InputError: below 1.
    """
    if threads is not None and threads < 1:
        raise InputError(f"--threads must be at least 1, not {threads}")
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
