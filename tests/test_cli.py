from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import onecycle as oc
from onecycle import cli
from onecycle._train import History
from test_tasks import TASK

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("find", …)` gives (exit status, standard output, standard error)."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mytask.py").write_text(TASK)
    before = signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            cli.main([str(a) for a in arguments])
        signal.signal(signal.SIGTERM, before)
        out, err = capsys.readouterr()
        return int(ending.value.code or 0), out, err

    return call


def documents(out: str) -> dict[str, Any]:
    """The one JSON document that standard output must be."""
    document: dict[str, Any] = json.loads(out)
    return document


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"onecycle {oc.__version__}\n", "")


COMMANDS = ["demo", "find", "tune", "train", "suggest", "schedule", "report", "tasks", "completion"]


@pytest.mark.parametrize("command", [[], *[[c] for c in COMMANDS], ["schedule", "one-cycle"]])
def test_help_has_examples(run: Run, command: list[str]) -> None:
    status, out, _ = run(*command, "--help")
    assert status == 0
    assert "Usage: onecycle" in out
    if command != ["schedule"]:
        assert "Examples:\n" in out
        assert "$ onecycle" in out


def test_help_loads_no_framework() -> None:
    code = (
        "import sys; from onecycle.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'numpy', 'matplotlib', 'rich', 'sklearn'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


# demo -------------------------------------------------------------------------------------------------


def test_demo_finds_a_rate_that_beats_the_default_one(run: Run, tmp_path: Path) -> None:
    status, out, err = run("demo", "--out", "d", "--json")
    assert (status, err) == (0, "")
    document = documents(out)
    found, default = document["results"].values()
    assert found["accuracy"] >= 0.97
    assert found["accuracy"] > default["accuracy"]
    assert found["val_loss"] < default["val_loss"]
    folder = tmp_path / "d"
    names = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert names == {
        "run.json", "recipe.toml", "metrics.csv", "baseline.csv", "curves/lr.json",
        "figures/lr.png", "figures/policy.png", "figures/training.png",
    }  # fmt: skip
    assert oc.Recipe.load(folder / "recipe.toml").max_lr == document["max_lr"]
    assert oc.Curve.load(folder / "curves/lr.json").suggest().max_lr == document["max_lr"]
    kept = json.loads((folder / "run.json").read_text())
    assert kept["status"] == "done"
    assert kept["results"] == document["results"]
    assert kept["settings"]["seed"] == 0


def test_demo_in_words(run: Run) -> None:
    status, out, _ = run("demo", "--epochs", 1)
    assert status == 0
    assert "2. suggestion: max_lr" in out
    assert "validation accuracy" in out
    assert "onecycle train digits --recipe onecycle-demo/recipe.toml" in out


# find and train ---------------------------------------------------------------------------------------


def test_find_keeps_its_evidence(run: Run, tmp_path: Path) -> None:
    status, out, err = run("find", "mytask.py", "--steps", 5000, "--out", "f", "--json")
    assert (status, err) == (0, "")
    document = documents(out)
    assert document["rule"] == "pilots"
    assert document["total_steps"] == 5000
    assert document["cost"] <= 1000
    assert document["low"] <= document["max_lr"] <= document["high"]
    recipe = oc.Recipe.load(tmp_path / "f/recipe.toml")
    assert recipe.max_lr == document["max_lr"]
    assert (recipe.batch_size, recipe.weight_decay, recipe.total_steps) == (64, 5e-4, 5000)
    assert {pilot["steps"] for pilot in recipe.evidence["pilots"]} == {81, 245}
    assert oc.Curve.load(tmp_path / "f/curves/lr.json").settings["seed"] == 0
    assert (tmp_path / "f/figures/lr.png").stat().st_size > 1000
    assert json.loads((tmp_path / "f/run.json").read_text())["status"] == "done"


VERBOSE = {
    "find": [
        "task mytask.py, seed 0, total_steps 5000, budget 0.2",
        "with onecycle ",
        "range test: ",
        "pilot: ",
        "kept in o: curves/lr.json, figures/lr.png, recipe.toml, run.json",
    ],
    "tune": [
        "task mytask.py, seed 0, budget 1.0",
        "rate: range test of ",
        "settled: max_lr ",
        " files in trials/",
    ],
    "train": ["total_steps 100, recipe recipe.toml", "max_lr 0.2, batch_size 16", "step 10 of 100: lr "],
    "demo": [
        "task digits, epochs 1, seed 0",
        "range test: ",
        "training: 1cycle up to ",
        "step 22 of 22: lr ",
    ],
}


@pytest.mark.parametrize("command", VERBOSE)
def test_how_much_is_said(run: Run, tmp_path: Path, command: str) -> None:
    recipe(tmp_path)
    arguments = {
        "find": ("mytask.py", "--steps", 5000), "tune": ("mytask.py", "--steps", 2000),
        "train": ("mytask.py", "--recipe", "recipe.toml", "--steps", 100), "demo": ("--epochs", 1),
    }[command]  # fmt: skip
    status, out, err = run(command, *arguments, "--out", "o", "--verbose")
    assert status == 0
    for part in VERBOSE[command]:
        assert part in err
    shutil.rmtree(tmp_path / "o")
    assert run(command, *arguments, "--out", "o", "--quiet") == (0, out.splitlines(keepends=True)[0], "")
    status, _, err = run(command, *arguments, "--quiet", "--verbose")
    assert (status, err.count("\n")) == (2, 1)
    assert "--quiet and --verbose say the opposite: give one" in err


def test_find_in_words(run: Run) -> None:
    status, out, _ = run("find", "mytask.py", "--epochs", 50, "--out", "f")
    assert status == 0
    assert out.startswith("max_lr ")
    assert "for a training of 500" in out
    assert f"onecycle train mytask.py --recipe {Path('f/recipe.toml')}" in out


def test_find_takes_the_task_s_own_length(run: Run) -> None:
    assert documents(run("find", "mytask.py", "--json", "--budget", 1)[1])["total_steps"] == 70


def test_find_writes_nothing_without_out(run: Run, tmp_path: Path) -> None:
    run("find", "mytask.py", "--steps", 500)
    assert [p.name for p in tmp_path.iterdir() if p.name != "__pycache__"] == ["mytask.py"]


def test_find_gives_the_same_for_a_seed(run: Run) -> None:
    def found(seed: int) -> str:
        return run("find", "mytask.py", "--steps", 500, "--json", "--seed", seed)[1]

    assert found(1) == found(1) != found(2)


FLAT = "def build(seed):\n    trial = Quadratic()\n    trial.step = lambda: 1.0\n    return trial\n"


def test_find_says_an_honest_no(run: Run, tmp_path: Path) -> None:
    (tmp_path / "flat.py").write_text("from fakes import Quadratic\n" + FLAT)
    status, out, err = run("find", "flat.py", "--steps", 5000, "--out", "f")
    assert (status, out) == (1, "")
    assert err.startswith("onecycle: no suggestion: ")
    assert err.count("\n") == 1
    assert json.loads((tmp_path / "f/run.json").read_text())["status"] == "inconclusive"
    status, out, _ = run("find", "flat.py", "--steps", 5000, "--json")
    assert status == 1
    assert documents(out)["status"] == "inconclusive"


def recipe(tmp_path: Path, max_lr: float = 0.2, total_steps: int | None = None) -> Path:
    path = tmp_path / "recipe.toml"
    oc.Recipe(max_lr, total_steps=total_steps, batch_size=16).save(path)
    return path


def test_train_on_digits_by_a_recipe(run: Run, tmp_path: Path) -> None:
    path = recipe(tmp_path, 0.05)
    status, out, err = run("train", "digits", "--recipe", path, "--epochs", 2, "--out", "t", "--json")
    assert (status, err) == (0, "")
    document = documents(out)
    assert document["total_steps"] == 2 * (1437 // 16)
    assert document["accuracy"] > 0.9
    names = {p.name for p in (tmp_path / "t").iterdir()}
    assert names == {"run.json", "metrics.csv", "checkpoint.safetensors", "checkpoint.json"}
    assert oc.Curve.read(tmp_path / "t/metrics.csv").loss.size == document["total_steps"]


def test_train_resumes_to_the_same_end(run: Run, tmp_path: Path) -> None:
    path = recipe(tmp_path, 0.05)
    run("train", "digits", "--recipe", path, "--steps", 178, "--out", "whole")
    code = (
        "import sys, torch\nfrom onecycle import _train\nfrom onecycle.cli import main\n"
        "save, count = _train.History.save, 0\n"
        "def dying(self, path):\n"
        "    global count\n"
        "    save(self, path)\n"
        "    if count: import os; os._exit(9)\n"
        "    count += 1\n"
        "_train.History.save = dying\nmain(sys.argv[1:])\n"
    )
    arguments = ["train", "digits", "--recipe", str(path), "--steps", "178", "--out", "parts"]
    died = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert died.returncode == 9, died.stderr
    status, _, err = run(*arguments, "--resume")
    assert (status, err) == (0, "")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert (parts / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert (parts / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()


def test_train_uses_the_recipe_s_length(run: Run, tmp_path: Path) -> None:
    path = recipe(tmp_path, total_steps=33)
    assert documents(run("train", "mytask.py", "--recipe", path, "--json")[1])["total_steps"] == 33
    with_steps = run("train", "mytask.py", "--recipe", path, "--steps", 12, "--json")
    assert documents(with_steps[1])["total_steps"] == 12


def test_train_in_words(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("train", "mytask.py", "--recipe", recipe(tmp_path), "--steps", 20)
    assert status == 0
    assert out.startswith("trained mytask.py for 20 updates: loss ")
    assert "val_loss" in out
    assert "distance" in out


def test_train_that_diverges_says_so(run: Run, tmp_path: Path) -> None:
    path = recipe(tmp_path, 1e30)
    status, out, err = run("train", "mytask.py", "--recipe", path, "--steps", 100, "--out", "t")
    assert (status, out) == (1, "")
    assert "the loss was not finite at step" in err
    assert "lower max_lr in" in err
    assert json.loads((tmp_path / "t/run.json").read_text())["status"] == "diverged"


# suggest and schedule ---------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A range test's log with other people's names."""
    lr = np.geomspace(1e-5, 10, 120)
    loss = 2 - 1.5 / (1 + (0.01 / lr) ** 1.5) + (lr / 0.5) ** 3
    rows = [f"{x},{y}" for x, y in zip(lr, loss, strict=True)]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(["eta_zero,nll", *rows]))
    return path


def test_suggest_reads_a_log(run: Run, log: Path, tmp_path: Path) -> None:
    arguments = ("suggest", log, "--lr", "eta_zero", "--loss", "nll")
    status, out, err = run(*arguments, "--json", "--plot", "curve.png")
    assert (status, err) == (0, "")
    document = documents(out)
    assert 0.01 < document["max_lr"] < 0.5
    assert document["points"] == 120
    assert (tmp_path / "curve.png").stat().st_size > 1000
    status, out, _ = run(*arguments, "--rule", "steep")
    assert status == 0
    assert "by rule steep" in out


def test_suggest_reads_for_a_use(run: Run, log: Path) -> None:
    arguments = ("suggest", log, "--lr", "eta_zero", "--loss", "nll", "--use")
    cycle = documents(run(*arguments, "cyclical", "--json")[1])
    assert cycle["use"] == "cyclical"
    assert 1e-4 < cycle["base_lr"] < 0.01 < cycle["max_lr"] < 0.5
    assert "base_lr " in run(*arguments, "cyclical")[1]
    constant = documents(run(*arguments, "constant", "--json")[1])
    assert "base_lr" not in constant
    assert run(*arguments, "constant")[1].startswith(f"lr {constant['max_lr']:.3g}  (from ")
    status, _, err = run(*arguments, "constant", "--rule", "valley")
    assert status == 2
    assert "rule 'valley' does not tell uses apart" in err


def test_suggest_says_which_columns_it_misses(run: Run, log: Path) -> None:
    status, out, err = run("suggest", log)
    assert (status, out) == (2, "")
    assert "eta_zero" in err
    assert "nll" in err
    assert err.count("\n") == 1


def test_suggest_refuses_a_flat_curve(run: Run, tmp_path: Path) -> None:
    (tmp_path / "flat.csv").write_text("lr,loss\n" + "\n".join(f"{10.0**-k},1" for k in range(30)))
    status, out, err = run("suggest", "flat.csv", "--json", "--plot", "flat.png")
    assert status == 1
    assert documents(out)["status"] == "inconclusive"
    assert err.startswith("onecycle: no suggestion: ")
    assert (tmp_path / "flat.png").exists()


SMITH = Path(__file__).parents[2] / "shared/data/smith"


@pytest.mark.skipif(not SMITH.exists(), reason="Smith's logs are not beside the repository")
@pytest.mark.parametrize("name", ["0-2-80k", "0-3-20k", "0-3-5k"])
def test_suggest_reads_smith_s_range_tests(run: Run, name: str) -> None:
    status, out, _ = run("suggest", SMITH / f"resnet56-cifar10-lr-range-{name}.csv", "--json")
    assert status == 0
    assert 0.03 < documents(out)["max_lr"] < 3


def test_schedule_prints_writes_and_draws(run: Run, tmp_path: Path) -> None:
    arguments = ("schedule", "one-cycle", "--max-lr", 0.8, "--total-steps", 9310, "--tail", 13 / 95)
    status, out, _ = run(*arguments, "--final-lr", 0.008, "--csv", "p.csv", "--plot", "p.png")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["step", "lr", "momentum"]
    assert ["4018", "0.8", "0.85"] in lines
    rows = (tmp_path / "p.csv").read_text().splitlines()
    assert rows[0] == "step,lr,momentum"
    assert rows[1] == "0,0.08,0.95"
    assert rows[1 + 8036] == "8036,0.08,0.95"
    assert len(rows) == 1 + 9310
    assert (tmp_path / "p.png").stat().st_size > 1000
    document = documents(run(*arguments, "--json")[1])
    assert oc.Policy.from_json(json.dumps(document["policy"])) == oc.one_cycle(0.8, 9310, tail=13 / 95)


def test_schedule_cyclical_without_end_shows_two_cycles(run: Run, tmp_path: Path) -> None:
    arguments = ("--base-lr", 0.1, "--max-lr", 0.5, "--step-size", 10, "--step-size-down", 20)
    status, out, _ = run("schedule", "cyclical", *arguments, "--momentum", 0.95, 0.85, "--csv", "c.csv")
    assert status == 0
    assert out.splitlines()[-1].split()[0] == "59"
    assert len((tmp_path / "c.csv").read_text().splitlines()) == 61


# the rest ---------------------------------------------------------------------------------------------


def test_tasks(run: Run) -> None:
    assert "digits" in documents(run("tasks", "--json")[1])["tasks"]
    assert run("tasks")[1].startswith("digits")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(run: Run, shell: str) -> None:
    status, out, _ = run("completion", shell)
    assert status == 0
    assert "_ONECYCLE_COMPLETE" in out


BAD = [
    (["nope"], "No such command 'nope'"),
    (["find"], "Missing argument 'TASK'"),
    (["find", "nope"], "task 'nope' is not known"),
    (["find", "no.py"], "task file no.py does not exist"),
    (["find", "mytask.py:broken"], "mytask.py:broken raised KeyError: 'no data'"),
    (["find", "mytask.py:nothing"], "must return a trial"),
    (["find", "mytask.py", "--budget", "0"], "budget must allow for a sweep of 10 updates"),
    (["find", "mytask.py", "--budget", "x"], "Invalid value for '--budget'"),
    (["find", "mytask.py", "--epochs", "-1"], "Invalid value for '--epochs'"),
    (["find", "mytask.py", "--epochs", "1", "--steps", "9"], "--epochs and --steps say the same thing"),
    (["train", "mytask.py"], "Missing option '--recipe'"),
    (["train", "mytask.py", "--recipe", "no.toml"], "recipe no.toml does not exist"),
    (["train", "mytask.py", "--recipe", "mytask.py"], "is no TOML"),
    (["train", "mytask.py", "--recipe", "r.toml", "--resume"], "--resume needs --out"),
    (["train", "digits", "--recipe", "r.toml", "--resume", "--out", "o"], "train without --resume first"),
    (["suggest", "no.csv"], "no.csv: no such file"),
    (["suggest", "."], "Invalid value for 'FILE'"),
    (["schedule", "one-cycle", "--max-lr", "-1", "--total-steps", "9"], "max_lr must be > 0, got -1"),
    (["schedule", "one-cycle", "--max-lr", "1", "--total-steps", "0"], "total_steps must be a whole number"),
    (["schedule", "cyclical", "--base-lr", "2", "--max-lr", "1", "--step-size", "9"], "base_lr must lie"),
    (["demo", "--seed", "-1"], "Invalid value for '--seed'"),
    (["find", "mytask.py", "--epochs", "nan"], "--epochs must be a finite number, got nan"),
    (["find", "mytask.py", "--epochs", "inf"], "--epochs must be a finite number, got inf"),
    (["find", "mytask.py", "--budget", "1e308"], "budget must allow for a sweep of 10 updates"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_use_is_one_line(run: Run, tmp_path: Path, arguments: list[str], message: str) -> None:
    recipe(tmp_path).rename(tmp_path / "r.toml")
    status, out, err = run(*arguments)
    assert status == 2
    assert out == ""
    assert message in err
    assert err.startswith("onecycle: ")
    assert err.count("\n") == 1
    if "suggest" not in arguments[1:] and arguments != ["nope"]:
        status, out, _ = run(*arguments, "--json")
        assert status == 2
        assert documents(out)["status"] == "error"
        assert message in documents(out)["reason"]


def test_debug_shows_the_traceback(run: Run) -> None:
    _, _, err = run("find", "mytask.py:broken", "--debug")
    assert "Traceback (most recent call last)" in err
    assert err.splitlines()[-1].startswith("onecycle: task mytask.py:broken raised KeyError")


def test_an_error_inside_a_step_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "oom.py").write_text(
        "from fakes import Quadratic\n"
        "def fail(step):\n    if step == 30: raise RuntimeError('out of memory\\nat line 2')\n"
        "def build(seed):\n    return Quadratic(fail=fail)\n"
    )
    status, out, err = run("find", "oom.py", "--steps", 5000)
    assert (status, out) == (2, "")
    assert err == "onecycle: RuntimeError: out of memory at line 2; --debug shows where\n"


NOISY = """
import os, sys
print("noise on import")
from fakes import Quadratic

def build(seed):
    print("noise from Python")
    os.system("echo noise from a child")
    return Quadratic(noise=0.01)

def leaves(seed):
    sys.exit(5)

def leaves_later(seed):
    def fail(step):
        if step == 30:
            sys.exit(7)
    return Quadratic(fail=fail)
"""


def test_what_a_task_prints_keeps_out_of_the_json(tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    ended = subprocess.run(
        [sys.executable, "-m", "onecycle", "find", "noisy.py", "--steps", "500", "--json"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert documents(ended.stdout)["status"] == "done"
    for noise in ("noise on import", "noise from Python", "noise from a child"):
        assert noise in ended.stderr


def test_a_task_that_exits_is_bad_use(run: Run, tmp_path: Path) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    (tmp_path / "script.py").write_text("import sys\nsys.exit(1)\n")
    status, _, err = run("find", "script.py")
    assert status == 2
    assert "script.py called sys.exit(1) on import: put that below if __name__ == '__main__'" in err
    status, _, err = run("find", "noisy.py:leaves")
    assert status == 2
    assert "task noisy.py:leaves called sys.exit(5)" in err
    status, _, err = run("find", "noisy.py:leaves_later", "--steps", 500)
    assert status == 2
    assert "the task called sys.exit(7) while it ran" in err


def test_results_of_an_earlier_run_do_not_pass_for_this_one_s(run: Run, tmp_path: Path) -> None:
    (tmp_path / "flat.py").write_text("from fakes import Quadratic\n" + FLAT)
    run("find", "mytask.py", "--steps", 5000, "--out", "f")
    (tmp_path / "f/notes.txt").write_text("mine")
    assert (tmp_path / "f/recipe.toml").exists()
    assert run("find", "flat.py", "--steps", 5000, "--out", "f")[0] == 1
    assert not (tmp_path / "f/recipe.toml").exists()
    assert (tmp_path / "f/notes.txt").read_text() == "mine"


def test_a_folder_that_was_made_otherwise_is_left_as_it_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    (tmp_path / "f/metrics.csv").write_text("mine")
    assert run("find", "mytask.py", "--steps", 500, "--out", "f")[0] == 0
    assert (tmp_path / "f/metrics.csv").read_text() == "mine"


def test_a_run_that_was_kept_is_not_written_over(run: Run, tmp_path: Path) -> None:
    arguments = ("train", "digits", "--recipe", recipe(tmp_path, 0.05), "--steps", 20, "--out", "t")
    assert run(*arguments)[0] == 0
    kept = (tmp_path / "t/checkpoint.safetensors").read_bytes()
    status, _, err = run(*arguments)
    assert status == 2
    assert "--out t holds a run already: go on with it by --resume, or name another folder" in err
    assert (tmp_path / "t/checkpoint.safetensors").read_bytes() == kept


def test_a_run_is_not_resumed_as_another(run: Run, tmp_path: Path) -> None:
    arguments = ["train", "digits", "--recipe", str(recipe(tmp_path, 0.05)), "--out", "t"]
    run(*arguments, "--steps", 20, "--seed", 3)
    status, _, err = run(*arguments, "--steps", 20, "--resume", "--seed", 4)
    assert status == 2
    assert "--seed 4 cannot go on with a run of seed 3" in err
    status, _, err = run(*arguments, "--steps", 10, "--resume")
    assert status == 2
    assert "the run in t is at step 20, past the 10 asked for" in err
    status, out, _ = run(*arguments, "--steps", 20, "--resume", "--json")
    assert status == 0
    assert documents(out)["accuracy"] > 0
    assert json.loads((tmp_path / "t/run.json").read_text())["settings"]["seed"] == 3
    (tmp_path / "t/metrics.csv").unlink()
    status, _, err = run(*arguments, "--steps", 30, "--resume")
    assert status == 2
    assert "metrics.csv does not exist: train without --resume first" in err


def test_options_go_to_the_task_and_stay_with_its_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "curved.py").write_text(
        "from fakes import Quadratic\n\n"
        "def build(seed, batch_size=1, weight_decay=0.0, curvature=1.0, name=None):\n"
        "    assert name == 'flat out'\n"
        "    return Quadratic(curvature)\n"
    )
    options = ("--option", "curvature=0.5", "--option", "name=flat out")
    arguments = ("train", "curved.py", "--recipe", recipe(tmp_path, 0.05), "--steps", 12)
    status, out, err = run(*arguments, *options, "--out", "t", "--checkpoint-every", 5, "--json")
    assert (status, err) == (0, "")
    assert documents(out)["loss"] == documents(run(*arguments, *options, "--json")[1])["loss"]
    steep = run(*arguments, "--option", "curvature=2", "--option", "name=flat out", "--json")
    assert documents(out)["loss"] != documents(steep[1])["loss"]
    settings = json.loads((tmp_path / "t/run.json").read_text())["settings"]
    assert settings["options"] == {"curvature": 0.5, "name": "flat out"}


@pytest.mark.parametrize(
    ("option", "message"),
    [("augment", "'augment' is not NAME=VALUE"), ("batch_size=3", "batch_size is not an option of the task")],
)
def test_bad_options_are_named(run: Run, option: str, message: str) -> None:
    status, _, err = run("find", "digits", "--option", option)
    assert status == 2
    assert message in err


def test_a_run_goes_on_with_the_options_it_began_with(run: Run, tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(
        "from onecycle.tasks import digits\n\n"
        "def build(seed, batch_size=16, weight_decay=0.0, extra=0):\n"
        "    return digits.build(seed, batch_size, weight_decay)\n"
    )
    arguments = ("train", "small.py", "--recipe", recipe(tmp_path, 0.05), "--steps", 10, "--out", "t")
    assert run(*arguments, "--option", "extra=1")[0] == 0
    status, _, err = run(*arguments, "--resume")
    assert status == 2
    assert "the run in t was begun with --option extra=1: go on with the same" in err
    assert run(*arguments, "--option", "extra=1", "--resume")[0] == 0


def test_tensorboard_that_is_not_installed_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    arguments = ("train", "digits", "--recipe", recipe(tmp_path, 0.05), "--steps", 3, "--tensorboard")
    assert "need --out, the folder to write to" in run(*arguments)[2]
    status, _, err = run(*arguments, "--out", "t")
    assert status == 2
    assert "--tensorboard needs tensorboard: pip install 'onecycle[tensorboard]'" in err


def test_a_resumed_run_voids_the_events_past_its_checkpoint(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Any] = []
    written: list[tuple[str, int]] = []

    class SummaryWriter:  # tensorboard's, which need not be installed
        def __init__(self, folder: Path, purge_step: int | None) -> None:
            begun.append((folder, purge_step))

        def add_scalar(self, name: str, _: float, step: int) -> None:
            written.append((name, step))

        def flush(self) -> None:
            written.append(("flush", -1))

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    arguments = ("train", "digits", "--recipe", recipe(tmp_path, 0.05), "--out", "t", "--tensorboard")
    assert run(*arguments, "--steps", 5)[0] == 0
    assert written[-1] == ("flush", -1)
    assert {("loss", 4), ("accuracy", 4)} <= set(written)
    assert run(*arguments, "--steps", 8, "--resume")[0] == 0
    assert begun == [(Path("t/tensorboard"), None), (Path("t/tensorboard"), 5)]
    assert ("loss", 7) in written


@pytest.mark.filterwarnings("ignore")  # tensorboard's own
def test_tensorboard_gets_what_the_metrics_file_gets(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = recipe(tmp_path, 0.05)
    assert run("train", "digits", "--recipe", path, "--steps", 95, "--out", "t", "--tensorboard")[0] == 0
    events = EventAccumulator(str(tmp_path / "t/tensorboard"))
    events.Reload()
    history = History.load(tmp_path / "t/metrics.csv")
    for name in ("lr", "loss", "accuracy", "val_loss"):
        steps, values = history.column(name)
        assert [event.step for event in events.Scalars(name)] == steps
        assert [event.value for event in events.Scalars(name)] == pytest.approx(values, rel=1e-5)


def test_pilots_that_were_finished_are_kept(run: Run, tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(
        "from fakes import Quadratic\ncalls = []\n"
        "def fail(step):\n    calls.append(step)\n    if len(calls) == 600: raise KeyboardInterrupt\n"
        "def build(seed):\n    return Quadratic(noise=0.01, fail=fail)\n"
    )
    status, _, err = run("find", "late.py", "--steps", 5000, "--out", "f")
    assert status == 130
    kept = json.loads((tmp_path / "f/run.json").read_text())
    assert kept["status"] == "interrupted"
    done = len(kept["pilots"])
    assert done == 3
    kept_and_shown = f"{done} of the pilots are kept in f, and `onecycle report f` shows them"
    assert err.endswith(f"interrupted; the range test and {kept_and_shown}\n")


def test_a_figure_shows_the_rule_that_was_asked_for(
    run: Run, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onecycle import plot

    drawn: list[Any] = []
    monkeypatch.setattr(plot, "plot_curve", lambda *_, suggestion: drawn.append(suggestion))
    arguments = ("suggest", log, "--lr", "eta_zero", "--loss", "nll", "--plot", "x.png")
    document = documents(run(*arguments, "--rule", "steep", "--json")[1])
    assert drawn[0].value == document["max_lr"]
    assert run(*arguments, "--rule", "nope")[0] == 2
    assert len(drawn) == 1


def test_other_ends_of_the_sweep(run: Run, tmp_path: Path) -> None:
    arguments = ("--start", 1e-3, "--end", 5, "--steps", 500, "--out", "f")
    assert run("find", "mytask.py", *arguments)[0] == 0
    assert oc.Curve.load(tmp_path / "f/curves/lr.json").settings["end"] == 5


@pytest.mark.parametrize("command", [[], ["schedule"]])
def test_a_group_alone_prints_its_help(run: Run, command: list[str]) -> None:
    status, out, err = run(*command)
    assert (status, err) == (0, "")
    assert out.startswith("Usage: onecycle")


def test_json_of_a_call_that_the_parser_refuses(run: Run) -> None:
    status, out, _ = run("suggest", "--json", "--bogus", "x")
    assert status == 2
    assert "--bogus" in documents(out)["reason"]


INTERRUPTED = """
import os, signal, sys
from fakes import Quadratic

def fail(step):
    if step == 55:
        os.kill(os.getpid(), signal.{signal})

def build(seed, batch_size=64):
    return Quadratic(noise=0.01, fail=fail, val=True)
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_keeps_all_finished_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "slow.py").write_text(INTERRUPTED.replace("{signal}", name))
    path = recipe(tmp_path)
    command = [sys.executable, "-m", "onecycle", "train", "slow.py", "--recipe", str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])}
    started = time.monotonic()
    ended = subprocess.run(
        [*command, "--steps", "100", "--out", "t", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert time.monotonic() - started < 30
    assert ended.returncode == 130, ended.stderr
    assert documents(ended.stdout)["status"] == "interrupted"
    assert ended.stderr.strip() == "onecycle: interrupted; there is no checkpoint yet"
    assert json.loads((tmp_path / "t/run.json").read_text())["status"] == "interrupted"
