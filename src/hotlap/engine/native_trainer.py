"""The compiled backend: the same recipes, weights, orders and augmentations, in kernels of our own on the CPU."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hotlap.datasets import ImageData
from hotlap.engine.averages import NoAveraging, averaging_of
from hotlap.engine.checkpoint import Stateful
from hotlap.engine.feed import check_batch, normalisation
from hotlap.engine.network import build_network, initialise
from hotlap.engine.precision import Precision
from hotlap.engine.seeding import Streams, generator
from hotlap.engine.updates import Updates
from hotlap.native import library as lib
from hotlap.native.family import OutsideFamilyError, Stack, TestViews, rules_of, stack_of, views_for
from hotlap.native.forking import threads
from hotlap.native.moves import Moves
from hotlap.optim.by_role import ByRole
from hotlap.optim.weights import weights_of
from hotlap.recipe import Recipe
from hotlap.startup import without_compiler
from hotlap.techniques import AUGMENTATIONS, VIEWS
from hotlap.techniques.averaging import Averaging
from hotlap.techniques.base import Moment
from hotlap.techniques.ema import MovingAverage

CALL_S = 0.1
"""Seconds that one call into the kernels should take: progress and interruptions wait so long."""

_WARM_IMAGES = 512


@dataclass(frozen=True)
class Translation:
    """A recipe as the kernels take it; ``groups`` are the optimizer's group of each parameter, -1 for none."""

    stack: Stack
    rules: NDArray[Any]
    groups: list[int]
    updates: Updates
    averaging: Averaging
    moves: Moves
    views: TestViews


def translate(recipe: Recipe, network: nn.Module, shape: tuple[int, int, int]) -> Translation:
    """Translate a recipe whose network has been built.

    Raises:
        OutsideFamilyError: the kernels were not made for it.
    """
    if recipe.feed.loading != "device":
        raise OutsideFamilyError("it reads images one at a time")
    for kind, part in (("mixes images", recipe.mixing), ("selects images", recipe.selection)):
        if part is not None:
            raise OutsideFamilyError(f"it {kind} ({part.name})")
    if shape[0] > lib.CHANNELS:
        raise OutsideFamilyError(f"its images have more than {lib.CHANNELS} channels")
    stack = stack_of(network)
    moves = Moves([AUGMENTATIONS.build(part) for part in recipe.augment], (shape[1], shape[2]))
    views = views_for(None if recipe.evaluation.augmentation is None else VIEWS.build(recipe.evaluation.augmentation))
    averaging = averaging_of(recipe, network)
    if not isinstance(averaging, NoAveraging | MovingAverage):
        raise OutsideFamilyError(f"its average of the weights is {type(averaging).__name__}")
    with without_compiler():
        updates = Updates(recipe, weights_of(network, recipe.batch_size))
    optimizer = updates.optimizer
    rules, groups = rules_of(optimizer.parts if isinstance(optimizer, ByRole) else [optimizer], stack.parameters)
    return Translation(stack, rules, groups, updates, averaging, moves, views)


class NativeTrainer:
    """Trains one seed by compiled kernels; see ``Trainer``.

    Args:
        recipe: what to do; one that ``outside_family`` has nothing against.
        shape: (C, H, W) of one image.
        classes: number of classes.
        streams: random streams of the seed.

    Raises:
        InputError: the recipe cannot be built.
    """

    backend = "native"
    precision: Precision = "fp32"

    def __init__(self, recipe: Recipe, shape: tuple[int, int, int], classes: int, streams: Streams) -> None:
        self._recipe, self._shape, self._classes, self._streams = recipe, shape, classes, streams
        self._network = build_network(recipe, shape, classes, torch.device("cpu"))
        self._made: lib.Network | None = None
        self._mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = None
        self._translation = translate(recipe, self._network, shape)
        self._stale = False

    def _make(self, mean: tuple[float, ...], std: tuple[float, ...]) -> lib.Network:
        """Lay the network out in memory, unless that has been done for the same normalisation."""
        if self._made is None or self._mean_std != (mean, std):
            plan = self._translation
            self._made = lib.Network(
                self._shape, plan.stack.crop, self._classes, plan.stack.layers, plan.rules, mean, std,
                self._recipe.label_smoothing, threads(),
            )  # fmt: skip
            self._mean_std = (mean, std)
        return self._made

    def warm_up(self, count: int, tests: int) -> None:
        """Lay out the network and run it on random images: code, memory and clock speed are then as they will be."""
        channels = self._shape[0]
        given = self._recipe.feed.mean, self._recipe.feed.std
        # What does not fit the data is refused when it is prepared.
        fits = [values if values is not None and len(values) == channels else None for values in given]
        net = self._make(fits[0] or (0.0,) * channels, fits[1] or (1.0,) * channels)
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (min(_WARM_IMAGES, count), *self._shape), np.uint8)
        which = np.arange(len(images), dtype=np.int64)
        labels = rng.integers(0, self._classes, len(images), np.int32)
        net.parameters = self._translation.stack.gathered()
        starts = np.array([0, len(images)], np.int64)
        rates = np.zeros((1, len(self._translation.rules)), np.float32)
        net.train(images, labels, which, np.zeros((len(images), 3), np.int16), starts, rates, None)
        net.logits(images, which, self._translation.views.all)

    def prepare(self, data: ImageData) -> None:
        """Draw weights; images are read where they lie, and normalised as they are read."""
        recipe = self._recipe
        check_batch(recipe, data)
        self._net = self._make(*normalisation(recipe, data))
        initialise(self._network, self._streams.init)
        self._net.parameters = self._translation.stack.gathered()
        self._images, self._test_images = data.x_train, data.x_test
        self._labels, self._test_labels = data.y_train.astype(np.int32), data.y_test
        count, batch = len(self._images), recipe.batch_size
        self.steps_per_epoch = count // batch if recipe.feed.drop_last else -(-count // batch)
        self._order_rng, self._augment_rng = generator(self._streams.order), generator(self._streams.augment)
        self._kept = None if recipe.feed.shuffle == "every-epoch" else self._permutation()
        self._epoch = 0
        averaging = self._translation.averaging
        self._averages = isinstance(averaging, MovingAverage)
        if isinstance(averaging, MovingAverage) and averaging.begins_at_once:
            self._net.begin_average()

    def _permutation(self) -> Tensor:
        return torch.randperm(len(self._images), generator=self._order_rng)

    def epoch(self, done: int, total: int) -> Iterator[Tensor]:
        """Train on until the epoch or the run ends; see ``Trainer``."""
        recipe, plan, per_epoch = self._recipe, self._translation, self.steps_per_epoch
        order = self._permutation() if self._kept is None else self._kept
        steps = min(per_epoch, total - done)
        index = order[: steps * recipe.batch_size]
        starts = np.minimum(np.arange(steps + 1, dtype=np.int64) * recipe.batch_size, len(index))
        # As the PyTorch feed numbers them: a kept order lays the images out anew, and they are counted there.
        numbers = index if self._kept is None else torch.arange(len(index))
        moves = np.concatenate(
            [
                plan.moves.draw(
                    self._augment_rng, Moment(self._epoch, recipe.epochs, numbers[begin:end], len(self._images))
                )
                for begin, end in itertools.pairwise(starts)
            ]
        )
        which = index.numpy()
        group = np.array(plan.groups)
        rates = np.array(
            [np.append(plan.updates.rates(done + s, total, per_epoch), 0.0)[group] for s in range(steps)], np.float32
        )
        actions = self._actions(done, steps, total)
        self._stale = True
        step, at_once = 0, 1
        while step < steps:
            end = min(step + at_once, steps)
            first = time.perf_counter()
            losses = self._net.train(
                self._images, self._labels, which, moves, starts[step : end + 1], rates[step:end],
                None if actions is None else actions[step:end],
            )  # fmt: skip
            if time.perf_counter() - first < CALL_S / 2:
                at_once *= 2
            step = end
            yield from torch.from_numpy(losses).unbind()
        self._epoch += 1

    def _actions(self, done: int, steps: int, total: int) -> NDArray[Any] | None:
        averaging = self._translation.averaging
        if not isinstance(averaging, MovingAverage):
            return None
        actions = np.zeros(steps, lib.Average)
        for s in range(steps):
            if action := averaging.plan(done + s + 1, total):
                actions[s] = (1 if action.kind == "begin" else 2, action.copy_back, action.rate)
        return actions

    def finish(self) -> None:
        """Put the average of the weights, if any, into the network."""
        self._net.finish()
        self._stale = True

    def measure(self) -> list[float]:
        """Return the accuracy, of the average of the weights where there is one."""
        net = self._net
        kept = net.state() if self._averages else None
        net.finish()
        logits = self.logits(self._test_images)
        if kept is not None:
            net.restore(*kept)
        return [float((logits.argmax(1) == self._test_labels).mean())]

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits of images (N, C, H, W), test-time augmentation included: (N, classes)."""
        views, every = self._translation.views, np.arange(len(images), dtype=np.int64)
        logits = self._net.logits(images, every, views.all)
        count = round(views.share * len(images))
        if views.more is None or count == 0:
            return logits
        largest = np.partition(logits, -2, axis=1)[:, -2:]
        margins = largest[:, 1] - largest[:, 0]
        chosen = np.sort(np.argpartition(margins, count - 1)[:count]).astype(np.int64)
        logits[chosen] = self._net.logits(images, chosen, views.more, views.weight * logits[chosen])
        return logits

    def parts(self) -> Mapping[str, Stateful]:
        """Return everything at once."""
        return {"native": self}

    def state_dict(self) -> dict[str, Any]:
        """Return weights, moments, average, and the random streams."""
        values, steps = self._net.state()
        return {
            "values": torch.from_numpy(values),
            "steps": steps,
            "instructions": lib.chosen_instruction_set(),
            "epoch": self._epoch,
            "order": self._order_rng.get_state(),
            "augment": self._augment_rng.get_state(),
            "kept": [getattr(one, "kept", None) for one in self._translation.moves.augmentations],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned.

        Raises:
            ValueError: it is of another instruction set.
        """
        if state["instructions"] != lib.chosen_instruction_set():
            raise ValueError(f"the run was begun with {state['instructions']} instructions")
        self._net.restore(state["values"].numpy(), state["steps"])
        self._epoch = state["epoch"]
        self._order_rng.set_state(state["order"])
        self._augment_rng.set_state(state["augment"])
        for one, kept in zip(self._translation.moves.augmentations, state["kept"], strict=True):
            if hasattr(one, "kept"):
                one.kept = kept
        self._stale = True

    def modules(self) -> list[nn.Module]:
        """Return the network with the trained weights."""
        if self._stale:
            self._translation.stack.put_back(self._net.parameters)
            self._stale = False
        return [self._network]
