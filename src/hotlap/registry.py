"""Registries of named builders: models, optimizers, schedules and techniques list themselves here.

A builder is a function whose keyword-only parameters without a leading context are exactly the options a recipe must
write; there are no defaults, so a recipe is complete.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from hotlap.errors import InputError, unknown_name
from hotlap.recipe import Component, show_value

B = TypeVar("B", bound=Callable[..., Any])

_SINGLE = ("int", "float", "bool", "str")


def _is_single(annotation: Any) -> bool:
    return inspect.formatannotation(annotation).strip("'").removesuffix(" | None") in _SINGLE


@dataclass(frozen=True, slots=True)
class Card:
    """What a reader needs to know of a part: what it does, what it was measured to give, where it comes from."""

    does: str
    effect: str
    source: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered builder with its card and the names of the options that it takes.

    Of these, those in ``single`` are one value and no list, as the builder's annotations say.
    """

    name: str
    card: Card
    build: Callable[..., Any]
    options: tuple[str, ...]
    single: frozenset[str]


class Registry:
    """Builders of one kind, found by importing every public module of a package at first use.

    Args:
        kind: what the entries are, for messages, e.g. ``"model"``.
        package: package whose modules register their builders when imported.
        context: parameters that the engine passes and a recipe does not write.
    """

    def __init__(self, kind: str, package: str, *, context: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self._package = package
        self._context = context
        self._entries: dict[str, Entry] = {}
        self._complete = False

    def register(self, name: str, card: Card) -> Callable[[B], B]:
        """Decorate a builder; its keyword-only parameters, less the context, are the component's options."""

        def add(build: B) -> B:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            parameters = inspect.signature(build).parameters.values()
            for p in parameters:
                if p.kind is not p.KEYWORD_ONLY or p.default is not p.empty:
                    raise TypeError(f"{self.kind} {name!r}: {p.name} must be keyword-only and without a default")
            options = tuple(p.name for p in parameters if p.name not in self._context)
            # Once, at import: components are built while the clock runs.
            single = frozenset(p.name for p in parameters if _is_single(p.annotation))
            self._entries[name] = Entry(name, card, build, options, single)
            return build

        return add

    def __iter__(self) -> Iterator[Entry]:
        self._discover()
        return iter(sorted(self._entries.values(), key=lambda entry: entry.name))

    def __getitem__(self, name: str) -> Entry:
        self._discover()
        if name not in self._entries:
            raise unknown_name(self.kind, name, sorted(self._entries))
        return self._entries[name]

    def build(self, component: Component, **context: Any) -> Any:
        """Build a component.

        Args:
            component: name and options, as written in a recipe.
            context: what the engine adds, e.g. the shape of the images.

        Raises:
            InputError: unknown name, unknown or missing option, or a value the builder refuses.
        """
        entry = self[component.name]
        given = component.options
        for key in given:
            if key not in entry.options:
                raise unknown_name(f"option of {self.kind} {component.name}", key, entry.options)
        if missing := [key for key in entry.options if key not in given]:
            raise InputError(f"{self.kind} {component.name} needs {', '.join(missing)} as well")
        for key, value in given.items():
            if isinstance(value, tuple) and key in entry.single:
                raise InputError(
                    f"{key} of {self.kind} {component.name} is one value, not the list {show_value(value)}"
                )
        try:
            return entry.build(**given, **context)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.kind} {component!r} cannot be built: {error}") from error

    def _discover(self) -> None:
        if not self._complete:
            package = importlib.import_module(self._package)
            for module in pkgutil.iter_modules(package.__path__):
                if not module.name.startswith("_"):
                    importlib.import_module(f"{self._package}.{module.name}")
            self._complete = True
