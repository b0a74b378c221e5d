"""Images chosen, mirrored and shifted by one kernel against the augmentations one after another."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton", reason="Triton is not there")

from hotlap.fused import moves
from hotlap.techniques.alternating_flip import AlternatingFlip
from hotlap.techniques.base import Moment
from hotlap.techniques.flip import Flip
from hotlap.techniques.shrink import Shrink
from hotlap.techniques.translate import Translate

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MOVES = st.lists(st.sampled_from(["flip", "alternating", "shift", "nothing"]), max_size=4).filter(
    lambda names: sum(name in ("shift", "nothing") for name in names) < 2
)


def built(name: str, max_px: int):  # type: ignore[no-untyped-def]
    return {
        "flip": Flip(0.5), "alternating": AlternatingFlip(), "shift": Translate(max_px), "nothing": Translate(0)
    }[name]  # fmt: skip


@settings(max_examples=25)
@given(
    names=MOVES, channels=st.integers(1, 4), height=st.integers(3, 9), width=st.integers(3, 9),
    max_px=st.integers(1, 2), epoch=st.integers(0, 3), seed=st.integers(0, 9),
    dtype=st.sampled_from([torch.float32, torch.float16]),
)  # fmt: skip
def test_equals_the_augmentations_one_after_another(
    names: list[str], channels: int, height: int, width: int, max_px: int, epoch: int, seed: int, dtype: torch.dtype
) -> None:
    augmentations = [built(name, max_px) for name in names]
    plain = copy.deepcopy(augmentations)
    rng, rng2 = (torch.Generator(DEVICE).manual_seed(seed) for _ in range(2))
    images = torch.randn((7, channels, height, width), generator=torch.Generator().manual_seed(seed))
    images = images.to(DEVICE, dtype).contiguous(memory_format=torch.channels_last)
    which = torch.tensor([3, 0, 6, 6, 1], device=DEVICE)
    moment = Moment(epoch, 4.0, which, 7)
    assert moves.handles(images)
    drawn = moves.draw(augmentations, (height, width), rng, moment)
    found = moves.gather(images, which, drawn)
    expected = images[which]
    for one in plain:
        expected = one(expected, rng2, moment)
    assert torch.equal(found, expected)
    assert found.is_contiguous(memory_format=torch.channels_last)
    # The next batch draws what it would have drawn.
    assert torch.equal(rng.get_state(), rng2.get_state())


def test_counts_what_can_be_put_together() -> None:
    shrink = Shrink((0.5,), (4,))
    assert moves.leading([]) == 0
    assert moves.leading([AlternatingFlip(), Translate(2), shrink, Flip(0.5)]) == 2
    assert moves.leading([Translate(2), Flip(0.5), Translate(1)]) == 2
    assert moves.leading([shrink]) == 0


def test_no_images_are_none() -> None:
    images = torch.zeros(3, 1, 4, 4, device=DEVICE)
    none = moves.gather(images, torch.zeros(0, dtype=torch.int64, device=DEVICE), torch.zeros(0, 3, device=DEVICE))
    assert none.shape == (0, 1, 4, 4)
    assert not moves.handles(torch.zeros(2, 3, 4, 4))
