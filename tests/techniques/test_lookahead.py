from __future__ import annotations

import pytest
import torch
from torch import nn

from hotlap.recipe import part
from hotlap.techniques import AVERAGINGS


def test_slow_weights_follow_the_fast_ones_and_the_network_ends_with_them() -> None:
    network = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(network.weight, 2.0)
    look = AVERAGINGS.build(part("lookahead", decay=0.95, every=5, power=3.0), network=network)
    slow = fast = 2.0
    for done in range(1, 23):
        fast += 0.5
        with torch.no_grad():
            network.weight.add_(0.5)
        look.update(done, 22)
        if done % 5 == 0:
            decay = 0.95**5 * (done / 22) ** 3
            slow = fast = decay * slow + (1 - decay) * fast
        assert network.weight.item() == pytest.approx(fast, rel=1e-12)
        with look.evaluating():
            assert network.weight.item() == pytest.approx(slow, rel=1e-12)
    assert fast != slow, "two steps were made since the last update"
    look.finish()
    assert network.weight.item() == pytest.approx(slow, rel=1e-12)
