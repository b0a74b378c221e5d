"""The PyTorch backend, for every recipe and device."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from hotlap.datasets import ImageData
from hotlap.engine.averages import averaging_of
from hotlap.engine.checkpoint import Stateful
from hotlap.engine.evaluate import Evaluator
from hotlap.engine.feed import Feed, first_images, make_feed
from hotlap.engine.program import Program
from hotlap.engine.recording import recorder_for
from hotlap.engine.seeding import Streams
from hotlap.engine.selecting import Selecting
from hotlap.engine.steps import dummy_batch, make_steps, shapes_of
from hotlap.engine.warmup import part_of_warm_up, warm_up
from hotlap.recipe import Recipe
from hotlap.startup import complete


class TorchTrainer:
    """Trains by PyTorch's operations; see ``Trainer``.

    Args:
        recipe: what to do.
        shape: (C, H, W) of one image.
        classes: number of classes.
        device: where.
        streams: random streams of each seed; those of the next run may be set later.

    Attributes:
        streams: random streams of each seed of the run that is prepared next.

    Raises:
        InputError: the recipe cannot be built, or cannot train several seeds in one program.
    """

    backend = "torch"
    _feed: Feed

    def __init__(
        self,
        recipe: Recipe,
        shape: tuple[int, int, int],
        classes: int,
        device: torch.device,
        streams: Sequence[Streams],
    ) -> None:
        complete()
        self._recipe, self._device, self.streams = recipe, device, streams
        self._shape, self._classes, self._rehearsed = shape, classes, False
        self._program = Program(recipe, shape, classes, device, len(streams))
        record = recorder_for(recipe, device)
        self._steps = make_steps(recipe, self._program, device, record)
        self._evaluator = Evaluator(recipe, self._program, device, record)
        self.precision = self._program.precision

    def warm_up(self, count: int, tests: int) -> None:
        """Compile, choose kernels, record steps, fill memory pools."""
        warm_up(self._steps, self._evaluator, self._program, self._recipe, (count, tests), self._device)
        chooses = self._recipe.engine.compile and self._recipe.selection is not None
        if (self._device.type == "cuda" or chooses) and not self._rehearsed:
            # Last: a recording gives back all memory that is not in use.
            with part_of_warm_up("rehearsal", self._device):
                self.rehearse(count, tests)

    def rehearse(self, count: int, tests: int) -> None:
        """Prepare a run on blank images, as many as there will be, and fetch the first batch; weights are moved.

        A GPU's memory is asked for here, kernels that only preparation needs are loaded, and what a selection chooses
        is trained on.
        """
        names = tuple(map(str, range(self._classes)))
        images, labels = ([np.zeros((n, *rest), np.uint8) for n in (count, tests)] for rest in (self._shape, ()))
        self.prepare(ImageData("blank", images[0], labels[0], images[1], labels[1], names, digest=""))
        next(iter(self._feed.epoch()))
        if self._recipe.selection is not None:
            shapes = dict.fromkeys((n, size) for _, n, size in shapes_of(self._recipe, self._program, count))
            for n, size in shapes:
                batch = dummy_batch(self._recipe, self._program, n, size, self._device)
                # Of the first two steps, a selection's own network trains in one and only looks in the other.
                for step in range(2):
                    *chosen, share = self._select(*batch, step, 2, self.steps_per_epoch)
                    self._steps((chosen[0], chosen[1]), share, step, 2, self.steps_per_epoch)
        self._rehearsed = True

    def prepare(self, data: ImageData) -> None:
        """Draw the weights, fit layers to the data, upload and normalise the images."""
        recipe, program, device = self._recipe, self._program, self._device
        if hasattr(self, "_feed"):
            # Its memory is for the images to come.
            del self._feed
        first = partial(first_images, recipe, data, device)
        # First, so that a GPU fetches the images while weights are drawn on the CPU.
        self._feed = make_feed(recipe, data, self.streams, device)
        program.initialise(self.streams, first)
        self._select = Selecting(recipe, program, device, self.streams[0], first)
        self._steps.begin()
        self._averaging = averaging_of(recipe, program.network)
        self.steps_per_epoch = self._feed.steps_per_epoch

    def epoch(self, done: int, total: int) -> Iterator[Tensor]:
        """Train on until the epoch or the run ends; see ``Trainer``."""
        per_epoch = self.steps_per_epoch
        for images, labels in self._feed.epoch():
            images, labels, share = self._select(images, labels, done, total, per_epoch)
            loss = self._steps((images, labels), share, done, total, per_epoch)
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
        with self._averaging.evaluating():
            return self._evaluator.measure(self._feed)

    def parts(self) -> Mapping[str, Stateful]:
        """Return network, optimizer, average, selection and feed."""
        return {
            "network": self._program.network,
            "updates": self._steps.updates,
            "averaging": self._averaging,
            "selection": self._select,
            "feed": self._feed,
        }

    def modules(self) -> list[nn.Module]:
        """Return the trained network of each seed; on a GPU copies, since the next run may train in the same place."""
        modules = self._program.modules()
        return copy.deepcopy(modules) if self._device.type == "cuda" else modules
