from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.recipe import part
from hotlap.techniques import AUGMENTATIONS
from hotlap.techniques.flip import Flip
from hotlap.techniques.translate import Translate, translate


@settings(max_examples=30, deadline=None)
@given(height=st.integers(4, 12), width=st.integers(4, 12), max_px=st.integers(1, 3), seed=st.integers(0, 99))
def test_translation_is_a_window_of_the_reflected_image(height: int, width: int, max_px: int, seed: int) -> None:
    images = torch.arange(3 * 2 * height * width, dtype=torch.float32).view(3, 2, height, width)
    padded = torch.nn.functional.pad(images, (max_px,) * 4, mode="reflect")
    move = Translate(max_px)
    moved = move.apply(images, move.draw(3, (height, width), generator(seed)))
    span = range(2 * max_px + 1)
    for before, after in zip(padded, moved, strict=True):
        windows = [before[:, y : y + height, x : x + width] for y in span for x in span]
        assert any(torch.equal(window, after) for window in windows)


def test_translation_uses_every_offset_equally() -> None:
    images = torch.zeros(18_000, 1, 5, 5)
    images[:, 0, 2, 2] = 1
    move = Translate(1)
    landed = move.apply(images, move.draw(18_000, (5, 5), generator(0))).mean(0)[0, 1:4, 1:4]
    assert landed == pytest.approx(torch.full((3, 3), 1 / 9), abs=0.01)


def test_translation_by_nothing_and_by_too_much() -> None:
    images = torch.randn(2, 1, 4, 6)
    offsets = torch.zeros(2, 2, dtype=torch.int64)
    assert translate(images, offsets, 0) is images
    for bad in (-1, 4):
        with pytest.raises(ValueError, match="max_px is from 0 to 3"):
            translate(images, offsets, bad)
    with pytest.raises(InputError, match="must not be negative"):
        AUGMENTATIONS.build(part("translate", max_px=-1))


def test_flip_mirrors_the_given_share() -> None:
    images = torch.randn(4000, 1, 3, 4)

    def flipped(share: float) -> torch.Tensor:
        mirror = Flip(share)
        return mirror.apply(images, mirror.draw(4000, (3, 4), generator(0)))

    mirrored = (flipped(0.3) == images.flip(-1)).flatten(1).all(1)
    kept = (flipped(0.3) == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert mirrored.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(flipped(1.0), images.flip(-1))
    assert torch.equal(flipped(0.0), images)
    with pytest.raises(InputError, match="probability"):
        AUGMENTATIONS.build(part("flip", share=1.5))
