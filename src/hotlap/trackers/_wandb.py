"""Weights & Biases: one W&B run for each run, in the project ``hotlap`` or that of ``WANDB_PROJECT``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.result import Run
from hotlap.trackers.base import facts, figures, measured, settings

PROJECT = "hotlap"


def make(folder: str | None) -> WandB:
    """Make the tracker; InputError where wandb is not installed, or would ask for a login after the first run.

    Args:
        folder: where wandb keeps its files; the folder ``wandb`` here when None.
    """
    try:
        import wandb
    except ImportError:
        raise InputError("--track wandb needs wandb", "pip install 'hotlap[wandb]'") from None
    sends = os.environ.get("WANDB_MODE", "online") not in ("offline", "dryrun", "disabled")
    if sends and not wandb.login(prompt=False, verify=False):
        raise InputError("wandb is not logged in", "wandb login, or WANDB_MODE=offline to keep runs on this machine")
    return WandB(Path(folder) if folder is not None else None)


class WandB:
    """Writes through the wandb library, whose own variables hold: ``WANDB_MODE=offline`` sends nothing."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._run: Any = None

    def begin(self, recipe: Recipe, seed: int) -> None:
        """Start a run with the recipe as its configuration."""
        import wandb

        self.close()
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=f"{recipe.name} seed {seed}",
            group=recipe.name,
            config=settings(recipe, seed),
            dir=str(self.folder) if self.folder is not None else None,
            settings=wandb.Settings(silent=True, disable_git=True, save_code=False),
        )

    def epoch(self, epochs: float, loss: float | None, accuracy: float | None) -> None:
        """Write the figures of an epoch."""
        self._run.log({"epoch": epochs, **measured(loss, accuracy)})

    def end(self, run: Run) -> None:
        """Write what the run ends with to its summary, and finish it."""
        self._run.summary.update({**figures(run), **facts(run)})
        finishing, self._run = self._run, None
        finishing.finish(exit_code=int(run.status == "failed"))

    def close(self) -> None:
        """Finish a run that has not ended, as failed."""
        if self._run is not None:
            finishing, self._run = self._run, None
            finishing.finish(exit_code=1)
