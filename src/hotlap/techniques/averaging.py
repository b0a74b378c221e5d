"""What every average of weights does; the averages themselves have modules of their own."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Action:
    """What happens to an average after a step.

    Attributes:
        kind: ``begin`` sets the average to the weights as they are; ``blend`` moves it towards them.
        rate: share of the average that is kept: average ← rate · average + (1 - rate) · weights; 0 at the beginning.
        copy_back: whether the weights are set to the average afterwards.
    """

    kind: Literal["begin", "blend"]
    rate: float
    copy_back: bool


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
