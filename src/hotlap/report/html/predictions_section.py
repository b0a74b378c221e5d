"""What a network takes its test images for: classes, confusions, and the images worth looking at."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotlap.errors import InputError
from hotlap.report.formats import NONE, interval, percent
from hotlap.report.html import figures
from hotlap.report.html.parts import Block, Cell, Column, Gallery, Picture, Plot, Section, Table, Text
from hotlap.stats.intervals import share_interval

MOST_PAIRS = 10
"""Confused pairs that are listed."""

MOST_PICTURES = 12
"""Images that are shown of each sort."""

MOST_WRITTEN = 20
"""Classes up to which the counts are written into the heat map."""

SHADES = [[0, "rgba(224,68,58,0.04)"], [1, "rgba(224,68,58,0.95)"]]

Probabilities = NDArray[np.floating[Any]]
Integers = NDArray[np.integer[Any]]
Pixels = NDArray[np.uint8]


def predictions_section(
    probabilities: Probabilities, labels: Integers, images: Pixels, class_names: Sequence[str], *, title: str = ""
) -> Section:
    """Show what a network took each image for.

    Args:
        probabilities: (N, classes), one row for each image; not modified.
        labels: (N,) whole numbers, the true classes.
        images: (N, H, W) or (N, H, W, C) with one or three channels; not modified.
        class_names: one for each class.
        title: heading.

    Raises:
        InputError: there are no images, shapes or labels do not fit, a probability is no number, or plotly is not
            installed.
    """
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    images = _checked(probabilities, labels, np.asarray(images), class_names)
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((len(class_names), len(class_names)), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    right, n = int(np.trace(confusion)), len(labels)
    about = f"{right:,} of {n:,} images are taken for what they are: {percent(right / n)} {_bounds(right, n)}."
    blocks: list[Block] = [Text(about), _classes(confusion, class_names), _heat_map(confusion, class_names)]
    if right < n:
        blocks.append(_pairs(confusion, class_names))
    surest = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    unsure = np.argsort(surest, kind="stable")[:MOST_PICTURES]
    worst = wrong[np.argsort(-surest[wrong], kind="stable")][:MOST_PICTURES]

    def gallery(heading: str, chosen: Integers) -> Gallery:
        return Gallery(
            heading,
            [
                _picture(images[i], int(i), class_names[labels[i]], class_names[predicted[i]], float(surest[i]))
                for i in chosen
            ],
        )

    if len(worst):
        blocks.append(gallery("Most confidently wrong", worst))
    blocks.append(gallery("Least confident", unsure))
    return Section(title=title or "Predictions", blocks=blocks)


def _checked(probabilities: Probabilities, labels: Integers, images: Pixels, names: Sequence[str]) -> Pixels:
    """Refuse what does not fit together; returns the images without a channel axis of one."""
    n = len(labels)
    if n == 0:
        raise InputError("there are no images to show predictions of", "name data with at least one image")
    if probabilities.shape != (n, len(names)):
        raise InputError(f"probabilities must be {n} × {len(names)} (images, classes), not {probabilities.shape}")
    if not np.isfinite(probabilities).all():
        raise InputError("a probability is no finite number")
    if not np.issubdtype(labels.dtype, np.integer) or labels.ndim != 1:
        raise InputError(f"labels must be a row of whole numbers, not {labels.ndim}-dimensional {labels.dtype}")
    if labels.min() < 0 or labels.max() >= len(names):
        raise InputError(f"labels must be 0..{len(names) - 1}, these are {labels.min()}..{labels.max()}")
    fits = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
    if images.dtype != np.uint8 or len(images) != n or not fits:
        raise InputError(f"images must be {n} × height × width [× 1 or 3] of uint8, not {images.shape} {images.dtype}")
    return images[..., 0] if images.ndim == 4 and images.shape[3] == 1 else images


def _bounds(right: int, n: int) -> str:
    return interval(share_interval(right, n), lambda share: percent(share).removesuffix(" %"))


def _classes(confusion: Integers, names: Sequence[str]) -> Table:
    """Accuracy of each class, with Wilson's interval."""
    rows = []
    for index, name in enumerate(names):
        n, right, taken = int(confusion[index].sum()), int(confusion[index, index]), int(confusion[:, index].sum())
        share = right / n if n else None
        precision = right / taken if taken else None
        bounds = f"{percent(share)} {_bounds(right, n)}" if n else NONE
        rows.append(
            [
                Cell(name),
                Cell(f"{n:,}", n),
                Cell(f"{right:,}", right),
                Cell(bounds, share),
                Cell(percent(precision), precision),
            ]
        )
    columns = [Column("class", numeric=False), Column("images"), Column("right"), Column("accuracy")]
    columns.append(Column("precision"))
    return Table(
        caption="Classes",
        columns=columns,
        rows=rows,
        notes=["Square brackets: 95 % interval (Wilson). Precision: what share of the images taken for it are it."],
    )


def _heat_map(confusion: Integers, names: Sequence[str]) -> Plot:
    """Confusions as shares of the true class; what is right is left blank, for it would outshine the rest."""
    totals = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    shares = confusion / totals
    count, diagonal = len(names), np.eye(len(names), dtype=bool)
    z = [[None if i == j else float(shares[i, j]) for j in range(count)] for i in range(count)]
    hovers = [
        [
            figures.hover(f"{names[i]} taken for {names[j]}", f"{confusion[i, j]:,} images, {percent(shares[i, j])}")
            for j in range(count)
        ]
        for i in range(count)
    ]
    most = float(shares[~diagonal].max()) if count > 1 else 0.0
    heat: dict[str, Any] = {
        "type": "heatmap",
        "z": z,
        "zmin": 0,
        "zmax": most or 1.0,
        "x": [*range(count)],
        "y": [*range(count)],
        "hoverinfo": "text",
        "hovertext": hovers,
        "colorscale": SHADES,
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": True,
    }
    written = count <= MOST_WRITTEN
    notes = [
        {"x": j, "y": i, "text": f"{confusion[i, j]}", "showarrow": False, "font": {"size": 10}}
        for i in range(count)
        for j in range(count)
        if written and (confusion[i, j] or i == j)
    ]
    axis = figures.names_axis(names)
    layout = figures.layout(
        xaxis={**axis, "range": [-0.5, count - 0.5], "title": {"text": "taken for", "standoff": 12}},
        yaxis={**axis, "title": {"text": "is", "standoff": 12}},
        annotations=notes,
    )
    if not written:  # there is no room for a name at every line
        for name in ("xaxis", "yaxis"):
            layout[name].pop("tickvals")
            layout[name].pop("ticktext")
    table = Table(
        caption="Confusion matrix: a line for each true class, a column for what it was taken for",
        columns=[Column("is", numeric=False), *(Column(name) for name in names)],
        rows=[
            [Cell(names[i]), *(Cell(str(value), int(value)) for value in confusion[i].tolist())] for i in range(count)
        ],
    )
    return Plot(
        title="Confusion matrix",
        figure=figures.figure([heat], layout),
        height=min(900, max(320, 30 * count + 120)) if written else 640,
        summary=f"How many images of each of {count} classes were taken for each class; "
        f"{int(confusion.sum() - np.trace(confusion)):,} were taken for a wrong one.",
        table=table,
    )


def _pairs(confusion: Integers, names: Sequence[str]) -> Table:
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    rows = []
    for i, j in zip(*np.unravel_index(order, wrong.shape), strict=True):
        n = int(wrong[i, j])
        if n:
            share = n / int(confusion[i].sum())
            rows.append([Cell(names[i]), Cell(names[j]), Cell(f"{n:,}", n), Cell(percent(share), share)])
    columns = [Column("is", numeric=False), Column("taken for", numeric=False)]
    columns += [Column("images"), Column("of the class")]
    return Table(caption="Most confused pairs", columns=columns, rows=rows)


def _picture(image: Pixels, index: int, truth: str, guess: str, probability: float) -> Picture:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(buffer, format="PNG", optimize=True)
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    taken = f"{guess} ({percent(probability, 1)})"
    alt = f"test image {index}: {truth}, taken for {taken}"
    caption = f"{truth}, taken for {taken}" if truth != guess else f"rightly {taken}"
    return Picture(source=source, alt=alt, caption=caption)
