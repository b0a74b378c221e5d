from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hotlap.engine import allocator
from hotlap.engine.allocator import give_back_memory, keeping_memory

on_glibc = pytest.mark.skipif(allocator._glibc() is None, reason="the C library is not glibc")


# Larger than what glibc comes to keep by itself, 32 MB.
TENSORS_THAT_COME_AND_GO = """
import resource, torch
from hotlap.engine.allocator import keeping_memory
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def work():
    for _ in range(5):
        torch.zeros(12_000_000).add_(1)
def count():
    work()
    before = faults()
    work()
    return faults() - before
print(count())
# A small object beside a large one may make it move once: what is claimed is that this does not go on.
with keeping_memory():
    print(min(count() for _ in range(3)))
"""


HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@on_glibc
@pytest.mark.skipif(
    HUGE_PAGES.exists() and "[always]" in HUGE_PAGES.read_text(), reason="with huge pages there are few page faults"
)
def test_memory_that_is_freed_is_there_for_the_next_tensor() -> None:
    """By page faults, in a process of its own."""
    # One thread: threads that wait for each other would slow every other test down.
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    clean["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-c", TENSORS_THAT_COME_AND_GO]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean)
    without, kept = map(int, done.stdout.split())
    pages = 5 * 48_000_000 // resource.getpagesize()
    assert without > pages / 2, "the C library keeps memory by itself: nothing is shown"
    assert kept < pages / 10


@on_glibc
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_users_own_settings_stand(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the allocator was changed")

    monkeypatch.setattr(allocator, "_set", fail)
    monkeypatch.setenv(name, "glibc.malloc.trim_threshold=131072" if name == "GLIBC_TUNABLES" else "131072")
    with keeping_memory():
        give_back_memory()


@on_glibc
def test_blocks_nest_and_the_outermost_restores_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    calls: list[object] = []
    monkeypatch.setattr(allocator, "_set", lambda _, values: calls.append(values))
    with pytest.raises(ValueError, match="out"):
        with keeping_memory():
            with keeping_memory():
                pass
            assert calls == [allocator._KEEP] * 2
            raise ValueError("out")
    assert calls[2:] == [allocator._DEFAULTS]


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_glibc", lambda: None)
    with keeping_memory():
        give_back_memory()
        assert torch.zeros(10).sum() == 0


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_have_no_glibc(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert allocator._glibc.__wrapped__() is None
