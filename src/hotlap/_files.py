"""Writing files as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hotlap.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Lend a name beside a file; what is written there takes the file's place when the block ends.

    A reader sees the old file or the new one. An error leaves the old one, and nothing else.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def replace_file(path: Path, content: str | bytes, *, fix: str = "free some space or choose another place") -> Path:
    """Write a file as a whole or not at all; folders are not made.

    Args:
        path: one that is there stays until the new one is complete.
        content: text is written in UTF-8; what is no Unicode in it, such as parts of file names, is escaped.
        fix: what the user may do when it cannot be written.

    Returns:
        The path.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with replacing(path) as temporary, temporary.open("xb") as file:
            file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}", fix) from None
    return path
