from __future__ import annotations

import pytest
import torch

from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.recipe import part
from hotlap.techniques import VIEWS
from hotlap.techniques.shifts import Shifts
from hotlap.techniques.translate import translate
from hotlap.techniques.views import views_of


def test_a_point_becomes_a_cross() -> None:
    images = torch.zeros(1, 1, 7, 7)
    images[0, 0, 3, 3] = 1
    found = Shifts(2).logits(lambda x: x.flatten(1), images, 1).view(7, 7)
    expected = torch.zeros(7, 7)
    for y, x in ((3, 3), (1, 3), (5, 3), (3, 1), (3, 5)):
        expected[y, x] = 1 / 5
    torch.testing.assert_close(found, expected)


def test_the_views_are_shifts_as_training_sees_them() -> None:
    images = torch.randn(3, 2, 6, 5, generator=generator(0))
    corners = [(1, 1), (2, 1), (0, 1), (1, 2), (1, 0)]
    for (_, view), corner in zip(views_of(images, Shifts(1).terms()), corners, strict=True):
        assert torch.equal(view, translate(images, torch.tensor([corner] * 3), 1))


def test_no_shift_is_the_plain_answer_and_shifts_beyond_the_image_are_refused() -> None:
    images = torch.randn(5, 1, 4, 6, generator=generator(0))
    torch.testing.assert_close(Shifts(0).logits(lambda x: x.flatten(1), images, 2), images.flatten(1))
    with pytest.raises(ValueError, match="shift is below 4 for images of 4×6, not 4"):
        Shifts(4).logits(lambda x: x.flatten(1), images, 2)
    with pytest.raises(InputError, match="must not be negative"):
        VIEWS.build(part("shifts", pixels=-1))
