"""Errors that a user can act on: one line with the cause, and the next command."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HotlapError(Exception):
    """A problem hotlap can explain. The command line prints it as one line and exits with ``exit_code``."""

    exit_code = 2

    recipe: str | None = None
    """Digest of the recipe whose training it ended; None where it is not about one. Set by executors."""

    def __init__(self, cause: str, fix: str | None = None) -> None:
        self.cause = cause
        self.fix = fix
        super().__init__(cause if fix is None else f"{cause} → {fix}")

    def __reduce__(self) -> tuple[type[HotlapError], tuple[str, str | None]]:
        """Keep cause and fix apart when the error crosses a process border."""
        return type(self), (self.cause, self.fix)


class InputError(HotlapError):
    """Something the user wrote (a recipe, a key, a value, a path) cannot be used."""


class MissingError(InputError, ImportError):
    """A library that a part of hotlap needs is not installed; whoever guards an import finds it an ``ImportError``."""


class MissingPartError(InputError, AttributeError):
    """The same, of an attribute: ``hasattr(hotlap, "ImageClassifier")`` is false then."""


class DataError(HotlapError):
    """A data set is missing, unreachable, damaged or of the wrong shape."""


class StoreError(HotlapError):
    """The run store cannot be read or written."""


class DivergenceError(HotlapError):
    """The loss stopped being a number; the run is stored as failed."""

    exit_code = 1


def unknown_name(kind: str, name: str, known: Iterable[str], *, fix: str | None = None) -> InputError:
    """Build the error for a name that does not exist, with the nearest known one suggested.

    Args:
        kind: what the name should have been, e.g. ``"recipe"``.
        name: what was asked for.
        known: every name that exists.
        fix: next command; by default the nearest name, or the list of names when none is near.
    """
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if fix is None:
        fix = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names) or 'none'}"
    elif near:
        fix = f"did you mean {near[0]!r}? {fix}"
    return InputError(f"unknown {kind} {name!r}", fix)
