"""The cache: complete or absent, whatever happens; one process at a time; clear words for every failure."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_helpers import ARRAYS, QUICK, MemorySource, Recorder, Web, leftovers, same, tiny_arrays, tiny_set

from hotlap.datasets import cache
from hotlap.datasets.obtain import fetch_set, find_set, info_set, load_set, verify_set
from hotlap.datasets.spec import SourceError
from hotlap.errors import DataError

CHILD = Path(__file__).with_name("fetch_child.py")


def child(root: Path, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(root), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_second_load_comes_from_the_cache_memory_mapped_and_read_only(root: Path) -> None:
    source = MemorySource()
    first, second = (load_set(tiny_set(source), root) for _ in range(2))
    assert source.calls == 1
    assert same(first) and same(second) and first.digest == second.digest == tiny_set().digest
    assert not second.x_train.flags.writeable and second.x_train.flags.c_contiguous
    assert isinstance(second.x_train.base, np.memmap)
    assert second.class_names == ("a", "b", "c") and second.size == (9, 7) and second.channels == 1


def test_loading_writes_nothing(root: Path) -> None:
    fetch_set(tiny_set(MemorySource()), root)
    for path in (root / "locks").iterdir():
        path.unlink()
    (root / "locks").rmdir()
    load_set(tiny_set(), root)  # as from a read-only cache: no lock file either
    assert leftovers(root, ()) == ["tiny"]


def test_every_failed_source_is_named_with_its_reason(root: Path) -> None:
    one, two = MemorySource("one", error=SourceError("gone")), MemorySource("two", error=DataError("bad\nzip"))
    with pytest.raises(DataError) as caught:
        fetch_set(tiny_set(one, two), root)
    assert str(caught.value) == (
        "tiny cannot be fetched: one: gone; two: bad zip → once one of these can be reached: hotlap data fetch tiny"
    )
    assert leftovers(root) == []


def test_arrays_that_are_not_the_published_ones_are_never_installed(root: Path) -> None:
    changed = {key: array.copy() for key, array in ARRAYS.items()}
    changed["x_test"][3, 0, 2, 2] ^= 1
    wrong, short = MemorySource("wrong", arrays=changed), MemorySource("short", arrays=tiny_arrays(train=299))
    with pytest.raises(DataError, match=r"wrong: x_test is not the published array .*; short: x_train is \(299") as _:
        fetch_set(tiny_set(wrong, short), root)
    assert find_set(tiny_set(), root) is None
    fetch_set(tiny_set(wrong, MemorySource()), root)
    assert same(load_set(tiny_set(), root))


def test_force_fetches_again(root: Path) -> None:
    source = MemorySource()
    fetch_set(tiny_set(source), root)
    held = load_set(tiny_set(), root)
    fetch_set(tiny_set(source), root, force=True)
    assert source.calls == 2
    assert same(held) and same(load_set(tiny_set(), root))  # the old map stays readable
    assert leftovers(root) == ["tiny"]


def damage(root: Path, how: str) -> None:
    folder = root / "tiny"
    manifest = json.loads((folder / "manifest.json").read_text())
    if how == "truncated":
        with (folder / "x_train.npy").open("r+b") as file:
            file.truncate(1000)
    elif how == "missing":
        (folder / "y_test.npy").unlink()
    elif how == "no manifest":
        (folder / "manifest.json").unlink()
    elif how == "manifest cut":
        (folder / "manifest.json").write_text('{"format": 1, ')
    elif how == "manifest is a list":
        (folder / "manifest.json").write_text("[]")
    elif how == "newer format":
        (folder / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    elif how == "other arrays":
        manifest["arrays"]["x_test"]["sha256"] = "0" * 64
        (folder / "manifest.json").write_text(json.dumps(manifest))
    elif how == "other header":
        size = (folder / "x_test.npy").stat().st_size
        (folder / "x_test.npy").write_bytes(b"\0" * size)
    elif how == "other shape":
        data = (folder / "y_test.npy").read_bytes().replace(b"(40,), ", b"(8, 5),")
        (folder / "y_test.npy").write_bytes(data)
    elif how == "labels out of range":
        data = (folder / "y_test.npy").read_bytes()
        (folder / "y_test.npy").write_bytes(data[:-1] + b"\x07")
    elif how == "pickled":
        size = (folder / "x_test.npy").stat().st_size
        np.save(folder / "x_test.npy", np.array([{"a": 1}], object), allow_pickle=True)
        data = (folder / "x_test.npy").read_bytes()
        (folder / "x_test.npy").write_bytes(data.ljust(size, b"\0"))


DAMAGES = [
    "truncated",
    "missing",
    "no manifest",
    "manifest cut",
    "manifest is a list",
    "newer format",
    "other arrays",
    "other header",
    "other shape",
    "labels out of range",
    "pickled",
]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_cache_names_the_command_that_repairs_it(root: Path, how: str) -> None:
    source = MemorySource()
    fetch_set(tiny_set(source), root)
    damage(root, how)
    with pytest.raises(DataError) as caught:
        load_set(tiny_set(source), root)
    assert caught.value.fix == "hotlap data fetch tiny --force"
    assert source.calls == 1  # a load repairs nothing behind the user's back
    fetch_set(tiny_set(source), root, force=True)
    assert same(load_set(tiny_set(), root))


def test_fetch_without_force_replaces_what_it_can_see_is_damaged(root: Path) -> None:
    source = MemorySource()
    fetch_set(tiny_set(source), root)
    damage(root, "truncated")
    fetch_set(tiny_set(source), root)
    assert same(load_set(tiny_set(), root))


def test_verify_reads_the_pixels(root: Path) -> None:
    fetch_set(tiny_set(MemorySource()), root)
    report = verify_set(tiny_set(), root)
    assert report.sha256 == dict(tiny_set().sha256) and report.source == "memory"
    assert json.loads(json.dumps(report.as_dict()))["digest"] == tiny_set().digest
    with (root / "tiny" / "x_train.npy").open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\0\1\2\3\4")
    load_set(tiny_set(), root)  # the quick checks cannot see it
    with pytest.raises(DataError, match=r"x_train\.npy is damaged") as caught:
        verify_set(tiny_set(), root)
    assert caught.value.fix == "hotlap data fetch tiny --force"


def test_verify_of_nothing_says_how_to_fetch(root: Path) -> None:
    with pytest.raises(DataError, match="not in the cache") as caught:
        verify_set(tiny_set(), root)
    assert caught.value.fix == "hotlap data fetch tiny"


def test_info_before_and_after_the_fetch(root: Path) -> None:
    spec = tiny_set(MemorySource())
    before = info_set(spec, root)
    assert (before.cached, before.mean, before.train_per_class, before.where) == (False, None, None, None)
    fetch_set(spec, root)
    after = info_set(spec, root)
    assert after.cached and after.source == "memory" and after.where == str(root / "tiny")
    assert (after.train, after.test, after.size, after.classes) == (before.train, before.test, before.size, 3)
    assert after.bytes == before.bytes == sum(a.nbytes for a in ARRAYS.values())
    assert after.digest == before.digest
    assert after.train_per_class == (100, 100, 100)
    pixels = ARRAYS["x_train"] / 255
    assert after.mean == pytest.approx((pixels.mean(),)) and after.std == pytest.approx((pixels.std(),))


def test_two_processes_fetch_once(root: Path, web: Web, tmp_path: Path) -> None:
    web.gate.clear()  # opened when one of them waits for the other
    said = [tmp_path / "one", tmp_path / "two"]
    both = []
    try:
        for path in said:
            with path.open("wb") as out:
                command = [sys.executable, str(CHILD), str(root), "--url", web.url]
                both.append(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT))
        deadline = time.monotonic() + 60
        while not any("waiting for another process" in path.read_text() for path in said):
            assert time.monotonic() < deadline, [path.read_text() for path in said]
            time.sleep(0.02)
        web.gate.set()
        assert [process.wait(120) for process in both] == [0, 0], [path.read_text() for path in said]
    finally:
        for process in both:
            process.kill()
            process.wait()
    assert len(web.requests) == 4
    assert same(load_set(tiny_set(), root))
    assert sum("waiting for another process" in path.read_text() for path in said) == 1


def test_waiting_for_another_process_has_an_end(root: Path) -> None:
    progress = Recorder()
    with cache.locked(root, "tiny", progress=progress, timeout=60):
        begin = time.monotonic()
        with pytest.raises(DataError, match="another process has been fetching tiny"):
            with cache.locked(root, "tiny", progress=progress, timeout=0.2):
                pass
        assert time.monotonic() - begin < 30
        with cache.locked(root, "other", progress=progress, timeout=60):
            pass  # other data sets are not held up
    assert progress.labels == ["waiting for another process that fetches tiny"]


# fsync is called for four arrays, the manifest, the temporary folder, and the cache folder after the rename.
KILL_POINTS = ["download", "decode", *(f"fsync{n}" for n in range(1, 8)), "rename1", "rename2"]


@pytest.mark.parametrize("point", KILL_POINTS)
def test_killed_at_any_point_nothing_half_is_ever_loadable(root: Path, web: Web, point: str) -> None:
    killed = child(root, "--url", web.url, "--kill", point)
    output = killed.communicate(timeout=120)
    if point == "rename2":  # a first installation renames once
        assert killed.returncode == 0, output
    else:
        assert killed.returncode == -signal.SIGKILL, output
    entry = find_set(tiny_set(), root)  # raises if there is half a set
    assert (entry is not None) == (point in ("fsync7", "rename2"))
    fetch_set(tiny_set(MemorySource()), root, limits=QUICK)
    assert same(load_set(tiny_set(), root))
    if entry is None:
        assert leftovers(root, ("locks", "downloads")) == ["tiny"]  # what the killed process left is gone


@pytest.mark.parametrize("point", ["fsync1", "fsync6", "rename1", "rename2", "fsync7"])
def test_killed_while_replacing_leaves_the_old_or_none_or_the_new(root: Path, web: Web, point: str) -> None:
    fetch_set(tiny_set(MemorySource()), root)
    killed = child(root, "--url", web.url, "--kill", point, "--force")
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    entry = find_set(tiny_set(), root)
    assert (entry is None) == (point == "rename2")
    fetch_set(tiny_set(MemorySource()), root, force=True, limits=QUICK)
    assert same(load_set(tiny_set(), root))
    assert leftovers(root, ("locks", "downloads")) == ["tiny"]


def test_an_exception_in_the_middle_cleans_up(root: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fetch_set(tiny_set(MemorySource(error=KeyboardInterrupt())), root)  # type: ignore[arg-type]
    assert leftovers(root) == []


def test_a_cache_under_a_file_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write to the cache .*Not a directory") as caught:
        load_set(tiny_set(MemorySource()), tmp_path / "file" / "cache")
    assert caught.value.fix == "set HOTLAP_DATA to a folder you can write to"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_cache_is_one_clear_line(root: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(DataError, match=os.strerror(number)) as caught:
        load_set(tiny_set(MemorySource()), root)
    assert caught.value.fix is not None and "HOTLAP_DATA" in caught.value.fix
    assert not root.exists()


def test_a_read_only_lock_file_is_one_clear_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: Any, *args: Any, **kwargs: Any) -> int:
        if str(path).endswith(".lock"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(DataError, match="Read-only"):
        fetch_set(tiny_set(MemorySource()), root, limits=QUICK)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", [1, 3, 5, 6])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: int
) -> None:
    real, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(number, os.strerror(number))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        if call == 6:  # flushing a folder is best effort
            fetch_set(tiny_set(MemorySource()), root)
            return
        with pytest.raises(DataError, match="no room in the cache") as caught:
            fetch_set(tiny_set(MemorySource()), root)
    assert caught.value.fix is not None and "HOTLAP_DATA" in caught.value.fix
    assert leftovers(root) == []
    fetch_set(tiny_set(MemorySource()), root)
    assert same(load_set(tiny_set(), root))


def test_a_real_limit_on_file_size_is_one_clear_line(root: Path) -> None:
    limited = child(root, "--file-limit", "8000")
    out, err = limited.communicate(timeout=120)
    assert limited.returncode == 2, err
    assert b"no room in the cache" in out and b"Traceback" not in err
    assert leftovers(root) == []
