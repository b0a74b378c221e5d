"""Published and own ladders, one module each, and recipes that are no rung of any.

A module lists its ladders in ``LADDERS``, its other recipes in ``RECIPES``, or both.
"""

DEFAULTS = {
    "mnist": "mnist/record",
    "fashion-mnist": "fashion-mnist/record",
    "cifar10": "cifar10/record-cpu",
}
"""The recipe that a data set's name alone stands for: the fastest certified one on a CPU."""

ON_GPU = {
    "mnist": "mnist/record-gpu",
    "cifar10": "cifar10/record",
}
"""The recipe that it stands for where training is on a CUDA GPU, if that is another."""


def names_of(name: str) -> tuple[str, ...]:
    """Return the recipes that a data set's name stands for on one device or another; any other name by itself."""
    return tuple(found[name] for found in (DEFAULTS, ON_GPU) if name in found) or (name,)
