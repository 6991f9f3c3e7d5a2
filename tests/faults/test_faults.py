"""A few of the faults of `benchmarks.reliability`: after each, nothing is lost and a second start goes on."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("safetensors")
if not hasattr(os, "fork"):
    pytest.skip("the harness forks", allow_module_level=True)

from benchmarks.reliability import commands, engines, faults
from benchmarks.reliability.faults import Counts
from benchmarks.reliability.problem import Fault, Problem
from onecycle.torch import Trial, _snapshots, _state

# An interrupt that strikes this generator of torch's while it is being closed is not heard.
UNHEARD = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <generator object Module.named_modules"
    ":pytest.PytestUnraisableExceptionWarning"
)


@pytest.mark.parametrize(
    ("run", "least"),
    [
        (partial(faults.sweep_of_faults, small=True), 30),
        pytest.param(partial(faults.interrupts_at_lines, most=25), 25, marks=UNHEARD),
        (partial(faults.interrupts_at_any_moment, moments=8), 1),
        (faults.clocks_that_jump, 10),
    ],
    ids=["at every place", "at lines", "at any moment", "a clock jumps"],
)
def test_nothing_is_lost_in_python(run: Callable[[Counts], None], least: int) -> None:
    counts: Counts = {}
    run(counts)
    assert {kind: row.lost for kind, row in counts.items() if row.lost} == {}
    assert sum(row.injected for row in counts.values()) >= least


def test_an_interrupt_while_an_evaluation_puts_the_model_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """`find_lr` begins with one, outside of the block that puts the whole trial back."""
    problem = Problem()
    trial = Trial(problem.model, problem.optimizer, problem.loss_fn, problem.loader, problem.val_loader)
    before, put_back = problem.weights(), _state.put_back_modules

    def disturbed(*arguments: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        put_back(*arguments)

    monkeypatch.setattr(_snapshots, "put_back_modules", disturbed)
    with pytest.raises(KeyboardInterrupt):
        trial.evaluate()
    assert problem.weights() == before
    assert torch.is_grad_enabled()


def test_the_harness_sees_what_is_lost() -> None:
    """A range test that puts nothing back must not pass."""

    def careless(problem: Problem) -> str:
        problem.train(2)
        return ""

    with pytest.raises(AssertionError, match="careless without any fault takes: model or optimizer"):
        faults.Case(careless)


def test_an_engine_that_fails_by_itself_is_no_fault_survived(tmp_path: Path) -> None:
    """What had not struck was not counted, and a search that failed at once passed for nothing tried."""

    class Broken:
        workers = 1

        def run(self, *_: object) -> None:
            raise RuntimeError("no worker")

        def close(self) -> None:
            pass

    tried = engines.Search(tmp_path)
    with pytest.raises(RuntimeError, match=r"without a fault: the search, which ended with .*no worker"):
        tried.strike({}, "Ray node that dies", 0, Broken(), lambda: False)
    sent = pickle.loads(pickle.dumps(Fault("kill", "data", 3)))
    assert (sent.kind, sent.place, sent.at, sent.struck) == ("kill", "data", 3, False)


@pytest.fixture(scope="module", params=["train", "tune"])
def command(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> commands.Command:
    commands.preload()
    return commands.command(request.param, tmp_path_factory.mktemp("commands"))


@pytest.mark.parametrize(
    ("kind", "place", "at"),
    [
        ("kill", "update", 17),
        ("terminate", "update", 17),
        ("kill", "flush", 2),
        ("full disk", "rename", 2),
        ("kill", "checkpoint", 1),
    ],
)
def test_a_second_start_goes_on(command: commands.Command, kind: str, place: str, at: int) -> None:
    counts: Counts = {}
    command.strike(counts, kind, Fault(kind, place, at))
    if place == "checkpoint" and command.name == "tune":
        assert not counts  # it writes none
        return
    (found,) = counts.values()
    assert found.lost == []
    assert found.injected == 1


def test_a_killed_process_leaves_no_temporary_file_for_good(tmp_path: Path) -> None:
    from onecycle._files import remove_unfinished

    (tmp_path / "curves").mkdir()
    ours = [tmp_path / ".run.json.0123456789abcdef", tmp_path / "curves" / ".lr.json.0123456789abcdef"]
    yours = [tmp_path / name for name in (".env", "run.json", ".notes.txt", "curves/lr.json")]
    for path in (*ours, *yours):
        path.write_text("")
    remove_unfinished(tmp_path)
    assert [path.exists() for path in ours] == [False, False]
    assert all(path.exists() for path in yours)
