from __future__ import annotations

import torch

from hotlap.engine.seeding import generator
from hotlap.techniques.mirror import Mirror


def test_a_network_that_cannot_tell_left_from_right_gives_its_plain_answer() -> None:
    images = torch.randn(7, 3, 5, 9, generator=generator(0))
    torch.testing.assert_close(Mirror().logits(lambda x: x.sum(3).mean(2), images, 3), images.sum(3).mean(2))


def test_left_and_right_weigh_the_same() -> None:
    images = torch.randn(7, 1, 4, 6, generator=generator(0))
    torch.testing.assert_close(
        Mirror().logits(lambda x: x[:, 0, 0, :2], images, 3), (images[:, 0, 0, :2] + images[:, 0, 0, [-1, -2]]) / 2
    )


def test_half_precision_logits_are_averaged_in_full() -> None:
    images = torch.tensor([1.0, 1 + 2**-7]).view(1, 1, 1, 2)
    logits = Mirror().logits(lambda x: x[:, 0, :, 0].bfloat16(), images, 1)
    assert logits.item() == 1 + 2**-8
