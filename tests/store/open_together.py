"""Opens stores that are not there yet from several processes at once; prints what went wrong, as JSON.

Arguments: a folder, and how many stores.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

from hotlap.errors import StoreError
from hotlap.store import Store

PROCESSES = 4


def open_all(folder: Path, count: int, barrier: Any, problems: Any) -> None:
    found = []
    for number in range(count):
        barrier.wait(60)
        try:
            Store(folder / f"{number}.sqlite").close()
        except StoreError as error:
            found.append(str(error))
    problems.put(found)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    barrier, problems = context.Barrier(PROCESSES), context.SimpleQueue()
    arguments = (Path(sys.argv[1]), int(sys.argv[2]), barrier, problems)
    workers = [context.Process(target=open_all, args=arguments) for _ in range(PROCESSES)]
    for worker in workers:
        worker.start()
    print(json.dumps([problem for _ in workers for problem in problems.get()]))
    for worker in workers:
        worker.join()
