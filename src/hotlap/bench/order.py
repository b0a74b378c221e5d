"""Orders of runs that are fair to every recipe when a machine's speed drifts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def interleave(items: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Yield (round, item) so that every round has each item once and directions alternate (A B, B A, …).

    Over any two rounds each item has the same mean position, so a linear drift of the machine cancels.
    """
    for number in range(rounds):
        for item in items if number % 2 == 0 else reversed(items):
            yield number, item
