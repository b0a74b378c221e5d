"""Trees of frozen dataclasses and components: JSON, checking, replacing by dotted path, comparing.

The machinery under ``hotlap.recipe``, which is where the rest of the package imports these names from.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from hotlap.errors import InputError, unknown_name

UnknownPath: TypeAlias = Callable[[str], InputError]
Value: TypeAlias = "bool | int | float | str | tuple[Value, ...] | Component | None"


@dataclass(frozen=True, slots=True, repr=False)
class Component:
    """A named part with its options, such as an optimizer, a model or a technique.

    A component has no defaults: every option its builder takes is written in the recipe.
    """

    name: str
    items: tuple[tuple[str, Value], ...] = ()

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={show_value(v)}' for k, v in self.items)})"

    @property
    def options(self) -> dict[str, Any]:
        """Options by name; a fresh dictionary at each call."""
        return dict(self.items)


def part(name: str, /, **options: Any) -> Component:
    """Write a component in code: ``part("adam", lr=0.01, betas=(0.7, 0.9), eps=1e-8)``."""
    return Component(name, tuple((key, freeze(value, key)) for key, value in sorted(options.items())))


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between two recipes; a component that was replaced as a whole is one change."""

    path: str
    before: Value
    after: Value

    def __str__(self) -> str:
        return f"{self.path}: {show_value(self.before)} → {show_value(self.after)}"


def show_value(value: Any) -> str:
    """Write a value as people read it: short floats, no quotes, ``none`` and ``yes``/``no``."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.10g}"
        case tuple():
            return f"({', '.join(show_value(v) for v in value)})"
        case _:
            return str(value)


def no_constants(text: str) -> None:
    """Refuse NaN and Infinity while JSON is read."""
    raise InputError(f"{text} is not a number a recipe can hold")


def freeze(value: Any, where: str) -> Value:
    """Turn JSON-like data into hashable values; objects with a name become components."""
    match value:
        case None | bool() | int() | str() | Component():
            return value
        case float():
            if not math.isfinite(value):
                raise InputError(f"{where}: {value} is not a number a recipe can hold")
            return value
        case list() | tuple():
            return tuple(freeze(v, f"{where}.{i}") for i, v in enumerate(value))
        case Mapping():
            options = dict(value)
            name = options.pop("name", None)
            if not isinstance(name, str):
                raise InputError(f"{where}: a component needs a name", 'for example {"name": "adam", "lr": 0.01, …}')
            return Component(name, tuple((k, freeze(v, f"{where}.{k}")) for k, v in sorted(options.items())))
        case _:
            raise InputError(f"{where}: a recipe holds names and numbers, not {type(value).__name__}")


def encode(value: Any) -> Any:
    """Turn a tree into plain JSON types."""
    if isinstance(value, Component):
        return {"name": value.name, **{key: encode(v) for key, v in value.items}}
    if dataclasses.is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    return [encode(v) for v in value] if isinstance(value, tuple) else value


def canonical(value: Any) -> Any:
    """Turn a tree into the plain JSON types that digests are made of.

    4.0 and 4 become alike, since JSON written by hand does not tell them apart. Fields at their default are left out,
    so that a field added later, whose default is what was done before it, does not change old digests.
    """
    if isinstance(value, Component):
        return {"name": value.name, **{key: canonical(v) for key, v in value.items}}
    if dataclasses.is_dataclass(value):
        fields = {f.name: (getattr(value, f.name), _default(f)) for f in dataclasses.fields(value)}
        return {name: canonical(now) for name, (now, default) in fields.items() if now != default}
    if isinstance(value, tuple):
        return [canonical(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Field types of a dataclass; evaluating them costs more than all the rest of reading a recipe."""
    return typing.get_type_hints(kind)


def decode(kind: Any, value: Any, where: str) -> Any:
    """Check ``value`` against the annotation ``kind`` and build it; ``where`` is the dotted path for messages."""
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        options = [k for k in typing.get_args(kind) if k is not types.NoneType]
        return None if value is None else decode(options[0], value, where)
    if origin is Literal:
        allowed = typing.get_args(kind)
        if value not in allowed:
            raise unknown_name(f"{where or 'value'}", str(value), allowed)
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise InputError(f"{where} takes a list, not {show_value(value)}")
        item = typing.get_args(kind)[0]
        return tuple(decode(item, v, f"{where}.{i}") for i, v in enumerate(value))
    if kind is Component:
        frozen = freeze(value, where)
        if not isinstance(frozen, Component):
            raise InputError(f"{where} takes a component, not {show_value(value)}", '{"name": …, options…}')
        return frozen
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, value, where)
    return _decode_scalar(kind, value, where)


def _decode_dataclass(kind: Any, value: Any, where: str) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"{where or 'recipe'} takes an object, not {show_value(value)}")
    hints = _hints(kind)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    prefix = f"{where}." if where else ""
    for key in value:
        if key not in fields:
            raise unknown_name("recipe key", f"{prefix}{key}", [f"{prefix}{name}" for name in fields])
    for name, f in fields.items():
        no_default = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if no_default and name not in value:
            raise InputError(f"recipe key {prefix}{name} is missing")
    return kind(**{key: decode(hints[key], v, f"{prefix}{key}") for key, v in value.items()})


def _decode_scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise InputError(f"{where}: {value} is not a number a recipe can hold")
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if type(value) is kind:
        return value
    raise InputError(f"{where} takes {_KIND[kind]}, not {show_value(value)}")


_KIND = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}


def replace(node: Any, keys: list[str], value: Any, path: str, unknown: UnknownPath) -> Any:
    """Rebuild ``node`` with the leaf at ``keys`` replaced by ``value``."""
    head, rest = keys[0], keys[1:]
    if isinstance(node, Component):
        if head == "name" and not rest:
            raise InputError(
                f"{path}: another {path.removesuffix('.name')} has other options; give it whole",
                f'--set {path.removesuffix(".name")}=\'{{"name": "{value}", …}}\'',
            )
        options = node.options
        if head not in options:
            raise unknown(path)
        new = replace(options[head], rest, value, path, unknown) if rest else _option(options[head], value, path)
        return Component(node.name, tuple(sorted({**options, head: new}.items())))
    if isinstance(node, tuple):
        if not head.isdecimal() or int(head) >= len(node):
            raise unknown(path)
        old = node[int(head)]
        if value is None and not rest and old is not None:
            raise InputError(f"{path} is one item of a list and cannot be none", "give the whole list without it")
        new = replace(old, rest, value, path, unknown) if rest else _like(old, value, path)
        return (*node[: int(head)], new, *node[int(head) + 1 :])
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        if head not in {f.name for f in dataclasses.fields(node)}:
            raise unknown(path)
        if rest:
            new = replace(getattr(node, head), rest, value, path, unknown)
        else:
            new = decode(_hints(type(node))[head], value, path)
        return dataclasses.replace(node, **{head: new})
    raise unknown(path)


def _option(old: Value, value: Any, path: str) -> Value:
    """Freeze a component's option and hold it to the kind of the one it replaces.

    A whole number may become a list of them, such as a depth for each group; the registry knows which options take one.
    """
    new = freeze(value, path)
    if type(old) is int and isinstance(new, tuple) and new:
        return tuple(_like(old, item, f"{path}.{i}") for i, item in enumerate(new))
    return _like(old, new, path)


def _like(old: Value, value: Any, path: str) -> Value:
    """Freeze ``value`` and hold it to the kind of the value it replaces."""
    new = freeze(value, path)
    if old is None or new is None:
        return new
    if isinstance(old, tuple):
        if not isinstance(new, tuple):
            raise InputError(f"{path} takes a list, not {show_value(new)}")
        if not old:
            return new
        example = next((v for v in old if isinstance(v, float)), old[0])  # (0, 0.5) holds floats
        return tuple(_like(example, v, f"{path}.{i}") for i, v in enumerate(new))
    if isinstance(old, Component):
        if not isinstance(new, Component):
            raise InputError(f"{path} takes a component, not {show_value(new)}", '{"name": …, options…}')
        return new
    # A component's numbers have no declared kind: 1 may become 0.5, and its builder says whether that makes sense.
    kind = float if type(old) is int and type(new) is float and not new.is_integer() else type(old)
    return typing.cast(Value, _decode_scalar(kind, new, path))


def _same_shape(before: Any, after: Any) -> bool:
    """Whether two values can be compared part by part, so that a difference is named by the longest path."""
    if isinstance(before, Component) and isinstance(after, Component):
        return before.name == after.name and [k for k, _ in before.items] == [k for k, _ in after.items]
    if isinstance(before, tuple) and isinstance(after, tuple):
        parts = (*before, *after)
        return len(before) == len(after) > 0 and all(isinstance(p, Component) for p in parts)
    return dataclasses.is_dataclass(before) and type(before) is type(after) and not isinstance(before, Component)


def _children(node: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(node, Component):
        return node.items
    if isinstance(node, tuple):
        return ((str(i), v) for i, v in enumerate(node))
    return ((f.name, getattr(node, f.name)) for f in dataclasses.fields(node))


def diff(path: str, before: Any, after: Any) -> Iterator[Change]:
    """Walk two trees of one type; what cannot be compared part by part is one change."""
    if before == after:
        return
    if not _same_shape(before, after):
        yield Change(path, before, after)
        return
    for (key, old), (_, new) in zip(_children(before), _children(after), strict=True):
        yield from diff(f"{path}.{key}" if path else key, old, new)


def leaves(path: str, node: Any) -> Iterator[tuple[str, Value]]:
    """Walk every path that ``replace`` takes, with its value."""
    if _same_shape(node, node):
        if isinstance(node, Component):
            yield path, node
        for key, child in _children(node):
            yield from leaves(f"{path}.{key}" if path else key, child)
    else:
        yield path, node
