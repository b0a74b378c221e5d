"""Downloads over HTTP that resume, are verified, and give up soon enough to try the next mirror."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotlap.datasets.base import Arrays
from hotlap.datasets.cache import CacheError, writing
from hotlap.datasets.decode import one_line
from hotlap.datasets.spec import Context, Limits, SourceError

if TYPE_CHECKING:
    import httpx

# Identity: a .gz file must arrive as the bytes that its checksum was made of.
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "hotlap"}


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file on a publisher's host.

    Attributes:
        name: appended to the mirror's address, and the file's name in the downloads folder.
        checksum: ``"md5:…"`` or ``"sha256:…"`` as published, or None (then only the decoded arrays are checked).
        max_bytes: a longer answer is refused.
    """

    name: str
    checksum: str | None
    max_bytes: int


@dataclass(frozen=True, slots=True)
class HttpSource:
    """One mirror that holds all files of a data set."""

    base_url: str
    files: tuple[RemoteFile, ...]
    decode: Callable[[Mapping[str, Path]], Arrays]
    needs_network: bool = True

    @property
    def label(self) -> str:
        """The host's name."""
        return urllib.parse.urlsplit(self.base_url).netloc

    def read(self, context: Context) -> Arrays:
        """Download every file, then decode; finished files stay for the next mirror should a later one fail."""
        probe(self.base_url, context.limits)
        paths = {}
        for file in self.files:
            url = self.base_url.rstrip("/") + "/" + file.name
            paths[file.name] = download(url, file, context)
        return self.decode(paths)


class _RestartError(Exception):
    """The server's answer does not fit the beginning that is there; start over."""


def probe(url: str, limits: Limits) -> None:
    """Find out quickly whether the host of an address can be reached at all, unless a proxy is to reach it.

    Raises:
        SourceError: as ``reach`` does.
    """
    import urllib.request  # slow to import

    parts = urllib.parse.urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    proxies = urllib.request.getproxies()
    if (proxies.get(parts.scheme) or proxies.get("all")) and not urllib.request.proxy_bypass(host):
        return  # the proxy looks the name up, not this machine
    reach(host, port, limits)


def reach(host: str, port: int, limits: Limits) -> None:
    """Find out quickly whether a host can be connected to.

    The system's name look-up cannot be given a time-out, and a connection tries each of a host's addresses for the
    full time; both are therefore done in a thread that is left behind when it takes too long.

    Raises:
        SourceError: no address, or no connection, in time.
    """
    resolved, connected = threading.Event(), threading.Event()
    failure: list[str] = []

    def attempt() -> None:
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            failure.append("host name cannot be resolved")
            addresses = []
        resolved.set()
        for family, kind, protocol, _, address in addresses:
            try:
                with socket.socket(family, kind, protocol) as trial:
                    trial.settimeout(limits.connect)
                    trial.connect(address)
                failure.clear()
                break
            except OSError as error:
                failure[:] = [f"no connection ({one_line(error.strerror or error)})"]
        connected.set()

    threading.Thread(target=attempt, name="hotlap-probe", daemon=True).start()
    if not resolved.wait(limits.resolve):
        raise SourceError(f"host name not resolved within {limits.resolve:g} s")
    if not connected.wait(limits.connect):
        raise SourceError(f"no connection within {limits.connect:g} s")
    if failure:
        raise SourceError(failure[0])


def download(url: str, file: RemoteFile, context: Context) -> Path:
    """Download one file into the downloads folder, going on where an earlier attempt stopped.

    Args:
        url: http or https; redirects are followed.
        file: its name, checksum and largest length.
        context: folder, progress and limits.

    Returns:
        Path of the complete, verified file.

    Raises:
        SourceError: the host refuses, stalls, or sends something else.
        CacheError: this machine cannot store the file.
    """
    import httpx

    target = context.downloads / file.name
    part = context.downloads / f"{file.name}.part"
    with writing(context.downloads):
        context.downloads.mkdir(parents=True, exist_ok=True)
        if target.exists():
            if file.checksum and checksum_of(target, file.checksum) == file.checksum:
                return target
            target.unlink()
    limits = context.limits
    reason = "no attempt made"
    with _client(limits) as client:
        for _ in range(limits.attempts):
            resumed_from = _size(part)
            try:
                _transfer(client, url, part, file, context)
            except _RestartError as error:
                _discard(part)
                reason = str(error)
                continue
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                reason = _explain(error, limits)
                if _size(part) <= resumed_from:
                    raise SourceError(reason) from error
                continue
            wrong = _check(part, file)
            if wrong is None:
                with writing(context.downloads):
                    part.replace(target)
                    _note(part).unlink(missing_ok=True)
                return target
            _discard(part)
            reason = wrong
            if resumed_from == 0:  # otherwise the old beginning may be to blame: once more, from the start
                break
    raise SourceError(reason)


def _client(limits: Limits) -> httpx.Client:
    import httpx

    timeout = httpx.Timeout(limits.stall, connect=limits.connect)
    try:
        return httpx.Client(timeout=timeout, follow_redirects=True, max_redirects=5, headers=_HEADERS)
    except (OSError, ImportError, ValueError, httpx.InvalidURL) as error:
        # The user's proxy and certificate settings are read here; package clients may still have better ones.
        raise SourceError(f"proxy or certificate settings cannot be used ({one_line(error)})") from error


def _transfer(client: httpx.Client, url: str, part: Path, file: RemoteFile, context: Context) -> None:
    """One request; appends to ``part`` what the server sends."""
    have = _size(part)
    headers = {}
    if have:
        validator = _read_note(part, url)
        if validator or file.checksum:
            # Without a validator the checksum still tells whether beginning and end belong together.
            headers["Range"] = f"bytes={have}-"
            if validator:
                headers["If-Range"] = validator
    with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == 416:  # nothing after what we have: complete, or not the same file
            if _total(answer) != have:
                raise _RestartError(f"HTTP 416 for a range from {have}")
            return
        if answer.status_code not in (200, 206):
            raise SourceError(f"HTTP {answer.status_code}")
        continues = answer.status_code == 206 and _range_start(answer) == have and bool(headers)
        if answer.status_code == 206 and not continues:
            raise _RestartError("server sent another range than it was asked for")
        begin = have if continues else 0
        length = answer.headers.get("Content-Length", "")
        total = begin + int(length) if length.isdigit() else None
        if total is not None and total > file.max_bytes:
            raise SourceError(f"file of {total} bytes is larger than the expected {file.max_bytes}")
        with writing(context.downloads):
            _write_note(part, url, answer)
        context.progress.start(f"{file.name} from {urllib.parse.urlsplit(url).netloc}", total)
        try:
            context.progress.advance(begin)
            _receive(answer, part, begin, file, context)
        finally:
            context.progress.done()


def _receive(answer: httpx.Response, part: Path, begin: int, file: RemoteFile, context: Context) -> None:
    limits = context.limits
    have, window_start, window_bytes = begin, time.monotonic(), 0
    try:
        with writing(context.downloads):
            out = part.open("ab" if begin else "wb", buffering=0)  # what arrived before a kill is there to resume from
        with out:
            for piece in answer.iter_raw():
                have += len(piece)
                if have > file.max_bytes:
                    _discard(part)
                    raise SourceError(f"more than the expected {file.max_bytes} bytes")
                with writing(context.downloads):
                    _write_all(out, piece)
                context.progress.advance(len(piece))
                window_bytes += len(piece)
                now = time.monotonic()
                if now - window_start > limits.stall:
                    # A few bytes now and then never trip the read time-out; a mirror that slow is no use.
                    if window_bytes < limits.min_rate * limits.stall:
                        raise SourceError(f"fewer than {limits.min_rate} bytes a second for {limits.stall:g} s")
                    window_start, window_bytes = now, 0
    except CacheError:
        _discard(part)  # a full disk needs the room back
        raise


def _write_all(out: io.FileIO, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[out.write(rest) :]


def _check(part: Path, file: RemoteFile) -> str | None:
    if file.checksum is None:
        return None
    found = checksum_of(part, file.checksum)
    return None if found == file.checksum else f"{file.name} has other content ({found} instead of {file.checksum})"


def checksum_of(path: Path, like: str) -> str:
    """Checksum of a file, with the algorithm that the checksum ``like`` (``"md5:…"``) names."""
    algorithm = like.partition(":")[0]
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
    return f"{algorithm}:{digest.hexdigest()}"


def _explain(error: Exception, limits: Limits) -> str:
    import httpx

    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {limits.connect:g} s"
    if isinstance(error, httpx.TimeoutException):
        return f"nothing received for {limits.stall:g} s"
    if isinstance(error, httpx.TooManyRedirects):
        return "too many redirects"
    if isinstance(error, httpx.ConnectError):
        return f"no connection ({one_line(error)})"
    return f"connection broke off ({one_line(error)})"


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except OSError:
        return 0


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_note(part: Path, url: str) -> str | None:
    """The validator that belongs to the bytes we have, when they came from this very address."""
    try:
        note: Any = json.loads(_note(part).read_text(encoding="utf-8"))
        return str(note["validator"]) if note["url"] == url and note["validator"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_note(part: Path, url: str, answer: httpx.Response) -> None:
    tag = answer.headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")
    temporary = _note(part).with_name(_note(part).name + f".{os.getpid()}")
    temporary.write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")
    temporary.replace(_note(part))


def _total(answer: httpx.Response) -> int | None:
    match = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", "").strip())
    return int(match[1]) if match else None


def _range_start(answer: httpx.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", "").strip())
    return int(match[1]) if match else None
