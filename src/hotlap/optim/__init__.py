"""Optimizers and learning-rate schedules."""

from __future__ import annotations

from hotlap.registry import Registry

OPTIMIZERS = Registry("optimizer", __name__, context=("params",))
"""Builders of optimizers. Context: ``params``, the parameters to train, a ``weights.Weights``; result: a torch
optimizer, or an ``updates.Optimizer`` like it."""

STACKABLE = frozenset({"adadelta", "adam", "sgd"})
"""Optimizers whose step treats every weight alone, so that the weights of several seeds may lie in one tensor."""

NO_LOSS_SCALE = frozenset({"adadelta"})
"""Optimizers that refuse a scaled loss, and so float16."""

SCHEDULES = Registry("schedule", __name__)
"""Builders of schedules; result: a function (step, total steps, steps per epoch) → factor of the learning rate."""
