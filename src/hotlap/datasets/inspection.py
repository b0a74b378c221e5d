"""What a user should know of a data set before training: counts, sizes, balance, duplicates, what was left out."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from hotlap.datasets.base import Array, ImageData
from hotlap.datasets.spec import Seen

UNEVEN = 2.0
"""From this ratio of the largest class to the smallest on, imbalance is told."""

_SHOWN = 4
"""How many classes or sizes, from each end, a line names."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Images whose pixels are exactly those of another, at the size that is used.

    Attributes:
        train: training images that repeat an earlier training image.
        test: test images that are among the training images too; accuracy on them is no evidence.
        labels: distinct images that are found under more than one label.
    """

    train: int
    test: int
    labels: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """Facts about a data set; ``lines`` says them.

    Attributes:
        size: height and width used, in pixels.
        train_per_class: training images of each class, in the order of ``class_names``.
        test_per_class: test images of each class.
        imbalance: training images of the largest class for each one of the smallest.
        seen: what the reader met.
    """

    name: str
    digest: str
    channels: int
    size: tuple[int, int]
    class_names: tuple[str, ...]
    train_per_class: tuple[int, ...]
    test_per_class: tuple[int, ...]
    imbalance: float
    duplicates: Duplicates
    seen: Seen

    @property
    def train(self) -> int:
        """Number of training images."""
        return sum(self.train_per_class)

    @property
    def test(self) -> int:
        """Number of test images."""
        return sum(self.test_per_class)

    def lines(self) -> tuple[str, ...]:
        """Say what was found, most important first; what is as it should be is left out."""
        return tuple(
            line for line in (self._first(), self._classes(), self._sizes(), *self._warnings()) if line is not None
        )

    def as_dict(self) -> dict[str, Any]:
        """The facts as JSON-able values."""
        return {
            "name": self.name,
            "digest": self.digest,
            "channels": self.channels,
            "size": list(self.size),
            "classes": dict(zip(self.class_names, self.train_per_class, strict=True)),
            "train": self.train,
            "test": self.test,
            "held_out": self.seen.held_out,
            "imbalance": round(self.imbalance, 3),
            "duplicates": {
                "train": self.duplicates.train,
                "test_in_train": self.duplicates.test,
                "under_several_labels": self.duplicates.labels,
            },
            "sizes": [[list(size), count] for size, count in self.seen.sizes],
            "ignored": self.seen.ignored,
            "unreadable": list(self.seen.unreadable),
            "unused": list(self.seen.unused),
        }

    def _first(self) -> str:
        kind = {1: "grey", 3: "colour"}.get(self.channels, f"{self.channels}-channel")
        used = f"{self.train:,} {kind} training images of {_by(self.size)} pixels in {len(self.class_names)} classes"
        if self.seen.held_out is None:
            return f"{self.name}: {used}; {self.test:,} test images"
        return (
            f"{self.name}: {used}; it has no test set, so {self.test:,} more images, the same share of every class, "
            "are held out for testing"
        )

    def _classes(self) -> str:
        pairs = sorted(zip(self.class_names, self.train_per_class, strict=True), key=lambda pair: -pair[1])
        texts = [f"{name} {count:,}" for name, count in pairs]
        if len(texts) > 2 * _SHOWN:
            texts = [*texts[:_SHOWN], "…", *texts[-_SHOWN:]]
        line = f"training images by class: {', '.join(texts)}"
        if self.imbalance >= UNEVEN:
            line += f"; the largest class is {self.imbalance:.3g} times the smallest, and accuracy favours it"
        return line

    def _sizes(self) -> str | None:
        found = self.seen.sizes
        if not found or (len(found) == 1 and found[0][0] == self.size):
            return None
        listed = ", ".join(f"{_by(size)} ({count:,})" for size, count in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN:,} more sizes" if len(found) > _SHOWN else ""
        return f"images found of {listed}{more}; resized to {_by(self.size)}"

    def _warnings(self) -> list[str]:
        lines = []
        twice = self.duplicates
        if twice.test:
            lines.append(
                f"test images that are among the training images too: {twice.test:,} of {self.test:,}; remove the "
                "copies, they flatter the accuracy"
            )
        if twice.train:
            lines.append(f"exact copies among the {self.train:,} training images: {twice.train:,}")
        if twice.labels:
            lines.append(f"images found under more than one class, so that a label must be wrong: {twice.labels:,}")
        if empty := [n for n, count in zip(self.class_names, self.test_per_class, strict=True) if not count]:
            lines.append(f"no test images of {', '.join(empty[:_SHOWN])}{', …' if len(empty) > _SHOWN else ''}")
        if self.seen.unreadable:
            shown = "; ".join(self.seen.unreadable[:_SHOWN])
            more = ", …" if len(self.seen.unreadable) > _SHOWN else ""
            lines.append(f"images left out that cannot be read, {len(self.seen.unreadable):,}: {shown}{more}")
        if self.seen.ignored:
            lines.append(f"other files, ignored: {self.seen.ignored:,}")
        if unused := self.seen.unused:
            lines.append(
                f"neither trained nor tested on: {', '.join(unused[:_SHOWN])}{', …' if unused[_SHOWN:] else ''}"
            )
        return lines


def inspection_of(data: ImageData, seen: Seen) -> Inspection:
    """Inspect a data set; every pixel is read once, nothing is modified.

    Args:
        data: the decoded images.
        seen: what their reader met.
    """
    train = np.bincount(data.y_train, minlength=data.classes)
    return Inspection(
        name=data.name,
        digest=data.digest,
        channels=data.channels,
        size=data.size,
        class_names=data.class_names,
        train_per_class=tuple(train.tolist()),
        test_per_class=tuple(np.bincount(data.y_test, minlength=data.classes).tolist()),
        imbalance=float(train.max() / max(1, train.min())),
        duplicates=duplicates_of(data),
        seen=seen,
    )


def duplicates_of(data: ImageData) -> Duplicates:
    """Count images with exactly the same pixels, by a hash of each."""
    train, test = _hashes(data.x_train), _hashes(data.x_test)
    known = set(train)
    pairs = {*zip(train, data.y_train.tolist(), strict=True), *zip(test, data.y_test.tolist(), strict=True)}
    labels = Counter(digest for digest, _ in pairs)
    return Duplicates(
        train=len(train) - len(known),
        test=sum(digest in known for digest in test),
        labels=sum(count > 1 for count in labels.values()),
    )


def _hashes(images: Array) -> list[bytes]:
    return [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}×{size[1]}"
