from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.recipe import part
from hotlap.techniques import MIXINGS
from hotlap.techniques.base import Moment
from hotlap.techniques.cutmix import CutMix


def moment(epoch: int = 0, epochs: float = 1.0, count: int = 8) -> Moment:
    return Moment(epoch, epochs, torch.arange(count), count)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(4, 12), width=st.integers(4, 12), side=st.integers(0, 4), seed=st.integers(0, 99))
def test_targets_follow_the_area_that_comes_from_each_image(height: int, width: int, side: int, seed: int) -> None:
    # Each image is filled with its own number, which is its class too: areas can be counted.
    images = torch.arange(8.0)[:, None, None, None].expand(8, 3, height, width).contiguous()
    mixed, shares = CutMix(side, None)(images, torch.eye(8), generator(seed), moment())
    area = functional.one_hot(mixed[:, 0].long(), 8).float().mean((1, 2))
    torch.testing.assert_close(shares, area)
    torch.testing.assert_close(shares.sum(1), torch.ones(8))
    assert (mixed == mixed[:, :1]).all(), "every channel gets the same square"
    foreign = mixed[:, 0] != torch.arange(8.0)[:, None, None]
    for own in foreign[foreign.flatten(1).any(1)]:
        assert own.any(0).sum() == own.any(1).sum() == side


def test_squares_keep_their_place_and_all_partners_are_used_once() -> None:
    images = torch.arange(8 * 25.0).view(8, 1, 5, 5)
    mixed, shares = CutMix(5, None)(images, torch.eye(8), generator(0), moment())
    partners = shares.argmax(1)
    assert sorted(partners.tolist()) == list(range(8))
    assert torch.equal(mixed, images[partners])


def test_soft_targets_stay_shares() -> None:
    targets = torch.rand(6, 100, generator=generator(1)).softmax(1)
    _, shares = CutMix(3, None)(torch.zeros(6, 1, 9, 7), targets, generator(0), moment(count=6))
    torch.testing.assert_close(shares.sum(1), torch.ones(6))


def test_before_the_last_epochs_nothing_is_mixed_and_nothing_drawn() -> None:
    images, targets = torch.randn(8, 3, 6, 6), torch.eye(8)
    mix, rng = CutMix(3, 6), generator(0)
    state = rng.get_state()
    for epoch in range(7):
        assert mix(images, targets, rng, moment(epoch, 12.1)) == (images, targets)
    assert torch.equal(rng.get_state(), state)
    for epoch in range(7, 13):
        assert not torch.equal(mix(images, targets, rng, moment(epoch, 12.1))[1], targets)
    assert not torch.equal(mix(images, targets, rng, moment(6, 12.0))[1], targets), "an epoch that begins just in time"


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="0 to 6 for images of 6×8"):
        CutMix(7, None)(torch.zeros(2, 1, 6, 8), torch.eye(2), generator(0), moment(count=2))
    for bad in ({"size": -1, "last_epochs": None}, {"size": 3, "last_epochs": -1}):
        with pytest.raises(InputError, match="must not be negative"):
            MIXINGS.build(part("cutmix", **bad))
