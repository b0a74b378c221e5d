"""Warm-up on dummy data: compilation, autotuning and first-use costs, paid before the clock that counts."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hotlap.engine.augmenting import Augment
from hotlap.engine.devices import synchroniser
from hotlap.engine.evaluate import Evaluator
from hotlap.engine.program import Program
from hotlap.engine.seeding import generator
from hotlap.engine.steps import Steps, dummy_batch
from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.techniques.base import Moment

_log = logging.getLogger(__name__)


@contextmanager
def part_of_warm_up(name: str, device: torch.device) -> Iterator[None]:
    """Log, at level debug, how long a part of warm-up takes; nothing is waited for where nobody listens."""
    wait = synchroniser(device) if _log.isEnabledFor(logging.DEBUG) else lambda: None
    wait()
    start = time.perf_counter()
    yield
    wait()
    _log.debug("warm-up: %s %.2f s", name, time.perf_counter() - start)


def warm_up(
    steps: Steps,
    evaluator: Evaluator,
    program: Program,
    recipe: Recipe,
    counts: tuple[int, int],
    device: torch.device,
) -> None:
    """Run a few training steps and the evaluation, or a batch of it where nothing is compiled, on random images.

    The caller initialises the networks afterwards, so nothing of this survives but compiled code, recorded steps and
    memory pools. Nothing of the real data is seen.

    Args:
        steps: warmed up.
        evaluator: warmed up too.
        program: trained in place, then to be initialised.
        recipe: batch sizes, precision.
        counts: numbers of images to train on, which bounds the batch, and to test on.
        device: where to run.

    Raises:
        InputError: the recipe asks for compilation, which fails here.
    """
    with _explaining_compilation(recipe):
        with part_of_warm_up("augmentation", device):
            _augment(program, recipe, counts[0], device)
        with part_of_warm_up("training steps", device):
            steps.warm_up(counts[0])
        with part_of_warm_up("evaluation", device):
            evaluator.warm_up(counts[1])


def _augment(program: Program, recipe: Recipe, count: int, device: torch.device) -> None:
    """Augment random images as in the first and in the last epoch, so that kernels are compiled and loaded."""
    images, _ = dummy_batch(recipe, program, min(recipe.batch_size, count), None, device, seeds=1)
    labels = torch.zeros(len(images), dtype=torch.int64, device=device)
    augment = Augment(recipe, generator(0, device))
    for epoch in {0, math.ceil(recipe.epochs) - 1}:
        moment = Moment(epoch, recipe.epochs, torch.arange(len(images), device=device), len(images))
        made = augment(images, slice(0, len(images)), moment)
        augment.mix(made, labels, program.classes, moment)


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
