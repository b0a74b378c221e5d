"""What every test gets: a run store of its own, and no leftovers of the user's settings."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Before torch is imported anywhere: tests share the cores, and threads that spin while they wait for a core that is
# taken are slower by orders of magnitude than one thread. Child processes inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

# What a shell starts in the background ignores interrupts, and so do its child processes; some tests send them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch
from hypothesis import settings

# Read when Triton is imported: without a GPU, its interpreter runs the kernels.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

# How long an example takes says more about a shared machine than about the code.
settings.register_profile("hotlap", deadline=None)
settings.load_profile("hotlap")


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "runs.sqlite"
    monkeypatch.setenv("HOTLAP_STORE", str(path))
    return path


@pytest.fixture(scope="session")
def mnist():  # type: ignore[no-untyped-def]
    """The real MNIST; fetched once where it is not in the cache."""
    from hotlap import datasets

    return datasets.load("mnist")
