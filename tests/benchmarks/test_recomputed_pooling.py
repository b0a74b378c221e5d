"""Pooling's gradient without kept places, in Triton's interpreter."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

import triton_there

pytest.importorskip("triton", minversion=triton_there.OLDEST, reason=triton_there.LACKING)

from normalising import images_of, norm_of

pytestmark = pytest.mark.gpu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
_SPEC = importlib.util.spec_from_file_location(
    "recomputed_pooling", Path(__file__).parents[2] / "benchmarks" / "recomputed_pooling.py"
)
assert _SPEC is not None and _SPEC.loader is not None
recomputed = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(recomputed)


@pytest.mark.parametrize("shape", [(3, 5, 7, 6), (2, 70, 4, 5), (4, 2, 3, 2), (1, 64, 5, 5)])
@pytest.mark.parametrize("act", [nn.ReLU(), nn.SiLU()], ids=["relu", "silu"])
def test_the_place_found_again_is_the_one_kept(shape: tuple[int, int, int, int], act: nn.Module) -> None:
    images = images_of(*shape, device=DEVICE).detach()
    # Equal maxima too: the first of them has the gradient.
    images[:1, :, :2, :2] = 1.0
    gradient = images_of(shape[0], shape[1], shape[2] // 2, shape[3] // 2, device=DEVICE).detach()
    kept, again = recomputed.kept_and_again(images, gradient, norm_of(shape[1], device=DEVICE), act)
    expected = kept().clone()
    assert expected.count_nonzero() > expected.numel() / 8
    torch.testing.assert_close(again(), expected, rtol=1e-5, atol=1e-6)


def test_finding_it_again_moves_more_bytes() -> None:
    kept, again = recomputed.bytes_moved(False), recomputed.bytes_moved(True)
    assert kept == {"forward": 15.0, "backward": 17.0, "kept": 3.0}
    assert again == {"forward": 14.0, "backward": 22.0, "kept": 10.0}
