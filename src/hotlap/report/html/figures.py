"""Plotly figures as plain JSON types. Colours show on a light and on a dark page; the page's own are set when drawn."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hotlap.errors import InputError

MEASURED = "#2f7de1"
PUBLISHED = "#c47a00"
TARGET = "#e0443a"
FASTER = "#1f9e89"
GREY = "#858b95"

ROW_PX = 34
"""Height of a line of a plot with names at its side."""

LONGEST_NAME = 24
"""Characters of a name at the side of a plot; a phone is narrow, and the hover text and the table have all of it."""

Interval = tuple[float, float]


def figure(data: Sequence[Mapping[str, Any]], layout: Mapping[str, Any]) -> dict[str, Any]:
    """Check a figure by plotly's own rules and return it as plain JSON types.

    Raises:
        InputError: plotly is not installed.
        ValueError: plotly knows no such property.
    """
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise missing_library() from None
    made: dict[str, Any] = go.Figure({"data": [*data], "layout": {**layout}}).to_plotly_json()
    made["layout"].pop("template", None)
    return made


def missing_library() -> InputError:
    """Build the error for a report without plotly or jinja2."""
    return InputError("an HTML report needs plotly and jinja2", "pip install 'hotlap[report]'")


def literal(text: str) -> str:
    """Make a text appear in a plot as it is: plotly reads a little HTML in labels."""
    return html.escape(text, quote=False)


def hover(*lines: str) -> str:
    """Join lines of a hover text."""
    return "<br>".join(literal(line) for line in lines if line)


def short(name: str) -> str:
    """A name that fits at the side of a plot."""
    return literal(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")


def error_bars(values: Sequence[float], bounds: Sequence[Interval | None], **more: Any) -> dict[str, Any]:
    """Intervals around values as plotly's error bars; None draws none."""
    pairs = [bound or (value, value) for value, bound in zip(values, bounds, strict=True)]
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for value, (_, high) in zip(values, pairs, strict=True)],
        "arrayminus": [value - low for value, (low, _) in zip(values, pairs, strict=True)],
        "thickness": 2,
        "width": 4,
        **more,
    }


def log_axis(values: Sequence[float], **more: Any) -> dict[str, Any]:
    """A logarithmic axis of seconds around positive values, with few enough marks for a phone."""
    low, high = min(values) / 1.7, max(values) * 1.4
    decades = math.log10(high / low)
    steps = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.3 else (1.0, 2.0, 5.0)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    shown = [tick for tick in ticks if low <= tick <= high] or [min(values)]
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": shown,
        "ticktext": [f"{tick:g}" for tick in shown],
        "tickangle": 0,
        **more,
    }


def plain_axis(title: str, **more: Any) -> dict[str, Any]:
    """A linear axis with few enough marks for a phone."""
    heading = {"text": title, "standoff": 12}
    return {"title": heading, "nticks": 6, "tickangle": 0, "automargin": True, "zeroline": False, **more}


def names_axis(names: Sequence[str]) -> dict[str, Any]:
    """A vertical axis with a name for each whole number from 0, the first at the top."""
    return {
        "tickvals": [*range(len(names))],
        "ticktext": [short(name) for name in names],
        "range": [len(names) - 0.5, -0.5],
        "automargin": True,
        "zeroline": False,
        "showgrid": False,
        "fixedrange": True,
    }


def bare_axis(**more: Any) -> dict[str, Any]:
    """A vertical axis that says nothing."""
    return {"visible": False, "fixedrange": True, **more}


def values_at_right(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Figures written at the right of a plot with ``names_axis``, where no marker can run into them."""
    place: dict[str, Any] = {"xref": "paper", "x": 1, "xanchor": "left", "xshift": 6, "yref": "y", "showarrow": False}
    return [{**place, "y": position, "text": literal(text)} for position, text in enumerate(texts) if text]


def target_line(percent: float, *, vertical: bool) -> dict[str, Any]:
    """A dashed line across a plot at a target in per cent, as one of plotly's shapes."""
    line = {"type": "line", "layer": "above", "line": {"color": TARGET, "width": 2, "dash": "dash"}}
    along, across = ("y", "x") if vertical else ("x", "y")
    return {
        **line,
        f"{along}ref": "paper",
        f"{along}0": 0,
        f"{along}1": 1,
        f"{across}0": percent,
        f"{across}1": percent,
    }


def target_entry(text: str) -> dict[str, Any]:
    """A trace without points that puts the target's line into the legend."""
    line = {"color": TARGET, "width": 1.5, "dash": "dash"}
    return {"type": "scatter", "mode": "lines", "x": [None], "y": [None], "name": literal(text), "line": line}


def points(x: Sequence[Any], y: Sequence[Any], texts: Sequence[str], **more: Any) -> dict[str, Any]:
    """Markers, each with a hover text that is escaped already."""
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [*x],
        "y": [*y],
        "hovertext": [*texts],
        "hoverinfo": "text",
        "cliponaxis": False,  # a marker or number at the edge is shown whole
        **more,
    }


def hollow(x: Sequence[Any], y: Sequence[Any], texts: Sequence[str]) -> dict[str, Any]:
    """Published figures: diamonds that a measured point at the same place shows through."""
    marker = {"symbol": "diamond-open", "size": 11, "color": PUBLISHED, "line": {"width": 2}}
    return points(x, y, texts, name="published", marker=marker)


def layout(**more: Any) -> dict[str, Any]:
    """What every plot shares: narrow margins, and the legend above, where no axis title is."""
    return {
        "margin": {"l": 8, "r": 18, "t": 36, "b": 44},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "yref": "paper"},
        "hovermode": "closest",
        **more,
    }
