"""Any value for any argument: what comes of it is a result, or one clear line that says what is wrong."""

from __future__ import annotations

import inspect
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import onecycle as oc
import onecycle.torch
from fakes import Quadratic
from onecycle.cli import cli, main
from onecycle.torch import Scheduler, Trial


class Anything:
    def __init__(self, *values: object, **named: object) -> None:
        """A callable that takes all and gives nothing of use."""


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 20),
    st.sampled_from([-1, 0, 1, 2, 10**19, -(10**400), 10**400, 5e-324, 1.8e308, -0.0, 0.1, 0.5, 0.95]),
    st.floats(),
    st.sampled_from(
        ["", "lr", "nan", "1", "linear", "train", "a\nb", "x" * 300, b"bytes", Anything, object()]
    ),
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.sampled_from(["lr", "a", 1]), inner),
    ),
    max_leaves=4,
)


@pytest.fixture(autouse=True, scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Any text is also a path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("anywhere"))
        yield


TRIAL = Quadratic(noise=0.01)
CURVE = oc.Curve(
    [10 ** (-3 + step / 4) for step in range(12)],
    [2.3, 2.3, 2.25, 2.1, 1.8, 1.4, 1.1, 0.9, 0.8, 0.9, 1.5, 4.0],
)


BATCHES = [(torch.ones(2, 2), torch.full((2, 1), float(number))) for number in range(5)]


USUAL = object()  # an argument as `small_trial` has it


def small_trial(**arguments: Any) -> Trial:
    model = torch.nn.Linear(2, 1)
    given_: dict[str, Any] = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loss_fn": torch.nn.functional.mse_loss,
        "train_loader": [(torch.ones(2, 2), torch.zeros(2, 1))],
    }
    return Trial(**given_ | {name: value for name, value in arguments.items() if value is not USUAL})


def helper(function: Callable[..., Any], **arguments: Any) -> Any:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = [(torch.ones(2, 2), torch.zeros(2, 1))]
    return function(model, optimizer, torch.nn.functional.mse_loss, data, progress=False, **arguments)


def quadratic(seed: int) -> Quadratic:  # noqa: ARG001 - a builder takes it
    return Quadratic(noise=0.01)


def tuned(**arguments: Any) -> oc.Recipe:
    given_: dict[str, Any] = {"build": quadratic, "progress": False}
    return oc.tune(**given_ | {name: value for name, value in arguments.items() if value is not USUAL})


ENOUGH = "the arguments are fine"


def fails(seed: int, batch_size: int = 8) -> Trial:  # noqa: ARG001 - a builder takes them
    """What need not train: by then all that can be told of the other arguments is told."""
    raise RuntimeError(ENOUGH)


def scheduler(**arguments: Any) -> Scheduler:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    given_: dict[str, Any] = {"optimizer": optimizer, "policy": oc.one_cycle(0.1, 10)}
    return Scheduler(**given_ | {name: value for name, value in arguments.items() if value is not USUAL})


# Each function with arguments that it takes, any of which may become anything.
FUNCTIONS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "one_cycle": (
        oc.one_cycle,
        {"max_lr": 0.1, "total_steps": 20, "min_lr": 0.01, "final_lr": 0.001, "tail": 0.1, "peak": 0.5}
        | {"momentum": (0.95, 0.85), "shape": "linear", "form": "paper"},
    ),
    "one_cycle.from_torch": (
        oc.one_cycle.from_torch,
        {"max_lr": 0.1, "total_steps": 20, "epochs": None, "steps_per_epoch": None, "pct_start": 0.3}
        | {"anneal_strategy": "cos", "cycle_momentum": True, "base_momentum": 0.85, "max_momentum": 0.95}
        | {"div_factor": 25, "final_div_factor": 1e4, "three_phase": False},
    ),
    "one_cycle.from_fastai": (
        oc.one_cycle.from_fastai,
        {"lr_max": 0.1, "total_steps": 20, "div": 25, "div_final": 1e5, "pct_start": 0.25}
        | {"moms": (0.9, 0.8, 0.9)},
    ),
    "cyclical": (
        oc.cyclical,
        {"base_lr": 0.01, "max_lr": 0.1, "step_size": 5, "mode": "triangular", "gamma": 0.9}
        | {"step_size_down": 5, "momentum": 0.9, "total_steps": 30},
    ),
    "cyclical.from_torch": (
        oc.cyclical.from_torch,
        {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 5, "gamma": 0.9, "step_size_down": 2.5}
        | {"mode": "triangular", "scale_fn": None, "scale_mode": "cycle", "cycle_momentum": True}
        | {"base_momentum": 0.8, "max_momentum": 0.9},
    ),
    "Curve": (
        oc.Curve,
        {"value": [0.1, 0.2], "loss": [1.0, 0.5], "step": [0, 1], "seed": [0, 0], "val_loss": [1, 1]}
        | {"noise": None, "hyper": "lr", "sweep": "linear", "settings": {}, "moved": [0.1, 0.2]},
    ),
    "Suggestion": (
        oc.Suggestion,
        {"value": 0.2, "low": 0.1, "high": 0.3, "rule": "valley", "reason": "why"}
        | {"use": "one_cycle", "hyper": "lr", "base_lr": None},
    ),
    "Recipe": (
        oc.Recipe,
        {"max_lr": 0.1, "min_lr": 0.01, "interval": (0.1, 0.2), "momentum": 0.9, "weight_decay": 0.1}
        | {"batch_size": 8, "total_steps": 20, "form": "paper", "evidence": {}},
    ),
    "range_test": (
        oc.range_test,
        {"trial": TRIAL, "start": 1e-3, "end": 1.0, "steps": 12, "repeats": 1, "hyper": "lr", "seed": 0}
        | {"sweep": "linear", "progress": False, "batches_per_value": 1, "evaluations": 2},
    ),
    "find_lr": (
        oc.find_lr,
        {"trial": TRIAL, "total_steps": 60, "objective": "train", "budget": 0.2, "seed": 0}
        | {"progress": False},
    ),
    "train": (
        oc.train,
        {"trial": TRIAL, "policy": oc.one_cycle(0.01, 3), "total_steps": 3, "evaluate_every": 2}
        | {"start_step": 0, "after_evaluation": None, "checkpoint_every": None, "checkpoint": None}
        | {"history": None, "tracker": None, "progress": False, "title": "train"},
    ),
    "Trial": (
        small_trial,
        {"model": USUAL, "optimizer": USUAL, "loss_fn": USUAL, "train_loader": USUAL, "val_loader": None}
        | {"step": None}
        | {"device": None, "amp": None, "accumulate": 1, "clip_grad_norm": 1.0}
        | {"metrics": None, "keep_on": None},
    ),
    "Trial.set": (
        lambda **hyper: small_trial().set(**hyper),
        {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1},
    ),
    "Trial.seed": (lambda seed: small_trial().seed(seed), {"seed": 0}),
    "Scheduler": (scheduler, {"optimizer": USUAL, "policy": oc.one_cycle(0.1, 10), "start_step": 3}),
    "Scheduler.load_state_dict": (
        lambda state_dict: scheduler().load_state_dict(state_dict),
        {"state_dict": {"last_epoch": 3}},
    ),
    "Policy": (oc.Policy, {"total_steps": 3, "lr": oc.constant(0.1), "momentum": None, "weight_decay": None}),
    "constant": (oc.constant, {"value": 0.1}),
    **{
        shape.__name__: (shape, {"start": 0.1, "end": 0.2, "steps": 10})
        for shape in (oc.linear, oc.cosine, oc.exponential)
    },
    "Piecewise": (oc.Piecewise, {"steps": (0, 5), "values": (0.1, 0.2), "shapes": ("linear",)}),
    "Cycle": (
        oc.Cycle,
        {"start": 0.1, "peak": 0.2, "up": 5, "down": 5, "mode": "triangular", "gamma": 1.0, "per": "cycle"}
        | {"last": 20},
    ),
    "Schedule": (lambda step: oc.constant(0.1)(step), {"step": 3}),
    "Recipe.policy": (lambda total_steps: oc.Recipe(0.1).policy(total_steps), {"total_steps": 30}),
    "Curve.suggest": (lambda **given: CURVE.suggest(**given), {"rule": "valley", "use": "one_cycle"}),
    "Curve.smooth": (lambda width: CURVE.smooth(width), {"width": 0.5}),
    "tune": (
        tuned,
        {"total_steps": 200, "epochs": None, "budget": 0.05, "engine": "local", "seed": 0}
        | {"out": None, "resume": None, "on_state": None},
    ),
    "torch.range_test": (
        partial(helper, onecycle.torch.range_test),
        {"start": 1e-3, "end": 1.0, "steps": 12, "repeats": 1, "hyper": "lr", "seed": 0, "sweep": "linear"}
        | {"batches_per_value": 1, "evaluations": 2, "accumulate": 1, "amp": None},
    ),
    "torch.find_lr": (
        partial(helper, onecycle.torch.find_lr),
        {"total_steps": 60, "objective": "train", "budget": 0.2, "seed": 0, "clip_grad_norm": 1.0},
    ),
    "torch.noise_scale": (
        lambda **given: onecycle.torch.noise_scale(**{"trial": small_trial(train_loader=BATCHES), **given}),
        {"batches": 4, "warm": 1, "lr": 0.1, "seed": 0},
    ),
    "torch.batch_size": (
        lambda **given: onecycle.torch.batch_size(fails, **given),
        {"start": 2, "most": 4, "limit": None, "margin": 0.1, "warm": 0, "lr": 0.1, "seed": 0},
    ),
    "torch.largest_batch": (
        lambda **given: onecycle.torch.largest_batch(fails, **given),
        {"start": 2, "most": 4, "limit": None, "margin": 0.1, "seed": 0},
    ),
}
# A number of steps is as many as are asked for.
COSTLY = {
    "range_test": ("steps", "repeats", "batches_per_value"),
    "find_lr": ("total_steps", "budget"),
    "train": ("total_steps",),
    "tune": ("total_steps", "epochs", "budget"),
    "torch.range_test": ("steps", "repeats", "batches_per_value", "accumulate"),
    "torch.find_lr": ("total_steps", "budget"),
    "torch.noise_scale": ("batches", "warm"),
}


def affordable(name: str, one: str, value: Any) -> Any:
    """`value`, or 1 where it is a number of steps that would take too long."""
    costly = one in COSTLY.get(name, ()) and isinstance(value, (int, float)) and value > 100
    return 1 if costly else value


WAY_OUT = re.compile(r"\b(must|give|use|needs?|try|raise|lower|leave|pass|known are|cannot be set)\b")


def told(name: str, values: Mapping[str, Any]) -> str:
    """The error of a function with these arguments among its usual ones, empty where it takes them."""
    function, usual = FUNCTIONS[name]
    try:
        function(**{**usual, **values})
    except (oc.Inconclusive, OSError):  # of a path, which the error names
        return ""
    except (ValueError, TypeError) as error:
        return "" if ENOUGH in str(error) else str(error) or "an error without a word"
    return ""


def shown(value: Any, text: str) -> bool:
    """Whether a message shows a value, or a part of it, as Python or a person writes it."""
    if value is None or (value in ([], (), {}) and re.search(r"empty|\(\)|got 0|and 0", text)):
        return True
    forms = [repr(value), str(value), type(value).__name__]
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 1e308):
        forms += [f"{value:g}", repr(float(value))]
    if isinstance(value, Mapping):
        parts = [*value, *value.values()]
    else:
        parts = [*value, len(value)] if isinstance(value, (list, tuple)) else []
    return any(form[:10] in text for form in forms) or any(shown(part, text) for part in parts)


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_any_values_for_two_arguments(name: str, data: st.DataObject) -> None:
    usual = sorted(FUNCTIONS[name][1])
    changed = data.draw(
        st.lists(st.sampled_from(usual), min_size=min(2, len(usual)), max_size=2, unique=True)
    )
    said = told(name, {one: affordable(name, one, data.draw(JUNK, label=one)) for one in changed})
    assert len(said) < 1500
    assert not said or any(one in said for one in changed)


# What lies at an edge of numbers, of types, or of what floats can hold.
EDGES: list[Any] = [
    *(None, True, False, -3, -1, 0, 1, 2, 3, 7, 20, 10**19, -(10**400), 10**400),
    *(5e-324, 1e-320, 1e-300, 1e-160, 1e160, 1e300, 1.7e308, -1e300, -5e-324, -0.0),
    *(0.1, 0.5, 0.95, 1.0, 1.5, math.nan, math.inf, -math.inf),
    *("", "lr", "nan", "1", "linear", "train", "a\nb", "x" * 300, b"bytes", Anything, object()),
    *([], (), {}, [1], [0.5, 0.1], (0.9, 0.8), (5e-324, 1e300), (1e308, 1e308, -1e308), (1, 2, 3)),
    *({"lr": 1}, {"a": None}, {1: 5e-324}, [None], (None, None), [[1]], (1e-320,)),
]


def well_told(one: str, value: Any, said: str) -> bool:
    """Whether an error names the argument, the value and the way out."""
    return one in said and shown(value, said) and WAY_OUT.search(said) is not None


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.filterwarnings("ignore")
def test_every_edge_for_every_argument(name: str) -> None:
    for one in FUNCTIONS[name][1]:
        for value in (affordable(name, one, edge) for edge in EDGES):
            said = told(name, {one: value})
            assert not said or well_told(one, value, said), (one, value, said)


@pytest.mark.parametrize("name", FUNCTIONS)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_a_bad_value_is_told_with_its_argument_and_a_way_out(name: str, data: st.DataObject) -> None:
    one = data.draw(st.sampled_from(sorted(FUNCTIONS[name][1])))
    value = affordable(name, one, data.draw(JUNK, label=one))
    said = told(name, {one: value})
    assert not said or well_told(one, value, said), said


def test_every_public_function_is_tried() -> None:
    tried = {part for name in FUNCTIONS for part in (name, name.partition(".")[0], name.rpartition(".")[2])}
    results = {"BatchSizes", "Fast", "Fits", "NoiseScale"}  # which are returned, never made by a user
    mere = {"__version__", "Inconclusive"}
    assert {*oc.__all__, *onecycle.torch.__all__} - results - mere <= tried


# What a user builds, and is tried by tests of its own.
BUILT = {"build", "model", "optimizer", "loss_fn", "train_loader", "val_loader", "trial", "hyper"}


@pytest.mark.parametrize("name", set(FUNCTIONS) - {"Schedule"})  # a protocol: its __init__ takes anything
def test_every_argument_is_tried(name: str) -> None:
    path = attrgetter(name.removeprefix("torch."))
    function = path(onecycle.torch) if name.startswith(("torch.", "Trial", "Scheduler")) else path(oc)
    assert (
        inspect.signature(function).parameters.keys() - BUILT - {"self", "progress"}
        <= FUNCTIONS[name][1].keys()
    )


FIXTURES = Path(__file__).parent / "fixtures" / "v0.1"
OPTIONS = {
    "schedule one-cycle": ["--max-lr", "--total-steps", "--min-lr", "--final-lr", "--tail", "--peak"],
    "schedule cyclical": [
        "--base-lr",
        "--max-lr",
        "--step-size",
        "--step-size-down",
        "--gamma",
        "--total-steps",
    ],
    "find digits": ["--budget", "--start", "--end", "--steps", "--epochs", "--seed"],
    "tune digits": ["--budget", "--steps", "--epochs", "--workers", "--gpus", "--seed"],
    "suggest": ["--rule", "--use", "--lr", "--loss", "--plot"],
    "train digits": ["--recipe", "--epochs", "--steps", "--checkpoint-every", "--seed"],
    f"suggest {FIXTURES / 'curve.csv'}": ["--rule", "--use", "--lr", "--loss", "--seed"],
    f"train digits --recipe {FIXTURES / 'recipe.toml'}": ["--checkpoint-every", "--option", "--seed"],
    "report /nowhere": ["--seed", "--out"],
    "demo --epochs 0": ["--out", "--seed"],
    "tasks": ["--seed", "--other"],
    "completion bash": ["--seed", "--other"],
}
WORDS = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "1e400",
        "nan",
        "inf",
        "-inf",
        "1e-320",
        "x",
        "a b",
        "9" * 30,
        "/",
        "/nowhere/x",
        "\n",
        "--",
    ]
)


def run(command: str, options: Mapping[str, str]) -> tuple[int, str]:
    """Exit status and all output of a command that trains nothing."""
    arguments = [*command.split(), *(word for pair in options.items() for word in pair)]
    if command.startswith(("find", "tune", "train")) and "--steps" not in options:
        arguments += ["--steps", "0"]  # whatever else is wrong, nothing is trained
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), pytest.raises(SystemExit) as ended:
        main(arguments)
    assert "Traceback" not in said.getvalue()
    assert "--debug shows where" not in said.getvalue()
    assert ended.value.code in (0, 1, 2), said.getvalue()
    return int(ended.value.code), said.getvalue()


def test_every_command_is_tried() -> None:
    assert set(cli.commands) == {name.split()[0] for name in OPTIONS}


@pytest.mark.parametrize("command", OPTIONS)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_any_words_for_some_options(command: str, data: st.DataObject) -> None:
    some = data.draw(st.lists(st.sampled_from(OPTIONS[command]), min_size=2, unique=True))
    status, said = run(command, {option: data.draw(WORDS) for option in some})
    assert status != 2 or len(said.strip().splitlines()) == 1


RIGHT = {
    "schedule one-cycle": {"--max-lr": "0.1", "--total-steps": "20"},
    "schedule cyclical": {"--base-lr": "0.01", "--max-lr": "0.1", "--step-size": "5"},
    "find digits": {"--steps": "100"},
    "tune digits": {"--steps": "100"},
}


@pytest.mark.parametrize("command", RIGHT)
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_bad_word_is_told_with_its_option(command: str, data: st.DataObject) -> None:
    alone = [each for each in OPTIONS[command] if each not in ("--epochs", "--gpus")]  # not with the others
    option = data.draw(st.sampled_from(alone))
    word = data.draw(WORDS.filter(lambda word: word in ("x", "a b", "nan", "-inf", "-1", "/")))
    status, said = run(command, {**RIGHT[command], option: word})
    assert status in (0, 2)
    if status == 2:
        name = option.removeprefix("--")
        assert name in said or name.replace("-", "_") in said
        assert word in said
