"""What source a run is made by."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path

_SUFFIXES = (".py", ".cpp", ".h")


@cache
def source_digest() -> str:
    """SHA-256 (hex) over this package's source files, those of the kernels too, by name and content.

    Read once in a process, when it first asks: what is edited later is not what runs.
    """
    root = Path(__file__).resolve().parent
    found = {}
    for folder, _, names in os.walk(root):
        inside = Path(folder).relative_to(root).parts
        found.update({(*inside, name): Path(folder, name) for name in names if name.endswith(_SUFFIXES)})
    total = hashlib.sha256()
    for parts in sorted(found):
        total.update(f"{'/'.join(parts)}\n{hashlib.sha256(found[parts].read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
