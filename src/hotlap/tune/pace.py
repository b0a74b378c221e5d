"""Starting no run that is expected to end too late."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable


class Pace:
    """Follows how long runs take.

    Args:
        max_seconds: after which no run should end, from now on; None for no limit.
        now: clock in seconds.
    """

    def __init__(self, max_seconds: float | None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._end = None if max_seconds is None else now() + max_seconds
        self._begun: dict[Hashable, float] = {}
        self._seconds = 0.0
        self._count = 0

    def begin(self, run: Hashable) -> None:
        """Note that a run starts."""
        self._begun[run] = self._now()

    def finish(self, run: Hashable) -> None:
        """Note that a run has come in."""
        self._seconds += self._now() - self._begun.pop(run)
        self._count += 1

    @property
    def fits(self) -> bool:
        """Whether a run that starts now is expected to end in time: as long as the mean of those before it took."""
        expected = self._seconds / self._count if self._count else 0.0
        return self._end is None or self._now() + expected <= self._end
