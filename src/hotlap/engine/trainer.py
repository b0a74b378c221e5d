"""What the loop drives: a backend's way to prepare, train and measure the networks of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from torch import Tensor, nn

from hotlap.datasets import ImageData
from hotlap.engine.checkpoint import Stateful
from hotlap.engine.precision import Precision


class Trainer(Protocol):
    """Trains the networks of one or several seeds; one object serves one run.

    Attributes:
        backend: its name, stored with the run.
        precision: what it computes in.
        steps_per_epoch: optimizer steps of an epoch, known once it is prepared.
    """

    backend: str
    precision: Precision
    steps_per_epoch: int

    def warm_up(self, count: int, tests: int) -> None:
        """Pay first-use costs on random data like the real data: ``count`` images to train on, ``tests`` to test on."""
        ...

    def prepare(self, data: ImageData) -> None:
        """Draw the weights and bring the data to where they are needed."""
        ...

    def epoch(self, done: int, total: int) -> Iterator[Tensor]:
        """Train on until the epoch or the run ends.

        Args:
            done: optimizer steps done before.
            total: optimizer steps of the whole run.

        Yields:
            The loss of each step, () or (seeds,).
        """
        ...

    def finish(self) -> None:
        """Put the weights to be evaluated into the networks for good; called once, after the last step."""
        ...

    def measure(self) -> list[float]:
        """Return the accuracy (0–1) of each seed on the test images."""
        ...

    def parts(self) -> Mapping[str, Stateful]:
        """Return what a checkpoint must hold, by name; to be asked between epochs."""
        ...

    def modules(self) -> list[nn.Module]:
        """Return the trained network of each seed."""
        ...
