from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest

from factories import make_run, make_runs
from hotlap.errors import InputError
from hotlap.report.frames import runs_frame, runs_rows, write_csv, write_parquet
from hotlap.result import PHASES, RunSet


def test_a_row_holds_the_runs_figures() -> None:
    run = make_run(seed=3, contention=0.5)
    (row,) = runs_rows([run])
    assert row["id"] == run.id
    assert row["digest"] == run.recipe.digest[:12]
    assert (row["seed"], row["accuracy"], row["certified_s"], row["threads"]) == (3, 0.991, 15.0, 2)
    assert (row["load_average"], row["contention"], row["cpu"], row["torch"]) == (0.25, 0.5, "Example CPU", "2.13.0")
    assert [key for key in row if key.startswith("phase_")] == [f"phase_{name}_s" for name in PHASES]
    assert row["phase_train_s"] == 7.5


def test_rows_have_equal_keys_even_where_a_run_has_a_phase_of_its_own() -> None:
    odd = make_run(seed=1, phases={**make_run().phases, "upload": 0.125})
    first, second = runs_rows([make_run(), odd])
    assert list(first) == list(second)
    assert (first["phase_upload_s"], second["phase_upload_s"]) == (None, 0.125)


def test_frame() -> None:
    runs = [*make_runs(3), make_run(seed=9, accuracy=None)]
    frame = RunSet(tuple(runs)).to_frame()
    assert len(frame) == 4
    assert frame["accuracy"].tolist()[:3] == [run.accuracy for run in runs[:3]]
    assert frame["accuracy"].isna().tolist() == [False, False, False, True]
    assert frame["certified_s"].sum() == pytest.approx(sum(run.certified_s for run in runs))
    assert str(frame["accuracy"].dtype) == "float64"
    assert frame["started_at"][0].isoformat() == "2026-01-02T03:04:05+00:00"
    assert frame["error"][3] == "the loss became nan at step 17"


def test_an_empty_frame_has_the_columns() -> None:
    frame = runs_frame([])
    assert len(frame) == 0
    assert list(frame.columns) == list(runs_rows([make_run()])[0])
    assert frame.dtypes.equals(runs_frame(make_runs(2)).dtypes)


@pytest.mark.parametrize("errors", [False, True])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_parquet_reads_back_as_the_frame(n: int, errors: bool, tmp_path: Path) -> None:
    import pandas as pd

    runs = [*make_runs(n, contention=0.5), *([make_run(accuracy=None, timing_valid=False)] if errors else [])]
    path = tmp_path / "runs.parquet"
    path.write_text("an older file")
    write_parquet(runs, path)
    again = pd.read_parquet(path)
    pd.testing.assert_frame_equal(again, runs_frame(runs))
    assert [p.name for p in tmp_path.iterdir()] == ["runs.parquet"]


def test_parquet_columns_are_typed(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_parquet([], tmp_path / "none.parquet")
    write_parquet([make_run(), make_run(accuracy=None)], tmp_path / "two.parquet")
    empty, schema = (pq.read_schema(tmp_path / f"{name}.parquet") for name in ("none", "two"))
    assert empty.equals(schema)
    assert schema.field("started_at").type == pa.timestamp("us", tz="UTC")
    assert schema.field("timing_valid").type == pa.bool_()
    assert schema.field("seed").type == pa.int64()
    for name in ("accuracy", "certified_s", "phase_train_s", "contention", "load_average"):
        assert schema.field(name).type == pa.float64()
    for name in ("id", "recipe", "error"):
        assert schema.field(name).type in (pa.string(), pa.large_string())


def test_parquet_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"cannot write .*absent"):
        write_parquet([], tmp_path / "absent" / "runs.parquet")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(InputError, match=r"need pyarrow.*pip install 'hotlap\[frame\]'"):
            write_parquet([make_run()], tmp_path / "runs.parquet")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match="need pandas"):
        write_parquet([make_run()], tmp_path / "runs.parquet")
    assert list(tmp_path.iterdir()) == []


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InputError, match=r"need pandas.*pip install 'hotlap\[frame\]'"):
        runs_frame([make_run()])
    assert len(runs_rows([make_run()])) == 1


def test_csv_reads_back(tmp_path: Path) -> None:
    runs = [make_run(seed=1), make_run(seed=2, accuracy=None, error='a "quoted", broken\nline')]
    write_csv(runs, tmp_path / "runs.csv")
    with (tmp_path / "runs.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert float(first["accuracy"]) == 0.991
    assert float(first["phase_train_s"]) == 7.5
    assert (second["accuracy"], second["error"]) == ("", 'a "quoted", broken\nline')
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]


def test_csv_of_nothing_is_its_header() -> None:
    file = io.StringIO()
    write_csv([], file)
    assert file.getvalue().startswith("id,recipe,digest,seed,")
    assert file.getvalue().count("\n") == 1


def test_a_csv_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot write .*absent"):
        write_csv([], tmp_path / "absent" / "runs.csv")
