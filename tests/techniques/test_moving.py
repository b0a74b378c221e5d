"""Mirrorings and shifts put together, and images copied by them in kernels, against one augmentation after another."""

from __future__ import annotations

import copy
from importlib import import_module
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import triton_there
from hotlap.native import gathering
from hotlap.native.library import missing
from hotlap.techniques.alternating_flip import AlternatingFlip
from hotlap.techniques.base import Moment
from hotlap.techniques.flip import Flip
from hotlap.techniques.moving import draw, leading
from hotlap.techniques.shrink import Shrink
from hotlap.techniques.translate import Translate

MOVES = st.lists(st.sampled_from(["flip", "alternating", "shift", "nothing"]), max_size=4).filter(
    lambda names: sum(name in ("shift", "nothing") for name in names) < 2
)


@pytest.fixture(params=["native", pytest.param("triton", marks=pytest.mark.gpu)], scope="module")
def kernels(request: pytest.FixtureRequest) -> Any:
    """Each module that copies images by their moves, with the device that it works on."""
    if request.param == "native":
        if missing():
            pytest.skip("the package was installed without a C++ compiler")
        return gathering, "cpu"
    pytest.importorskip("triton", minversion=triton_there.OLDEST, reason=triton_there.LACKING)
    return import_module("hotlap.fused.moves"), "cuda" if torch.cuda.is_available() else "cpu"


def built(name: str, max_px: int) -> Any:
    return {
        "flip": Flip(0.5), "alternating": AlternatingFlip(), "shift": Translate(max_px), "nothing": Translate(0)
    }[name]  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    names=MOVES, channels=st.integers(1, 4), height=st.integers(3, 9), width=st.integers(3, 9),
    max_px=st.integers(1, 2), epoch=st.integers(0, 3), seed=st.integers(0, 9),
    dtype=st.sampled_from([torch.float32, torch.float16]),
)  # fmt: skip
def test_equals_the_augmentations_one_after_another(
    kernels: Any, names: list[str], channels: int, height: int, width: int, max_px: int, epoch: int, seed: int,
    dtype: torch.dtype,
) -> None:  # fmt: skip
    moves, device = kernels
    augmentations = [built(name, max_px) for name in names]
    plain = copy.deepcopy(augmentations)
    rng, rng2 = (torch.Generator(device).manual_seed(seed) for _ in range(2))
    images = torch.randn((7, channels, height, width), generator=torch.Generator().manual_seed(seed))
    images = images.to(device, dtype).contiguous(memory_format=torch.channels_last)
    which = torch.tensor([3, 0, 6, 6, 1], device=device)
    moment = Moment(epoch, 4.0, which, 7)
    assert moves.handles(images)
    drawn = draw(augmentations, (height, width), rng, moment)
    found = moves.gather(images, which, drawn)
    expected = images[which]
    for one in plain:
        expected = one(expected, rng2, moment)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    # The next batch draws what it would have drawn.
    assert torch.equal(rng.get_state(), rng2.get_state())


def test_no_images_are_none(kernels: Any) -> None:
    moves, device = kernels
    images = torch.zeros(3, 1, 4, 4, device=device)
    none = torch.zeros(0, 3, dtype=torch.int32, device=device)
    assert moves.gather(images, torch.zeros(0, dtype=torch.int64, device=device), none).shape == (0, 1, 4, 4)
    assert not moves.handles(torch.zeros(2, 3, 4, 4))


def test_shifts_as_large_as_the_images_are_refused() -> None:
    for max_px in (4, 9):
        with pytest.raises(ValueError, match="max_px is from 0 to 3"):
            draw([Translate(max_px)], (4, 7), torch.Generator(), Moment(0, 1.0, torch.arange(2), 2))


def test_counts_what_can_be_put_together() -> None:
    shrink = Shrink((0.5,), (4,))
    assert leading([]) == 0
    assert leading([AlternatingFlip(), Translate(2), shrink, Flip(0.5)]) == 2
    assert leading([Translate(2), Flip(0.5), Translate(1)]) == 2
    assert leading([shrink]) == 0


@pytest.mark.skipif(missing() is not None, reason="the package was installed without a C++ compiler")
def test_images_and_shifts_that_are_not_there_are_refused() -> None:
    images, moves = torch.zeros(3, 1, 4, 4), torch.zeros(1, 3, dtype=torch.int32)
    for which in (-1, 3):
        with pytest.raises(IndexError, match="there are 3 images"):
            gathering.gather(images, torch.tensor([which]), moves)
    moves[0, 1] = 4
    with pytest.raises(ValueError, match="less than their size"):
        gathering.gather(images, torch.tensor([0]), moves)
