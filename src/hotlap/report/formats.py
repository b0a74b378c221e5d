"""How figures are written, everywhere: percentages, times, intervals, factors."""

from __future__ import annotations

import math
from collections.abc import Callable

NONE = "–"
"""Stands for a figure that there is none of."""


def percent(fraction: float | None, digits: int = 2) -> str:
    """Write a share: ``0.9904`` as ``99.04 %``."""
    return NONE if fraction is None else f"{_percent_number(fraction, digits)} %"


def _percent_number(fraction: float, digits: int) -> str:
    return f"{fraction * 100:.{digits}f}"


def target_percent(fraction: float | None) -> str:
    """Write a target with no more digits than it has: ``0.99`` as ``99 %``, ``0.945`` as ``94.5 %``."""
    return NONE if fraction is None else f"{float(f'{fraction * 100:.6f}'):g} %"


def percent_with_interval(fraction: float | None, bounds: tuple[float, float] | None, digits: int = 2) -> str:
    """Write a mean with half the width of its symmetric interval: ``99.04 % ± 0.03``."""
    text = percent(fraction, digits)
    if fraction is None or bounds is None:
        return text
    return f"{text} ± {_percent_number((bounds[1] - bounds[0]) / 2, digits)}"


def percent_beside(fraction: float | None, limit: float | None, digits: int = 2) -> str:
    """Write a fraction in percent, with more digits where it would be rounded up to a limit that it misses."""
    if fraction is not None and limit is not None and fraction < limit:
        while digits < 9 and round(100 * fraction, digits) >= round(100 * limit, 9):
            digits += 1
    return percent(fraction, digits)


def seconds(s: float | None) -> str:
    """Write a time to three digits: ``1 h 02 min``, ``2 min 52 s``, ``15.3 s``, ``0.762 s``, ``41 ms``."""
    if s is None:
        return NONE
    return _seconds_in(s, _unit(s))


def seconds_with_interval(s: float | None, bounds: tuple[float, float] | None) -> str:
    """Write a time with its interval, in the unit of the time: ``15.2 s [14.8, 15.9]``."""
    if s is None or bounds is None:
        return seconds(s)
    unit = _unit(s)

    def show(bound: float) -> str:
        return seconds(bound) if unit in ("h", "min") else _seconds_in(bound, unit).rpartition(" ")[0]

    return f"{_seconds_in(s, unit)} {interval(bounds, show)}"


def interval(bounds: tuple[float, float] | None, show: Callable[[float], str] = "{:g}".format) -> str:
    """Write an interval as ``[low, high]``; nothing when there is none."""
    return "" if bounds is None else f"[{show(bounds[0])}, {show(bounds[1])}]"


def factor(ratio: float | None) -> str:
    """Write a ratio of times: ``226×``, ``15.3×``, ``1.33×``, ``0.95×``."""
    if ratio is None or not math.isfinite(ratio):
        return NONE
    if round(ratio, 1) >= 100:
        return f"{ratio:.0f}×"
    return f"{ratio:.1f}×" if round(ratio, 2) >= 10 else f"{ratio:.2f}×"


def p_value(p: float | None) -> str:
    """Write a p-value: ``p = 0.21``, ``p = 0.003``, ``p < 0.001``."""
    if p is None:
        return NONE
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def _unit(s: float) -> str:
    """The unit that a time is written in, chosen after rounding so that 59.97 s is a minute."""
    if round(s) >= 3600:
        return "h"
    if round(s, 1) >= 60:
        return "min"
    return "s" if round(s, 4) >= 0.1 or s == 0 else "ms"


def _seconds_in(s: float, unit: str) -> str:
    if unit == "h":
        minutes = round(s / 60)
        return f"{minutes // 60} h {minutes % 60:02d} min"
    if unit == "min":
        whole = round(s)
        return f"{whole // 60} min {whole % 60:02d} s"
    if unit == "ms":  # the end of an interval may be far above
        return f"{s * 1000:.3g} ms" if s < 0.9995 else f"{s * 1000:.0f} ms"
    if round(s, 2) >= 10:
        return f"{s:.1f} s"
    return f"{s:.2f} s" if round(s, 3) >= 1 or s == 0 else f"{s:.3f} s"
