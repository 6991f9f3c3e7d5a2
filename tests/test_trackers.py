"""A training is told to real trackers by their own functions, and read back from what they keep."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import onecycle as oc
from fakes import Quadratic

STEPS = 20
Tracker = Callable[[Mapping[str, float], int], object]


def told(tracker: Tracker) -> list[float]:
    """Train with a tracker; the losses that it was told."""
    history = oc.train(Quadratic(val=True), oc.one_cycle(0.1, STEPS), tracker=tracker, progress=False)
    return [row["loss"] for row in history.rows]


@pytest.mark.filterwarnings("default")
def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    writer = EventFileWriter(str(tmp_path))

    def tracker(values: Mapping[str, float], step: int) -> None:
        pairs = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        writer.add_event(Event(summary=Summary(value=pairs), step=step))

    losses = told(tracker)
    writer.close()
    kept = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in kept.Scalars("lr")] == list(range(STEPS))
    assert [event.value for event in kept.Scalars("loss")] == pytest.approx(losses, rel=1e-6)
    assert len(kept.Scalars("val_loss")) == 1


@pytest.mark.filterwarnings("default")
def test_mlflow(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    with mlflow.start_run() as run:
        losses = told(mlflow.log_metrics)
    kept = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [metric.step for metric in kept] == list(range(STEPS))
    assert [metric.value for metric in kept] == losses
    assert len(mlflow.MlflowClient().get_metric_history(run.info.run_id, "val_loss")) == 1


@pytest.mark.filterwarnings("default")
def test_wandb(tmp_path: Path) -> None:
    wandb = pytest.importorskip("wandb", reason="pip install wandb")
    with wandb.init(mode="offline", dir=tmp_path, project="onecycle") as run:
        losses = told(run.log)
        run.log({"end": 1})  # a step counts as ended when the next one begins
        assert run.summary["loss"] == losses[-1]
        assert run.summary["val_loss"] > 0
        assert run.step == STEPS
    assert any(tmp_path.rglob("*.wandb"))


TRACKIO = """
import json, sys
import trackio
sys.path[:0] = {path!r}
from test_trackers import told
run = trackio.init(project="onecycle", name="run", embed=False)
losses = told(run.log)
trackio.finish()
from trackio.sqlite_storage import SQLiteStorage
rows = SQLiteStorage.get_logs("onecycle", "run")
print("LOSSES", json.dumps([losses, [row["loss"] for row in rows if "lr" in row]]))
"""


def test_trackio(tmp_path: Path) -> None:
    pytest.importorskip("trackio", reason="pip install trackio")
    # It chooses its folder as it is imported.
    program = TRACKIO.format(path=[str(Path(__file__).parent), *sys.path])
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "TRACKIO_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    line = next(line for line in ended.stdout.splitlines() if line.startswith("LOSSES "))
    losses, kept = json.loads(line.removeprefix("LOSSES "))
    assert kept == losses
