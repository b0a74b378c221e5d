"""The order of a short loan of a GPU, rehearsed on the CPU: the tests are only collected."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from gpu_scripts import BENCHMARKS, ONLY, lines

from hotlap.store import Store


def lease(out: Path, minutes: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(BENCHMARKS / "lease.sh"), str(out), minutes, "--tiny", "--device", "cpu", "--only", ONLY, *options]
    environment = {**os.environ, "PYTHON": sys.executable, "RESULTS": str(out / "results")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="GPUs are used on Linux")
def test_a_loan_is_used_in_order_and_ends_in_time(tmp_path: Path) -> None:
    peer = tmp_path / "peer.py"
    peer.write_text("for run in range(9): print(f'accuracy: 0.94 time: {run}.5')")
    said = lease(tmp_path, "9", "--peer", str(peer)).stdout
    steps = [line.split(":")[0] for line in said.splitlines() if ": status 0 after" in line]
    assert steps == ["tests-fused", "tests-gpu", "record", "peers", "correctness", "rest"], said
    assert "tests/gpu/test_cuda.py" in (tmp_path / "tests-gpu.log").read_text()
    with tarfile.open(tmp_path / "results.tar.gz") as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert [line["side"] for line in lines(tmp_path / "unpacked", "peers")] == ["ours", "peer"]
    assert lines(tmp_path / "unpacked", "correctness") and lines(tmp_path / "unpacked", "memory")
    with Store(tmp_path / "unpacked" / "runs.sqlite") as store:
        assert len(store) >= 2


def test_nothing_is_begun_that_cannot_end(tmp_path: Path) -> None:
    done = lease(tmp_path, "0")
    assert done.stdout.splitlines()[:2] == ["tests-fused: no time is left", "tests-gpu: no time is left"]
    assert not [*tmp_path.glob("*.log")]
    usage = subprocess.run([str(BENCHMARKS / "lease.sh")], capture_output=True, text=True, check=False)
    assert usage.returncode and "usage: lease.sh OUT MINUTES" in usage.stderr
