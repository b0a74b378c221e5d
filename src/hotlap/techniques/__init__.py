"""Training tricks: one module each, with a pure function or a small class and its card. None imports the engine."""

from __future__ import annotations

from hotlap.registry import Registry

AUGMENTATIONS = Registry("augmentation", __name__)
"""Builders of augmentations of the training images; result: a ``base.Augmentation`` for one run."""

MIXINGS = Registry("mixing", __name__)
"""Builders of augmentations that mix images and targets; result: a ``base.Mixing`` for one run."""

AVERAGINGS = Registry("averaging", __name__, context=("network",))
"""Builders of weight averages. Context: ``network``, already initialised; result: an ``averaging.Averaging``."""

SELECTIONS = Registry("selection", __name__, context=("learner",))
"""Builders of choices of training images. Context: ``learner``, which builds a network to be trained beside the main
one; result: a ``selection.Selection`` for one run."""

VIEWS = Registry("test-time augmentation", __name__)
"""Builders of test-time augmentations; result: a ``views.Views``, from network and test images to logits."""
