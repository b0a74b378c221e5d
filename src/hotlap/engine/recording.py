"""Work on a GPU, recorded once during warm-up and then repeated whole: one launch for hundreds of kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from hotlap.engine.feed import Batch
from hotlap.errors import InputError
from hotlap.recipe import Recipe

Recorder: TypeAlias = Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]
"""Records what a function does on the device, after calling it a few times, and returns what repeats that, and the
tensor that holds its result."""

_BEFORE_RECORDING = 3
"""Calls that choose kernels and fill memory pools."""


class Recorded(NamedTuple):
    """Work on a batch that was recorded: on another batch of the same shape it is repeated.

    Attributes:
        batch: where the recording reads it.
        replay: repeats the work.
        result: where the recording leaves its result, until it is repeated.
    """

    batch: Batch
    replay: Callable[[], None]
    result: Tensor

    def __call__(self, batch: Batch) -> Tensor:
        """Copy a batch to where it is read, and repeat the work on it."""
        for held, now in zip(self.batch, batch, strict=True):
            held.copy_(now)
        self.replay()
        return self.result


def record_batch(record: Recorder, batch: Batch, work: Callable[[Batch], Tensor]) -> Recorded:
    """Record what is done to a batch, whose tensors become the recording's own."""
    return Recorded(batch, *record(lambda: work(batch)))


def recorder_for(recipe: Recipe, device: torch.device) -> Recorder | None:
    """Return what records a recipe's work on a device; None where it is done operation by operation."""
    return cuda_recorder(device) if device.type == "cuda" and recipe.engine.cuda_graphs else None


@cache
def _streams(device: torch.device) -> tuple[Any, Any]:
    """One stream to warm up on and one to record on, for all recordings: libraries keep a workspace for each stream."""
    return torch.cuda.Stream(device), torch.cuda.Stream(device)


def cuda_recorder(device: torch.device) -> Recorder:
    """Return what records work on a CUDA GPU; all recordings share their memory, so they are replayed one at a time."""
    pool: Any = torch.cuda.graph_pool_handle()
    # PyTorch's own stream for recordings is on whichever GPU recorded first.
    aside, recording = _streams(device)

    def record(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        # Autograd remembers the stream in which a weight was first used, and a recording must not wait for another.
        current = torch.cuda.current_stream(device)
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(_BEFORE_RECORDING):
                work()
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer block brings the stream back where a recording cannot be ended, which PyTorch leaves on its own.
            with torch.cuda.stream(current), torch.cuda.graph(graph, pool=pool, stream=recording):
                result = work()
        except RuntimeError as error:
            # Where a recording cannot be ended either, that is the error, and what it came on top of the reason.
            first = _first_error(error)
            if isinstance(first, torch.OutOfMemoryError) or not isinstance(first, Exception):
                raise first from None
            raise InputError(
                f"a training step cannot be recorded on {device}: {str(first).splitlines()[0]}",
                "--set engine.cuda_graphs=false",
            ) from error
        return graph.replay, result

    return record


def _first_error(error: BaseException) -> BaseException:
    """Return the error that an error came on top of, itself where there is none: of several, the lack of memory."""
    while not isinstance(error, torch.OutOfMemoryError) and error.__context__ is not None:
        error = error.__context__
    return error
