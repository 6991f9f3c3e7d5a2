from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fakes import Quadratic
from onecycle.tasks import BUILT_IN, EPOCHS, Task, resolve

TASK = """
from fakes import Quadratic

def build(seed, batch_size=64, weight_decay=5e-4):
    trial = Quadratic(noise=0.01, val=True)
    trial.seed(seed)
    trial.size = batch_size
    return trial

build.epochs = 7

def other(seed):
    return Quadratic(curvature=1.0)

def nothing(seed):
    return None

def broken(seed):
    raise KeyError("no data")

number = 3
"""


@pytest.fixture
def task_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    path = tmp_path / "mytask.py"
    path.write_text(TASK)
    return path


def test_a_file_gives_its_build(task_file: Path) -> None:
    task = resolve(str(task_file))
    assert task.epochs == 7
    assert task.name == str(task_file)
    assert task.trial(0).size == 64
    assert task.trial(0, batch_size=8, weight_decay=None).size == 8
    assert task.default("batch_size") == 64
    assert task.default("weight_decay") == 5e-4
    assert task.default("seed") is None
    assert task.default("momentum") is None


def test_a_file_and_a_function(task_file: Path) -> None:
    task = resolve(f"{task_file}:other")
    assert task.epochs == EPOCHS
    trial = task.trial(0)
    assert isinstance(trial, Quadratic)
    assert trial.curvature == 1.0


def test_a_file_imports_its_neighbours(task_file: Path) -> None:
    (task_file.parent / "neighbour_of_mytask.py").write_text("curvature = 9.0\n")
    task_file.write_text(
        "from fakes import Quadratic\nimport neighbour_of_mytask\n\n"
        "def build(seed):\n    return Quadratic(neighbour_of_mytask.curvature)\n"
    )
    before = list(sys.path)
    trial = resolve(str(task_file)).trial(0)
    assert isinstance(trial, Quadratic)
    assert trial.curvature == 9.0
    assert sys.path == before


def test_a_module_and_a_function(task_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(task_file.parent)
    assert isinstance(resolve("mytask:other").trial(0), Quadratic)


def test_a_module_in_the_present_folder(task_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", ".")])
    task_file.rename(task_file.with_name("task_right_here.py"))
    monkeypatch.chdir(task_file.parent)
    assert isinstance(resolve("task_right_here:other").trial(0), Quadratic)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (
            "nope",
            r"^task 'nope' is not known: use one of digits, cifar10-resnet56, .*, path\.py, "
            r"path\.py:function or package\.module:function$",
        ),
        ("{}:absent", r"^task .*:absent has no function 'absent'; its functions: .*build, other"),
        ("{}:number", r"has no function 'number'"),
        ("no_such_module:f", r"^task no_such_module:f raised ModuleNotFoundError on import: No module"),
    ],
)
def test_what_is_not_there_is_named(task_file: Path, reference: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(reference.format(task_file))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"^task file no/such\.py does not exist$"):
        resolve("no/such.py")


def test_a_file_that_raises_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("1 / 0\n")
    with pytest.raises(ValueError, match=r"bad\.py raised ZeroDivisionError on import: division by zero$"):
        resolve(str(tmp_path / "bad.py"))


def test_a_builder_that_raises_or_gives_no_trial_is_named(task_file: Path) -> None:
    with pytest.raises(ValueError, match=r":broken raised KeyError: 'no data'$"):
        resolve(f"{task_file}:broken").trial(0)
    with pytest.raises(ValueError, match=r":nothing must return a trial, such as .*, got NoneType$"):
        resolve(f"{task_file}:nothing").trial(0)


def test_a_builder_that_takes_no_batch_size_is_named(task_file: Path) -> None:
    with pytest.raises(ValueError, match=r":other raised TypeError: other\(\) got an unexpected keyword"):
        resolve(f"{task_file}:other").trial(0, batch_size=4)


def test_options_are_arguments_of_the_builder(task_file: Path) -> None:
    task = resolve(str(task_file))
    assert task.having({}) is task
    small = task.having({"batch_size": 5})
    assert small.epochs == 7
    assert small.trial(0).size == 5
    with pytest.raises(ValueError, match=r"raised TypeError: .* unexpected keyword argument 'colour'"):
        task.having({"colour": "red"}).trial(0)


# Those on CIFAR-10 are too large to be run as they are: test_cifar10.py.
@pytest.mark.parametrize("name", [name for name in BUILT_IN if not name.startswith("cifar10")])
def test_built_in_tasks_are_the_same_for_a_seed(name: str) -> None:
    task = resolve(name)
    assert isinstance(task, Task)

    def losses(seed: int) -> list[float]:
        trial = task.trial(seed, batch_size=32)
        assert trial.size == 32
        return [float(trial.step()) for _ in range(3)]

    assert losses(0) == losses(0) != losses(1)
    assert task.trial(0).evaluate() == task.trial(0).evaluate()
