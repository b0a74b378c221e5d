"""The whole lineage of CIFAR-10 to 94 %, from 75 s to today, across its ladders."""

from __future__ import annotations

from hotlap.ladder import Lineage
from hotlap.ladders.cifar10_page import RUNGS

LADDERS = (
    Lineage(
        name="cifar10",
        title="CIFAR-10 to 94 %: the whole lineage",
        recipes=(
            *(f"cifar10-page/{rung.name}" for rung in RUNGS),
            "cifar10-hlb/94",
            "cifar10-airbench/94",
            "cifar10-airbench/94-muon",
            "cifar10-airbench/94-hiverge",
        ),
        policy="airbench",
        hardware="one V100 (cifar10-page), one A100 (the others)",
    ),
)
