"""Files that each released version wrote stay readable, and mean what they meant.

The files of a version are kept as it wrote them, by this program run in the repository at that version:
`python tests/test_compatibility.py tests/fixtures/v0.1`.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

import onecycle as oc
from onecycle import report
from onecycle._jobs import Job, Result, read_record, write_record
from onecycle._run_dir import RunDir
from onecycle._train import History
from onecycle.report._read import read as report_read

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

VERSIONS = sorted((Path(__file__).parent / "fixtures").glob("v*"))

CURVE = oc.Curve(
    [1e-3, 1e-2, 0.1, 1.0, 10.0],
    [2.3, 2.1, 0.9, 1.7, math.nan],
    seed=[3, 3, 3, 3, 3],
    val_loss=[2.4, math.nan, 1.0, math.nan, math.inf],
    settings={"start": 1e-3, "endings": ["the loss was nan at step 4"], "batch_size": 8},
)
RECIPE = oc.Recipe(
    0.4, 0.04, (0.2, 0.8), (0.95, 0.85), 5e-4, 64, 300, "logs", {"task": "digits", "pilots": [{"loss": 0.25}]}
)
SUGGESTION = oc.Suggestion(0.4, 0.2, 0.8, "valley", "where it falls")
POLICIES = {
    "one_cycle": oc.one_cycle(0.8, 900, momentum=(0.95, 0.85), form="logs"),
    "cyclical": oc.cyclical(0.08, 0.8, 200, mode="exp_range", gamma=0.99, momentum=0.9, total_steps=1000),
}
HISTORY = History(
    [
        {"step": 0, "lr": 0.1, "momentum": 0.9, "loss": 2.3},
        {"step": 1, "lr": 0.2, "momentum": 0.85, "loss": 2.1, "val_loss": 1.9, "accuracy": 0.5},
    ]
)
SWEEP = Job("rate", "sweep", 0, 100, 8)
RUN = Job("momentum", "run", 3, 40, 8, 5e-4, 0.4, (0.95, 0.85))


def trial() -> Any:
    from onecycle.torch import Trial

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    batches = [(torch.full((4, 3), float(n)), torch.zeros(4, 2)) for n in range(3)]
    return Trial(model, optimizer, torch.nn.functional.mse_loss, batches)


def write_run(folder: Path) -> None:
    """Write what a command leaves by --out."""
    pilots = [{"max_lr": 0.4, "steps": 40, "loss": 0.25}, {"max_lr": 0.8, "steps": 40, "loss": math.inf}]
    with RunDir(folder, "find", {"task": "digits", "seed": 0, "total_steps": 300}) as kept:
        (folder / "curves").mkdir()
        CURVE.save(folder / "curves" / "lr.json")
        kept.recipe(RECIPE)
        kept.finish("done", pilots=pilots, max_lr=0.4, reason="the lowest")
    HISTORY.save(folder / "metrics.csv")
    (folder / "trials").mkdir()
    (folder / "trials" / "rate-1.json").write_text(write_record(RUN, Result(1.4, 1.5, 1.4, samples=320)))


def write(folder: Path) -> None:
    """Write one file of every kind."""
    folder.mkdir(parents=True, exist_ok=True)
    write_run(folder / "run")
    CURVE.save(folder / "curve.json")
    CURVE.to_csv(folder / "curve.csv")
    RECIPE.save(folder / "recipe.toml")
    (folder / "suggestion.json").write_text(SUGGESTION.to_json())
    for name, policy in POLICIES.items():
        (folder / f"{name}.json").write_text(policy.to_json())
    HISTORY.save(folder / "metrics.csv")
    (folder / "sweep.json").write_text(
        write_record(SWEEP, Result(0.9, samples=40, curve=json.loads(CURVE.to_json())))
    )
    (folder / "run.json").write_text(write_record(RUN, Result(1.4, 1.5, 1.4, samples=320)))
    trained = trial()
    for _ in range(4):
        trained.step()
    trained.write(folder / "checkpoint.safetensors", {"step": 4, "seed": 0})
    weights = [p.tolist() for p in trained._model.state_dict().values()]
    (folder / "weights.json").write_text(json.dumps(weights))


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_files_of_a_version(folder: Path) -> None:
    assert oc.Curve.load(folder / "curve.json") == CURVE
    assert oc.Curve.read(folder / "curve.csv").loss.tolist()[:4] == [2.3, 2.1, 0.9, 1.7]
    assert oc.Recipe.load(folder / "recipe.toml") == RECIPE
    assert oc.Suggestion.from_json((folder / "suggestion.json").read_text()) == SUGGESTION
    for name, policy in POLICIES.items():
        assert oc.Policy.from_json((folder / f"{name}.json").read_text()) == policy
    assert History.load(folder / "metrics.csv") == HISTORY
    job, result = read_record(folder / "sweep.json")
    assert (job, result.loss, result.read_curve()) == (SWEEP, 0.9, CURVE)
    job, result = read_record(folder / "run.json")
    assert (job, result.val_loss, result.samples) == (RUN, 1.4, 320)


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_the_folder_of_a_run(folder: Path, tmp_path: Path) -> None:
    run = report_read(folder / "run")
    assert (run.problems, run.recipe, run.curves) == ([], RECIPE, {"lr": CURVE})
    assert (run.info["command"], run.info["status"], run.info["pilots"][1]["loss"]) == (
        "find",
        "done",
        math.inf,
    )
    assert (run.histories, len(run.trials)) == ({"metrics.csv": HISTORY}, 1)
    assert "digits" in report.write(folder / "run", tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", VERSIONS, ids=lambda folder: folder.name)
def test_a_checkpoint_of_a_version(folder: Path) -> None:
    fresh = trial()
    assert fresh.read(folder / "checkpoint.safetensors") == {"step": 4, "seed": 0}
    weights = [p.tolist() for p in fresh._model.state_dict().values()]
    assert weights == json.loads((folder / "weights.json").read_text())
    # Four updates in, in the second pass over three batches.
    assert fresh._stream.keep()["taken"] == 1


def test_there_are_files_of_this_version() -> None:
    assert f"v{'.'.join(oc.__version__.split('.')[:2])}" in {folder.name for folder in VERSIONS}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
