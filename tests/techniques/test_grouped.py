from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.recipe import part
from hotlap.techniques import AUGMENTATIONS
from hotlap.techniques.base import Moment, Transform
from hotlap.techniques.flip import Flip
from hotlap.techniques.grouped import Grouped, share_out
from hotlap.techniques.translate import Translate


class Stamp(Transform):
    """Overwrites each image with the number drawn for it; its numbers cannot be listed."""

    def draw(self, n: int, size: tuple[int, int], rng: Generator) -> Tensor:
        return torch.rand(n, 1, generator=rng)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        return drawn[:, :, None, None].expand_as(images)


def moment(epoch: int, index: Tensor, count: int) -> Moment:
    return Moment(epoch, 3.0, index, count)


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 300), options=st.integers(1, 40), seed=st.integers(0, 99))
def test_groups_are_equally_large(count: int, options: int, seed: int) -> None:
    shared = share_out(torch.arange(options)[:, None], count, generator(seed))
    assert shared.shape == (count, 1)
    sizes = torch.bincount(shared[:, 0])
    assert len(sizes) == min(options, count)
    assert sizes.max() - sizes.min() <= 1


def test_one_epoch_uses_few_options_and_the_same_for_all_batches() -> None:
    augment, rng = Grouped(Stamp(), 7), generator(1)
    images = torch.zeros(100, 1, 4, 4)
    by_epoch = []
    for epoch in range(2):
        values = torch.zeros(100)
        for index in torch.arange(100).split(30):
            out = augment(images[index], rng, moment(epoch, index, 100))
            again = augment(images[index], rng, moment(epoch, index, 100))
            assert torch.equal(out, again)
            values[index] = out[:, 0, 0, 0]
        sizes = values.unique(return_counts=True)[1]
        assert sorted(sizes.tolist()) == [14] * 5 + [15] * 2
        by_epoch.append(values)
    assert set(by_epoch[0].tolist()).isdisjoint(by_epoch[1].tolist())
    groups = [values[:, None] == values for values in by_epoch]
    assert not torch.equal(*groups), "groups are drawn anew as well as options"


def test_options_are_drawn_without_repetition_where_they_can_be_listed() -> None:
    index = torch.arange(162)
    images = torch.randn(1, 1, 9, 9, generator=generator(1)).repeat(162, 1, 1, 1)

    def used(transform: Transform, options: int) -> list[int]:
        """Return how many images each choice that was used served."""
        out = Grouped(transform, options)(images, generator(0), moment(0, index, 162))
        return out.unique(dim=0, return_counts=True)[1].tolist()

    assert used(Translate(4), 200) == [2] * 81
    assert sorted(used(Translate(4), 20)) == [8] * 18 + [9] * 2
    assert used(Flip(0.5), 200) == [81, 81]
    assert max(used(Flip(0.1), 200)) > 120, "unequal chances are kept"


def test_only_transforms_can_be_grouped() -> None:
    with pytest.raises(InputError, match="alternating-flip cannot be grouped"):
        AUGMENTATIONS.build(part("grouped", of=part("alternating-flip"), options=2))
    with pytest.raises(InputError, match="at least 1"):
        AUGMENTATIONS.build(part("grouped", of=part("flip", share=0.5), options=0))
    with pytest.raises(InputError, match="unknown augmentation 'fliip'"):
        AUGMENTATIONS.build(part("grouped", of=part("fliip"), options=2))
