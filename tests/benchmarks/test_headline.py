"""Each reproduction, cut to a few steps on made-up images; and the article's numbers, which are exact."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import onecycle as oc
from benchmarks.headline import __main__ as command
from benchmarks.headline import accounting, experiments, figures, gpu, order, runs, speed
from benchmarks.headline.accounting import Epoch, Percent
from benchmarks.headline.runs import Results, Run
from benchmarks.regret import data
from onecycle._find import Finding, search
from onecycle.tasks import cifar10
from onecycle.tasks._cifar10_data import Images
from onecycle.tasks._cifar10_nets import Quick

FULL = {  # a run of each experiment as it is published
    "article": (95, 512),
    "superconvergence": (None, 1000),
    "momentum": (25, 128),
    "decay": (25, 128),
    "batch": (95, 128),
    "recipe": (95, 512),
}


def half(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    pixels = torch.randint(60, (count, 32, 32, 3), generator=generator) + 19 * labels[:, None, None, None]
    return pixels.to(torch.uint8), labels


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up images, whose brightness tells the label, and nets of a few weights."""
    images = Images(*half(240, 1), *half(40, 2))
    monkeypatch.setattr(cifar10, "load", lambda: images)
    monkeypatch.setattr(runs, "HELD_OUT", 40)
    for net in ("ResNet", "Quick"):
        monkeypatch.setattr(cifar10, net, lambda *_: Quick(2))


# The article's accounting ---------------------------------------------------------------------------


def test_the_article_s_accuracies_are_running_means_over_training_and_test() -> None:
    runs_ = accounting.article()
    assert {name: len(lines) for name, lines in runs_.items()} == {
        "0.08-0.8, momentum 0.95-0.8": 95,
        "0.08-0.8, momentum 0.9": 95,
    }
    cyclical, constant = (accounting.counts(lines) for lines in runs_.values())
    assert (cyclical[-1].test, constant[-1].test) == (8603, 8689)
    assert cyclical[-1].train == constant[-1].train == 50_000
    for lines in runs_.values():
        again = accounting.printed(accounting.counts(lines))
        assert [f"{line.val:.8f}" for line in again] == [f"{line.val:.8f}" for line in lines]
        assert [f"{line.train:.8f}" for line in again] == [f"{line.train:.8f}" for line in lines]


def test_printed_accuracies_give_back_the_counts() -> None:
    epochs = [Epoch(10, 3), Epoch(15, 2), Epoch(20, 4)]
    lines = accounting.printed(epochs, 20, 5)
    assert lines[0] == Percent(50.0, 52.0)
    assert lines[-1] == Percent(100 * 50 / 70, 100 * 54 / 75)
    assert accounting.counts(lines, 20, 5) == epochs
    with pytest.raises(ValueError, match="no whole number"):
        accounting.counts([Percent(50.3, 52.0)], 20, 5)


# Runs -----------------------------------------------------------------------------------------------


def a_run(**changes: Any) -> Run:
    settings: dict[str, Any] = {"label": "a", "net": "quick", "seed": 1, "epochs": 2.0, "batch_size": 60}
    return Run(**{**settings, "schedule": {"kind": "cosine", "lr": 0.05}, **changes})


def test_a_row_tells_what_came_out(tmp_path: Path) -> None:
    results = Results("some", tmp_path)
    row = results.do(a_run(), held_out=True, progress=False)
    assert [look["step"] for look in row["looks"]] == [4, 8]
    assert row["steps_done"] == 8
    assert (
        row["accuracy"] == row["looks"][-1]["accuracy"] == pytest.approx(row["looks"][-1]["test_right"] / 40)
    )
    assert (row["looks"][1]["train_seen"], row["looks"][1]["test_seen"]) == (240, 40)
    assert 0 <= row["held_out"] <= 1
    assert row["seconds"] > 0
    before = results.path.read_text()
    assert Results("some", tmp_path).do(a_run(), progress=False) == row
    assert results.path.read_text() == before
    document = json.loads(before)
    assert document["format"] == "onecycle.headline"
    (maker,) = document["made_with"]
    assert maker["torch"] == torch.__version__
    assert maker["device"] == runs.device_name()


def test_a_diverged_run_counts_as_chance(tmp_path: Path) -> None:
    run = a_run(schedule={"kind": "constant", "lr": 1e20})
    row = Results("some", tmp_path).do(run, held_out=True, progress=False)
    assert row["diverged"]
    assert row["accuracy"] == row["held_out"] == 0.1
    assert "| a | 1 (1 diverged) | 1e+20 | 10.00 ± nan |" in runs.table([row])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # torch's own
def test_compiling_is_timed_apart_and_changes_nothing() -> None:
    with torch.compiler.set_stance("force_eager"):  # it takes half a minute
        compiled = runs.perform(a_run(options={"compile": "default"}), progress=False)
    eager = runs.perform(a_run(), progress=False)
    assert compiled["looks"] == eager["looks"]
    assert compiled["seconds_of_compiling"] > eager["seconds_of_compiling"] == 0


def test_the_same_run_gives_the_same_result(tmp_path: Path) -> None:
    one, other = (Results("some", tmp_path / name).do(a_run(), progress=False) for name in "ab")
    assert one["looks"] == other["looks"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"kind": "constant", "lr": 0.3}, [0.3, 0.3, 0.3]),
        ({"kind": "step", "lr": 0.4}, [0.4, 0.04, 0.004]),
        ({"kind": "step", "lr": 0.4, "at": [5 / 8, 7 / 8]}, [0.4, 0.4, 0.004]),
        ({"kind": "cosine", "lr": 0.4}, [0.4, 0.2, 0.2 * (1 - math.sqrt(0.5))]),
        (
            {"kind": "one_cycle", "max_lr": 0.8, "tail": 0, "momentum": [0.95, 0.8]},
            [0.08, 0.8, 0.08 + 0.72 * 9 / 19],
        ),
    ],
)
def test_schedules_are_as_described(values: dict[str, Any], expected: list[float]) -> None:
    schedule = runs.schedule(values, 40)
    steps = (0, 20, 30) if values.get("at") is None else (0, 20, 35)
    assert [schedule(step)["lr"] for step in steps] == pytest.approx(expected)
    assert schedule(20)["momentum"] == pytest.approx(0.8 if values["kind"] == "one_cycle" else 0.9)


def test_a_rate_is_found_on_the_training_set_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def watched(trial: Any, **settings: Any) -> Any:
        seen.extend((len(trial._loader.pixels), len(trial._val_loader.pixels)))
        return search(trial, **settings)

    monkeypatch.setattr(runs, "search", watched)
    run = a_run(schedule={"kind": "one_cycle", "max_lr": "found"}, batch_size=20, epochs=30.0)
    row = Results("some", tmp_path).do(run, progress=False)
    assert seen == [200, 40]
    assert 1e-4 < row["found"]["max_lr"] < 10
    assert row["found"]["cost"] <= 0.2 * row["steps_done"]
    assert len(oc.Curve.from_json(json.dumps(row["found"]["curve"]))) > 10


# Experiments ----------------------------------------------------------------------------------------


def test_the_published_settings_are_those_of_the_papers() -> None:
    assert FULL.keys() == experiments.EXPERIMENTS.keys()
    for name, (epochs, batch_size) in FULL.items():
        run = next(iter(experiments.EXPERIMENTS[name][0](0)))
        built = run.build()
        asked = run.batch_size or {"resnet56": 512, "three_layer": 128, "quick": 512}[run.net]
        assert (run.epochs or None, asked) == (epochs, batch_size)
        assert built.size == min(asked, 240)
    article = next(iter(experiments.article(0)))
    policy = runs.schedule(article.schedule, 9500)
    assert [policy(s)["lr"] for s in (0, 4100, 8200, 9500)] == pytest.approx([0.08, 0.8, 0.08, 0.008])


@pytest.mark.parametrize("name", [name for name in FULL if name not in ("batch", "recipe")])
def test_an_experiment_runs_at_small_scale(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"article": 47.5, "superconvergence": 10_000}.get(name, 25)
    arguments = [name, "--seeds", "1", "--shorten", str(short), "--results", str(tmp_path), "--quiet"]
    assert command.main(arguments) == 0
    out = capsys.readouterr().out
    labels = [run.label for run in experiments.EXPERIMENTS[name][0](0)]
    assert all(f"| {label} | 1" in out for label in labels)
    assert len(Results(name, tmp_path).rows) == len(labels)
    if name == "article":
        (first, *_) = Results(name, tmp_path).rows
        looks = first["looks"]
        right = sum(look["train_right"] + look["test_right"] for look in looks)
        assert f"| 0 | {100 * right / (2 * 280):.2f} % | {100 * looks[-1]['accuracy']:.2f} % |" in out


@pytest.mark.parametrize("name", ["batch", "recipe"])
def test_an_experiment_that_finds_its_rate_runs_at_small_scale(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "find", lambda _, steps: {"max_lr": 0.01, "cost": steps})
    table = experiments.record(name, 1, shorten=24, results=tmp_path, progress=False)
    assert "| 0.01 (found for 1.00) |" in table
    assert len(table.splitlines()) == 2 + 4
    assert all(row["steps_done"] >= 1 for row in Results(name, tmp_path).rows)


def test_range_tests_are_kept_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "SMITH", {})
    text = experiments.range_tests(steps=20, net="quick", batch_size=20, results=tmp_path, progress=False)
    assert "| ours, linear, 20 steps of batch 20 | 20 |" in text
    assert "| ours, exponential, batch 20 | " in text
    before = (tmp_path / "range.json").read_text()
    assert (
        experiments.range_tests(steps=20, net="quick", batch_size=20, results=tmp_path, progress=False)
        == text
    )
    assert (tmp_path / "range.json").read_text() == before


@pytest.fixture
def small_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`order` with runs of eight steps and a made-up range test."""
    monkeypatch.setattr(runs.accuracy_held_out, "__defaults__", (40,))
    value = np.geomspace(1e-7, 10, 100)
    curve = oc.Curve(value, 2.3 - 1.5 / (1 + 1e-2 / value) + value**2)

    def made_up(trial: Any, *, budget: float, **_: Any) -> Finding:
        assert budget == 0.6
        assert (len(trial._loader.pixels), len(trial._val_loader.pixels)) == (80, 40)
        return Finding(curve.suggest(), curve, (), 5)

    monkeypatch.setattr(runs, "search", made_up)

    def run(seeds: int) -> str:
        setting = order.Setting(images=80, batch_size=20, epochs=2, held_out=40, grid=(0.03, 0.1))
        return order.order(seeds, setting, tmp_path, progress=False)

    return run


def test_the_order_is_found_tuned_trained_and_goes_on(
    small_order: Callable[..., str], tmp_path: Path
) -> None:
    text = small_order(2)
    results = Results("order", tmp_path)
    labels = {row["label"] for row in results.rows}
    assert {
        "1cycle, found",
        *(f"{kind}, {way}" for kind in order.TUNED for way in ("tuned", "grid")),
    } <= labels
    assert any(label.startswith("cosine, valley") for label in labels)
    for kind in order.TUNED:
        grid = {
            row["schedule"]["lr"]: row["held_out"] for row in results.rows if row["label"] == f"{kind}, grid"
        }
        (rate,) = {row["schedule"]["lr"] for row in results.rows if row["label"] == f"{kind}, tuned"}
        assert grid[rate] == max(grid.values())
        assert min(grid) < rate < max(grid) or len(grid) > 4
    ours = [100 * row["accuracy"] for row in results.rows if row["label"] == "1cycle, found"]
    mean, deviation = runs.spread(ours)
    assert mean == pytest.approx(sum(ours) / 2)
    assert deviation == pytest.approx(abs(ours[0] - ours[1]) / math.sqrt(2))
    assert f"| 2 | {mean:.2f} ± {deviation:.2f} |" in text
    count = len(results.rows)
    small_order(3)
    more = Results("order", tmp_path).rows
    assert more[:count] == results.rows
    assert sum(row["label"] == "1cycle, found" for row in more) == 3
    drawn = figures._order(_Figure(), tmp_path)
    assert drawn


class _Figure:
    """Takes what is drawn, so that no backend is needed."""

    def subplots(self) -> Any:
        from matplotlib.figure import Figure

        return Figure().subplots()


# Speed ----------------------------------------------------------------------------------------------


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain loop's images without torchvision."""
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.rand(40, 3, 32, 32), half(40, 3)[1]), 20
    )
    monkeypatch.setattr(speed, "plain_loader", lambda *_: loader)


@pytest.mark.usefixtures("ready")
def test_the_loops_are_timed_on_the_same_net(tmp_path: Path) -> None:
    text = speed.speed(
        "quick", batch_size=20, steps=1, repeats=2, workers=(0, 1), results=tmp_path, timed=speed.Here
    )
    names = ["plain PyTorch, 0 workers", "plain PyTorch, 1 workers"]
    names += ["ours, single precision", "ours, bfloat16"]
    assert [line.split(" | ")[0].strip("| ") for line in text.splitlines()[2:]] == names
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kept = Results(f"speed-quick-{device}", tmp_path)
    assert all(len(row["images_per_second"]) == 2 for row in kept.rows)
    ratios = [float(line.split(" | ")[3]) for line in text.splitlines()[2:]]
    assert max(ratios[:2]) == 1.0  # the faster of the two plain ones is what ours is held against


def test_a_loop_that_fails_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: Any) -> Any:
        raise ModuleNotFoundError("no torchvision")

    monkeypatch.setattr(speed, "plain_loader", missing)
    text = speed.speed("quick", batch_size=20, steps=1, repeats=1, results=tmp_path, timed=speed.Here)
    assert [line.split(" | ")[0] for line in text.splitlines()[2:]] == [
        "| ours, single precision",
        "| ours, bfloat16",
    ]
    assert "plain PyTorch, 0 workers is left out: no torchvision" in capsys.readouterr().err


def test_a_loop_is_timed_in_a_process_of_its_own() -> None:
    loop = speed.Apart(partial(itertools.repeat, None))
    assert 0 < loop.clock(3) < 10
    assert loop.first > 0
    loop.end()
    assert loop._process.exitcode == 0
    with pytest.raises(RuntimeError, match=r"^ZeroDivisionError: "):
        speed.Apart(partial(divmod, 1, 0))


def test_the_plain_loop_trains_as_ours_does() -> None:
    batches = list(cifar10.Batches(*half(40, 4), 20))
    one: Any = cifar10.quick(0, 20, amp=False, augment=False)
    model: nn.Module = speed.plain_model("quick", 20, {})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
    one._loader = one._stream._loader = batches
    one.set(lr=0.01, momentum=0.9)
    for x, y in batches:
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        assert float(one.step()) == pytest.approx(loss.item(), rel=1e-4)


# On a GPU -------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ready")
def test_all_that_is_owed_is_done_in_order_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(experiments, "SMITH", {})
    monkeypatch.setattr(gpu, "SWEEP", 20)
    monkeypatch.setattr(runs, "find", lambda _, steps: {"max_lr": 0.01, "cost": steps, "seconds": 0.1})
    planned = [(name, run) for name, run in gpu.plan(1) if run is not None]
    labels = [run.label for _, run in planned]
    assert labels[:3] == [
        "article, as it was, momentum 0.9",
        "article, with crop and flip, momentum 0.9",
        "recipe, 25 epochs",
    ]
    assert len(planned) == len(set(map(repr, planned)))
    assert {name for name, _ in planned} == experiments.EXPERIMENTS.keys()
    assert len(planned) == sum(len([*f(0)]) for f, _ in experiments.EXPERIMENTS.values())

    def diverges(_: Run, **__: Any) -> Any:
        raise RuntimeError("out of memory\nand more")

    arguments: dict[str, Any] = {"shorten": 80_000, "results": tmp_path, "progress": False}
    text = gpu.gpu(0.0, 1, timed=speed.Here, **arguments)
    assert f"left out for want of time: {len(planned)} runs" in text
    assert (tmp_path / "speed-resnet56-cpu.json").is_file() or torch.cuda.is_available()
    with monkeypatch.context() as patched:
        patched.setattr(runs, "perform", diverges)
        text = gpu.gpu(10.0, 1, **arguments)
    assert "article, as it was, momentum 0.9, seed 0 failed: out of memory" in capsys.readouterr().err
    assert len(Results("range", tmp_path).facts) == 2
    text = gpu.gpu(10.0, 1, **arguments)
    assert "left out for want of time: 0 runs" in text
    assert "failed" not in text
    assert sum(len(Results(name, tmp_path).rows) for name in experiments.EXPERIMENTS) == len(planned)
    before = (tmp_path / "recipe.json").read_text()
    assert gpu.gpu(10.0, 1, **arguments) == text
    assert (tmp_path / "recipe.json").read_text() == before


def test_a_run_that_would_not_end_in_time_is_known() -> None:
    row = {"net": "quick", "batch_size": 60, "seconds": 8.0, "seconds_of_compiling": 2.0, "steps_done": 100}
    row |= {"epochs": 5, "steps": None}
    found = {**row, "found": {"seconds": 10.0}}
    assert gpu.expected(a_run(epochs=10.0), [row]) == pytest.approx(20.0)
    assert gpu.expected(a_run(epochs=10.0), [found]) == pytest.approx(40.0)
    assert gpu.expected(a_run(steps=50), [{**row, "steps": 100}]) == pytest.approx(5.0)
    assert gpu.expected(a_run(steps=50), [row]) == 0.0
    assert gpu.expected(a_run(net="resnet56"), [found]) == 0.0


def test_the_mode_that_ends_first_is_used() -> None:
    def row(loop: str, rate: float, first: float) -> dict[str, Any]:
        return {"loop": loop, "images_per_second": [rate], "seconds_of_first_steps": first}

    eager, graphs = row("ours, bfloat16", 5e4, 1.0), row("ours, bfloat16, torch.compile default", 1e5, 30.0)
    assert gpu.fastest([row("plain PyTorch, 8 workers", 1e6, 0.0), eager, graphs]) == "default"
    assert gpu.fastest([eager, {**graphs, "seconds_of_first_steps": 100.0}]) is None
    assert gpu.fastest([]) is None


# The small forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(experiments.SMALL))
def test_small_forms_are_kept_apart(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "find", lambda _, steps: {"max_lr": 0.01, "cost": steps})
    images = Images(*half(6600, 1), *half(40, 2))
    monkeypatch.setattr(cifar10, "load", lambda: images)
    arguments = [name, "--small", "--seeds", "1", "--shorten", "500", "--results", str(tmp_path), "--quiet"]
    assert command.main(arguments) == 0
    (file,) = tmp_path.iterdir()
    assert file.name == f"{name}-small.json"
    rows = Results(f"{name}-small", tmp_path).rows
    assert len(rows) == len([*experiments.EXPERIMENTS[name][0](0)])
    assert all(len(row["looks"]) == 1 and row["options"]["images"] == 6400 for row in rows)


def test_the_peak_of_a_record_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["peak", "--results", str(tmp_path), "--shorten", "24", "--held-out", "40"]
    arguments += ["--option", "width=2"]
    assert command.main([*arguments, "--budget", "100"]) == 0
    found = Results("peak", tmp_path).rows[0]["found"]
    piloted = {**found, "max_lr": 0.2, "cost": 260, "rule": "pilots", "pilots": [[0.1, 40, 2.0]]}
    monkeypatch.setattr(experiments, "find", lambda *_: piloted)
    for _ in range(2):
        assert command.main([*arguments, "--budget", "260"]) == 0
    read, again, tried = capsys.readouterr().out.splitlines()[-3:]
    assert read.startswith("| width 2, batch 512 | onecycle | ")
    assert read.rpartition(" | ")[0] == again.rpartition(" |  |")[0]  # the same sweep
    assert tried.startswith("| width 2, batch 512 | pilots | 0.2 | ")
    assert "| 0.50 | 260 | 260.000 |" in tried
    assert len(Results("peak", tmp_path).rows) == 2
    assert figures._peak(_Figure(), tmp_path)


# Figures --------------------------------------------------------------------------------------------


def test_figures_are_drawn_over_smith_s_logs(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    try:
        data.folder()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    his = figures.log("1cycle")
    assert his["test_accuracy"][-1] == pytest.approx(0.92, abs=0.003)
    drawn = figures.draw(tmp_path, tmp_path)
    assert [path.name for path in drawn] == ["headline-smith.png", "headline-range.png"]
    assert all(path.stat().st_size > 10_000 for path in drawn)
    assert "| Smith's, range 0-3, 5k | 50 |" in experiments.reading(tmp_path)


def test_missing_data_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def nowhere() -> Images:
        raise FileNotFoundError("CIFAR-10 was looked for")

    monkeypatch.setattr(cifar10, "load", nowhere)
    assert command.main(["decay", "--results", str(tmp_path), "--quiet"]) == 1
    assert capsys.readouterr().err == "error: CIFAR-10 was looked for\n"


def test_the_accounting_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["accounting"]) == 0
    out = capsys.readouterr().out
    assert "| 0.08-0.8, momentum 0.95-0.8 | 91.17 % | **86.03 %** | 86.07 % | 100.00 % |" in out
    assert "| 0.08-0.8, momentum 0.9 | 91.48 % | **86.89 %** | 87.02 % | 100.00 % |" in out
