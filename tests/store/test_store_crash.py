"""What a store keeps when its writer is killed, and when two write at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hotlap
from hotlap.store import Store

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(hotlap.__file__).parents[1]), str(TESTS)])}

WRITER = """
import sys
from pathlib import Path
from factories import make_run
from hotlap.store import Store

with Store(Path(sys.argv[1])) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for seed in range(int(sys.argv[2])):
        store.add(make_run(seed=seed, backend=sys.argv[3]))
assert "torch" not in sys.modules
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked writers")
def test_killed_at_random_moments_a_store_keeps_every_run_that_add_returned_from(tmp_path: Path) -> None:
    script = Path(__file__).with_name("kill_writers.py")
    rounds = 50
    finished = subprocess.run(
        [sys.executable, script, tmp_path, str(rounds), "1"],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    results = json.loads(finished.stdout)
    assert len(results) == rounds
    before: dict[str, set[str]] = {}
    in_flight = 0
    for result in results:
        old = before.get(result["path"], set())
        stored, started, done = set(result["stored"]), set(result["started"]), set(result["done"])
        assert result["killed"]
        assert result["integrity"] == "ok"
        assert old | done <= stored, "a run that add() had returned from is gone"
        assert stored <= old | started
        assert len(started - stored) <= 1, "more than the run in flight is missing"
        in_flight += bool(started - done)
        before[result["path"]] = stored
    # The test is worth its time only if the kills hit writers at work.
    assert sum(len(result["done"]) for result in results) > 100
    assert in_flight > 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_store_that_several_processes_make_at_once_is_one_to_each(tmp_path: Path) -> None:
    script = Path(__file__).with_name("open_together.py")
    finished = subprocess.run(
        [sys.executable, script, tmp_path, "100"], env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert (finished.returncode, finished.stderr) == (0, "")
    assert json.loads(finished.stdout) == []
    assert len(list(tmp_path.glob("*.sqlite"))) == 100


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "runs.sqlite"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), "40", name],
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "two")
    ]
    for writer in writers:
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=120)
        assert writer.returncode == 0
    with Store(path, create=False) as store:
        runs = store.runs()
    for name in ("one", "two"):
        assert [run.seed for run in runs if run.backend == name] == list(range(40))
