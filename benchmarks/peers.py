"""Running other projects' training scripts, and reading what they print."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_LABELLED = re.compile(r"(?P<label>[a-z_ ]*(?:acc|accuracy|time|seconds)[a-z_ ]*)\W{1,4}(?P<value>\d+(?:\.\d+)?)", re.I)


def run_peer(script: Path, timeout_s: float) -> dict[str, Any]:
    """Run a script in a process of its own, in its own folder.

    Returns:
        Wall seconds, exit status, the runs read from its output, and the end of the output itself.
    """
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, script.resolve()], cwd=script.resolve().parent, capture_output=True, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
        output, status = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as late:
        held = late.stdout or b""
        output, status = held.decode(errors="replace") if isinstance(held, bytes) else held, -1
    return {
        "wall_s": time.perf_counter() - start,
        "status": status,
        "runs": parse_runs(output),
        "output": output[-4000:],
    }


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
