"""Where verbs write: results on stdout, progress on stderr, JSON alone when asked for.

What the encoding of stdout or stderr lacks, such as parts of file names that are not UTF-8, is written as Python and
JSON escape it.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def escape_unwritable() -> None:
    """Have stdout and stderr escape characters that they cannot encode, which would end the command otherwise."""
    for stream in (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")


def stdout() -> Console:
    """Return a console for results; 100 columns when it is not a terminal, so that tables in files are whole."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 100, highlight=False, emoji=False, soft_wrap=False)


def stderr() -> Console:
    """Return a console for progress and remarks."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout; NaN cannot occur in it."""
    print(as_json(document, getattr(sys.stdout, "encoding", None) or "utf-8"))


def as_json(document: Any, encoding: str) -> str:
    """Write a document as JSON; characters stand for themselves where the encoding has all of them."""
    text = json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return json.dumps(document, indent=2, allow_nan=False)
    return text
