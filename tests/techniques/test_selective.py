from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.recipe import part
from hotlap.techniques import VIEWS
from hotlap.techniques.mirror import Mirror
from hotlap.techniques.selective import Selective, least_sure


def network(images: Tensor) -> Tensor:
    return images[:, 0, :3, 0]


def test_only_the_images_with_the_smallest_margins_get_the_views() -> None:
    images = torch.randn(40, 1, 4, 5, generator=generator(0))
    plain, full = network(images), Mirror().logits(network, images, 40)
    seen = []

    def counting(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return network(batch)

    out = Selective(Mirror(), 0.25).logits(counting, images, 16)
    got_views = (out != plain).any(1)
    margins = plain.sort(1).values.diff(dim=1)[:, -1]
    assert got_views.sum() == 10
    assert margins[got_views].max() < margins[~got_views].min()
    assert torch.equal(out[got_views], full[got_views])
    assert seen == [16, 16, 8, 10, 10]


@pytest.mark.parametrize(("share", "whole"), [(0.0, False), (1.0, True)])
def test_none_and_all(share: float, whole: bool) -> None:
    images = torch.randn(9, 1, 4, 5, generator=generator(0))
    expected = Mirror().logits(network, images, 4) if whole else network(images)
    assert torch.equal(Selective(Mirror(), share).logits(network, images, 4), expected)


def test_margins_do_not_depend_on_a_constant() -> None:
    logits = torch.tensor([[5.0, 5.1, -9.0], [0.0, 3.0, 1.0], [101.0, 100.0, 0.0]])
    assert least_sure(logits, 2).tolist() == [0, 2]
    assert least_sure(logits, 0).tolist() == []


def test_it_knows_that_it_looks_at_the_answers() -> None:
    assert VIEWS.build(part("selective", of=part("mirror"), share=0.25)).per_image
    with pytest.raises(InputError, match="between 0 and 1"):
        VIEWS.build(part("selective", of=part("mirror"), share=1.5))
