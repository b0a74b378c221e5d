"""The one clock: named phases that neither overlap nor run out of order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hotlap.result import PHASES


class Clock:
    """Accumulates seconds by phase; the device is synchronised at every border.

    Args:
        now: monotonic time in seconds; a fake in tests.
        synchronise: waits until the device has finished; nothing to do on a CPU.
    """

    def __init__(
        self, now: Callable[[], float] = time.perf_counter, synchronise: Callable[[], None] = lambda: None
    ) -> None:
        self._now = now
        self._synchronise = synchronise
        self._running: str | None = None
        self.phases: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.entered: list[str] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time of the block to a phase; a phase may be entered many times.

        Raises:
            RuntimeError: no such phase, another phase is running, or a phase that should first have been entered
                earlier is entered late (train may alternate with evaluate and log).
        """
        if name not in PHASES:
            raise RuntimeError(f"no phase is called {name!r}; the phases are {', '.join(PHASES)}")
        if self._running is not None:
            raise RuntimeError(f"phase {name} begins while {self._running} is running; phases do not overlap")
        order = PHASES.index(name)
        if order < PHASES.index("train") and any(PHASES.index(past) > order for past in self.entered):
            raise RuntimeError(f"phase {name} begins after {self.entered[-1]}; the order is {', '.join(PHASES)}")
        self.entered.append(name)
        self._running = name
        self._synchronise()
        start = self._now()
        try:
            yield
            self._synchronise()
        finally:
            self.phases[name] += self._now() - start
            self._running = None

    def state_dict(self) -> dict[str, Any]:
        """Return the seconds so far."""
        return dict(self.phases)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Add the seconds of an interrupted run."""
        for name, seconds in state.items():
            self.phases[name] += seconds
