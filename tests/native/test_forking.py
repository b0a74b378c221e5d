"""How many threads the kernels take, and whose."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from hotlap.native import convolutions, forking, gathering, norms
from hotlap.native import library as lib
from normalising import images_of, norm_of

needs_kernels = pytest.mark.skipif(lib.missing() is not None, reason="the package was installed without a C++ compiler")


@pytest.mark.parametrize(("asked", "taken"), [(1, 1), (64, 64), (65, 64), (192, 64)])
def test_no_more_threads_than_the_kernels_know(monkeypatch: pytest.MonkeyPatch, asked: int, taken: int) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: asked)
    assert forking.threads() == taken


def gathered() -> Tensor:
    images = images_of(70, 3, 5, 5).detach()
    return gathering.gather(images, torch.arange(70), torch.ones(70, 3, dtype=torch.int32))


def normalised() -> Tensor:
    images = images_of(70, 8, 5, 5)
    result = norms.normalise(images, norm_of(8), nn.ReLU(), pool=True)
    result.square().sum().backward()
    assert images.grad is not None
    return images.grad


def convolved() -> Tensor:
    torch.manual_seed(0)
    conv, images = nn.Conv2d(16, 16, 3, padding=1, bias=False), images_of(70, 16, 8, 8)
    with convolutions.WinogradConvolutions() as winograd:
        conv(images).square().sum().backward()
    assert winograd.used == 1
    assert images.grad is not None
    return images.grad


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads are our own elsewhere")
def test_pytorchs_threads_are_sought_before_those_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = str(Path(torch.__file__).parent / "lib" / "libgomp.so.1"), "/a/scikit_learn.libs/libgomp-e985.so.1"
    maps = "\n".join(f"7f00-7f01 r-xp 00000000 00:00 1 {path}" for path in (other, own, "/a/libm.so"))
    sought: list[str] = []

    def replaced(path: str, mode: int) -> None:
        sought.append(path)
        raise OSError("no longer there")

    monkeypatch.setattr(Path, "read_text", lambda self: maps)
    monkeypatch.setattr(ctypes, "CDLL", replaced)
    assert forking.fork.__wrapped__() is None
    assert sought == [own, other]


@needs_kernels
@pytest.mark.parametrize("work", [gathered, normalised, convolved])
def test_a_machine_with_more_cores_than_that_is_used_all_the_same(
    work: Callable[[], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = work()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 100)
    for module in (gathering, norms, convolutions):
        monkeypatch.setattr(module, "fork", lambda: None)
    torch.testing.assert_close(work(), expected)


def test_elsewhere_threads_are_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert forking.fork.__wrapped__() is None
