"""Random streams: one seed gives every consumer a generator of its own, so that a change to one moves no other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Streams:
    """Seeds derived from a run's seed.

    Two recipes that draw the same things from a stream draw the same values, whatever the others do with theirs.

    Attributes:
        init: weights. order: order of the images. augment: augmentation. noise: dropout and other noise in the network.
    """

    init: int
    order: int
    augment: int
    noise: int

    @classmethod
    def of(cls, seed: int) -> Streams:
        """Derive the streams of a run from its seed (any non-negative integer)."""
        return cls(*(int(child.generate_state(1)[0]) for child in np.random.SeedSequence(seed).spawn(4)))


def generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new generator on a device."""
    made = torch.Generator(device=device)
    made.manual_seed(seed)
    return made


@contextmanager
def isolated(device: torch.device) -> Iterator[None]:
    """Restore the caller's global generators afterwards; in the block, a GPU is the current one."""
    # A seed is for every GPU there is, once they are in use.
    count = torch.cuda.device_count() if device.type == "cuda" or torch.cuda.is_initialized() else 0
    current = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
    with current, torch.random.fork_rng(devices=range(count)):
        yield
