"""The notebooks run from top to bottom in a kernel of their own, on a few images in place of all."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from hotlap.datasets import ImageData

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.mark.filterwarnings("ignore:Proactor event loop:RuntimeWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, mnist: ImageData, tmp_path: Path) -> None:
    np.savez(
        tmp_path / "few.npz", x_train=mnist.x_train[:600], y_train=mnist.y_train[:600], x_test=mnist.x_test[:200],
        y_test=mnist.y_test[:200],
    )  # fmt: skip
    book = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in book.cells), "notebooks are kept without outputs"
    parameters = next(cell for cell in book.cells if cell.source.split("\n")[-1].startswith("RECIPE, DATA, EPOCHS"))
    parameters.source = re.sub(r"None, 1\.0, \d", '"few.npz", 0.5, 2', parameters.source)
    NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(o.get("text", "") for cell in book.cells for o in cell.get("outputs", []))
    assert "interleaved pairs" in printed or "mean accuracy" in printed
