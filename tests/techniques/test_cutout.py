from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.recipe import part
from hotlap.techniques import AUGMENTATIONS
from hotlap.techniques.cutout import Cutout, in_square


@settings(max_examples=30, deadline=None)
@given(height=st.integers(4, 12), width=st.integers(4, 12), side=st.integers(0, 4), seed=st.integers(0, 99))
def test_a_whole_square_of_each_image_is_blanked_and_nothing_else(
    height: int, width: int, side: int, seed: int
) -> None:
    images = torch.rand(5, 3, height, width, generator=generator(seed)) + 1
    blank = Cutout(side)
    out = blank.apply(images, blank.draw(5, (height, width), generator(seed)))
    assert torch.equal(out, torch.where(out == 0, 0, images))
    for channels in out == 0:
        assert (channels.sum((1, 2)) == side * side).all()
        assert (channels == channels[0]).all()
        assert channels[0].any(0).sum() == channels[0].any(1).sum() == side


def test_the_place_is_uniform_over_all_that_fit() -> None:
    blank = Cutout(2)
    corners = blank.draw(20_000, (4, 5), generator(0))
    drawn, often = corners.unique(dim=0, return_counts=True)
    assert torch.equal(drawn, blank.choices((4, 5), torch.device("cpu")))
    assert len(drawn) == 3 * 4
    assert often / 20_000 == pytest.approx(torch.full((12,), 1 / 12), abs=0.01)


def test_the_corner_is_the_upper_left_one() -> None:
    marked = in_square(torch.tensor([[1, 2]]), 2, (4, 5))
    assert marked.shape == (1, 1, 4, 5)
    assert marked.nonzero()[:, 2:].tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]


def test_a_square_that_does_not_fit_is_refused() -> None:
    assert torch.equal(Cutout(4).draw(3, (4, 4), generator(0)), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"0 to 4 for images of 9×4, not 5"):
        Cutout(5).draw(1, (9, 4), generator(0))
    with pytest.raises(ValueError, match=r"0 to 4 for images of 9×4, not 5"):
        Cutout(5).choices((9, 4), torch.device("cpu"))
    with pytest.raises(InputError, match="must not be negative"):
        AUGMENTATIONS.build(part("cutout", size=-1))
