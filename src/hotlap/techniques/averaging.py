"""What every average of weights does; the averages themselves have modules of their own."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol


class Averaging(Protocol):
    """Follows the weights of a network while it is trained."""

    def update(self, done: int, total: int) -> None:
        """Take note of the weights after ``done`` of ``total`` steps; may change them in place."""
        ...

    def evaluating(self) -> AbstractContextManager[None]:
        """Put the weights to be evaluated into the network for the block, then the trained ones back."""
        ...

    def finish(self) -> None:
        """Put the weights to be evaluated into the network for good; called once, after the last step."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on after an interruption: tensors, numbers, and dictionaries of them."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        ...
