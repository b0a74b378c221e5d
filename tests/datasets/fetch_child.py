"""Fetches the tiny set in a process of its own, and kills itself where it is told to."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from dataset_helpers import QUICK, MemorySource, Recorder, mirror, tiny_set

from hotlap.datasets.obtain import fetch_set
from hotlap.datasets.spec import Context
from hotlap.errors import DataError


def die(*args: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_call(owner: Any, name: str, number: int) -> None:
    """Die instead of the call number ``number`` of a function."""
    real, calls = getattr(owner, name), [0]

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            die()
        return real(*args, **kwargs)

    setattr(owner, name, counted)


class Announcing(Recorder):
    """Prints what is begun, so that who waits for it need not guess."""

    def start(self, label: str, total_bytes: int | None) -> None:
        super().start(label, total_bytes)
        print(label, flush=True)


class DiesWhileDecoding(MemorySource):
    def read(self, context: Context) -> Any:
        (context.scratch / "half").write_text("something")
        die()


parser = argparse.ArgumentParser()
parser.add_argument("root", type=Path)
parser.add_argument("--url")
parser.add_argument("--kill", default="")
parser.add_argument("--force", action="store_true")
parser.add_argument("--file-limit", type=int)
options = parser.parse_args()

progress = Announcing()
source: Any = mirror(options.url) if options.url else MemorySource()
if options.kill == "download":
    progress.on_advance = lambda n: die() if n else None
elif options.kill == "decode":
    source = DiesWhileDecoding()
elif options.kill.startswith("fsync"):
    before_call(os, "fsync", int(options.kill[5:]))
elif options.kill.startswith("rename"):
    before_call(Path, "rename", int(options.kill[6:]))
if options.file_limit:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (options.file_limit, options.file_limit))
try:
    fetch_set(tiny_set(source), options.root, progress=progress, force=options.force, limits=QUICK)
except DataError as error:
    print(error)
    sys.exit(2)
