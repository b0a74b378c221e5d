"""Into how many parts ghost batches cut what they are given."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hotlap.models.norms import GhostBatchNorm2d, parts_of


def ghosts(splits: int) -> GhostBatchNorm2d:
    return GhostBatchNorm2d(2, splits=splits, eps=1e-5, momentum=0.1, learned_scale=True)


@given(st.integers(1, 40), st.integers(0, 400))
def test_a_batch_is_cut_evenly_into_as_many_parts_as_may_be(splits: int, count: int) -> None:
    parts = parts_of(ghosts(splits), count)
    assert 1 <= parts <= splits and count % parts == 0
    assert all(count % more for more in range(parts + 1, min(splits, count) + 1))
    assert parts_of(nn.BatchNorm2d(2), count) == 1


def test_torch_compile_follows_the_count_whole() -> None:
    norm = ghosts(16)
    parts = torch.compile(
        lambda images: images.sum() * 0 + parts_of(norm, len(images)), backend="eager", fullgraph=True
    )
    assert [int(parts(torch.zeros(n, 2, 3, 3))) for n in (336, 10, 17)] == [16, 10, 1]
