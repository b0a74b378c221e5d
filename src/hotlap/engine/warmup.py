"""Warm-up on dummy data: compilation, autotuning and first-use costs, paid before the clock that counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hotlap.engine.precision import context
from hotlap.engine.program import Program
from hotlap.engine.steps import Steps, dummy_batch
from hotlap.errors import InputError
from hotlap.recipe import Recipe


def warm_up(steps: Steps, program: Program, recipe: Recipe, count: int, device: torch.device) -> None:
    """Run a few training steps and one evaluation on random images of the real shapes.

    The caller initialises the networks afterwards, so nothing of this survives but compiled code, recorded steps and
    memory pools. Nothing of the real data is seen.

    Args:
        steps: warmed up.
        program: trained in place, then to be initialised.
        recipe: batch sizes, precision.
        count: number of training images, which bounds the batch.
        device: where to run.

    Raises:
        InputError: the recipe asks for compilation, which fails here.
    """
    with _explaining_compilation(recipe):
        steps.warm_up(count)
        with context(program.precision, device), torch.no_grad():
            images, _ = dummy_batch(recipe, program, min(recipe.evaluation.batch_size, count), None, device, seeds=1)
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
