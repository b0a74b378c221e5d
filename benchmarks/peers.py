"""Running other projects' training scripts, and reading what they print."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_LABELLED = re.compile(r"(?P<label>[a-z_ ]*(?:acc|accuracy|time|seconds)[a-z_ ]*)\W{1,4}(?P<value>\d+(?:\.\d+)?)", re.I)


def run_peer(script: Path, timeout_s: float, runs: int | None = None) -> dict[str, Any]:
    """Run a script in a process of its own, in its own folder, until it ends, has done enough, or the time is up.

    Its output is read as it comes; the script and the processes that it started are ended together.

    Args:
        script: Python.
        timeout_s: ends it after this.
        runs: ends it after so many runs; None lets it end by itself.

    Returns:
        Wall seconds, status (``ended``, ``enough``, ``failed``, ``late``), the runs read from its output, and the end
        of the output itself.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, script.resolve()], cwd=script.resolve().parent, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    reader = threading.Thread(target=_read, args=(process.stdout, said), daemon=True)
    reader.start()
    output, status, found = "", "", []
    try:
        while not status:
            try:
                line = said.get(timeout=max(0.0, start + timeout_s - time.perf_counter()))
            except queue.Empty:
                status = "late"
                break
            if line is None:
                status = _ended(process, start + timeout_s - time.perf_counter())
                break
            output += line
            found = parse_runs(output)
            if runs is not None and len(found) >= runs:
                status = "enough"
    finally:
        _end(process)
        reader.join(5.0)
    return {"wall_s": time.perf_counter() - start, "status": status, "runs": found, "output": output[-4000:]}


def _read(stream: TextIO, said: queue.SimpleQueue[str | None]) -> None:
    with stream:
        for line in stream:
            said.put(line)
    said.put(None)


def _ended(process: subprocess.Popen[str], timeout_s: float) -> str:
    """Tell how a process ended that says nothing more."""
    try:
        return "ended" if process.wait(max(0.0, timeout_s)) == 0 else "failed"
    except subprocess.TimeoutExpired:
        return "late"


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and everything in its group, whether or not it has ended itself."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def parse_runs(output: str) -> list[dict[str, float]]:
    """Read accuracy (0–1) and seconds of each run from what a training script prints.

    Understood are tables whose columns are divided by ``|``, under a header that names an accuracy and a time (of the
    columns that do, the last that is filled in counts; a run ends with the row that fills in both), and otherwise
    lines like ``accuracy: 94.1 time: 2.6``. Rows of untimed warm-ups are runs too: the caller leaves out the first.
    """
    header: list[str] = []
    runs = []
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        names = [cell.lower() for cell in cells]
        if len(cells) > 2 and any("acc" in n for n in names) and any("time" in n or "sec" in n for n in names):
            header = names
        elif header and len(cells) == len(header):
            accuracy = _last(header, cells, ("tta", "acc")) or _last(header, cells, ("acc",))
            seconds = _last(header, cells, ("time",)) or _last(header, cells, ("sec",))
            ends = _last(header, cells, ("tta",)) is not None or not any("tta" in name for name in header)
            if accuracy is not None and seconds is not None and ends:
                runs.append({"accuracy": _share(accuracy), "seconds": seconds})
    if header:
        return runs
    for line in output.splitlines():
        found = {m["label"].strip().lower(): float(m["value"]) for m in _LABELLED.finditer(line)}
        accuracy = next((v for k, v in found.items() if "acc" in k), None)
        seconds = next((v for k, v in found.items() if "time" in k or "sec" in k), None)
        if accuracy is not None and seconds is not None:
            runs.append({"accuracy": _share(accuracy), "seconds": seconds})
    return runs


def _last(header: list[str], cells: list[str], parts: tuple[str, ...]) -> float | None:
    """The last filled cell whose column's name holds all parts."""
    for name, cell in reversed(list(zip(header, cells, strict=True))):
        if all(part in name for part in parts) and _NUMBER.fullmatch(cell):
            return float(cell)
    return None


def _share(accuracy: float) -> float:
    return accuracy / 100 if accuracy > 1 else accuracy
