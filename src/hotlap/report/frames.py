"""Runs as flat rows: dictionaries, CSV and Parquet files, pandas data frames."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hotlap._files import replace_file
from hotlap.errors import InputError
from hotlap.result import Run
from hotlap.store.rows import columns, write_csv
from hotlap.store.rows import rows as runs_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["runs_frame", "runs_rows", "write_csv", "write_parquet"]

_DTYPES = {str: "string", int: "int64", float: "float64", bool: "bool", datetime: "datetime64[us, UTC]"}


def runs_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Put runs into a data frame, one row each; times in seconds, accuracies fractions.

    The types of the columns do not depend on the runs. Missing figures are NaN, a missing error is NA; ``started_at``
    is a UTC timestamp.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise InputError("data frames need pandas", "pip install 'hotlap[frame]'") from None
    kinds = columns(runs)
    frame = pd.DataFrame(runs_rows(runs), columns=list(kinds))
    for name in (name for name, kind in kinds.items() if kind is datetime):
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    dtypes: dict[str, Any] = {name: _DTYPES[kind] for name, kind in kinds.items()}
    return frame.astype(dtypes)


def write_parquet(runs: Sequence[Run], path: str | Path) -> None:
    """Write runs as Parquet; ``pandas.read_parquet`` gives ``runs_frame(runs)`` again.

    Args:
        runs: may be empty; then the file has the columns and no row.
        path: replaced whole, never half-written.

    Raises:
        InputError: pandas or pyarrow is not installed, or the path cannot be written.
    """
    frame = runs_frame(runs)
    content = io.BytesIO()
    try:
        frame.to_parquet(content, engine="pyarrow", index=False)
    except ImportError:
        raise InputError("Parquet files need pyarrow", "pip install 'hotlap[frame]'") from None
    replace_file(Path(path), content.getvalue(), fix="choose a file in a directory that exists")
