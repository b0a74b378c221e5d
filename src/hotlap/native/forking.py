"""The threads that PyTorch keeps, for work of the compiled kernels."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from pathlib import Path

import torch

from hotlap.native.library import THREADS


def threads() -> int:
    """Return how many threads a kernel takes: PyTorch's number, up to the most that they can share work among."""
    return min(torch.get_num_threads(), THREADS)


@cache
def fork() -> int | None:
    """The address of GOMP_parallel in PyTorch's OpenMP library, so that its threads do the work; None without one.

    Threads of our own would share the cores with PyTorch's, which keep spinning for a while after each operation.
    """
    if not sys.platform.startswith("linux"):
        return None
    lines = Path("/proc/self/maps").read_text().splitlines()
    loaded = {fields[5].strip() for line in lines if len(fields := line.split(maxsplit=5)) == 6}
    own = str(Path(torch.__file__).parent)
    # Other packages bring such a library too, and threads of their own.
    for path in sorted(loaded, key=lambda path: (not path.startswith((f"{own}/", f"{own}.libs/")), path)):
        if Path(path).name.startswith(("libgomp", "libiomp5", "libomp")):
            try:
                library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_NOLOAD)
            except OSError:  # replaced on the disk since it was loaded
                continue
            if hasattr(library, "GOMP_parallel"):
                return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value
    return None
