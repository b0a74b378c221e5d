"""MLflow: one MLflow run for each run, in the experiment ``hotlap``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.result import Run
from hotlap.trackers.base import facts, figures, measured, settings

EXPERIMENT = "hotlap"
FOLDER = "mlflow-runs"

_AT_ONCE = 100  # parameters that MLflow takes in one call
_LONGEST = 500  # characters of a parameter that every version takes


def make(folder: str | None) -> MLflow:
    """Make the tracker; InputError where MLflow is not installed, or its server or database cannot be used.

    Args:
        folder: runs go to ``mlflow.db`` in it; None takes ``MLFLOW_TRACKING_URI``, or else the folder ``mlflow-runs``.
    """
    try:
        import mlflow.exceptions
        import sqlalchemy.exc
    except ImportError:
        raise InputError("--track mlflow needs MLflow", "pip install 'hotlap[mlflow]'") from None
    # Stdout carries results.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # A dozen seconds for a server that is away; MLflow's own seven would be four minutes, at every call.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    uri = os.environ.get("MLFLOW_TRACKING_URI") if folder is None else None
    where = Path(folder or FOLDER).absolute()
    try:
        return MLflow(uri, where)
    except (mlflow.exceptions.MlflowException, sqlalchemy.exc.SQLAlchemyError) as error:
        cause = " ".join(str(error).split())
        raise InputError(
            f"MLflow cannot use {uri or where}: {cause}", "start its server, or write to a folder: --track mlflow:DIR"
        ) from None


class MLflow:
    """Writes to a tracking server, or to a database file in a folder where there is none.

    Args:
        uri: the tracking server; None for the folder.
        folder: where ``mlflow.db`` and artefacts lie without a server.
    """

    def __init__(self, uri: str | None, folder: Path) -> None:
        from mlflow import MlflowClient

        if uri is None:
            folder.mkdir(parents=True, exist_ok=True)
        self.uri = uri or f"sqlite:///{folder / 'mlflow.db'}"
        self._client: Any = MlflowClient(tracking_uri=self.uri)
        known = self._client.get_experiment_by_name(EXPERIMENT)
        artefacts = None if uri else (folder / "artifacts").as_uri()
        self._experiment = (
            known.experiment_id if known else self._client.create_experiment(EXPERIMENT, artifact_location=artefacts)
        )
        self._run: str | None = None
        self._metrics: list[Any] = []

    def begin(self, recipe: Recipe, seed: int) -> None:
        """Create a run with the recipe as its parameters."""
        from mlflow.entities import Param

        self.close()
        created = self._client.create_run(self._experiment, run_name=f"{recipe.name} seed {seed}")
        self._run, self._metrics = created.info.run_id, []
        params = [Param(key, str(value)[:_LONGEST]) for key, value in settings(recipe, seed).items()]
        for start in range(0, len(params), _AT_ONCE):
            self._client.log_batch(self._run, params=params[start : start + _AT_ONCE])

    def epoch(self, epochs: float, loss: float | None, accuracy: float | None) -> None:
        """Keep the figures of an epoch; they are sent together at the end. Steps are thousandths of an epoch."""
        self._note(measured(loss, accuracy), epochs)

    def end(self, run: Run) -> None:
        """Send all figures and end the run."""
        from mlflow.entities import RunTag

        self._note(figures(run), run.epochs_run)
        for start in range(0, len(self._metrics), 1000):
            self._client.log_batch(self._run, metrics=self._metrics[start : start + 1000])
        self._client.log_batch(self._run, tags=[RunTag(f"hotlap.{key}", text) for key, text in facts(run).items()])
        self._client.set_terminated(self._run, "FAILED" if run.status == "failed" else "FINISHED")
        self._run = None

    def close(self) -> None:
        """Mark a run that has not ended as failed."""
        if self._run is not None:
            self._client.set_terminated(self._run, "FAILED")
            self._run = None

    def _note(self, values: dict[str, float], epochs: float) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._metrics += [Metric(name, value, now, round(1000 * epochs)) for name, value in values.items()]
