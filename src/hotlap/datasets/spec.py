"""How a data set module describes itself: a published set with its sources, or the user's own data with its options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from hotlap.datasets.base import ARRAY_NAMES, Arrays, ImageData, NoProgress, Progress, combine_digest, label_dtype
from hotlap.errors import DataError


class SourceError(DataError):
    """One source cannot give the data set; ``cause`` is the reason, and the next source is tried."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on every attempt to reach a source, in seconds unless said otherwise.

    Attributes:
        resolve: looking up a host name.
        connect: opening a connection, over all addresses of the host together.
        stall: silence, or less than ``min_rate`` bytes a second, in the middle of a download.
        attempts: tries per file; a try is repeated only when the one before brought the file further.
        client: one call of a package client.
        lock: waiting for another process that fetches the same set.
    """

    resolve: float = 1.5
    connect: float = 3.0
    stall: float = 15.0
    min_rate: int = 256
    attempts: int = 4
    client: float = 300.0
    lock: float = 3600.0


@dataclass(frozen=True, slots=True)
class Context:
    """Where a source may write, and how it reports.

    Attributes:
        downloads: folder that survives between attempts, for resumable files.
        scratch: temporary folder, removed when the fetch ends.
    """

    downloads: Path
    scratch: Path
    progress: Progress = field(default_factory=NoProgress)
    limits: Limits = field(default_factory=Limits)


class Source(Protocol):
    """One place that a published data set can be had from."""

    @property
    def label(self) -> str:
        """Short name for reasons and manifests, e.g. a host or a package with its version."""

    @property
    def needs_network(self) -> bool:
        """False when the source reads files of this machine only."""

    def read(self, context: Context) -> Arrays:
        """Return the four decoded arrays.

        Raises:
            DataError: the source cannot be used; its cause says why.
            CacheError: this machine cannot store what the source sends; no other source would help.
        """


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A published data set: what it must decode to, and where it can be had.

    Attributes:
        shapes: shape of each of the four arrays.
        sha256: SHA-256 (hex) of each array's bytes; every source must give exactly these.
        sources: in the order they are tried.
        cross_check: optional second proof for ``verify``; returns a line per check passed or raises DataError.
        order: place in the list of names.
    """

    name: str
    class_names: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    sha256: Mapping[str, str]
    sources: Sequence[Source]
    cross_check: Callable[[Arrays], tuple[str, ...]] | None = None
    order: int = 50

    @property
    def digest(self) -> str:
        """The digest of the whole set, known before it is fetched."""
        return combine_digest(self.sha256, self.shapes)

    @property
    def nbytes(self) -> int:
        """Size of the four decoded arrays in bytes."""
        total = 0
        for name in ARRAY_NAMES:
            count = label_dtype(len(self.class_names)).itemsize if name.startswith("y") else 1
            for side in self.shapes[name]:
                count *= side
            total += count
        return total


@dataclass(frozen=True, slots=True)
class Seen:
    """What the reader of the user's own data met, and the arrays no longer tell.

    Attributes:
        sizes: (height, width) of the images as stored and how many have it, the most frequent first.
        ignored: files that are not images.
        unreadable: a line for each image left out because it cannot be read.
        held_out: how many images were split off for testing because there was no test set; None where there is one.
        unused: parts that are neither the training nor the test part.
    """

    sizes: tuple[tuple[tuple[int, int], int], ...] = ()
    ignored: int = 0
    unreadable: tuple[str, ...] = ()
    held_out: int | None = None
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """The user's own data, read: the data set, where it was read from, and what is worth telling about it."""

    data: ImageData
    source: str
    cached: bool = False
    where: str | None = None
    notes: tuple[str, ...] = ()
    seen: Seen = Seen()


@dataclass(frozen=True, slots=True)
class OwnSet:
    """Data that is made or read from the user's files rather than fetched.

    Attributes:
        options: the options it takes, with their defaults.
        build: called with the cache folder, the progress and every option by name.
        order: place in the list of names.
        look: for sets of encoded images: called like ``build``, tells what is there without decoding it.
    """

    name: str
    options: Mapping[str, Any]
    build: Callable[..., Built]
    order: int = 50
    look: Callable[..., Seen] | None = None


DataSet: TypeAlias = NamedSet | OwnSet
