"""`onecycle tune` as its user calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import onecycle as oc
from onecycle import cli
from onecycle._progress import board, clock
from onecycle._runs import State

Run = Callable[..., tuple[int, str, str]]
TASK = "from test_tune import build\nbuild.epochs = 150\n"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mytask.py").write_text(TASK)

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return int(ending.value.code or 0), out, err

    return call


def test_a_recipe_comes_out_and_trains(run: Run, tmp_path: Path) -> None:
    status, out, err = run("tune", "mytask.py", "--out", "t", "--json")
    assert (status, err) == (0, "")
    document: dict[str, Any] = json.loads(out)
    recipe = oc.Recipe.load(tmp_path / "t/recipe.toml")
    assert document["status"] == "done"
    assert document["max_lr"] == recipe.max_lr
    assert document["batch_size"] == recipe.batch_size
    assert document["cost"] <= 1.0
    assert recipe.evidence["task"] == "mytask.py"
    assert recipe.evidence["total_steps"] == 1500
    assert [each["what"] for each in document["decisions"]][-1] == "total_steps"
    status, out, _ = run("train", "mytask.py", "--recipe", "t/recipe.toml")
    assert status == 0
    assert f"for {recipe.total_steps} updates" in out


def test_in_words(run: Run) -> None:
    status, out, _ = run("tune", "mytask.py", "--steps", 600, "--budget", 0.5, "--out", "t")
    assert status == 0
    lines = out.splitlines()
    assert lines[0].startswith("max_lr ")
    assert any(line.startswith("weight_decay ") for line in lines)
    assert lines[-2].startswith("cost: 0.")
    assert lines[-1] == f"train with it: onecycle train mytask.py --recipe {Path('t/recipe.toml')}"


def test_a_second_start_goes_on(run: Run, tmp_path: Path) -> None:
    first = run("tune", "mytask.py", "--out", "t", "--json")
    for path in sorted((tmp_path / "t/trials").iterdir())[::2]:
        path.unlink()
    assert run("tune", "mytask.py", "--out", "t", "--json", "--resume") == first


def test_an_interrupt_keeps_the_finished_runs_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom test_tune import Net\n"
        "def build(seed, batch_size=8, weight_decay=1e-4):\n"
        "    return Net(seed, batch_size, weight_decay, fail=lambda _: time.sleep(0.003))\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-m", "onecycle", "tune", "slow.py", "--steps", "2000", "--out", "t"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True
    )
    while len(list(tmp_path.glob("t/trials/*.json"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    count = len(list(tmp_path.glob("t/trials/*.json")))
    assert err.strip() == f"onecycle: interrupted; {count} finished runs are kept in t: go on with --resume"
    assert json.loads((tmp_path / "t/run.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume"], "--resume needs --out, the folder that the search was kept in"),
        (["--epochs", 1, "--steps", 5], "--epochs and --steps say the same thing: give one"),
        (
            ["--engine", "ray", "--workers", 2],
            "--workers is for --engine local: Ray takes the cores that it has",
        ),
        (["--gpus", 0.5], "--gpus is for --engine ray"),
        (["--budget", 30], "budget must be from 0.05 to 20 full trainings, got 30"),
    ],
)
def test_bad_use_is_told(run: Run, arguments: list[object], message: str) -> None:
    status, out, err = run("tune", "mytask.py", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_the_search_is_shown_while_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    from test_tune import build

    states: list[State] = []
    oc.tune(build, total_steps=1500, on_state=states.append)
    monkeypatch.setattr("onecycle._progress.TERMINAL_SECONDS", 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    shown = Console(record=True, width=120, force_terminal=True)
    monkeypatch.setattr("rich.console.Console", lambda **_: shown)
    with board() as show:
        for state in states:
            show(state)
    text = shown.export_text()
    assert "settling rate" in text
    assert "range test of 75 updates" in text or "range test of 100 updates" in text
    assert "best so far: " in text
    assert "of 1 trainings" in text


def test_times_are_read_at_a_glance() -> None:
    assert [clock(s) for s in (0, 61.4, 3600, 7325)] == ["0:00", "1:01", "1:00:00", "2:02:05"]
