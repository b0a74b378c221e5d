"""Lookahead: training goes on, every few steps, from a slow average of the weights."""

from __future__ import annotations

from torch import nn

from hotlap.registry import Card
from hotlap.techniques import AVERAGINGS
from hotlap.techniques.ema import MovingAverage


@AVERAGINGS.register(
    "lookahead",
    Card(
        does="Keeps slow weights that follow the trained ones, and restarts training from them every few steps.",
        effect="Part of airbench94, reported at 94.01 % in 9.9 epochs, with decay 0.95, every 5 steps, power 3.",
        source="Zhang et al. 2019; the ramp from hlb-CIFAR10 2023; Jordan 2024 (airbench).",
    ),
)
def build(*, network: nn.Module, decay: float, every: int, power: float) -> MovingAverage:
    """Build the slow weights, which begin as the network is now.

    They move towards the trained weights after every ``every`` steps, which are then set to them. At the end the
    published recipes make one more update with a decay of 1: it leaves the slow weights as they are and sets the
    network to them, so what was trained since the last update is dropped. That is what ``finish`` does.

    Args:
        network: modified at every update.
        decay: share (0–1) of the slow weights that is left after one step, at the end of training.
        every: steps from one update to the next.
        power: exponent of the ramp (done / total) ** power by which decay ** every is multiplied; 0 for no ramp.
    """
    return MovingAverage(network, decay=decay, every=every, power=power, start=0, copy_back=True)
