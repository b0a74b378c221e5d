"""The C allocator of Linux, asked to keep memory for the next training step instead of handing it back.

By default glibc maps every large tensor anew and unmaps it when it is freed, so that each step pays a page fault for
every 4 kB that it touches: a fifth to a third of training on a CPU.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

# The numbers of mallopt(3), and glibc's own values for each.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_DEFAULTS = {_TRIM_THRESHOLD: 128 * 1024, _TOP_PAD: 0, _MMAP_MAX: 65536}
_KEEP = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20, _MMAP_MAX: 0}

_nested = 0


@contextmanager
def keeping_memory() -> Iterator[None]:
    """Keep freed memory in the process until the outermost such block ends, which gives it back.

    Does nothing where the C library is not glibc, or where the user has set ``MALLOC_…`` or ``GLIBC_TUNABLES`` for
    malloc. Changes only how memory is held, for the whole process; no result depends on it.
    """
    global _nested
    libc = None if _chosen_by_user() else _glibc()
    if libc is None:
        yield
        return
    _nested += 1
    _set(libc, _KEEP)
    try:
        yield
    finally:
        _nested -= 1
        if not _nested:
            _set(libc, _DEFAULTS)
            libc.malloc_trim(0)


def give_back_memory() -> None:
    """Return freed memory that is being kept to the operating system; it is kept anew from then on."""
    libc = _glibc()
    if _nested and libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    """Return the C library of this process if it is glibc."""
    if sys.platform != "linux" or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return None
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return None
        libc = ctypes.CDLL(None)
        libc.mallopt.argtypes, libc.mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
        libc.malloc_trim.argtypes, libc.malloc_trim.restype = (ctypes.c_size_t,), ctypes.c_int
    except (OSError, AttributeError, ValueError):
        return None
    return libc


def _chosen_by_user() -> bool:
    settings = os.environ
    return any(name.startswith("MALLOC_") and name.endswith("_") for name in settings) or "glibc.malloc" in (
        settings.get("GLIBC_TUNABLES", "")
    )


def _set(libc: ctypes.CDLL, values: dict[int, int]) -> None:
    for parameter, value in values.items():
        libc.mallopt(parameter, value)
