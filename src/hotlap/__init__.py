"""hotlap trains small image classifiers to a target accuracy in the least time, and proves it with statistics."""

__version__ = "0.1.0"
