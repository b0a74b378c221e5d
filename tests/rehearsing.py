"""A recorder that calls what it records, as a GPU would repeat it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def rehearse(work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Repeat by calling again, into the same tensor."""
    result = work().clone()

    def replay() -> None:
        result.copy_(work())

    return replay, result


class Counting:
    """A recorder that counts recordings and their repetitions."""

    def __init__(self) -> None:
        self.recordings = 0
        self.repetitions = 0

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        self.recordings += 1
        replay, result = rehearse(work)

        def counted() -> None:
            self.repetitions += 1
            replay()

        return counted, result
