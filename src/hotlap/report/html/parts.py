"""What a page is made of: sections of texts, tables, plots and pictures, without any markup yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading; cells of a numeric one stand to the right."""

    title: str
    numeric: bool = True


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows, and the number it is sorted by; without a number it is sorted by its text."""

    text: str
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table that can be sorted by each column.

    Attributes:
        rows: one cell for each column.
        notes: explanations of the marks in it.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot, with the table that says the same to those who do not see it.

    Attributes:
        figure: a plotly figure as plain JSON types.
        height: in CSS pixels; the width is the page's.
        summary: what the plot shows, in one sentence.
        table: its data.
    """

    kind: ClassVar[str] = "plot"
    title: str
    figure: dict[str, Any]
    height: int
    summary: str
    table: Table


@dataclass(frozen=True, slots=True)
class Row:
    """Plots beside each other where there is room, below each other where there is none."""

    kind: ClassVar[str] = "row"
    plots: Sequence[Plot]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; a quotable one is set off."""

    kind: ClassVar[str] = "text"
    text: str
    quotable: bool = False


@dataclass(frozen=True, slots=True)
class Notes:
    """Short remarks, one a line."""

    kind: ClassVar[str] = "notes"
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of a data set as a data URI, with what it is and what it was taken for."""

    source: str
    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures under a heading line of their own."""

    kind: ClassVar[str] = "gallery"
    title: str
    pictures: Sequence[Picture]


Block: TypeAlias = "Table | Plot | Row | Text | Notes | Gallery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page with a heading; sections in it have headings one level below."""

    title: str
    blocks: Sequence[Block] = ()
    sections: Sequence[Section] = ()
