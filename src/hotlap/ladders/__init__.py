"""Published and own ladders, one module each, and recipes that are no rung of any.

A module lists its ladders in ``LADDERS``, its other recipes in ``RECIPES``, or both.
"""

DEFAULTS = {
    "mnist": "mnist/record",
    "fashion-mnist": "fashion-mnist/record",
    "cifar10": "cifar10/record-cpu",
}
"""The recipe that a data set's name alone stands for: the fastest certified one on a CPU."""
