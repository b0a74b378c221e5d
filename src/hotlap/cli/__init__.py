"""The command line: one module per verb. Nothing here imports torch before a verb needs it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from hotlap.cli.output import escape_unwritable
from hotlap.errors import HotlapError
from hotlap.startup import defer

INTERRUPTED = 130

READER_GONE = 141
"""What a shell reports of a program that SIGPIPE has ended."""

_ALLOCATIONS = 100_000
"""New objects between two searches for garbage; Python's own 700 are for programs that keep little."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # A million objects of imports stay for good: looking through them for garbage, again and again and once more at the
    # end, takes a fifth of a short command's time.
    gc.set_threshold(_ALLOCATIONS)
    defer(given)
    status = run(given)
    # Triton counts what is left at the end and complains.
    if "triton" not in sys.modules:
        gc.freeze()
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run the command line; every expected problem is one line on stderr.

    Returns:
        0 done, 1 target missed or training failed, 2 bad input, 70 a fault of hotlap, 130 interrupted, 141 the reader
        of stdout went away (``hotlap runs | head``).
    """
    escape_unwritable()
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    if debug:
        return _invoke(arguments)
    try:
        return _invoke(arguments)
    except HotlapError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return INTERRUPTED
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _complain(f"{error.strerror or error}{where} → free some space or choose another place, then repeat")
        return 2
    except Exception as error:
        if callable(message := getattr(error, "format_message", None)):
            # A usage error of typer's; it knows the command it happened in.
            context = getattr(error, "ctx", None)
            command = context.command_path if context is not None else "hotlap"
            _complain(f"{' '.join(str(message()).split())} → {command} --help")
            return 2
        _complain(f"unexpected {type(error).__name__}: {error} → repeat with --debug and report it")
        return 70


def _invoke(arguments: list[str]) -> int:
    from hotlap.cli.app import app

    try:
        status = app(args=arguments, prog_name="hotlap", standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        # Typer itself ends the process with 1 then, which here is a target that was missed.
        if not isinstance(error, BrokenPipeError) and not isinstance(error.__context__, BrokenPipeError):
            raise
        # Elsewhere with the rest, so that the flush at exit is quiet.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return READER_GONE
    return status if isinstance(status, int) else 0


def _complain(text: str) -> None:
    print("hotlap: " + " ".join(text.split()), file=sys.stderr)
