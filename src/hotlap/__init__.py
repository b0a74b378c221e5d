"""hotlap trains small image classifiers to a target accuracy in the least time, and proves it with statistics.

Everything here is imported when it is first used, so that ``import hotlap`` does not load torch.
"""

from __future__ import annotations

import importlib
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hotlap.api import compare as compare
    from hotlap.api import run as run
    from hotlap.api import train as train
    from hotlap.errors import DataError as DataError
    from hotlap.errors import DivergenceError as DivergenceError
    from hotlap.errors import HotlapError as HotlapError
    from hotlap.errors import InputError as InputError
    from hotlap.errors import StoreError as StoreError
    from hotlap.estimator import ImageClassifier as ImageClassifier
    from hotlap.ladder import get_ladder as get_ladder
    from hotlap.ladder import get_recipe as get_recipe
    from hotlap.recipe import Recipe as Recipe
    from hotlap.recipe import part as part
    from hotlap.result import Run as Run
    from hotlap.result import RunPairs as RunPairs
    from hotlap.result import RunSet as RunSet
    from hotlap.result import Summary as Summary
    from hotlap.store import Store as Store

_HOME = {
    "train": "api", "run": "api", "compare": "api",
    "HotlapError": "errors", "InputError": "errors", "DataError": "errors", "StoreError": "errors",
    "DivergenceError": "errors",
    "ImageClassifier": "estimator",
    "get_ladder": "ladder", "get_recipe": "ladder",
    "Recipe": "recipe", "part": "recipe",
    "Run": "result", "RunSet": "result", "RunPairs": "result", "Summary": "result",
    "Store": "store",
}  # fmt: skip

_MODULES = ("datasets", "saved", "stats", "trackers")

_EXTRA = {"ImageClassifier": "sklearn"}
"""What is there only where another library is."""

_THERE = [name for name in _HOME if name not in _EXTRA or find_spec(_EXTRA[name]) is not None]

__all__ = ["__version__", *_THERE, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"hotlap.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'hotlap' has no attribute {name!r}")
    from hotlap.errors import MissingError, MissingPartError

    try:
        value = getattr(importlib.import_module(f"hotlap.{_HOME[name]}"), name)
    except MissingError as error:
        # Of an AttributeError, ``from hotlap import …`` would make one of its own that says less.
        if sys._getframe(1).f_code.co_name == "_handle_fromlist":
            raise
        raise MissingPartError(error.cause, error.fix) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
