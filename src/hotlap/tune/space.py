"""Search spaces: which values of a recipe are tried, in the recipe's own dotted names."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hotlap.errors import HotlapError, InputError, unknown_name
from hotlap.recipe import Recipe, Value, paths, plain, show_value

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Point: TypeAlias = Mapping[str, Value]
"""A value for every parameter of a space, by path."""

EXAMPLES = "write log:1e-3..1e-1, 0.5..0.95, int:0..4, log-int:64..1024, 0.1..0.9:0.2 or values as cos,linear"

_REFUSED = {
    "name": ("it is no part of the training", None),
    "data": ("the search holds its images out of the recipe's own training set", "give other data with --data"),
    "target": ("it says what the recipe is held to, not how it trains", None),
    "stop_at": ("it ends training by the accuracy that is searched for", None),
    "epochs": ("more of them nearly always help", "find how few are enough with --trade-epochs"),
    "evaluation": ("it changes how accuracy is measured, not what is learned", None),
    "engine": ("it decides how fast the arithmetic is", "compare speeds with: hotlap compare"),
    "feed.loading": ("it decides how fast images come, not which", "compare speeds with: hotlap compare"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One value of a recipe and what it may be.

    Attributes:
        path: dotted name, as ``Recipe.with_changes`` takes it.
        kind: ``float`` and ``int`` are ranges, ``choice`` is a list.
        low: least value of a range.
        high: greatest value of a range, itself included.
        log: whether the range is searched by ratios.
        step: distance between the values of a range, counted from ``low``; None for any value.
        choices: the values of a list.

    Raises:
        InputError: there is nothing to choose from, or a logarithmic range that is not positive.
    """

    path: str
    kind: Literal["float", "int", "choice"]
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    choices: tuple[Value, ...] = ()

    def __post_init__(self) -> None:
        if self.kind == "choice":
            if not self.choices:
                raise InputError(f"{self.path} has no values to choose from", EXAMPLES)
            return
        shown = f"{self.low:g}..{self.high:g}"
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"{self.path}: {shown} is no range from a lower to a higher number", EXAMPLES)
        if self.log and self.low <= 0:
            raise InputError(f"{self.path}: a logarithmic range is above 0, not {shown}", EXAMPLES)
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise InputError(f"{self.path}: steps of {self.step:g} do not fit into {shown}", EXAMPLES)

    @property
    def grid(self) -> tuple[Value, ...]:
        """Every value of a range with steps, ascending; empty for other parameters."""
        if self.step is None:
            return ()
        low, step = Decimal(repr(self.low)), Decimal(repr(self.step))
        count = int((Decimal(repr(self.high)) - low) / step) + 1
        return tuple(self._number(float(low + index * step)) for index in range(count))

    def _number(self, value: float) -> Value:
        return round(value) if self.kind == "int" else value

    @property
    def probes(self) -> tuple[Value, ...]:
        """Values that show whether a recipe accepts this parameter: all choices, or both ends and one in between."""
        if self.kind == "choice":
            return self.choices
        if self.grid:
            return self.grid[0], self.grid[-1], self.grid[1]
        # The golden section of a range is hardly ever a whole number, so it tells whether fractions are accepted.
        between = self.low + (self.high - self.low) * 0.381966
        return self._number(self.low), self._number(self.high), self._number(between)

    def contains(self, value: Value) -> bool:
        """Whether a value is one that may be tried."""
        if self.kind == "choice":
            return value in self.choices
        if not isinstance(value, int | float) or isinstance(value, bool) or not self.low <= value <= self.high:
            return False
        return value in self.grid if self.grid else self.kind == "float" or float(value).is_integer()

    def including(self, value: Value) -> Parameter:
        """Return this parameter, widened where needed so that a value is one of its own."""
        if self.contains(value):
            return self
        if self.kind == "choice":
            return dataclasses.replace(self, choices=(*self.choices, value))
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InputError(f"{self.path} is {show_value(value)}, which is no number to search around", EXAMPLES)
        if self.kind == "int" and not float(value).is_integer():
            raise InputError(f"{self.path} is {show_value(value)}, which is no whole number to search around", EXAMPLES)
        low, high = min(self.low, value), max(self.high, value)
        return dataclasses.replace(self, low=low, high=high, step=None, log=self.log and low > 0)

    def distribution(self) -> BaseDistribution:
        """Return Optuna's distribution of the same values."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "choice":
            return CategoricalDistribution([self.encode(choice) for choice in self.choices])
        # Optuna warns of a range that steps do not fill.
        high = self.grid[-1] if self.grid else self.high
        assert isinstance(high, int | float)
        if self.kind == "int":
            return IntDistribution(int(self.low), int(high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(float(self.low), float(high), log=self.log, step=self.step)

    def encode(self, value: Value) -> Any:
        """Return a value as Optuna stores it: lists and components as JSON text, all others as they are."""
        if value is None or isinstance(value, bool | int | float | str):
            return value
        return json.dumps(plain(value), sort_keys=True)

    def decode(self, stored: Any) -> Value:
        """Return the value that ``encode`` made ``stored`` of."""
        found: Value = next((choice for choice in self.choices if self.encode(choice) == stored), stored)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        if self.kind == "choice":
            return {"path": self.path, "choices": [plain(choice) for choice in self.choices]}
        return {name: getattr(self, name) for name in ("path", "kind", "low", "high", "log", "step")}


def value_at(recipe: Recipe, path: str) -> Value:
    """Return a recipe's value by its dotted path; an item of a list of numbers has one too.

    Raises:
        InputError: no such path; the nearest is suggested.
    """
    leaves = paths(recipe)
    if path in leaves:
        return leaves[path]
    head, _, index = path.rpartition(".")
    items = leaves.get(head)
    if isinstance(items, tuple) and index.isdecimal() and int(index) < len(items):
        return items[int(index)]
    recipe.with_changes({path: 0})  # the recipe's own error says it best
    raise unknown_name("recipe key", path, leaves)


def check_tunable(path: str) -> None:
    """Refuse what is no hyper-parameter.

    Raises:
        InputError: with the reason.
    """
    for refused, (reason, fix) in _REFUSED.items():
        if path == refused or path.startswith(f"{refused}."):
            raise InputError(f"{path} cannot be tuned: {reason}", fix)


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"(?:(log|int|log-int):)?({_NUMBER})\.\.({_NUMBER})(?::({_NUMBER}))?")
_WHOLE = re.compile(r"[+-]?\d+")


def read_spec(path: str, spec: str, present: Value) -> Parameter:
    """Read what a parameter may be.

    Args:
        path: its dotted name.
        spec: ``low..high``, ``log:low..high``, ``int:low..high``, ``log-int:low..high``, ``low..high:step``, or values
            separated by commas, each JSON or a bare word.
        present: the recipe's value. Where it is a whole number and so are the ends, only whole numbers are tried.

    Raises:
        InputError: none of these.
    """
    spec = spec.strip()
    if match := _RANGE.fullmatch(spec):
        form, *written = match.groups()
        numbers = [text for text in written if text is not None]
        whole = all(_WHOLE.fullmatch(text) for text in numbers)
        if form in ("int", "log-int") and not whole:
            raise InputError(f"{path}: {spec} is no range of whole numbers", EXAMPLES)
        low, high, *step = (float(text) for text in numbers)
        log = form in ("log", "log-int")
        if log and step:
            raise InputError(f"{path}: a logarithmic range has no steps", EXAMPLES)
        is_int = form in ("int", "log-int") or (whole and type(present) is int)
        kind: Literal["int", "float"] = "int" if is_int else "float"
        return Parameter(path=path, kind=kind, low=low, high=high, log=log, step=step[0] if step else None)
    if ".." in spec or not spec:
        raise InputError(f"{path}: {spec!r} is no range of numbers", EXAMPLES)
    return Parameter(path=path, kind="choice", choices=tuple(dict.fromkeys(_choices(path, spec))))


def _choices(path: str, spec: str) -> Iterable[Value]:
    from hotlap._tree import freeze

    try:
        values = json.loads(f"[{spec}]")
    except ValueError:
        if any(mark in spec for mark in '[]{}"'):
            raise InputError(
                f"{path}: {spec} is no list of JSON values", "quote words, as in '\"cos\",[1,2]'"
            ) from None
        values = [_word(piece.strip()) for piece in spec.split(",")]
    return (freeze(value, path) for value in values)


def _word(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def check_space(recipe: Recipe, space: Sequence[Parameter], build: Callable[[Recipe], object]) -> None:
    """Make sure that the recipe accepts the ends of every range and every choice, before anything trains.

    Args:
        recipe: to be tuned.
        space: where to search.
        build: builds the parts of a recipe, and raises where they cannot be.

    Raises:
        InputError: a parameter comes twice, or a value is refused.
    """
    names = [parameter.path for parameter in space]
    for path in names:
        if names.count(path) > 1:
            raise InputError(f"{path} is given twice", "give each parameter once")
    for parameter in space:
        for value in dict.fromkeys(parameter.probes):
            try:
                build(recipe.with_changes({parameter.path: value}))
            except HotlapError as error:
                raise InputError(
                    f"{parameter.path} cannot be {show_value(value)}: {error.cause}", f"--param {parameter.path}=…"
                ) from None
