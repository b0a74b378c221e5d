"""What every test gets: a run store of its own, and no leftovers of the user's settings."""

from __future__ import annotations

from pathlib import Path

import pytest


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
