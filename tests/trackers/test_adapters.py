"""TensorBoard, MLflow and W&B read back, all in local files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from factories import make_run
from hotlap import cli, trackers
from hotlap.errors import InputError
from hotlap.result import Run
from tiny import tiny


def runs() -> list[Run]:
    # From one set of recipes, so that a long list of parameters is written.
    curve = {"loss_by_epoch": (0.5, 0.25), "accuracy_by_epoch": ((2.0, 0.9),), "accuracy": 0.9, "epochs_run": 2.0}
    return [make_run(seed=1, recipe=tiny(), **curve), make_run(seed=2, recipe=tiny(), accuracy=None)]


def logged(text: str) -> None:
    with trackers.opened([text]) as opened:
        for run in runs():
            assert trackers.log_run(run, opened) == []


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged(f"tensorboard:{tmp_path}")
    folders = sorted(tmp_path.iterdir())
    assert [folder.name.rsplit("-", 1)[0] for folder in folders] == ["tiny-seed1", "tiny-seed2"]
    events = EventAccumulator(str(folders[0])).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1000, 0.5), (2000, 0.25)]
    assert events.Scalars("final_accuracy")[0].value == pytest.approx(0.9)
    assert {"recipe/text_summary", "run/text_summary"} <= set(events.Tags()["tensors"])


# MLflow's own store uses what SQLAlchemy deprecates.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    logged(f"mlflow:{tmp_path}")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("hotlap")
    assert experiment is not None
    failed, done = client.search_runs([experiment.experiment_id])
    assert (failed.info.status, done.info.status) == ("FAILED", "FINISHED")
    assert done.data.params["optimizer.lr"] == "0.01"
    assert done.data.metrics["final_accuracy"] == 0.9
    assert [metric.value for metric in client.get_metric_history(done.info.run_id, "loss")] == [0.5, 0.25]
    assert done.data.tags["hotlap.status"] == "done"


def test_an_mlflow_server_that_is_not_there_is_told_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mlflow")
    quiet = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
    monkeypatch.setenv(quiet, "as it was")
    monkeypatch.delenv(quiet)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    # Port 9 is for discarding; nobody listens.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    recipe = tmp_path / "tiny.json"
    recipe.write_text(tiny(epochs=1.0).to_json())
    assert cli.run(["train", str(recipe), "--track", "mlflow"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hotlap: MLflow cannot use http://127.0.0.1:9: ")
    assert err.count("\n") == 1 and "start its server, or write to a folder: --track mlflow:DIR" in err
    assert os.environ[quiet] == "true", "MLflow would print addresses among the results"


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    logged(f"wandb:{tmp_path}")
    written = list(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(written) == 2 and all(file.stat().st_size for file in written)


def test_wandb_without_a_login_is_told_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "login", lambda **_: False)
    with pytest.raises(InputError, match="not logged in → wandb login, or WANDB_MODE=offline"):
        trackers.tracker(f"wandb:{tmp_path}")


def test_train_with_trackers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    recipe = tmp_path / "tiny.json"
    recipe.write_text(tiny(epochs=1.0).to_json())
    status = cli.run(["train", str(recipe), "--seeds", "2", "--json", "--track", f"tensorboard:{tmp_path / 'logs'}"])
    assert status in (0, 1) and len(json.loads(capsys.readouterr().out)["runs"]) == 2
    assert len(list((tmp_path / "logs").iterdir())) == 2
    assert cli.run(["train", str(recipe), "--track", "nothing"]) == 2
    assert "unknown tracker 'nothing'" in capsys.readouterr().err
