from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.recipe import part
from hotlap.techniques import AUGMENTATIONS
from hotlap.techniques.jitter import Jitter, jitter


@settings(max_examples=30, deadline=None)
@given(brightness=st.floats(0, 0.5), contrast=st.floats(0, 1), channels=st.sampled_from([1, 3]))
def test_brightness_moves_the_mean_and_contrast_scales_the_spread(
    brightness: float, contrast: float, channels: int
) -> None:
    images = torch.randn(50, channels, 5, 7, generator=generator(1)) + 2
    change = Jitter(brightness, contrast)
    drawn = change.draw(50, (5, 7), generator(2))
    out = change.apply(images, drawn)
    moved = (out.mean((1, 2, 3)) - images.mean((1, 2, 3))).tolist()
    spread = (out.std((1, 2, 3)) / images.std((1, 2, 3))).tolist()
    assert moved == pytest.approx(drawn[:, 0].tolist(), abs=1e-4)
    assert spread == pytest.approx(drawn[:, 1].tolist(), abs=1e-4)
    assert max(map(abs, moved)) <= brightness + 1e-4
    assert max(abs(s - 1) for s in spread) <= contrast + 1e-4


def test_draws_fill_their_ranges_evenly() -> None:
    shift, factor = Jitter(0.14, 0.13).draw(20_000, (4, 4), generator(0)).T
    for values, low, high in ((shift, -0.14, 0.14), (factor, 0.87, 1.13)):
        quarters = torch.histc(values, 4, low, high) / 20_000
        assert quarters == pytest.approx(torch.full((4,), 0.25), abs=0.02)


def test_no_change_leaves_images_as_they_are() -> None:
    images = torch.randn(3, 1, 4, 4)
    assert torch.equal(jitter(images, torch.zeros(3), torch.ones(3)), images)


@pytest.mark.parametrize("bad", [{"brightness": -0.1, "contrast": 0.1}, {"brightness": 0.1, "contrast": 1.1}])
def test_ranges_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"must not be negative|between 0 and 1"):
        AUGMENTATIONS.build(part("jitter", **bad))
