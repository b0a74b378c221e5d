"""Mirrors that fail in every way, against a local server."""

from __future__ import annotations

import errno
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dataset_helpers import ARRAYS, BIG, PACKED, QUICK, MemorySource, Recorder, Web, leftovers, mirror, same, tiny_set

from hotlap.datasets.base import Progress
from hotlap.datasets.download import RemoteFile, download, probe
from hotlap.datasets.obtain import fetch_set, load_set
from hotlap.datasets.spec import Context, Limits, SourceError
from hotlap.errors import DataError


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """A function that does not return before the test is over, and then fails."""
    over = threading.Event()

    def hang(*args: Any, **kwargs: Any) -> Any:
        over.wait(300)
        raise OSError("over")

    yield hang
    over.set()
    for thread in threading.enumerate():
        if thread.name == "hotlap-probe":
            thread.join(60)


def fetch(root: Path, *urls: str, progress: Progress | None = None, limits: Limits = QUICK) -> Path:
    return fetch_set(tiny_set(*map(mirror, urls)), root, progress=progress, limits=limits)


def loaded(root: Path) -> Any:
    return load_set(tiny_set(), root)


def closed_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_fetches_decodes_and_leaves_no_downloads(root: Path, web: Web) -> None:
    progress = Recorder()
    assert fetch(root, web.url, progress=progress) == root / "tiny"
    assert same(loaded(root))
    assert len(web.requests) == 4
    assert leftovers(root, ("locks", "tiny")) in ([], ["downloads"])
    assert not list((root / "downloads").rglob("*.*"))
    started = [event for event in progress.events if event[0] == "start"]
    assert ("start", f"{BIG} from {web.url.split('/')[2]}", len(PACKED[BIG])) in started
    assert sum(event[1] for event in progress.events if event[0] == "advance") == sum(map(len, PACKED.values()))
    assert len([event for event in progress.events if event == ("done",)]) == len(started)


def test_404_moves_to_the_next_mirror_and_keeps_finished_files(root: Path, web: Web, other_web: Web) -> None:
    web.status[BIG.replace("tr-img", "te-lab")] = 404
    fetch(root, web.url, other_web.url)
    assert same(loaded(root))
    assert [name for name, _ in other_web.requests] == ["te-lab.gz"]


def test_connection_refused_is_a_quick_reason(root: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(DataError, match=r"127\.0\.0\.1:\d+: no connection \(Connection refused\)") as caught:
        fetch(root, closed_port())
    assert time.monotonic() - begin < 30
    assert "\n" not in str(caught.value)
    assert caught.value.fix is not None and "hotlap data fetch tiny" in caught.value.fix


def test_unknown_host_is_a_quick_reason() -> None:
    begin = time.monotonic()
    with pytest.raises(SourceError, match="resolved"):
        probe("https://no-such-host.invalid/x", Limits())
    assert time.monotonic() - begin < 30


def test_a_name_server_that_never_answers_costs_the_resolve_limit_only(
    monkeypatch: pytest.MonkeyPatch, hangs: Callable[..., Any]
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    begin = time.monotonic()
    with pytest.raises(SourceError, match=r"not resolved within 0\.2 s"):
        probe("https://host.invalid/x", Limits(resolve=0.2))
    assert time.monotonic() - begin < 30


def test_many_dead_addresses_share_one_connect_limit(
    monkeypatch: pytest.MonkeyPatch, hangs: Callable[..., Any]
) -> None:
    dead = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.255.255.1", 9))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [dead] * 8)
    monkeypatch.setattr(socket.socket, "connect", hangs)
    begin = time.monotonic()
    with pytest.raises(SourceError, match=r"no connection within 0\.1 s"):
        probe("https://host.invalid/x", Limits(resolve=60, connect=0.1))
    assert time.monotonic() - begin < 30


def test_a_proxy_makes_the_probe_unnecessary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    probe("https://no-such-host.invalid/x", Limits(resolve=0.01))


@pytest.mark.parametrize(
    ("name", "value"), [("all_proxy", "gopher://x"), ("http_proxy", "http://["), ("SSL_CERT_FILE", "/no/such/file")]
)
def test_settings_that_cannot_be_used_are_a_reason(
    root: Path, web: Web, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    fetch_set(tiny_set(mirror(web.url), MemorySource()), root, limits=QUICK)
    assert same(loaded(root))


def test_silence_times_out_and_the_next_mirror_serves(root: Path, web: Web, other_web: Web) -> None:
    web.silent = True
    fetch(root, web.url, other_web.url, limits=replace(QUICK, stall=2.0))
    assert same(loaded(root))
    assert len(web.requests) == 1  # silence is not tried again


def test_silence_is_named(root: Path, web: Web) -> None:
    web.silent = True
    with pytest.raises(DataError, match=r"nothing received for 0\.5 s"):
        fetch(root, web.url, limits=replace(QUICK, stall=0.5))


def test_a_trickle_counts_as_a_stall(root: Path, web: Web) -> None:
    web.trickle = True
    slow = replace(QUICK, stall=1.0, min_rate=1000)
    with pytest.raises(DataError, match="fewer than 1000 bytes a second"):
        fetch(root, web.url, limits=slow)


def test_a_cut_connection_is_resumed_where_it_broke(root: Path, web: Web) -> None:
    web.cut_once[BIG] = 1000
    fetch(root, web.url)
    assert same(loaded(root))
    assert web.ranges_of(BIG) == [None, "bytes=1000-"]
    assert '"v1"' in web.if_range
    assert web.sent[BIG] == len(PACKED[BIG])  # no byte was sent twice


def test_a_later_fetch_resumes_what_an_earlier_one_left(root: Path, web: Web) -> None:
    web.cut_once[BIG] = 1000
    with pytest.raises(DataError, match="connection broke off"):
        fetch(root, web.url, limits=replace(QUICK, attempts=1))
    part = root / "downloads" / "tiny" / f"{BIG}.part"
    assert part.read_bytes() == PACKED[BIG][:1000]
    fetch(root, web.url)
    assert web.ranges_of(BIG) == [None, "bytes=1000-"]
    assert same(loaded(root))


def test_another_mirror_goes_on_with_the_same_part(root: Path, web: Web, other_web: Web) -> None:
    web.cut_once[BIG] = 1000
    one = replace(QUICK, attempts=1)
    fetch(root, web.url, other_web.url, limits=one)
    assert other_web.ranges_of(BIG) == ["bytes=1000-"]
    assert same(loaded(root))


def test_a_changed_file_is_not_glued_to_its_old_beginning(root: Path, web: Web) -> None:
    part = root / "downloads" / "tiny" / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 500)
    part.with_name(f"{BIG}.part.json").write_text(json.dumps({"url": f"{web.url}/{BIG}", "validator": '"old"'}))
    fetch(root, web.url)  # If-Range does not match: the server sends all of it
    assert web.ranges_of(BIG) == ["bytes=500-"]
    assert same(loaded(root))


def test_a_wrong_beginning_without_validator_is_dropped_after_the_checksum(root: Path, web: Web) -> None:
    web.etag = None
    part = root / "downloads" / "tiny" / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 500)
    fetch(root, web.url)
    assert web.ranges_of(BIG) == ["bytes=500-", None]
    assert same(loaded(root))


def test_a_complete_part_needs_no_byte_more(root: Path, web: Web) -> None:
    part = root / "downloads" / "tiny" / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(PACKED[BIG])
    fetch(root, web.url)
    assert web.sent.get(BIG, 0) == 0
    assert same(loaded(root))


def test_a_part_longer_than_the_file_starts_over(root: Path, web: Web) -> None:
    part = root / "downloads" / "tiny" / f"{BIG}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(PACKED[BIG] + b"more")
    fetch(root, web.url)
    assert web.ranges_of(BIG) == [f"bytes={len(PACKED[BIG]) + 4}-", None]
    assert same(loaded(root))


def test_a_server_that_sends_another_range_starts_over(root: Path, web: Web) -> None:
    web.cut_once[BIG] = 1000
    web.ignore_range_start = True
    fetch(root, web.url)
    assert web.ranges_of(BIG) == [None, "bytes=1000-", None]
    assert same(loaded(root))


def test_a_server_without_ranges_restarts_cleanly(root: Path, web: Web) -> None:
    web.ranges, web.cut_once[BIG] = False, 1000
    fetch(root, web.url)
    assert web.ranges_of(BIG) == [None, "bytes=1000-"]
    assert web.sent[BIG] == 1000 + len(PACKED[BIG])
    assert same(loaded(root))


def test_wrong_content_is_refused_and_the_next_mirror_serves(root: Path, web: Web, other_web: Web) -> None:
    web.files[BIG] = PACKED[BIG][:-9] + b"corrupted"
    fetch(root, web.url, other_web.url)
    assert same(loaded(root))
    assert other_web.ranges_of(BIG) == [None]  # nothing of the wrong file was kept


def test_wrong_content_everywhere_is_named(root: Path, web: Web) -> None:
    web.files[BIG] = b"<html>please log in</html>"
    with pytest.raises(DataError, match=r"tr-img\.gz has other content \(md5:\w+ instead of md5:\w+\)"):
        fetch(root, web.url)
    assert not (root / "tiny").exists()


def test_a_file_that_is_too_long_is_refused_by_its_header(tmp_path: Path, web: Web) -> None:
    context = Context(tmp_path / "d", tmp_path, limits=QUICK)
    with pytest.raises(SourceError, match="larger than the expected 100"):
        download(f"{web.url}/{BIG}", RemoteFile(BIG, None, 100), context)
    assert not list((tmp_path / "d").glob("*.part"))


def test_a_redirect_is_followed(root: Path, web: Web, other_web: Web) -> None:
    web.redirect_to = other_web.url
    fetch(root, web.url)
    assert len(other_web.requests) == 4
    assert same(loaded(root))


def test_a_redirect_loop_ends(root: Path, web: Web) -> None:
    web.redirect_to = web.url
    with pytest.raises(DataError, match="too many redirects"):
        fetch(root, web.url)
    assert len(web.requests) <= 7


def test_server_errors_are_named(root: Path, web: Web) -> None:
    web.status[BIG] = 503
    with pytest.raises(DataError, match="HTTP 503"):
        fetch(root, web.url)


def test_a_full_disk_stops_everything_and_leaves_no_part(root: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    fallback = MemorySource()

    def full(out: Any, piece: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("hotlap.datasets.download._write_all", full)
    with pytest.raises(DataError, match="no room in the cache") as caught:
        fetch_set(tiny_set(mirror(web.url), fallback), root, limits=QUICK)
    assert caught.value.fix is not None and "HOTLAP_DATA" in caught.value.fix
    assert fallback.calls == 0  # another source would meet the same disk
    assert not list(root.rglob("*.part"))
    assert not list(root.glob(".*"))


def test_offline_asks_nobody(root: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLAP_OFFLINE", "1")
    with pytest.raises(DataError, match="HOTLAP_OFFLINE forbids the network") as caught:
        fetch(root, web.url)
    assert web.requests == []
    assert caught.value.fix == "HOTLAP_OFFLINE=0 hotlap data fetch tiny"


def test_offline_still_reads_what_this_machine_has(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLAP_OFFLINE", "1")
    fetch_set(tiny_set(MemorySource(needs_network=False)), root)
    assert same(loaded(root), ARRAYS)
