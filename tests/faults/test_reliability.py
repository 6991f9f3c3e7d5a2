"""Small forms of the other parts of `benchmarks.reliability`: restorations, hostile files, long runs."""

from __future__ import annotations

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

import onecycle as oc  # noqa: E402 - as above
from benchmarks.reliability import files, fuzz, report, restore, soak  # noqa: E402 - where torch is
from onecycle._jobs import read_record  # noqa: E402 - as above
from onecycle._schedules import ClosedForm  # noqa: E402 - as above
from onecycle._train import History  # noqa: E402 - as above
from onecycle.report import write  # noqa: E402 - as above
from onecycle.torch import Scheduler, Trial  # noqa: E402 - as above

SLOW = ("worker", "compiled")


@pytest.mark.filterwarnings("ignore")
def test_what_is_put_back_trains_on_bit_for_bit(capsys: pytest.CaptureFixture[str]) -> None:
    made = restore.combinations()
    assert len(made) >= 60  # with torch's own optimizers alone
    some = {name: make for name, make in made.items() if not any(slow in name for slow in SLOW)}
    assert {name: what for name in list(some)[::4] if (what := restore.differs(some[name]))} == {}
    assert "is not installed: left out" in capsys.readouterr().err or len(made) > 100


def test_a_sweep_that_is_not_put_back_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trial, "restore", lambda *_: None)
    make = restore.combinations()["SGD, LSTM, shuffled"]
    assert restore.differs(make) == "the state after the sweep"


@pytest.mark.parametrize("name", list(fuzz.targets(Path())))
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    target = fuzz.targets(tmp_path)[name]()
    tally = fuzz.blind(target, 150)
    assert tally.escapes == {}
    assert tally.inputs == 150
    assert tally.read + tally.refused == 150
    assert tally.read >= 1


@pytest.fixture(scope="module")
def every_file(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Good files of every kind, this version's fixtures among them."""
    made = fuzz.targets(tmp_path_factory.mktemp("seeds")).values()
    fixtures = Path(__file__).parents[1] / "fixtures" / "v0.1"
    return [
        *(seed for make in made for seed in make().seeds),
        *(path.read_bytes() for path in fixtures.rglob("*.*")),
    ]


@pytest.mark.parametrize("name", list(fuzz.targets(Path())))
@pytest.mark.filterwarnings("ignore")
def test_swapped_cut_and_recoded_files_are_refused_in_one_line(
    name: str, every_file: list[bytes], tmp_path: Path
) -> None:
    target, tally = fuzz.targets(tmp_path)[name](), fuzz.Tally()
    for data in every_file:
        text = data.decode("latin-1")
        other = [
            *(text.encode(encoding) for encoding in ("utf-16", "utf-32-be", "utf-7", "cp500")),
            *(
                gzip.compress(data),
                data[: len(data) // 2],
                data[:-1],
                2 * data,
                data + b"\x00",
                b"\xff" + data,
            ),
        ]
        for changed in (data, *other):
            fuzz.tried(target, changed, tally)
    assert tally.escapes == {}
    assert tally.read >= 1
    assert tally.refused > tally.read


def test_an_escape_is_seen() -> None:
    def careless(data: bytes) -> None:
        json.loads(data)["a"]["b"]

    tally = fuzz.blind(fuzz.Target(careless, [b'{"a": {"b": 1}}']), 200)
    assert any("KeyError" in name or "TypeError" in name for name in tally.escapes)


def test_the_report_has_no_empty_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"injected": 3, "lost": [], "made_with": {"onecycle": "0.1.0"}}
    names = ("range test: NaN", "find: kill", "find: full disk", "tune: kill", "tune: Ray node that dies")
    rows = {"faults": {**dict.fromkeys(names, row), "train: NaN": {**row, "lost": ["step 3: the weights"]}}}
    monkeypatch.setattr(files, "read", lambda part: rows.get(part, {}))
    text = report.report()
    assert "| kill | a | a | 3 | not measured yet | 3 |" in text
    assert "| NaN | 3 | not measured yet | not measured yet | 3 | not measured yet |" in text
    assert "| Ray node that dies | d | d | d | d | 3 |" in text
    assert "- b: writes no file" in text
    assert "18 faults injected, 1 of them with a loss\n- train: NaN, step 3: the weights" in text
    assert "fuzz: not measured yet" in text


# What fuzzing found ----------------------------------------------------------------------------------


def refusal(path: Path, content: str | bytes, read: Any) -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=r".") as refused:
        read(path)
    text = str(refused.value)
    assert len(text.splitlines()) == 1
    assert len(text) <= 1000
    return text


RECIPE = 'format = "onecycle.recipe"\nversion = 1\nmax_lr = 0.1\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (RECIPE + "evidence = " + "[" * 5000, "nested too deep"),
        (RECIPE.replace("0.1", "1" + "0" * 400), "must have max_lr, a number"),
        (RECIPE + "total_steps = 1" + "0" * 400, "total_steps must be a whole number below 2**63"),
        (RECIPE + "total_steps = 1" + "0" * 5000, "is no TOML"),
        (RECIPE + f'"{"x" * 3000}" = 1', "has unknown 'xxx"),
        (RECIPE + '"a\\nb" = 1', "has unknown 'a\\nb'"),
    ],
)
def test_a_damaged_recipe(text: str, reason: str, tmp_path: Path) -> None:
    assert reason in refusal(tmp_path / "recipe.toml", text, oc.Recipe.load)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("step,lr\n0,0.1\n", "a row lacks step or loss"),
        ("step,loss\n0,0.1,7\n", "is no record of a training run"),
        ("step,loss\nx,0.1\n", "is no record of a training run: invalid literal"),
        ("step,loss\n0," + "1" * 200_000, "field larger than field limit"),
    ],
)
def test_a_damaged_history(text: str, reason: str, tmp_path: Path) -> None:
    assert reason in refusal(tmp_path / "metrics.csv", text, History.load)
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file"):
        History.load(tmp_path / "none.csv")


def test_a_report_of_numbers_without_bounds(tmp_path: Path) -> None:
    run = {"format": "onecycle.run", "version": 1, "command": "find", "settings": {}, "versions": {}}
    far = 10**400
    decisions = [{"what": "batch_size", "value": far, "low": -far, "high": far, "reason": "", "trials": []}]
    oc.Recipe(0.1, evidence={"cost": far, "decisions": decisions}).save(tmp_path / "recipe.toml")
    for facts in ({"cost": far, "total_steps": 9}, {"cost": "Infinity", "total_steps": 9}):
        (tmp_path / "run.json").write_text(json.dumps({**run, "status": "done", **facts}))
        assert "∞" in write(tmp_path).read_text(encoding="utf-8")


def test_a_damaged_record_of_a_trial(tmp_path: Path) -> None:
    text = '{"format": "onecycle.trial", "version": 1, "job": {"a\\nb": 1, "momentum": null}, "result": {}}'
    assert "this is no finished job of a search" in refusal(tmp_path / "rate-1.json", text, read_record)


def test_a_log_of_many_columns(tmp_path: Path) -> None:
    text = ",".join(f"column {number} {'x' * 90}" for number in range(5000)) + "\n"
    assert "and 4980 more" in refusal(tmp_path / "log.csv", text, oc.Curve.read).replace("x" * 20, "")


def test_a_damaged_schedule_and_suggestion() -> None:
    with pytest.raises(ValueError, match="this is no piecewise schedule") as refused:
        ClosedForm.from_dict({"kind": "piecewise", "a\nb": 1})
    assert len(str(refused.value).splitlines()) == 1
    with pytest.raises(ValueError, match="0 < low <= value <= high") as refused:
        oc.Suggestion(10**400, 1, 10**400, "rule", "reason")
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize("state", [None, 3, [], "last_epoch"])
def test_a_scheduler_state_that_is_none(state: Any) -> None:
    scheduler = Scheduler(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), oc.one_cycle(0.1, 9))
    with pytest.raises(ValueError, match="state_dict must hold 'last_epoch', an int >= 0"):
        scheduler.load_state_dict(state)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"state": ', '"state": ' + "[" * 200_000, "nested|recursion|damaged"),
        ('"dtype": "<u4"', '"dtype": "<r4"', "damaged checkpoint: TypeError: data type '<r4' not understood"),
        ('"sparse": null', '"sparse": 99', "damaged checkpoint: RuntimeError"),
        ('{"dict": [["modules"', '{"dict": [7, ["modules"', "damaged checkpoint: TypeError"),
        ('"state": ', '"estate": ', "damaged checkpoint: KeyError: 'state'"),
    ],
)
def test_a_damaged_checkpoint(old: str, new: str, reason: str, tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 1)
    loader = [(torch.ones(2, 2), torch.zeros(2, 1))]
    trial = Trial(model, torch.optim.SGD(model.parameters()), torch.nn.functional.mse_loss, loader)
    path = tmp_path / "checkpoint.safetensors"
    trial.write(path)
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    text = header["__metadata__"]["onecycle"]
    assert old in text
    header["__metadata__"]["onecycle"] = text.replace(old, new, 1)
    changed = json.dumps(header).encode()
    weight = model.weight.detach().clone()
    said = refusal(path, struct.pack("<Q", len(changed)) + changed + whole[8 + length :], trial.read)
    assert any(part in said for part in reason.split("|"))
    assert torch.equal(model.weight, weight)


# Long runs -------------------------------------------------------------------------------------------


def test_nothing_grows() -> None:
    row = soak.range_tests(10)
    assert row["same curve"] == 10
    assert (row["more threads"], row["more files"], row["hooks"]) == (0, 0, 0)
    assert row["more objects"] < 100
    steps = soak.schedule_steps(20_000)
    assert (steps["more threads"], steps["more files"]) == (0, 0)
    assert steps["more objects"] < 100
    assert soak.large_curve(5000)["points"] == 5000
