"""A tiny published data set, a web server that misbehaves on demand, and a progress that remembers."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hotlap.datasets.base import Arrays, hashes_of
from hotlap.datasets.decode import encode_idx
from hotlap.datasets.download import HttpSource
from hotlap.datasets.idx import IdxFile, IdxFiles
from hotlap.datasets.spec import Context, Limits, NamedSet, Source

# Enough for a machine that is busy with other things; tests of a limit set that one lower.
QUICK = Limits(resolve=60.0, connect=60.0, stall=60.0, min_rate=1, attempts=4, client=120.0, lock=120.0)
FILE_NAMES = {"x_train": "tr-img", "y_train": "tr-lab", "x_test": "te-img", "y_test": "te-lab"}


def tiny_arrays(train: int = 300, test: int = 40) -> Arrays:
    rng = np.random.default_rng(1)
    return {
        "x_train": rng.integers(0, 256, (train, 1, 9, 7), np.uint8),
        "y_train": (np.arange(train) % 3).astype(np.uint8),
        "x_test": rng.integers(0, 256, (test, 1, 9, 7), np.uint8),
        "y_test": (np.arange(test) % 3).astype(np.uint8),
    }


ARRAYS = tiny_arrays()
RAW = {key: encode_idx(a[:, 0] if key.startswith("x") else a) for key, a in ARRAYS.items()}
PACKED = {f"{FILE_NAMES[key]}.gz": gzip.compress(raw, mtime=0) for key, raw in RAW.items()}
BIG = "tr-img.gz"  # the only file long enough to be cut in the middle


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


FILES = IdxFiles(
    {
        key: IdxFile(name, len(RAW[key]), md5=_md5(RAW[key]), gz_md5=_md5(PACKED[f"{name}.gz"]))
        for key, name in FILE_NAMES.items()
    }
)


def mirror(url: str) -> HttpSource:
    return HttpSource(url, FILES.remote(), FILES.decode_paths)


def tiny_set(*sources: Source, arrays: Arrays = ARRAYS, name: str = "tiny") -> NamedSet:
    return NamedSet(
        name=name,
        class_names=("a", "b", "c"),
        shapes={key: array.shape for key, array in arrays.items()},
        sha256=hashes_of(arrays),
        sources=sources,
    )


@dataclass
class MemorySource:
    """A source that just has the arrays, or fails with a given error."""

    label: str = "memory"
    arrays: Arrays = field(default_factory=lambda: dict(ARRAYS))
    error: Exception | None = None
    needs_network: bool = True
    calls: int = 0

    def read(self, context: Context) -> Arrays:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.arrays


@dataclass
class Recorder:
    """A progress that writes down what it is told; ``on_advance`` may raise or kill."""

    events: list[tuple[Any, ...]] = field(default_factory=list)
    on_advance: Callable[[int], None] | None = None

    def start(self, label: str, total_bytes: int | None) -> None:
        self.events.append(("start", label, total_bytes))

    def advance(self, n: int) -> None:
        self.events.append(("advance", n))
        if self.on_advance is not None:
            self.on_advance(n)

    def done(self) -> None:
        self.events.append(("done",))

    @property
    def labels(self) -> list[str]:
        return [event[1] for event in self.events if event[0] == "start"]


class Web:
    """A web server on the loopback address that serves PACKED and can be told to misbehave."""

    def __init__(self, files: dict[str, bytes] = PACKED) -> None:
        self.files = dict(files)
        self.requests: list[tuple[str, str | None]] = []  # (file, Range header)
        self.if_range: list[str | None] = []
        self.sent: dict[str, int] = {}
        self.cut_once: dict[str, int] = {}  # file → bytes after which the connection is closed, one time
        self.silent = False
        self.trickle = False
        self.gate = threading.Event()  # while it is closed, requests wait
        self.gate.set()
        self.ranges = True
        self.etag: str | None = '"v1"'
        self.status: dict[str, int] = {}
        self.redirect_to: str | None = None
        self.ignore_range_start = False
        self._end = threading.Event()
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *args: Any) -> None:
                pass  # clients that hang up are what these tests are about

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/data"

    def close(self) -> None:
        self._end.set()
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def ranges_of(self, name: str) -> list[str | None]:
        return [asked for file, asked in self.requests if file == name]

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        name = handler.path.rsplit("/", 1)[-1]
        asked = handler.headers.get("Range")
        self.requests.append((name, asked))
        self.if_range.append(handler.headers.get("If-Range"))
        if self.silent:
            self._end.wait()
            return
        self.gate.wait()
        if self.redirect_to is not None:
            handler.send_response(302)
            handler.send_header("Location", f"{self.redirect_to}/{name}")
            handler.end_headers()
            return
        if name in self.status or name not in self.files:
            handler.send_error(self.status.get(name, 404))
            return
        self._send_file(handler, name, asked)

    def _send_file(self, handler: http.server.BaseHTTPRequestHandler, name: str, asked: str | None) -> None:
        body, begin = self.files[name], 0
        match = re.fullmatch(r"bytes=(\d+)-", asked or "")
        changed = handler.headers.get("If-Range") not in (None, self.etag)
        if match and self.ranges and not changed:
            begin = int(match[1])
            if begin >= len(body):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(body)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            if self.ignore_range_start:
                begin = 0
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
        else:
            handler.send_response(200)
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.send_header("Content-Length", str(len(body) - begin))
        handler.end_headers()
        stop = self.cut_once.pop(name, len(body))
        if self.trickle:
            for at in range(begin, len(body)):
                handler.wfile.write(body[at : at + 1])
                handler.wfile.flush()
                if self._end.wait(0.05):
                    return
            return
        handler.wfile.write(body[begin:stop])
        self.sent[name] = self.sent.get(name, 0) + max(0, stop - begin)
        handler.close_connection = True


def same(data: Any, arrays: Arrays = ARRAYS) -> bool:
    return all(np.array_equal(getattr(data, key), array) for key, array in arrays.items())


def leftovers(root: Any, allowed: Sequence[str] = ("locks",)) -> list[str]:
    """Names in a cache folder other than the allowed ones."""
    return sorted(path.name for path in root.iterdir() if path.name not in allowed) if root.is_dir() else []
