"""The benchmark of the noise scale, on one small task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.recipe import __main__ as command
from benchmarks.recipe import noise


def test_one_task_is_measured_and_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(noise, "POINTS", (0.0, 0.02))
    monkeypatch.setattr(noise, "SEEDS", 2)
    arguments = ["noise", "--tasks", "digits-mlp-momentum", "--results", str(tmp_path)]
    assert command.main(arguments) == 0
    document = json.loads((tmp_path / "noise.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in document["rows"]] == [0, 30]
    for row in document["rows"]:
        exact = row["exact"]["value"]
        assert all(exact / 1.5 < each["value"] < exact * 1.5 for each in row["measured"])
        assert exact / 2 < row["two_sizes"]["value"] < exact * 2
    printed = capsys.readouterr().out
    assert "| digits-mlp-momentum | 16 | 30 | 1258 |" in printed
    assert "4 of 4 measurements tell; 4 of these are within a factor of 1.5" in printed
    assert command.main(arguments) == 0  # again: its rows are replaced
    assert len(json.loads((tmp_path / "noise.json").read_text(encoding="utf-8"))["rows"]) == 2


def test_an_unknown_task_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["noise", "--tasks", "none", "--results", str(tmp_path)]) > 0
    assert "no task none" in capsys.readouterr().err
