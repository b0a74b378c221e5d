"""Test-time augmentation with the mirror image."""

from __future__ import annotations

from hotlap.registry import Card
from hotlap.techniques import VIEWS
from hotlap.techniques.views import Term, WeightedViews


class Mirror(WeightedViews):
    """Averages the logits of an image and its mirror image."""

    def terms(self) -> tuple[Term, ...]:
        """Return the image and its mirror image, with equal weights."""
        return Term(1 / 2, 0, 0, False), Term(1 / 2, 0, 0, True)


@VIEWS.register(
    "mirror",
    Card(
        does="Averages the logits of each test image and its mirror image.",
        effect="Reported: 94.6 instead of 94.1 % in 13 epochs, or 94.1 % in 10. Evaluation takes twice as long.",
        source="Page 2019 (bag of tricks).",
    ),
)
def build() -> Mirror:
    """Build the test-time augmentation."""
    return Mirror()
