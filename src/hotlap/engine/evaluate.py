"""Accuracy of networks on the test images: counted operation by operation, or recorded once and replayed whole."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hotlap.engine.feed import Batch, Feed
from hotlap.engine.precision import context
from hotlap.engine.program import Program
from hotlap.engine.recording import Recorded, Recorder, record_batch
from hotlap.engine.steps import dummy_batch
from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.techniques import VIEWS
from hotlap.techniques.views import Views

_LARGEST_RECORDED = 2**28
"""Numbers of a test set, of which a recording keeps a copy: half a gigabyte in half precision."""


class Evaluator:
    """Measures the networks of a program; they are in evaluation mode meanwhile.

    Args:
        recipe: batch size and test-time augmentation, and the form of the images.
        program: whose networks.
        device: where they are.
        record: what records work there; None to evaluate operation by operation.
    """

    def __init__(self, recipe: Recipe, program: Program, device: torch.device, record: Recorder | None) -> None:
        self._recipe, self._program, self._device, self._record = recipe, program, device, record
        self._recorded: dict[int, Recorded] = {}

    def warm_up(self, count: int) -> None:
        """Get ready for ``count`` test images, on random ones: compile, choose kernels and record.

        On a CPU that compiles nothing, a single batch pays all first-use costs.
        """
        how, batch = self._recipe.evaluation, min(self._recipe.evaluation.batch_size, count)
        if count in self._recorded or self._try_to_record(count):
            return
        whole = self._device.type == "cuda" or self._recipe.engine.compile
        if whole and how.augmentation is not None:
            self._count(self._dummy(count))
            return
        for size in {batch, count % batch or batch} if whole else {batch}:
            self._count(self._dummy(size), plain=True)

    def _dummy(self, count: int) -> Batch:
        images, _ = dummy_batch(self._recipe, self._program, count, None, self._device, seeds=1)
        return images, torch.zeros(count, dtype=torch.int64, device=self._device)

    def _try_to_record(self, count: int) -> bool:
        if self._record is None or count * math.prod(self._program.shape) > _LARGEST_RECORDED:
            return False
        try:
            self._recorded[count] = record_batch(self._record, self._dummy(count), self._count)
        except InputError:
            # Views of the user's own may wait for the device, which no recording can.
            self._record = None
        return self._record is not None

    @torch.no_grad()
    def _count(self, batch: Batch, *, plain: bool = False) -> Tensor:
        """Return the number of images that are classified correctly, (seeds,) int64 on the device.

        ``plain`` leaves test-time augmentation out.
        """
        images, labels = batch
        how, program = self._recipe.evaluation, self._program
        # Entered here and not around a recording: autocast keeps weights that it has rounded until its block ends.
        with context(program.precision, self._device), program.evaluating():
            if plain or how.augmentation is None:
                each = zip(images.split(how.batch_size), labels.split(how.batch_size), strict=True)
                counts = [program.correct(program.answer(some), their) for some, their in each]
                return torch.stack(counts).sum(0)
            views: Views = VIEWS.build(how.augmentation)
            return program.correct(views.logits(program.answer, images, how.batch_size), labels)

    def measure(self, feed: Feed) -> list[float]:
        """Return, for each seed, the share of test images whose largest logit is at the right class.

        Args:
            feed: where the test images come from.

        Raises:
            ValueError: there are no images.
        """
        right, count = torch.zeros(self._program.seeds, dtype=torch.int64, device=self._device), 0
        # Without views, no more than a batch of images has to be on the device at once.
        whole = self._recipe.evaluation.augmentation is not None or self._recorded
        for batch in (feed.test_set(),) if whole else feed.test():
            right += self._recorded.get(len(batch[1]), self._count)(batch)
            count += len(batch[1])
        if not count:
            raise ValueError("no test images")
        # The only wait for the device: the counts are added up there.
        return [int(c) / count for c in right.tolist()]
