"""Runs one command on some cores and notes what it used.

    python -I -S benchmarks/cpu_launch.py THREADS NOTES COMMAND…

A process inherits the peak memory of the one that started it, which a benchmark that has imported torch would spoil:
this small one stands between. Writes peak resident bytes (of the largest process, where the command starts others) and
CPU seconds to NOTES as JSON, and ends with the command's status.
"""

import json
import os
import sys

# Libraries differ in which of these they read; some only look at the cores they may use.
NAMES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUM_CPU_THREADS")


def main() -> int:
    threads, notes, *command = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    process = os.spawnve(os.P_NOWAIT, command[0], command, {**os.environ, **dict.fromkeys(NAMES, threads)})
    _, status, used = os.wait4(process, 0)
    unit = 1 if sys.platform == "darwin" else 1024
    exit_status = os.waitstatus_to_exitcode(status)
    with open(notes, "w") as file:  # noqa: PTH123 - without pathlib it starts, and stays, smaller
        json.dump({"peak_bytes": used.ru_maxrss * unit, "cpu_s": used.ru_utime + used.ru_stime}, file)
    return exit_status if exit_status >= 0 else 1


sys.exit(main())
