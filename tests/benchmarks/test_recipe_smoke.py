"""The comparison of recipes at small scale: it runs, goes on where it was, and reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="pip install scikit-learn")

from benchmarks.recipe import methods, report, runs, spread
from benchmarks.recipe.__main__ import main
from benchmarks.regret.tasks import select


def fake_rows(scale: float, methods_and_costs: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [
        {
            "method": name,
            "cost": cost,
            "seed": seed,
            "loss": scale * (1 + 0.1 * seed) * (2 - cost / 20),
            "selected": scale * (0.9 + 0.2 * seed) * (2 - cost / 20),
        }
        for name, cost in methods_and_costs
        for seed in (0, 1)
    ]


def test_the_report_measures_all_by_the_best_of_twenty(tmp_path: Path) -> None:
    both = [("tpe", 1.0), ("tpe", 20.0), ("tune", 1.0), ("tune", 5.0), ("valley", 0.07)]
    for task, scale in (("a", 1.0), ("b", 0.01)):
        document = {"format": "onecycle.regret.recipe", "task": task, "rows": fake_rows(scale, both)}
        (tmp_path / f"{task}.json").write_text(json.dumps(document))
    text = report.report(tmp_path)
    rows = {
        (row["method"], row["cost"]): row
        for row in json.loads((tmp_path / "report.json").read_text())["rows"]
    }
    assert rows["tpe", 20.0]["ratio"] == pytest.approx(1.05)
    assert rows["tpe", 1.0]["ratio"] == pytest.approx(1.05 * 1.95)
    assert rows["tune", 5.0]["ratio"] == pytest.approx(1.05 * 1.75)
    assert rows["tune", 5.0]["no_worse"] == 0
    assert "2 tasks" in text
    assert (tmp_path / "report.png").stat().st_size > 0


def test_nothing_to_report_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--results", str(tmp_path)]) == 2
    assert "has no runs of TPE yet: python -m benchmarks.recipe run" in capsys.readouterr().err


def test_a_second_start_does_what_is_missing_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "BUDGETS", (0.3,))
    monkeypatch.setattr(methods, "FRESH", (100,))
    arguments = ["run", "--tasks", "wine-mlp-adam", "--seeds", "0", "--results", str(tmp_path)]
    assert main([*arguments, "--methods", "default", "onecycle"]) == 0
    rows = json.loads((tmp_path / "wine-mlp-adam.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["default", "onecycle"]
    assert main([*arguments, "--methods", "onecycle", "tune"]) == 0
    again = json.loads((tmp_path / "wine-mlp-adam.json").read_text())["rows"]
    assert again[:2] == rows
    assert [row["method"] for row in again[2:]] == ["tune"]
    assert again[2]["spent"] <= 0.3
    assert all(0 < row["loss"] < 100 for row in again)


def test_tune_on_dev_is_kept_and_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["dev", "--tasks", "wine-mlp-adam", "--budgets", "0.4", "--results", str(tmp_path)]
    assert main(command) == 0
    first = capsys.readouterr()
    assert first.err.count("wine-mlp-adam, budget 0.4, seed") == 2
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in first.out.splitlines()]
    assert [row[0] for row in table] == ["task", "---", "wine-mlp-adam", "geometric mean"]
    assert 0.5 < float(table[-1][1]) < 10
    assert main(command) == 0
    assert capsys.readouterr() == (first.out, "")


def test_the_tasks_of_the_comparison_chose_no_constant() -> None:
    assert {task.split for task in select(list(runs.TASKS), None)} == {"test"}
    assert len(runs.TASKS) >= 8


def test_spreading_is_measured(tmp_path: Path) -> None:
    text = spread.run(tmp_path, many=8, pairs=1, steps=3)
    document = json.loads((tmp_path / "spread.json").read_text())
    assert document["speed_up_of_two_workers"]["median"] > 0
    assert document["seconds_a_job"].keys() >= {"bare function", "local, 1", "local, 2 processes"}
    assert "times as fast" in text
