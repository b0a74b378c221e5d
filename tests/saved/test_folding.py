"""Folding keeps the function of a network, and leaves alone what it cannot fold."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hotlap.models.norms import GhostBatchNorm2d
from hotlap.saved.folding import fold_norms


def norm(width: int, scale: float = 1.0) -> nn.BatchNorm2d:
    made = GhostBatchNorm2d(width, splits=2, eps=1e-5, momentum=0.1, learned_scale=True)
    with torch.no_grad():
        made.weight.uniform_(0.5, 1.5).mul_(scale)
        made.bias.normal_()
        made.running_mean.normal_()  # type: ignore[union-attr]
        made.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return made


class Twice(nn.Module):
    """Uses one convolution twice, with a norm behind each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(3, 3, 1), norm(3), norm(3)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.second(self.conv(self.first(self.conv(images))))
        return out


class Branches(nn.Module):
    """The output of the convolution is used beside the norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), norm(3)

    def forward(self, images: Tensor) -> Tensor:
        out = self.conv(images)
        both: Tensor = out + self.norm(out)
        return both


class Decides(nn.Module):
    """What it does depends on the values of its input, which cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), norm(3)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(images))
        return out if out.sum() > 0 else -out


@pytest.mark.parametrize(
    ("network", "folded", "norms"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.ReLU()), 1, 1),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), norm(4, -1.0)), 1, 1),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.MaxPool2d(2), norm(4)), 1, 1),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), norm(4, -1.0)), 0, 1),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), norm(4)), 0, 1),
        (lambda: nn.Sequential(norm(3), nn.Conv2d(3, 4, 3), nn.ReLU(), norm(4)), 0, 2),
        (Twice, 0, 2),
        (Branches, 0, 1),
        (Decides, 0, 1),
        (lambda: norm(3), 0, 1),
    ],
)
def test_folding_keeps_the_function(network, folded: int, norms: int) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    before = network().eval()
    after, found, of = fold_norms(before)
    assert (found, of) == (folded, norms)
    images = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(after(images), before(images), atol=1e-5, rtol=1e-5)
