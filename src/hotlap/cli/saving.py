"""``--save``: where the network of each seed goes, and keeping it until its run is stored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hotlap.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hotlap.bench.executors import Executor
    from hotlap.bench.executors.local import LocalExecutor
    from hotlap.bench.session import Session
    from hotlap.recipe import Recipe
    from hotlap.result import Run


class ModelFiles:
    """The files that networks are saved to: the one that is named, or one for each of several seeds.

    Args:
        path: of the file; of several seeds each adds its number, as in ``model-seed3.safetensors``.
        seeds: that are trained.
        executor: that was chosen; None for this process.

    Raises:
        InputError: the networks will not be in this process, or there is no such folder.
    """

    def __init__(self, path: Path, seeds: Sequence[int], executor: Executor | None) -> None:
        if executor is not None:
            raise InputError(
                "--save needs the networks in this process, one after another",
                "leave out --jobs, --executor, --address, --gpus and --batch-seeds",
            )
        if not path.parent.is_dir():
            raise InputError(f"--save {path}: there is no folder {path.parent}", f"mkdir -p {path.parent}")
        if path.is_dir():
            raise InputError(f"--save {path} is a folder", f"name a file: --save {path / 'model.safetensors'}")
        self.paths = {seed: path if len(seeds) == 1 else _of_seed(path, seed) for seed in seeds}
        self._trained: dict[int, Run] = {}

    def executor(self, session: Session) -> LocalExecutor:
        """Train as the session does, keeping the last network, which the session lets go of."""
        from hotlap.bench.executors.local import LocalExecutor

        def train(recipe: Recipe, seed: int) -> Run:
            self._trained[seed] = session.train(recipe, seed)
            return self._trained[seed]

        return LocalExecutor(train)

    def save(self, run: Run) -> str:
        """Save the network of a run that is stored, and return what became of it, in a line.

        Raises:
            InputError: the file cannot be written.
        """
        from hotlap.saved import save

        trained = self._trained.pop(run.seed)
        if run.accuracy is None:
            del self.paths[run.seed]
            return f"seed {run.seed} failed: it is not saved"
        return f"seed {run.seed} is saved in {save(trained, self.paths[run.seed])}"


def _of_seed(path: Path, seed: int) -> Path:
    return path.with_name(f"{path.stem}-seed{seed}{path.suffix}")
