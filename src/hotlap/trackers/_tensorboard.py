"""TensorBoard: a folder of event files for each run."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.result import Run
from hotlap.trackers.base import facts, figures, measured, settings

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard-logs"


def make(folder: str | None) -> TensorBoard:
    """Make the tracker; InputError where TensorBoard is not installed."""
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        raise InputError("--track tensorboard needs TensorBoard", "pip install 'hotlap[tensorboard]'") from None
    return TensorBoard(Path(folder or FOLDER))


class TensorBoard:
    """Writes each run to ``folder/RECIPE-seedN-…``; the steps of its curves are thousandths of an epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: SummaryWriter | None = None

    def begin(self, recipe: Recipe, seed: int) -> None:
        """Open a folder and write the recipe."""
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        name = re.sub(r"[^\w.-]+", "-", recipe.name).strip("-")[:80]
        self._writer = SummaryWriter(str(self.folder / f"{name}-seed{seed}-{uuid.uuid4().hex[:6]}"))
        self._text("recipe", json.dumps(settings(recipe, seed), indent=1))

    def epoch(self, epochs: float, loss: float | None, accuracy: float | None) -> None:
        """Write the figures of an epoch."""
        if self._writer is not None:
            for name, value in measured(loss, accuracy).items():
                self._writer.add_scalar(name, value, round(1000 * epochs))

    def end(self, run: Run) -> None:
        """Write what the run ends with, and close its file."""
        if self._writer is not None:
            for name, value in figures(run).items():
                self._writer.add_scalar(name, value, round(1000 * run.epochs_run))
            self._text("run", json.dumps(facts(run), indent=1))
        self.close()

    def close(self) -> None:
        """Close the file of a run that has not ended."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _text(self, name: str, text: str) -> None:
        assert self._writer is not None
        # TensorBoard renders Markdown, where four spaces mean code.
        self._writer.add_text(name, "\n".join(f"    {line}" for line in text.splitlines()))
