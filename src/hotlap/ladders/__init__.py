"""Published and own ladders, one module each; a module lists its ladders in ``LADDERS``."""

DEFAULTS = {"mnist": "mnist/8-final"}
"""The fastest certified recipe of each data set, which the data set's name alone stands for."""
