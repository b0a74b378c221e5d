"""Test-time augmentation with shifts along the axes."""

from __future__ import annotations

from hotlap.registry import Card
from hotlap.techniques import VIEWS
from hotlap.techniques.views import Term, WeightedViews


class Shifts(WeightedViews):
    """Averages the logits of an image and of the same image moved up, down, to the left and to the right."""

    def __init__(self, pixels: int) -> None:
        if pixels < 0:
            raise ValueError(f"pixels must not be negative, not {pixels}")
        self.pixels = pixels

    def terms(self) -> tuple[Term, ...]:
        """Return the image, then the image moved up, down, to the left and to the right, with equal weights."""
        by = self.pixels
        return tuple(Term(1 / 5, dy, dx, False) for dy, dx in ((0, 0), (by, 0), (-by, 0), (0, by), (0, -by)))


@VIEWS.register(
    "shifts",
    Card(
        does="Averages the logits of each test image and of its four shifts along the axes.",
        effect="Suits images whose mirror images mean something else, as with digits. Evaluation takes five times as "
        "long.",
        source="Krizhevsky et al. 2012, who average five crops and their mirror images.",
    ),
)
def build(*, pixels: int) -> Shifts:
    """Build the test-time augmentation; ``pixels`` is the length of the shifts, what comes in is reflected."""
    return Shifts(pixels)
