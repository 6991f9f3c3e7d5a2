from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onecycle as oc
from fakes import Quadratic
from onecycle._train import History


def test_each_step_has_the_policy_s_values() -> None:
    trial, policy = Quadratic(), oc.one_cycle(0.2, 25)
    history = oc.train(trial, policy)
    assert [{k: used[k] for k in ("lr", "momentum")} for used in trial.used] == [policy(i) for i in range(25)]
    assert [row["step"] for row in history.rows] == list(range(25))
    assert [row["lr"] for row in history.rows] == policy.lr(np.arange(25)).tolist()
    assert history.rows[0]["loss"] == 2.0
    assert not history.diverged


def test_losses_are_those_of_the_plain_loop() -> None:
    plain, losses = Quadratic(noise=0.1), []
    policy = oc.one_cycle(0.2, 37)
    for i in range(37):
        plain.set(**policy(i))
        losses.append(plain.step())
    assert [row["loss"] for row in oc.train(Quadratic(noise=0.1), policy).rows] == losses


def test_validation_at_each_epoch_and_at_the_end() -> None:
    trial, seen = Quadratic(val=True), []
    history = oc.train(
        trial, oc.one_cycle(0.2, 25), evaluate_every=10, after_evaluation=lambda h: seen.append(len(h.rows))
    )
    assert trial.evaluated == [10, 20, 25]
    assert seen == [10, 20, 25]
    steps, values = history.column("val_loss")
    assert steps == [9, 19, 24]
    assert values[-1] == history.last("val_loss") == trial.evaluate()
    assert history.last("distance") == pytest.approx(abs(trial.state["x"]))


def test_validation_at_the_end_alone() -> None:
    trial = Quadratic(val=True)
    oc.train(trial, oc.one_cycle(0.2, 25))
    assert trial.evaluated == [25]


def test_it_stops_where_the_loss_is_not_finite() -> None:
    trial = Quadratic(val=True)
    history = oc.train(trial, oc.Policy(10_000, oc.constant(1e30)))
    assert history.diverged
    assert not math.isfinite(history.rows[-1]["loss"])
    assert all(math.isfinite(row["loss"]) for row in history.rows[:-1])
    assert len(trial.used) < 30
    assert trial.evaluated == []


def test_two_parts_are_the_whole() -> None:
    policy = oc.one_cycle(0.2, 30)
    whole = oc.train(Quadratic(noise=0.1), policy)
    trial = Quadratic(noise=0.1)
    first = oc.train(trial, policy, total_steps=13)
    assert len(first.rows) == 13
    both = oc.train(trial, policy, start_step=13, history=first)
    assert both.rows == whole.rows


def test_a_policy_without_end_needs_a_length() -> None:
    policy = oc.cyclical(0.01, 0.1, 5)
    with pytest.raises(ValueError, match=r"^total_steps must be given for a policy without end$"):
        oc.train(Quadratic(), policy)
    assert len(oc.train(Quadratic(), policy, total_steps=7).rows) == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": -1}, r"^total_steps must be a whole number >= 1, got -1$"),
        ({"evaluate_every": -1}, r"^evaluate_every must be a whole number >= 0, got -1$"),
        ({"evaluate_every": 1.5}, r"^evaluate_every must be a whole number >= 0, got 1\.5$"),
    ],
)
def test_bad_lengths_are_named(arguments: Any, message: str) -> None:
    trial = Quadratic()
    with pytest.raises(ValueError, match=message):
        oc.train(trial, oc.one_cycle(0.1, 10), **arguments)
    assert trial.used == []


def test_any_function_is_a_policy() -> None:
    trial = Quadratic()
    oc.train(trial, lambda step: {"lr": 0.1 / (1 + step)}, total_steps=3)
    assert [used["lr"] for used in trial.used] == [0.1, 0.05, 0.1 / 3]


def test_a_tracker_is_told_each_step_and_each_evaluation() -> None:
    told: list[tuple[dict[str, float], int]] = []
    policy = oc.one_cycle(0.2, 25)
    history = oc.train(
        Quadratic(val=True),
        policy,
        evaluate_every=10,
        tracker=lambda values, step: told.append((dict(values), step)),
    )
    steps = [(values, step) for values, step in told if "loss" in values]
    assert steps == [({**policy(i), "loss": history.rows[i]["loss"]}, i) for i in range(25)]
    looks = [(values, step) for values, step in told if "loss" not in values]
    assert [step for _, step in looks] == [9, 19, 24]
    assert looks[-1][0] == {name: history.rows[-1][name] for name in ("val_loss", "distance")}


def test_a_history_comes_back_from_its_file(tmp_path: Path) -> None:
    history = oc.train(Quadratic(val=True), oc.one_cycle(0.2, 25), evaluate_every=10)
    history.save(tmp_path / "metrics.csv")
    assert History.load(tmp_path / "metrics.csv").rows == history.rows
    head = (tmp_path / "metrics.csv").read_text().splitlines()[0]
    assert head == "step,lr,momentum,loss,val_loss,distance"
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_losses_that_are_not_finite_come_back(tmp_path: Path) -> None:
    history = History([{"step": 0, "loss": math.inf}, {"step": 1, "loss": math.nan}])
    history.save(tmp_path / "metrics.csv")
    infinite, nothing = History.load(tmp_path / "metrics.csv").rows
    assert infinite["loss"] == math.inf
    assert math.isnan(nothing["loss"])


def test_until_keeps_the_rows_of_the_first_updates() -> None:
    history = History([{"step": i, "loss": 1.0} for i in range(5)])
    assert [row["step"] for row in history.until(3).rows] == [0, 1, 2]


def test_an_empty_history_has_no_last_value() -> None:
    assert History().last("loss") is None
    assert not History().diverged


def test_nothing_is_evaluated_where_that_is_not_wanted() -> None:
    trial = Quadratic(val=True)
    history = oc.train(trial, oc.one_cycle(0.2, 25), evaluate_every=0)
    assert trial.evaluated == []
    assert history.last("val_loss") is None
    assert len(history.rows) == 25


def test_checkpoints_come_between_evaluations_with_every_loss_read() -> None:
    kept: list[tuple[str, int, float]] = []

    def note(what: str) -> Any:
        return lambda record: kept.append((what, len(record.rows), record.rows[-1]["loss"]))

    history = oc.train(
        Quadratic(val=True),
        oc.one_cycle(0.5, 12),
        evaluate_every=6,
        after_evaluation=note("evaluated"),
        checkpoint_every=4,
        checkpoint=note("kept"),
    )
    assert [(what, rows) for what, rows, _ in kept] == [
        ("kept", 4),
        ("evaluated", 6),
        ("kept", 8),
        ("evaluated", 12),
    ]
    assert [loss for *_, loss in kept] == [history.rows[rows - 1]["loss"] for _, rows, _ in kept]
    with pytest.raises(ValueError, match="checkpoint_every must be a whole number >= 1, got 0"):
        oc.train(Quadratic(), oc.one_cycle(0.5, 4), checkpoint_every=0)
