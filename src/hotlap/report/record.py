"""Records: folders of raw runs, from which their READMEs, tables and plots follow, and nothing else."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hotlap._files import replace_file
from hotlap.errors import HotlapError, InputError
from hotlap.report import certificate, ladder_record
from hotlap.report.record_files import CLAIM, README, read_claim, read_runs


def record_folders(root: Path) -> list[Path]:
    """Return every record at or below a folder, in order."""
    return sorted(path.parent for path in root.rglob(CLAIM))


def readme_of(folder: Path) -> str:
    """Derive a record's README from its raw runs.

    Raises:
        InputError: the record cannot be read, is of no known kind, or its claim does not follow from its runs.
    """
    claim, runs = read_claim(folder), read_runs(folder)
    if not runs:
        raise InputError(f"{folder} holds no runs")
    writers = {ladder_record.KIND: ladder_record.ladder_readme, certificate.KIND: certificate.certificate_readme}
    # A record comes from anywhere: what it holds may be of any type.
    if (kind := str(claim["kind"])) not in writers:
        raise InputError(f"{folder / CLAIM} is a record of the unknown kind {kind!r}", "upgrade hotlap")
    try:
        return writers[kind](claim, runs)
    except HotlapError as error:
        raise InputError(f"{folder}: {error.cause}", error.fix) from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise InputError(f"{folder} holds no readable record: {type(error).__name__}: {error}") from None


def check_record(folder: Path) -> None:
    """Derive every figure of a record from its raw runs again.

    Raises:
        InputError: the README says something else, or the record cannot be read.
    """
    readme = readme_of(folder)
    try:
        written = (folder / README).read_bytes()
    except OSError:
        written = b""
    if written != readme.encode():
        raise InputError(f"{folder / README} does not follow from its raw runs", "write it anew: make records")


def fill_in(document: str, records: Path) -> str:
    """Replace the tables of a Markdown document by the records'.

    Args:
        document: text with ``<!-- record NAME -->`` and ``<!-- end -->`` around each table.
        records: folder that holds the record NAME.

    Returns:
        The document with today's tables.

    Raises:
        InputError: a record that is named is not there.
    """

    def table(found: re.Match[str]) -> str:
        runs = read_runs(records / found["name"])
        lines = ladder_record.record_table(read_claim(records / found["name"]), runs)
        return "\n".join([f"<!-- record {found['name']} -->", *lines, "<!-- end -->"])

    return re.sub(r"<!-- record (?P<name>[\w-]+) -->.*?<!-- end -->", table, document, flags=re.DOTALL)


def main(arguments: Sequence[Any]) -> int:
    """Write everything that follows from the records anew: their READMEs and plots, and the tables of documents.

    Args:
        arguments: the folder of records, then Markdown documents.
    """
    records, *documents = map(Path, arguments)
    for folder in record_folders(records):
        claim, runs = read_claim(folder), read_runs(folder)
        if claim["kind"] == ladder_record.KIND:
            ladder_record.write_derived(folder, claim, runs)
        else:
            replace_file(folder / README, readme_of(folder))
        print(f"wrote {folder}")
    for document in documents:
        replace_file(document, fill_in(document.read_text(encoding="utf-8"), records))
        print(f"wrote {document}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
