"""Devices: choosing one, waiting for it, and the number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

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
    if recipe.engine.fused and device.type == "cuda" and no_triton() is None:
        return "triton"
    # In plain float32 a recipe keeps PyTorch's own bits. torch.compile knows nothing of the kernels, and fuses itself.
    rounds = recipe.engine.winograd or precision_of(recipe, device) == "bf16"
    suits = device.type == "cpu" and rounds and not recipe.engine.compile and not missing()
    return "native" if recipe.engine.fused and suits else ""


@cache
def no_triton() -> str | None:
    """Say why Triton cannot be used on a CUDA GPU; None where it can. Asked once in a process."""
    try:
        import triton

        # It compiles a few lines of C for itself when it is first used, and needs a compiler and Python's headers.
        triton.runtime.driver.active.get_current_target()
    except Exception as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        return "it is not installed" if isinstance(error, ImportError) else first_line
    return None


def remark_on_triton(recipe: Recipe, device: torch.device) -> str | None:
    """Say in a line that a recipe goes without the fused kernels that it asks for; None where it is not so."""
    if device.type != "cuda" or not recipe.engine.fused or (reason := no_triton()) is None:
        return None
    return f"layers are not fused, and training is slower, since Triton does not work here: {reason}"


@contextmanager
def explaining_memory(recipe: Recipe, forget: Callable[[], None]) -> Iterator[None]:
    """Turn a GPU that runs out of memory into one line with the way out.

    Args:
        recipe: what is trained.
        forget: lets go of what is kept for later runs.

    Raises:
        InputError: there was not enough memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        forget()
        fix = f"--set batch_size={max(1, recipe.batch_size // 2)}"
        if recipe.evaluation.batch_size > recipe.batch_size // 2:
            fix += f" --set evaluation.batch_size={max(1, recipe.batch_size // 2)}"
        first_line = str(error).strip().splitlines()[0]
        raise InputError(f"the GPU has too little memory for {recipe.name}: {first_line}", fix) from None


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
