"""One training step: operation by operation, or recorded once and replayed whole."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from hotlap.engine.augmenting import sizing
from hotlap.engine.feed import MEMORY_FORMATS, Batch
from hotlap.engine.precision import context, weights_dtype
from hotlap.engine.program import Program
from hotlap.engine.recording import Recorded, Recorder, record_batch
from hotlap.engine.updates import Updates
from hotlap.recipe import Recipe


class Steps(Protocol):
    """Takes the training steps of a run."""

    updates: Updates

    def warm_up(self, count: int) -> None:
        """Get ready on random images, of which the training set has ``count``; weights are moved."""
        ...

    def begin(self) -> None:
        """Begin a run: its weights have just been drawn."""
        ...

    def __call__(self, batch: Batch, share: float, done: int, total: int, per_epoch: int) -> Tensor:
        """Train on a batch as step ``done`` (from 0) of ``total``.

        Args:
            batch: images and labels; see ``Feed``.
            share: factor of the loss.
            done: steps before this one.
            total: steps of the run.
            per_epoch: steps of an epoch.

        Returns:
            The loss, () or (seeds,), which holds until the next step.
        """
        ...


def planned_steps(recipe: Recipe, per_epoch: int) -> int:
    """Return the number of optimizer steps of a whole run."""
    return max(1, math.ceil(recipe.epochs * per_epoch - 1e-9))


def _steps_per_epoch(recipe: Recipe, count: int) -> int:
    return (count // recipe.batch_size if recipe.feed.drop_last else 0) or -(-count // recipe.batch_size)


def shapes_of(recipe: Recipe, program: Program, count: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Yield number, images and their size of every step of a run on ``count`` training images."""
    per_epoch = _steps_per_epoch(recipe, count)
    size_at = sizing(recipe)
    for done in range(planned_steps(recipe, per_epoch)):
        epoch, within = divmod(done, per_epoch)
        size = size_at(epoch, recipe.epochs, (program.shape[1], program.shape[2]))
        yield done, min(recipe.batch_size, count - within * recipe.batch_size), size


class EagerSteps:
    """Takes steps operation by operation.

    Args:
        recipe: what to do.
        program: trained in place.
        device: where it is.
    """

    def __init__(self, recipe: Recipe, program: Program, device: torch.device) -> None:
        self._recipe, self._program, self._device = recipe, program, device
        # Gathered once: a run may leave weights that ask for no gradient any more, and the next trains them again.
        self._weights = program.weights(recipe)

    def warm_up(self, count: int) -> None:
        """Take a few steps with an optimizer to be thrown away.

        Two, and one of each shape where code is compiled or a GPU's kernels are chosen. None where the recipe selects
        images, whose number only its selection knows: ``TorchTrainer.rehearse`` takes these.
        """
        self.begin()
        shapes: list[tuple[int, tuple[int, int] | None]] = [(min(self._recipe.batch_size, count), None)]
        if self._recipe.engine.compile or self._device.type == "cuda":
            shapes = [*dict.fromkeys((n, size) for _, n, size in shapes_of(self._recipe, self._program, count))]
            if self._recipe.selection is not None:
                return
        if len(shapes) == 1:
            shapes *= 2
        for done, (n, size) in enumerate(shapes):
            batch = dummy_batch(self._recipe, self._program, n, size, self._device)
            self(batch, 1.0, done, len(shapes), len(shapes))
        self.updates.zero_grad()

    def begin(self) -> None:
        """Build the optimizer."""
        self.updates = Updates(self._recipe, self._weights)

    def __call__(self, batch: Batch, share: float, done: int, total: int, per_epoch: int) -> Tensor:
        """Train on a batch; see ``Steps``."""
        loss = forward_and_backward(self._program, self.updates, self._device, batch, share, done, per_epoch)
        self.updates.step(done, total, per_epoch)
        return loss


def forward_and_backward(
    program: Program, updates: Updates, device: torch.device, batch: Batch, share: float, done: int, per_epoch: int
) -> Tensor:
    """Set the gradients of a batch's loss, and return the loss."""
    updates.zero_grad(done, per_epoch)
    with context(program.precision, device):
        loss = share * program.losses(*batch)
    program.backward(loss)
    return loss


class RecordedSteps:
    """Records each kind of step during warm-up, and then replays what it recorded: one launch for hundreds of kernels.

    Steps are of one kind if they have the same shapes and do the same operations on the same tensors: batches are
    copied to where the recording reads them, and learning rates are read from the device. A step of a kind that
    warm-up did not foresee is taken operation by operation.

    Args:
        recipe: what to do.
        program: trained in place.
        device: where it is.
        record: what records; on a CUDA GPU, ``cuda_recorder``.
    """

    def __init__(self, recipe: Recipe, program: Program, device: torch.device, record: Recorder) -> None:
        self._recipe, self._program, self._device, self._record = recipe, program, device, record
        self.updates = Updates(recipe, program.weights(recipe), foreseen=True)
        self._rates = _Rates(self.updates, device)
        self._recorded: dict[Hashable, Recorded] = {}

    def warm_up(self, count: int) -> None:
        """Record every kind of step of the run to come that has not been recorded yet."""
        per_epoch = _steps_per_epoch(self._recipe, count)
        total = planned_steps(self._recipe, per_epoch)
        for done, n, size in shapes_of(self._recipe, self._program, count):
            key = (n, size, 1.0, self.updates.kind(done, per_epoch))
            if key not in self._recorded:
                self._recorded[key] = self._recording(n, size, done, total, per_epoch)
        self.updates.optimizer.zero_grad()

    def _recording(self, n: int, size: tuple[int, int], done: int, total: int, per_epoch: int) -> Recorded:
        batch = dummy_batch(self._recipe, self._program, n, size, self._device)
        self._rates.set(done, total, per_epoch)

        return record_batch(self._record, batch, lambda held: self._take(held, 1.0, done, per_epoch))

    def _take(self, batch: Batch, share: float, done: int, per_epoch: int) -> Tensor:
        loss = forward_and_backward(self._program, self.updates, self._device, batch, share, done, per_epoch)
        self._rates.bind(done)
        with torch.no_grad():
            self.updates.optimizer.step()
        return loss.detach()

    def begin(self) -> None:
        """Bring the optimizer to where it was before the first step, in place."""
        self.updates.forget()
        self._rates.forget()

    def __call__(self, batch: Batch, share: float, done: int, total: int, per_epoch: int) -> Tensor:
        """Train on a batch; see ``Steps``."""
        images, _ = batch
        key = (len(images), tuple(images.shape[2:]), share, self.updates.kind(done, per_epoch))
        self._rates.set(done, total, per_epoch)
        recorded = self._recorded.get(key)
        if recorded is None:
            return self._take(batch, share, done, per_epoch)
        return recorded(batch)


class _Rates:
    """Learning rates on the device, where recorded steps read them; sent there an epoch at a time."""

    def __init__(self, updates: Updates, device: torch.device) -> None:
        self._updates, self._device = updates, device
        self._now = torch.zeros(len(updates.optimizer.param_groups), device=device)
        self._table = torch.zeros(0)
        self._first = 0

    def forget(self) -> None:
        self._table = torch.zeros(0)

    def set(self, done: int, total: int, per_epoch: int) -> None:
        if not 0 <= done - self._first < len(self._table):
            rows = [self._updates.rates(step, total, per_epoch) for step in range(done, min(total, done + per_epoch))]
            table = torch.tensor(rows)
            # From memory that cannot be paged out, the copy waits for nothing.
            table = table.pin_memory() if self._device.type == "cuda" else table
            self._table, self._first = table.to(self._device, non_blocking=True), done
        self._now.copy_(self._table[done - self._first])

    def bind(self, done: int) -> None:
        """Let the optimizer read the rates from the device, as step ``done``."""
        for group, rate in zip(self._updates.optimizer.param_groups, self._now, strict=True):
            group["lr"] = rate
            if "done" in group:
                group["done"] = done


def dummy_batch(
    recipe: Recipe, program: Program, n: int, size: tuple[int, int] | None, device: torch.device, *, seeds: int = 0
) -> Batch:
    """Make random images and labels as the recipe's feed gives them.

    Args:
        recipe: memory format, and whether labels are shares of classes.
        program: precision, channels and classes.
        n: images.
        size: (H, W) of an image; the program's when None.
        device: where.
        seeds: for how many networks; for all of the program when 0.
    """
    rng = torch.Generator(device=device)
    rng.manual_seed(0)
    channels = program.shape[0] // program.seeds
    seeds = seeds or program.seeds
    images = torch.randn((n, seeds * channels, *(size or program.shape[1:])), generator=rng, device=device)
    images = images.to(weights_dtype(program.precision))
    images = images.contiguous(memory_format=MEMORY_FORMATS[recipe.engine.memory_format])
    of_seeds = () if seeds == 1 else (seeds,)
    if recipe.mixing is not None:
        return images, images.new_full((n, program.classes, *of_seeds), 1 / program.classes)
    return images, torch.randint(program.classes, (n, *of_seeds), generator=rng, device=device)


def make_steps(recipe: Recipe, program: Program, device: torch.device, record: Recorder | None) -> Steps:
    """Build what takes a recipe's steps on a device; ``record`` is what records there, None where nothing does."""
    # A selection has a network of its own to train between the steps, and batches of a size that it alone knows.
    if record is None or recipe.selection is not None:
        return EagerSteps(recipe, program, device)
    return RecordedSteps(recipe, program, device, record)
