"""Runs as flat rows: dictionaries, CSV files, pandas data frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hotlap.errors import InputError
from hotlap.result import Run
from hotlap.store.rows import columns, write_csv
from hotlap.store.rows import rows as runs_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["runs_frame", "runs_rows", "write_csv"]


def runs_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Put runs into a data frame, one row each; times in seconds, accuracies fractions.

    Missing accuracies and load averages are NaN; ``started_at`` is a UTC timestamp.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise InputError("data frames need pandas", "pip install 'hotlap[frame]'") from None
    frame = pd.DataFrame(runs_rows(runs), columns=list(columns(runs)))
    numbers: dict[str, Any] = {"accuracy": "float64", "load_average": "float64", "contention": "float64"}
    frame = frame.astype(numbers)
    frame["started_at"] = pd.to_datetime(frame["started_at"], utc=True, format="ISO8601")
    return frame
