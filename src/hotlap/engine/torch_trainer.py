"""The PyTorch backend, for every recipe and device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from hotlap.datasets import ImageData
from hotlap.engine.averages import averaging_of
from hotlap.engine.checkpoint import Stateful
from hotlap.engine.evaluate import evaluate
from hotlap.engine.feed import first_images, make_feed
from hotlap.engine.precision import context
from hotlap.engine.program import Program
from hotlap.engine.seeding import Streams
from hotlap.engine.selecting import Selecting
from hotlap.engine.updates import Updates
from hotlap.engine.warmup import warm_up
from hotlap.recipe import Recipe
from hotlap.startup import complete


class TorchTrainer:
    """Trains by PyTorch's operations; see ``Trainer``.

    Args:
        recipe: what to do.
        shape: (C, H, W) of one image.
        classes: number of classes.
        device: where.
        streams: random streams of each seed.

    Raises:
        InputError: the recipe cannot be built, or cannot train several seeds in one program.
    """

    backend = "torch"

    def __init__(
        self,
        recipe: Recipe,
        shape: tuple[int, int, int],
        classes: int,
        device: torch.device,
        streams: Sequence[Streams],
    ) -> None:
        complete()
        self._recipe, self._device, self._streams = recipe, device, streams
        self._program = Program(recipe, shape, classes, device, len(streams))
        self.precision = self._program.precision

    def warm_up(self, count: int) -> None:
        """Compile, choose kernels, fill memory pools."""
        warm_up(self._program, self._recipe, count, self._device)

    def prepare(self, data: ImageData) -> None:
        """Draw the weights, fit layers to the data, upload and normalise the images."""
        recipe, program, device = self._recipe, self._program, self._device
        first = partial(first_images, recipe, data, device)
        program.initialise(self._streams, first)
        self._select = Selecting(recipe, program, device, self._streams[0], first)
        self._feed = make_feed(recipe, data, self._streams, device)
        self._updates = Updates(recipe, program.weights(recipe))
        self._averaging = averaging_of(recipe, program.network)
        self.steps_per_epoch = self._feed.steps_per_epoch

    def epoch(self, done: int, total: int) -> Iterator[Tensor]:
        """Train on until the epoch or the run ends; see ``Trainer``."""
        program, updates, per_epoch = self._program, self._updates, self.steps_per_epoch
        for images, labels in self._feed.epoch():
            images, labels, share = self._select(images, labels, done, total, per_epoch)
            updates.zero_grad(done, per_epoch)
            with context(program.precision, self._device):
                loss = share * program.losses(images, labels)
            program.backward(loss)
            updates.step(done, total, per_epoch)
            done += 1
            self._averaging.update(done, total)
            yield loss
            if done == total:
                break

    def finish(self) -> None:
        """Put the average of the weights, if any, into the network."""
        self._averaging.finish()

    def measure(self) -> list[float]:
        """Return the accuracy of each seed, of the average of the weights where there is one."""
        with context(self._program.precision, self._device), self._averaging.evaluating():
            return evaluate(self._program, self._feed, self._recipe.evaluation)

    def parts(self) -> Mapping[str, Stateful]:
        """Return network, optimizer, average, selection and feed."""
        return {
            "network": self._program.network,
            "updates": self._updates,
            "averaging": self._averaging,
            "selection": self._select,
            "feed": self._feed,
        }

    def modules(self) -> list[nn.Module]:
        """Return the trained network of each seed."""
        return self._program.modules()
