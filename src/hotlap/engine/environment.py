"""What machine and software a run happens on."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

import psutil
import torch

import hotlap
from hotlap._source import source_digest
from hotlap.result import Environment


def capture(device: torch.device) -> Environment:
    """Describe the machine, the software and the load at this moment."""
    return Environment(
        hotlap=hotlap.__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        platform=platform.platform(),
        cpu=_cpu(),
        cores=available_cores(),
        threads=torch.get_num_threads(),
        memory_gb=round(psutil.virtual_memory().total / 2**30, 1),
        gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        commit=_commit(),
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        source=source_digest(),
    )


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _cpu() -> str:
    """Model of the processor, with family and model number where the name alone says little."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields: dict[str, str] = {}
        for line in info.read_text(errors="replace").splitlines():
            key, colon, value = line.partition(":")
            if colon:
                fields.setdefault(key.strip(), value.strip())
        if name := fields.get("model name"):
            return f"{name} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"
    return platform.processor() or platform.machine()


@cache
def _commit() -> str | None:
    """Commit of the source this package runs from; None when it is installed."""
    here = Path(__file__).resolve().parents[3]
    if not (here / ".git").exists():
        return None
    try:
        git = ("git", "-C", str(here))
        commit = subprocess.run((*git, "rev-parse", "HEAD"), capture_output=True, text=True, timeout=5, check=True)
        dirty = subprocess.run(
            (*git, "status", "--porcelain", "--", "src"), capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + ("+" if dirty.stdout.strip() else "")
