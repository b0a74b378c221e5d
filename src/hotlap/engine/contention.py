"""Contention: how much of the machine other processes used while a run was timed."""

from __future__ import annotations

import os
import time

import psutil

TOLERATED = 0.15
"""Share of one core per available core that others may use before a run's times stop counting."""


class Contention:
    """Measures, from its creation on, the cores that processes other than this one and its children kept busy."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._busy = _machine_busy()
        self._own = _own_busy()

    def cores(self) -> float | None:
        """Return the mean number of cores kept busy by others; None on a machine of which only a part may be used.

        Time stolen by a hypervisor counts as others' use.
        """
        allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count()
        if self._busy is None or psutil.cpu_count() != allowed:
            return None
        busy = _machine_busy()
        assert busy is not None
        wall = time.perf_counter() - self._start
        others = (busy - self._busy) - (_own_busy() - self._own)
        # The kernel counts in hundredths of a second per core; less than that is not seen.
        return round(max(0.0, others - 0.02) / wall, 3) if wall > 0 else 0.0


def is_contended(cores: float | None, available: int) -> bool:
    """Whether the use by others spoils a timing; unknown use does not."""
    return cores is not None and cores > TOLERATED * available


def _machine_busy() -> float | None:
    """CPU seconds that all processes of the machine have used since it started."""
    times = psutil.cpu_times()
    fields = ("user", "nice", "system", "irq", "softirq", "steal")
    return float(sum(getattr(times, name, 0.0) for name in fields)) if hasattr(times, "user") else None


def _own_busy() -> float:
    """CPU seconds of this process and of its children, living and ended."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            used = child.cpu_times()
        except psutil.Error:
            continue
        total += used.user + used.system
    return total
