from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hotlap.engine.seeding import generator
from hotlap.techniques.alternating_flip import AlternatingFlip
from hotlap.techniques.base import Moment

COUNT = 1000
IMAGES = torch.randn(COUNT, 2, 3, 5, generator=generator(0))


def mirrored(augment: AlternatingFlip, epoch: int, index: Tensor, rng: torch.Generator) -> Tensor:
    """Return for each image whether it came out mirrored; anything else is a failure."""
    images = IMAGES[index]
    out = augment(images, rng, Moment(epoch, 4.0, index, COUNT))
    same, flipped = ((out == like).flatten(1).all(1) for like in (images, images.flip(-1)))
    assert (same ^ flipped).all()
    return flipped


def test_two_epochs_in_a_row_show_each_image_once_each_way() -> None:
    augment, rng = AlternatingFlip(), generator(3)
    by_epoch = torch.zeros(4, COUNT, dtype=torch.bool)
    for epoch in range(4):
        for index in torch.randperm(COUNT, generator=generator(epoch)).split(300):
            by_epoch[epoch, index] = mirrored(augment, epoch, index, rng)
    assert (by_epoch[:-1] ^ by_epoch[1:]).all()
    assert augment.kept is not None
    assert torch.equal(by_epoch[0], augment.kept)
    assert by_epoch[0].float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_the_choice_is_drawn_once_and_can_be_carried_to_another_object() -> None:
    first, rng = AlternatingFlip(), generator(3)
    assert first.kept is None
    index = torch.arange(COUNT)
    mirrored(first, 0, index, rng)
    state = rng.get_state()
    second = AlternatingFlip()
    second.kept = first.kept
    assert torch.equal(mirrored(first, 1, index, rng), mirrored(second, 1, index, rng))
    assert torch.equal(rng.get_state(), state)
