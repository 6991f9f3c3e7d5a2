"""Files: training goes on from one to the last bit, and a wrong one changes nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from small_torch import CLASSES, INPUTS, bits, data, everything, loader, make_trial, net, seed_all, sgd, train
from torch import nn
from torch.utils.data import DataLoader

from onecycle.torch import Trial, _checkpoint
from onecycle.torch._state import LEFT_OUT, Kept, keep, put_back

CPU = torch.device("cpu")


def adam(**options: Any) -> Trial:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), **{"lr": 0.01, "foreach": False, **options})
    return make_trial(model, optimizer)


def bfloat16() -> Trial:
    model = net().to(torch.bfloat16)
    x, y = data().tensors
    x = x.bfloat16()
    return make_trial(model, sgd(model), train_loader=[(x[:20], y[:20]), (x[20:], y[20:])])


def lbfgs() -> Trial:
    model = net()
    return make_trial(model, torch.optim.LBFGS(model.parameters(), lr=0.1, history_size=3))


def groups() -> Trial:
    model = net()
    return make_trial(model, [sgd(model[0]), torch.optim.RMSprop(model[4].parameters(), momentum=0.5)])


def channels_last() -> Trial:
    seed_all(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4, CLASSES))
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return make_trial(model, train_loader=[(torch.rand(4, 2, 3, 3), torch.randint(CLASSES, (4,)))])


def tied() -> Trial:
    model = nn.Sequential(nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, INPUTS), nn.Linear(INPUTS, CLASSES))
    model[1].weight = model[0].weight
    return make_trial(model)


def sparse() -> Trial:
    seed_all(0)
    model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Flatten())
    return make_trial(
        model,
        torch.optim.SparseAdam(model.parameters()),
        train_loader=[(torch.randint(9, (5, 1)), torch.randint(CLASSES, (5,)))],
    )


class Attributes(nn.Module):
    """Every kind of value that a file holds, and some that it does not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(INPUTS, CLASSES)
        self.register_buffer("memory", None)
        self.array = np.arange(3.0)
        self.scalar = np.float32(1.5)
        self.recent: deque[Any] = deque([1.0], maxlen=2)
        self.counts: OrderedDict[str, Any] = OrderedDict(a=[0])
        self.pair: Any = (float("nan"), -float("inf"), 1j, None, True)
        self.layers = [self.linear]
        self.function: Callable[..., Any] = torch.relu

    def forward(self, x: Any) -> Any:
        self.memory = x[0].clone()
        self.array += float("inf") if self.counts["a"][0] == 2 else 1.0
        self.scalar = np.float32(self.scalar * 2)
        self.counts["a"][0] += 1
        self.recent.append(torch.tensor([float(self.counts["a"][0])]))
        extra = sum(float(value) for value in self.recent) + float(self.scalar) + float(self.memory.sum())
        return self.linear(x) * extra


def attributes() -> Trial:
    seed_all(0)
    return make_trial(Attributes())


def scaled() -> Trial:
    return make_trial(amp=torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2))


KINDS: dict[str, Callable[[], Trial]] = {
    "sgd": make_trial,
    "adam": adam,
    "tensor rate": lambda: adam(lr=torch.tensor(0.01), betas=(torch.tensor(0.9), torch.tensor(0.99))),
    "lbfgs": lbfgs,
    "two optimizers": groups,
    "bfloat16": bfloat16,
    "channels last": channels_last,
    "tied": tied,
    "sparse": sparse,
    "attributes": attributes,
    "scaler": scaled,
    "own generator": lambda: make_trial(train_loader=loader(generator=torch.Generator().manual_seed(3))),
    "workers": lambda: make_trial(train_loader=loader(num_workers=2)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_in_a_fresh_trial(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    seed_all(1)
    trial = KINDS[kind]()
    train(trial, 3)
    trial.write(path)
    losses = train(trial, 6)
    expected = everything(trial._model, *trial._optimizers)

    fresh = KINDS[kind]()
    seed_all(99)
    fresh.read(path)
    assert bits(train(fresh, 6)) == bits(losses)
    assert everything(fresh._model, *fresh._optimizers) == expected
    rates = [group["lr"] for each in fresh._optimizers for group in each.param_groups]
    fresh.read(path)
    assert bits(train(fresh, 6)) == bits(losses)
    again = [group["lr"] for each in fresh._optimizers for group in each.param_groups]
    assert all(a is b for a, b in zip(rates, again, strict=True) if isinstance(a, torch.Tensor))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_what_a_file_does_not_hold_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    trial = attributes()
    train(trial, 4)
    trial.write(path)
    fresh = attributes()
    fresh.read(path)
    old, new = trial._model, fresh._model
    assert isinstance(old, Attributes)
    assert isinstance(new, Attributes)
    assert new.layers == [new.linear]
    assert new.function is torch.relu
    assert bits(new.array) == bits(old.array)
    assert bits(new.pair) == bits(old.pair)
    assert isinstance(new.scalar, np.float32)
    assert isinstance(new.counts, OrderedDict)
    assert new.recent.maxlen == 2
    assert bits(new.memory) == bits(old.memory)


PROGRAM = """
import sys
from small_torch import bits, everything, loader, make_trial, train
for workers, path in enumerate(sys.argv[1:]):
    trial = make_trial(train_loader=loader(num_workers=workers))
    trial.read(path)
    print((bits(train(trial, 6)), everything(trial._model, *trial._optimizers)))
"""


def test_going_on_in_another_process(tmp_path: Path) -> None:
    """From two files, of a loader without workers and of one with."""
    expected = ""
    for workers in range(2):
        trial = make_trial(train_loader=loader(num_workers=workers))
        train(trial, 3)
        trial.write(tmp_path / str(workers))
        expected += f"{(bits(train(trial, 6)), everything(trial._model, *trial._optimizers))}\n"
    went_on = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "0", tmp_path / "1"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert went_on.stdout == expected


# Values ----------------------------------------------------------------------------------------------


def through_json(tree: Any, device: torch.device = CPU, now: torch.device = CPU) -> Any:
    tensors: dict[str, torch.Tensor] = {}
    text = json.dumps(_checkpoint._pack(tree, tensors, device), allow_nan=False)
    return _checkpoint._unpack(json.loads(text), tensors, now)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        7,
        2**200,
        1.5,
        -0.0,
        float("nan"),
        float("inf"),
        1 + 2j,
        "text",
        [1, [2.0, (3, None)]],
        {"a": 1, 2: {"b": (1,)}, None: 3.0, True: "yes"},
        deque([1, float("nan")], maxlen=4),
        np.array([[1.0, float("nan")]], dtype=np.float32),
        np.array([2**63], dtype=np.uint64),
        np.array(["a", "bcd"]),
        np.zeros((0, 3)),
        np.int64(3),
        np.float64(0.1),
        np.bool_(True),
    ],
    ids=repr,
)
def test_every_value_comes_back(value: Any) -> None:
    back = through_json(value)
    assert type(back) is type(value)
    assert bits(back) == bits(value) or value != value
    kept = put_back(through_json(keep(value)))
    assert type(kept) is type(value)
    assert repr(kept) == repr(value)


@pytest.mark.parametrize(
    "value", [len, [1, len], (1, len), deque([len]), np.array([len]), nn.Parameter(torch.ones(1))]
)
def test_what_a_file_cannot_hold_is_left_out(value: Any) -> None:
    assert through_json(value) is LEFT_OUT
    assert through_json({"a": 1, "b": value}) == {"a": 1, "b": LEFT_OUT}
    assert through_json({len: 1}) == {}


def test_tensors_go_where_the_trial_is() -> None:
    """What lay beside the model lies beside it again; what lay elsewhere lies there."""
    meta = torch.device("meta")
    beside, elsewhere = keep(torch.ones(2)), Kept(torch.ones(2, device="meta"))
    assert put_back(through_json(beside, CPU, meta)).device == meta
    assert through_json(elsewhere, CPU, CPU).device == "meta"


# Refusals --------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint of a small trial, in mid-epoch."""
    trial = make_trial()
    train(trial, 3)
    trial.write(tmp_path / "checkpoint.safetensors")
    return tmp_path / "checkpoint.safetensors"


def refuses(trial: Trial, path: Path, text: str, error: type[Exception] = ValueError) -> None:
    """Reading raises one line that begins with `text`, and leaves the trial as it was."""
    train(trial, 2)
    before, state = everything(trial._model, *trial._optimizers), bits_of(trial)
    with pytest.raises(error, match=f"^{re.escape(text)}") as caught:
        trial.read(path)
    assert "\n" not in str(caught.value)
    assert everything(trial._model, *trial._optimizers) == before
    assert bits_of(trial) == state
    assert np.isfinite(train(trial, 3)).all()


def bits_of(trial: Trial) -> Any:
    return trial._stream._taken, bits(torch.get_rng_state())


def test_missing_file(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    refuses(make_trial(), missing, f"checkpoint {missing} does not exist", FileNotFoundError)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
def test_truncated_file(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refuses(make_trial(), path, f"{path} is no checkpoint of onecycle, or a damaged one: ")


def test_file_of_another_kind(path: Path) -> None:
    path.write_bytes(b"lr,loss\n0.1,2.3\n")
    refuses(make_trial(), path, f"{path} is no checkpoint of onecycle, or a damaged one: ")


@pytest.mark.parametrize("metadata", [None, {"onecycle": "3"}, {"onecycle": "{}"}])
def test_file_of_another_program(path: Path, metadata: Any) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, path, metadata)
    refuses(
        make_trial(), path, f"{path} is no checkpoint of onecycle, but another program's safetensors file"
    )


def test_header_that_is_no_json(path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, path, {"onecycle": "{"})
    refuses(make_trial(), path, f"{path} is no checkpoint of onecycle, or a damaged one: ")


def test_later_version(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checkpoint, "VERSION", 2)
    make_trial().write(path)
    monkeypatch.undo()
    refuses(make_trial(), path, f"{path} is of version 2: upgrade onecycle to read it")


def wider() -> Trial:
    model = nn.Sequential(nn.Linear(INPUTS, 9), *list(net())[1:3], nn.Dropout(), nn.Linear(9, CLASSES))
    model[1] = nn.BatchNorm1d(9)
    return make_trial(model)


def deeper() -> Trial:
    return make_trial(nn.Sequential(*net(), nn.Linear(CLASSES, CLASSES)))


def more_modules() -> Trial:
    return make_trial(nn.Sequential(*net(), nn.ReLU()))


def shorter() -> Any:
    return DataLoader(data(16), batch_size=8, shuffle=True)


def more_groups() -> Trial:
    model = net()
    optimizer = sgd(model[0])
    optimizer.add_param_group({"params": [*model[1].parameters(), *model[4].parameters()]})
    return make_trial(model, optimizer)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (wider, "its 0.weight is torch.float32 of shape (8, 6), not torch.float32 of shape (9, 6)"),
        (deeper, "only one of the two has a parameter '5.bias'"),
        (more_modules, "it has 6 modules, not 7 modules"),
        (more_groups, "it has SGD of 1 param groups, not SGD of 2 param groups"),
        (adam, "it has SGD of 1 param groups, not Adam of 1 param groups"),
        (scaled, "it has 0 loss scalers, not 1 loss scalers"),
        (lambda: make_trial(train_loader=[*loader()]), "it has a loader of 4 parts, not a loader of 1 parts"),
        (KINDS["own generator"], "it has 0 random generators, not 1 random generators"),
        (lambda: make_trial(train_loader=shorter()), "train_loader gave 3 batches, and begun anew only 2:"),
    ],
    ids=[
        "wider",
        "deeper",
        "more modules",
        "more groups",
        "adam",
        "scaler",
        "list",
        "generator",
        "shorter loader",
    ],
)
def test_file_of_another_trial(path: Path, build: Callable[[], Trial], text: str) -> None:
    refuses(build(), path, f"{path} is the state of another trial: {text}")


# Whole or not at all ---------------------------------------------------------------------------------


def test_a_write_that_fails_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any, target: Path, *__: Any) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match=r"^No space left on device$"):
        make_trial().write(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_write_replaces_the_old_file(path: Path) -> None:
    other = adam()
    train(other, 1)
    other.write(str(path))
    adam().read(str(path))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_tied_weights_are_written_once(tmp_path: Path) -> None:
    trial = tied()
    trial.write(tmp_path / "tied")
    with safetensors.safe_open(tmp_path / "tied", "pt") as file:
        shapes = [tuple(file.get_tensor(name).shape) for name in file.keys()]  # noqa: SIM118
    assert shapes.count((INPUTS, INPUTS)) == 1


def test_a_loader_of_one_length_more(path: Path) -> None:
    """Another order of batches is no error: what is checked is what would break."""
    trial = make_trial(train_loader=DataLoader(data(), batch_size=4))
    trial.read(path)
    assert trial._stream._taken == 3
