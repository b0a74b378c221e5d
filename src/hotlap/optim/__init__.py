"""Optimizers and learning-rate schedules."""

from __future__ import annotations

from hotlap.registry import Registry

OPTIMIZERS = Registry("optimizer", __name__, context=("params",))
"""Builders of optimizers. Context: ``params``, the parameters to train; result: a torch optimizer."""

SCHEDULES = Registry("schedule", __name__)
"""Builders of schedules; result: a function (step, total steps, steps per epoch) → factor of the learning rate."""
