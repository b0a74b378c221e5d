from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.report.formats import (
    factor,
    interval,
    p_value,
    percent,
    percent_with_interval,
    seconds,
    seconds_with_interval,
    target_percent,
)


@pytest.mark.parametrize(
    ("s", "text"),
    [
        (0.0, "0.00 s"),
        (0.0000123, "0.0123 ms"),
        (0.041, "41 ms"),
        (0.09994, "99.9 ms"),
        (0.09996, "0.100 s"),
        (0.762, "0.762 s"),
        (0.9996, "1.00 s"),
        (1.74, "1.74 s"),
        (9.996, "10.0 s"),
        (15.27, "15.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (172.4, "2 min 52 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (3725, "1 h 02 min"),
        (None, "–"),
    ],
)
def test_seconds(s: float | None, text: str) -> None:
    assert seconds(s) == text


@given(st.floats(1e-4, 1e6))
def test_seconds_can_be_read_back_within_the_last_digit_shown(s: float) -> None:
    units = {"ms": 0.001, "s": 1, "min": 60, "h": 3600}
    parts = re.findall(r"([\d.]+) (ms|s|min|h)", seconds(s))
    read = sum(float(number) * units[unit] for number, unit in parts)
    coarsest = 30 if parts[0][1] == "h" else 0.5 if parts[0][1] == "min" else s / 200 + 1e-9
    assert abs(read - s) <= coarsest * 1.001


def test_percent() -> None:
    assert percent(0.9904) == "99.04 %"
    assert percent(1, 0) == "100 %"
    assert percent(None) == "–"
    assert percent_with_interval(0.9904, (0.9901, 0.9907)) == "99.04 % ± 0.03"
    assert percent_with_interval(0.9904, None) == "99.04 %"
    assert percent_with_interval(None, None) == "–"


@pytest.mark.parametrize(
    ("fraction", "text"), [(0.99, "99 %"), (0.945, "94.5 %"), (0.07, "7 %"), (1, "100 %"), (None, "–")]
)
def test_targets_have_no_more_digits_than_they_need(fraction: float | None, text: str) -> None:
    assert target_percent(fraction) == text


def test_intervals_of_times_keep_the_unit_of_their_centre() -> None:
    assert seconds_with_interval(15.2, (14.8, 15.9)) == "15.2 s [14.8, 15.9]"
    assert seconds_with_interval(9.99, (9.5, 10.5)) == "9.99 s [9.50, 10.5]"
    assert seconds_with_interval(0.11, (0.09, 0.13)) == "0.110 s [0.090, 0.130]"
    assert seconds_with_interval(0.041, (0.039, 0.12)) == "41 ms [39, 120]"
    assert seconds_with_interval(60.2, (59.0, 61)) == "1 min 00 s [59.0 s, 1 min 01 s]"
    assert seconds_with_interval(2.0, None) == "2.00 s"
    assert seconds_with_interval(None, None) == "–"
    assert interval((1.5, 2)) == "[1.5, 2]"
    assert interval(None) == ""


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (225.6, "226×"),
        (99.96, "100×"),
        (15.25, "15.2×"),
        (9.996, "10.0×"),
        (1.333, "1.33×"),
        (0.5, "0.50×"),
        (None, "–"),
    ],
)
def test_factor(ratio: float | None, text: str) -> None:
    assert factor(ratio) == text


@pytest.mark.parametrize(
    ("p", "text"), [(0.21, "p = 0.21"), (0.0312, "p = 0.031"), (0.0002, "p < 0.001"), (1.0, "p = 1.00"), (None, "–")]
)
def test_p_value(p: float | None, text: str) -> None:
    assert p_value(p) == text


def test_an_end_far_above_a_time_in_milliseconds_has_no_exponent() -> None:
    assert seconds_with_interval(0.09, (0.085, 1.2)) == "90 ms [85, 1200]"
    assert seconds_with_interval(0.09, (0.085, 0.9996)) == "90 ms [85, 1000]"
    assert seconds_with_interval(0.09, (0.085, 0.123)) == "90 ms [85, 123]"
