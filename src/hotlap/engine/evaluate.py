"""Accuracy of networks on the test images."""

from __future__ import annotations

import torch

from hotlap.engine.feed import Feed
from hotlap.engine.program import Program
from hotlap.errors import InputError
from hotlap.recipe import Evaluation
from hotlap.techniques import VIEWS
from hotlap.techniques.views import Views


@torch.no_grad()
def evaluate(program: Program, feed: Feed, how: Evaluation) -> list[float]:
    """Return, for each seed, the share of test images whose largest logit is at the right class.

    Args:
        program: its network is set to evaluation mode for the call, then back to training mode.
        feed: where the test images come from.
        how: batch size and test-time augmentation.

    Raises:
        ValueError: there are no images.
        InputError: the test-time augmentation cannot serve several seeds in one program.
    """
    program.network.eval()
    right = torch.zeros(program.seeds, dtype=torch.int64)
    count = 0
    if how.augmentation is None:
        for images, labels in feed.test():
            right = program.correct(program.answer(images), labels) + (right if count else 0)
            count += len(labels)
    else:
        images, labels = feed.test_set()
        views: Views = VIEWS.build(how.augmentation)
        if views.per_image and program.seeds > 1:
            raise InputError(
                f"several seeds cannot be trained in one program: {how.augmentation.name} looks at each one's answers",
                "train them one after another, or with --jobs",
            )
        right = program.correct(views.logits(program.answer, images, how.batch_size), labels)
        count = len(labels)
    program.network.train()
    if not count:
        raise ValueError("no test images")
    # The only wait for the device: the counts are added up there.
    return [int(c) / count for c in right.tolist()]
