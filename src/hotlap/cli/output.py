"""Where verbs write: results on stdout, progress on stderr, JSON alone when asked for."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def stdout() -> Console:
    """Return a console for results; 100 columns when it is not a terminal, so that tables in files are whole."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 100, highlight=False, soft_wrap=False)


def stderr() -> Console:
    """Return a console for progress and remarks."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def print_json(document: Any) -> None:
    """Print one JSON document on stdout; NaN cannot occur in it."""
    print(json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False))
