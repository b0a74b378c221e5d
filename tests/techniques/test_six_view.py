from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.recipe import part
from hotlap.techniques import VIEWS
from hotlap.techniques.six_view import SixView, six_views


@settings(max_examples=20, deadline=None)
@given(height=st.integers(3, 9), width=st.integers(3, 9), shift=st.integers(0, 2), seed=st.integers(0, 99))
def test_views_are_shifts_along_the_diagonal_with_their_mirror_images(
    height: int, width: int, shift: int, seed: int
) -> None:
    images = torch.randn(2, 3, height, width, generator=generator(seed))
    weights, views = zip(*six_views(images, shift), strict=True)
    assert weights == (1 / 4, 1 / 4, 1 / 8, 1 / 8, 1 / 8, 1 / 8)
    plain, up_left, down_right = views[::2]
    assert torch.equal(plain, images)
    inside = slice(None), slice(None), slice(shift, None), slice(shift, None)
    rest = slice(None), slice(None), slice(None, height - shift), slice(None, width - shift)
    assert torch.equal(up_left[rest], images[inside])
    assert torch.equal(down_right[inside], images[rest])
    for view, mirrored in zip(views[::2], views[1::2], strict=True):
        assert torch.equal(view.flip(-1), mirrored)


def test_a_network_that_sees_no_shifts_gives_its_plain_answer() -> None:
    # A border of the image's own colour, so that nothing leaves the image and nothing new comes in.
    images = torch.zeros(5, 3, 8, 9)
    images[:, :, 3:-3, 3:-3] = torch.rand(5, 3, 2, 3, generator=generator(0))
    torch.testing.assert_close(SixView(2).logits(lambda x: x.amax((2, 3)), images, 2), images.amax((2, 3)))


def test_the_pair_that_is_not_shifted_weighs_half() -> None:
    images = torch.zeros(1, 1, 5, 5)
    images[0, 0, 2, 2] = 1
    counts = SixView(1).logits(lambda x: x.flatten(1), images, 1).view(5, 5)
    expected = torch.zeros(5, 5)
    expected[2, 2] = 1 / 2
    expected[1, 1] = expected[1, 3] = expected[3, 1] = expected[3, 3] = 1 / 8
    assert torch.equal(counts, expected)


def test_shifts_beyond_the_image_are_refused() -> None:
    with pytest.raises(ValueError, match="shift is below 4 for images of 9×4, not 4"):
        SixView(4).logits(lambda x: x.flatten(1), torch.zeros(1, 1, 9, 4), 1)
    with pytest.raises(InputError, match="must not be negative"):
        VIEWS.build(part("six-view", shift=-1))
