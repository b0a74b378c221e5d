"""Warm-up on dummy data: compilation, autotuning and first-use costs, paid before the clock that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hotlap.engine.evaluate import evaluate
from hotlap.engine.feed import MEMORY_FORMATS
from hotlap.engine.network import precision
from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.optim import OPTIMIZERS
from hotlap.recipe import Recipe

STEPS = 2


def warm_up(
    network: nn.Module,
    forward: Callable[[Tensor], Tensor],
    loss_of: Callable[[Tensor, Tensor], Tensor],
    recipe: Recipe,
    shape: tuple[int, int, int],
    classes: int,
    count: int,
    device: torch.device,
) -> None:
    """Run a few training steps and one evaluation on random images of the real shapes.

    The caller initialises the network afterwards, so nothing of this survives but compiled code and memory pools; the
    optimizer is a throw-away. Nothing of the real data is seen.

    Args:
        network: trained in place, then to be initialised.
        forward: the network or its compiled form.
        loss_of: the run's loss.
        recipe: batch sizes, optimizer, precision.
        shape: (C, H, W) of one image.
        classes: number of classes.
        count: number of training images, which bounds the batch.
        device: where to run.

    Raises:
        InputError: the recipe asks for compilation, which fails here.
    """
    rng = generator(0, device)

    def dummy(n: int) -> tuple[Tensor, Tensor]:
        images = torch.randn((n, *shape), generator=rng, device=device)
        labels = torch.randint(classes, (n,), generator=rng, device=device)
        return images.contiguous(memory_format=MEMORY_FORMATS[recipe.engine.memory_format]), labels

    with _explaining_compilation(recipe):
        optimizer = OPTIMIZERS.build(recipe.optimizer, params=network.parameters())
        for _ in range(STEPS):
            images, labels = dummy(min(recipe.batch_size, count))
            optimizer.zero_grad()
            with precision(recipe, device):
                loss = loss_of(forward(images), labels)
            loss.backward()
            optimizer.step()
        optimizer.zero_grad()
        with precision(recipe, device):
            evaluate(network, forward, [dummy(min(recipe.evaluation.batch_size, count))])


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
