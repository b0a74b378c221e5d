"""What every test of the command line gets: one description of its commands."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def commands_are_described_once() -> Iterator[None]:
    """Typer reads the signatures of all verbs at every call, which for a process of its own is once."""
    import typer.main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield
