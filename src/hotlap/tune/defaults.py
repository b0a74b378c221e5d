"""What is tried of a parameter, and which parameters are, where the user says nothing."""

from __future__ import annotations

from typing import Literal

from hotlap.errors import InputError
from hotlap.recipe import Recipe, Value, paths, show_value
from hotlap.tune.space import EXAMPLES, Parameter, check_tunable, read_spec, value_at

FIXED: dict[str, tuple[Literal["float", "int"], float, float]] = {
    "betas.0": ("float", 0.5, 0.95),
    "momentum": ("float", 0.5, 0.95),
    "betas.1": ("float", 0.8, 0.999),
    "rho": ("float", 0.8, 0.999),
    "label_smoothing": ("float", 0.0, 0.3),
    "warmup": ("float", 0.05, 0.6),
    "max_px": ("int", 0, 4),
    "dropout": ("float", 0.0, 0.6),
}
"""Ranges that do not depend on the recipe's value, by how the path ends."""

AROUND = {"lr": 10, "weight_decay": 10, "eps": 10, "factor": 10, "batch_size": 4}
"""By how the path ends: the factor below and above the recipe's value between which is searched, by ratios."""

AROUND_ANY_FLOAT = 4
AROUND_ANY_INT = 2


def parse_parameter(text: str, recipe: Recipe) -> Parameter:
    """Read one ``--param`` argument: ``PATH=SPEC``, or ``PATH`` alone for its default range.

    Raises:
        InputError: no such path in the recipe, one that is no hyper-parameter, or a range that cannot be read.
    """
    path, equals, spec = text.partition("=")
    path = path.strip()
    present = value_at(recipe, path)
    check_tunable(path)
    return read_spec(path, spec, present) if equals else default_parameter(path, present)


def default_parameter(path: str, present: Value) -> Parameter:
    """Return the default range of a parameter, from the last part of its name and the recipe's value.

    Raises:
        InputError: there is none for such a value.
    """
    if isinstance(present, bool):
        return Parameter(path=path, kind="choice", choices=(False, True))
    if isinstance(present, int | float):
        if fixed := next((rule for name, rule in FIXED.items() if _ends_with(path, name)), None):
            kind, low, high = fixed
            return Parameter(path=path, kind=kind, low=low, high=high)
        around = next((factor for name, factor in AROUND.items() if _ends_with(path, name)), None)
        if present > 0:
            return _around(path, present, around)
    raise InputError(f"there is no default range for {path} = {show_value(present)}", f"give one: {EXAMPLES}")


def _ends_with(path: str, name: str) -> bool:
    """Whether a path's last part is a name, or ends in it after an underscore: hidden_dropout ends with dropout."""
    return path == name or path.endswith((f".{name}", f"_{name}"))


def _around(path: str, present: int | float, factor: int | None) -> Parameter:
    if isinstance(present, int):
        factor = factor or AROUND_ANY_INT
        return Parameter(path=path, kind="int", low=max(1, present // factor), high=present * factor, log=True)
    factor = factor or AROUND_ANY_FLOAT
    return Parameter(path=path, kind="float", low=present / factor, high=present * factor, log=True)


def default_space(recipe: Recipe) -> tuple[Parameter, ...]:
    """Return where to search when no parameter is named: optimizer, schedule, label smoothing, batch size.

    Learning rates come first, for the best of all others depends on them. Numbers without a default range, such as a
    weight decay of zero, are left out.
    """
    leaves = paths(recipe)
    found: dict[str, Value] = {}
    for path, value in leaves.items():
        if path.startswith("optimizer."):
            # Each beta is a parameter of its own.
            items = {f"{path}.{i}": item for i, item in enumerate(value)} if isinstance(value, tuple) else {path: value}
            found |= items
        elif path.startswith("schedule."):
            found[path] = value
    found |= {path: leaves[path] for path in ("label_smoothing", "batch_size")}
    space = []
    for path in sorted(found, key=lambda path: not _ends_with(path, "lr")):
        value = found[path]
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                space.append(default_parameter(path, value))
            except InputError:
                continue
    return tuple(space)
