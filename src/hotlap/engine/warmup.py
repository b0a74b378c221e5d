"""Warm-up on dummy data: compilation, autotuning and first-use costs, paid before the clock that counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from hotlap.engine.feed import MEMORY_FORMATS
from hotlap.engine.precision import context, weights_dtype
from hotlap.engine.program import Program
from hotlap.engine.seeding import generator
from hotlap.engine.updates import Updates
from hotlap.errors import InputError
from hotlap.recipe import Recipe

STEPS = 2


def warm_up(program: Program, recipe: Recipe, count: int, device: torch.device) -> None:
    """Run a few training steps and one evaluation on random images of the real shapes.

    The caller initialises the networks afterwards, so nothing of this survives but compiled code and memory pools; the
    optimizer is a throw-away. Nothing of the real data is seen.

    Args:
        program: trained in place, then to be initialised.
        recipe: batch sizes, optimizer, precision.
        count: number of training images, which bounds the batch.
        device: where to run.

    Raises:
        InputError: the recipe asks for compilation, which fails here.
    """
    rng = generator(0, device)
    channels, *size = program.shape
    memory_format = MEMORY_FORMATS[recipe.engine.memory_format]

    def dummy(n: int, seeds: int) -> tuple[Tensor, Tensor]:
        images = torch.randn((n, channels // program.seeds * seeds, *size), generator=rng, device=device)
        labels = torch.randint(program.classes, (n,) if seeds == 1 else (n, seeds), generator=rng, device=device)
        images = images.to(weights_dtype(program.precision))
        return images.contiguous(memory_format=memory_format), labels

    with _explaining_compilation(recipe):
        updates = Updates(recipe, program.weights(recipe))
        for step in range(STEPS):
            images, labels = dummy(min(recipe.batch_size, count), program.seeds)
            updates.zero_grad()
            with context(program.precision, device):
                losses = program.losses(images, labels)
            program.backward(losses)
            updates.step(step, STEPS, STEPS)
        updates.zero_grad()
        with context(program.precision, device), torch.no_grad():
            images, _ = dummy(min(recipe.evaluation.batch_size, count), 1)
            program.network.eval()
            program.answer(images)
            program.network.train()


@contextmanager
def _explaining_compilation(recipe: Recipe) -> Iterator[None]:
    """Turn a failure of torch.compile, whose message can be pages long, into one line with the way out."""
    try:
        yield
    except Exception as error:
        if recipe.engine.compile and type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
            first_line = str(error).strip().splitlines()[0]
            raise InputError(
                f"torch.compile does not work here: {first_line}", "go without it: --no-compile"
            ) from error
        raise
