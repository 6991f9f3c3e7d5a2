from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onecycle as oc
from fakes import Quadratic
from onecycle._beyond import _likely
from onecycle._decay import forgets_in
from onecycle._jobs import Job, Ledger, Result, perform, read_record, write_record
from onecycle._lengths import fit, outlook
from onecycle._pilots import FIRST
from onecycle._runs import Facts, Setting, State
from onecycle._search import Search
from onecycle.engines import Local, choose
from onecycle.tasks import Task


class Net(Quadratic):
    """A quadratic with a batch size, whose noise falls with it, and a weight decay; its steps are counted."""

    steps = 0
    samples = 0

    def __init__(self, seed: int, batch_size: int, weight_decay: float, **options: Any) -> None:
        super().__init__(noise=0.02 / math.sqrt(batch_size), val=True, **options)
        self.size = batch_size
        self.state["hyper"]["weight_decay"] = weight_decay
        self.seed(seed)

    def step(self) -> float:
        Net.steps += 1
        Net.samples += self.size
        return super().step()

    def describe(self) -> dict[str, Any]:
        return {
            "optimizer": "SGD",
            "momentum": self.state["hyper"]["momentum"],
            "weight_decay": self.state["hyper"]["weight_decay"],
            "steps_per_epoch": 10,
        }


def build(seed: int, batch_size: int = 8, weight_decay: float = 1e-4) -> Net:
    return Net(seed, batch_size, weight_decay)


@pytest.fixture(autouse=True)
def _counted() -> None:
    Net.steps = Net.samples = 0


def settled(recipe: oc.Recipe) -> dict[str, Any]:
    return {each["what"]: each for each in recipe.evidence["decisions"]}


@pytest.mark.parametrize("budget", [0.05, 0.2, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("steps", [300, 2000])
def test_no_more_is_spent_than_the_budget(budget: float, steps: int) -> None:
    recipe = oc.tune(build, total_steps=steps, budget=budget)
    looked = 8  # updates that show what `build` is
    assert Net.steps <= budget * steps + looked
    assert Net.samples <= 8 * (budget * steps + looked)
    assert recipe.evidence["cost"] <= budget + 1e-9, settled(recipe)
    assert Net.steps <= recipe.evidence["cost"] * steps + looked
    assert set(settled(recipe)) == {"max_lr", "batch_size", "weight_decay", "momentum", "total_steps"}


def test_what_a_budget_allows_for_is_used() -> None:
    for budget in (0.2, 0.5, 1.0, 2.0):
        cost = oc.tune(build, total_steps=2000, budget=budget).evidence["cost"]
        assert 0.6 * budget < cost <= budget


def test_the_recipe_trains_far_below_where_it_began() -> None:
    recipe = oc.tune(build, total_steps=2000, budget=1.0)
    assert recipe.batch_size is not None
    assert recipe.weight_decay is not None
    trial = build(5, recipe.batch_size, recipe.weight_decay)
    begin = trial.evaluate()
    end = oc.train(trial, recipe.policy()).last("val_loss")
    assert begin is not None
    assert end is not None
    assert end < begin / 100
    assert recipe.interval is not None
    assert recipe.interval[0] <= recipe.max_lr <= recipe.interval[1]


def test_a_small_budget_is_a_range_test_and_the_rest_is_said_to_be_the_task_s() -> None:
    recipe = oc.tune(build, total_steps=1000, budget=0.1)
    assert len(recipe.evidence["trials"]) == 1
    assert recipe.batch_size is None or recipe.batch_size == 8
    assert "the budget does not allow for" in settled(recipe)["weight_decay"]["reason"]


def test_epochs_are_counted_in_updates_of_the_task_s_own_batch() -> None:
    assert oc.tune(build, epochs=100, budget=0.05).evidence["total_steps"] == 1000


def test_the_same_seed_gives_the_same_recipe_whatever_the_engine(tmp_path: Path) -> None:
    pytest.importorskip("cloudpickle", reason="pip install 'onecycle[workers]'")
    one, two = Local(), Local(2)
    try:
        recipes = [
            oc.tune(build, total_steps=2000, budget=1.0, engine=engine, out=tmp_path / str(i), seed=3)
            for i, engine in enumerate((one, two))
        ]
    finally:
        two.close()
    assert recipes[0] == recipes[1]
    texts = [(tmp_path / str(i) / "recipe.toml").read_text() for i in range(2)]
    assert texts[0] == texts[1]
    assert oc.tune(build, total_steps=2000, budget=1.0, seed=4) != recipes[0]


def test_what_is_kept_tells_how_it_came_about(tmp_path: Path) -> None:
    recipe = oc.tune(build, total_steps=2000, budget=1.0, out=tmp_path)
    assert oc.Recipe.load(tmp_path / "recipe.toml") == recipe
    run = json.loads((tmp_path / "run.json").read_text())
    assert (run["command"], run["status"]) == ("tune", "done")
    assert oc.Curve.load(tmp_path / "curves/lr.json").suggest().max_lr > 0
    files = {path.stem for path in (tmp_path / "trials").glob("*.json")}
    named = {name for each in recipe.evidence["decisions"] for name in each.get("trials", ())}
    assert named == files
    assert len(files) == len(recipe.evidence["trials"]) > 5
    for path in (tmp_path / "trials").glob("*.json"):
        job, result = read_record(path)
        assert result.samples == job.steps * (job.batch_size or 8)
        assert result.error is None
        assert (result.curve is None) == (job.kind == "run")


class Flaky:
    """An engine that dies after some jobs."""

    workers = 1

    def __init__(self, after: int) -> None:
        self.left = after

    def run(self, task: Task, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        for job in jobs:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield job, perform(task, job)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("after", [1, 6])
def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path, after: int) -> None:
    whole = oc.tune(build, total_steps=2000, budget=1.0, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        oc.tune(build, total_steps=2000, budget=1.0, out=tmp_path / "cut", engine=Flaky(after))
    assert len(list((tmp_path / "cut/trials").iterdir())) == after
    assert json.loads((tmp_path / "cut/run.json").read_text())["status"] == "interrupted"
    Net.steps = 0
    recipe = oc.tune(build, total_steps=2000, budget=1.0, out=tmp_path / "cut", resume=True)
    assert recipe == whole
    assert Net.steps < recipe.evidence["cost"] * 2000
    Net.steps = 0
    assert oc.tune(build, total_steps=2000, budget=1.0, out=tmp_path / "cut", resume=True) == whole
    assert Net.steps <= 8  # all is there
    oc.tune(build, total_steps=2000, budget=0.1, out=tmp_path / "cut")
    assert len(list((tmp_path / "cut/trials").iterdir())) == 1  # begun anew, nothing of the old remains


def test_the_state_of_the_search_is_told_after_each_run() -> None:
    states: list[State] = []
    recipe = oc.tune(build, total_steps=2000, budget=1.0, on_state=states.append)
    assert [state.done for state in states] == list(range(1, len(recipe.evidence["trials"]) + 1))
    assert states[0].stage == "rate"
    assert states[0].job.kind == "sweep"
    assert all(0 < state.spent <= state.budget == 1.0 for state in states)


# What cannot be tuned ----------------------------------------------------------------------------------


def test_a_task_without_the_arguments_keeps_its_own() -> None:
    def fixed(seed: int) -> Net:
        return Net(seed, 8, 1e-4)

    recipe = oc.tune(fixed, total_steps=2000, budget=1.0)
    assert settled(recipe)["batch_size"]["reason"] == "the task fixes it"
    assert settled(recipe)["weight_decay"]["reason"] == "the task fixes it"
    assert recipe.batch_size in (None, 8)


def failing_small(error: Exception) -> Callable[..., Net]:
    """Builds nets of which a batch below 8 fails, but the first one, which is only looked at."""
    looked: list[int] = []

    def small(seed: int, batch_size: int = 8, weight_decay: float = 1e-4) -> Net:
        if batch_size < 8:
            if looked:
                raise error
            looked.append(batch_size)
        return build(seed, batch_size, weight_decay)

    return small


def test_a_batch_that_fails_is_out_and_the_search_goes_on() -> None:
    recipe = oc.tune(failing_small(MemoryError("no room")), total_steps=2000, budget=1.0)
    assert recipe.batch_size == 8
    assert "4: failed (ValueError)" in settled(recipe)["batch_size"]["reason"]


def test_what_failed_is_tried_again_by_a_second_start(tmp_path: Path) -> None:
    task = Task("small", failing_small(OSError("the disk was away")))
    oc.tune(task, total_steps=2000, budget=1.0, out=tmp_path)
    failed = [path for path in (tmp_path / "trials").iterdir() if read_record(path)[1].error]
    assert failed
    task = Task("small", build)
    again = oc.tune(task, total_steps=2000, budget=1.0, out=tmp_path, resume=True)
    assert all(read_record(path)[1].error is None for path in failed)
    assert settled(again) == settled(oc.tune(build, total_steps=2000, budget=1.0))


def test_a_net_that_does_not_train_is_refused(tmp_path: Path) -> None:
    def dead(seed: int, batch_size: int = 8, weight_decay: float = 1e-4) -> Net:
        net = Net(seed, batch_size, weight_decay)
        net.step = lambda: 1.0  # type: ignore[method-assign]
        return net

    with pytest.raises(oc.Inconclusive, match="the loss is flat at 1"):
        oc.tune(dead, total_steps=2000, out=tmp_path)
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["status"] == "inconclusive"
    assert not (tmp_path / "recipe.toml").exists()


class Random(Net):
    def __init__(self, seed: int, batch_size: int, weight_decay: float) -> None:
        super().__init__(seed, batch_size, weight_decay)
        self.noise = 1.0

    def seed(self, seed: int) -> None:  # noqa: ARG002
        self.state["random"] = np.random.default_rng()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (
            lambda seed, batch_size=8, weight_decay=0.0: Random(seed, batch_size, weight_decay),
            r"^task <lambda> is not deterministic: with seed=0 the loss at step \d was .* and then .*: ",
        ),
        (
            lambda seed, batch_size=8, weight_decay=0.0: Net(seed, 8, weight_decay),  # noqa: ARG005
            r"^task <lambda> ignores batch_size: size is 8 for 4 as for 8: use it, or leave it out",
        ),
        (
            lambda seed, batch_size=8, weight_decay=0.1: Net(seed, batch_size, 0.1),  # noqa: ARG005
            r"^task <lambda> ignores weight_decay: the optimizer has 0.1 for 0.2 as for 0.1: use",
        ),
        (lambda seed: 3, r"^task <lambda> must return a trial, such as onecycle.torch.Trial, got int$"),  # noqa: ARG005
        (lambda: 3, r"^task <lambda> raised TypeError: .* got an unexpected keyword argument 'seed'$"),
        (lambda seed: 1 / 0, r"^task <lambda> raised ZeroDivisionError: division by zero$"),  # noqa: ARG005
    ],
)
def test_a_task_that_is_not_what_it_must_be_is_told_before_the_budget_is_spent(
    task: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        oc.tune(task, total_steps=2000)
    assert Net.steps <= 8


def test_a_batch_that_does_not_fit_is_told_before_the_budget_is_spent() -> None:
    def large(seed: int, batch_size: int = 8, weight_decay: float = 1e-4) -> Net:
        def fail(_: int) -> None:
            raise MemoryError("12 GiB wanted")

        return Net(seed, batch_size, weight_decay, fail=fail)

    with pytest.raises(
        ValueError,
        match=r"^task large failed in its first updates, MemoryError: 12 GiB wanted: a batch of 8 does not"
        r" fit, lower the task's own batch_size$",
    ):
        oc.tune(large, total_steps=2000)


def test_a_recipe_carries_its_runs(tmp_path: Path) -> None:
    recipe = oc.tune(build, total_steps=2000, budget=1.0, out=tmp_path)
    runs = {run["name"]: run for run in recipe.evidence["trials"]}
    for path in (tmp_path / "trials").glob("*.json"):
        job, result = read_record(path)
        run = runs.pop(job.name)
        assert (run["seed"], run["steps"], run["diverged"]) == (job.seed, job.steps, result.diverged)
        if job.kind == "sweep":
            np.testing.assert_allclose(run["loss"], result.read_curve().loss, rtol=1e-4)
            assert len(run["value"]) == len(run["loss"])
        else:
            assert run["loss"] == result.loss
            assert run["max_lr"] == job.max_lr
    assert not runs


def test_a_task_that_fails_in_its_steps_is_told() -> None:
    def breaks(seed: int, batch_size: int = 8, weight_decay: float = 1e-4) -> Net:
        def fail(step: int) -> None:
            if step == 50:
                raise RuntimeError("CUDA error")

        return Net(seed, batch_size, weight_decay, fail=fail)

    with pytest.raises(ValueError, match=r"^task breaks failed in a range test: RuntimeError: CUDA error$"):
        oc.tune(breaks, total_steps=2000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": 0.01}, r"^budget must be from 0.05 to 20 full trainings, got 0.01$"),
        ({"budget": 21}, r"^budget must be from 0.05 to 20 full trainings, got 21$"),
        ({"budget": 0.05, "total_steps": 100}, r"^budget must allow for a sweep of 10 updates, got 0.05 of"),
        ({"total_steps": None}, r"^give either total_steps or epochs, got None and None$"),
        ({"epochs": 3}, r"^give either total_steps or epochs, got 1000 and 3$"),
        (
            {"engine": "slurm"},
            r"^engine must be 'local', 'local:N' with N processes, 'ray' or an Engine, got 'slurm'$",
        ),
        ({"resume": True}, r"^resume=True needs out, the folder that the search was kept in$"),
        ({"seed": -1}, r"^seed must be a whole number >= 0, got -1$"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        oc.tune(build, **{"total_steps": 1000, **arguments})


# Jobs, records, engines --------------------------------------------------------------------------------


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    job = Job("rate", "run", 0, 30, 8, 1e-4, 0.1)
    for momentum in ((0.95, 0.85), 0.9, None):
        each = Job("momentum", "run", 0, 30, 8, 1e-4, 0.1, momentum)
        result = perform(Task("net", build), each)
        (tmp_path / "one.json").write_text(write_record(each, result))
        assert read_record(tmp_path / "one.json") == (each, result)
    diverged = perform(Task("net", build), Job("rate", "run", 0, 4000, 8, 1e-4, 1e3))
    (tmp_path / "two.json").write_text(write_record(job, diverged))
    assert read_record(tmp_path / "two.json")[1].loss == math.inf
    assert diverged.diverged


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": "onecycle.trial", "version": 2}', "\x00"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "rate-1.json").write_text(text)
    with pytest.raises(
        ValueError, match=r"rate-1.json: this is no finished job of a search \(.*\): remove it$"
    ):
        Ledger(tmp_path)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("job", {"kind": "walk"}),
        ("job", {"steps": "many"}),
        ("job", {"momentum": [0.9]}),
        ("job", {"momentum": [0.9, "x"]}),
        ("result", {"loss": None}),
        ("result", {"metrics": 3}),
        ("result", {"curve": {}}),
        ("result", {"history": {"step": [0], "loss": ["x"], "val": []}}),
        ("result", {"history": {"step": [0]}}),
    ],
)
def test_a_record_of_wrong_values_is_refused(part: str, change: dict[str, Any], tmp_path: Path) -> None:
    record = json.loads(write_record(Job("rate", "run", 0, 30, max_lr=0.1), Result(1.0)))
    record[part] |= change
    (tmp_path / "x.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"x\.json: this is no finished job of a search"):
        read_record(tmp_path / "x.json")


def test_jobs_that_do_the_same_are_done_once() -> None:
    one, other = Job("rate", "run", 0, 30, max_lr=0.1), Job("momentum", "run", 0, 30, max_lr=0.1)
    assert one.key == other.key != Job("rate", "run", 1, 30, max_lr=0.1).key
    ledger = Ledger(None)
    done: list[Job] = []
    found = list(ledger.complete([one, other], Local(), Task("net", build), lambda job, _: done.append(job)))
    assert done == [one]
    assert found[0][1] is found[1][1]


def test_a_pilot_is_long_enough_to_tell() -> None:
    recipe = oc.tune(build, total_steps=1000, budget=1.0)
    runs = [each for each in recipe.evidence["trials"] if each["kind"] == "run"]
    assert len(runs) > 3
    assert all(each["steps"] * each["batch_size"] >= FIRST * 8 for each in runs)


def test_engines_by_name() -> None:
    assert isinstance(choose("local"), Local)
    assert choose("local").workers == 1
    assert choose("local:3").workers == 3
    mine = Flaky(1)
    assert choose(mine) is mine
    for name in ("local:", "local:x", "local:0"):
        if name == "local:":
            assert choose(name).workers == 1
        else:
            with pytest.raises(ValueError, match=r"engine must be|workers must be"):
                choose(name)


def result(loss: float, val: bool = True, norm: float | None = None) -> Result:
    return Result(loss, train_loss=loss, val_loss=loss if val else None, norm=norm)


def judge(tie: float = 0.02, start: float = 2.0) -> Search:
    facts = Facts(1000, 8, 1e-4, True, True, True, "SGD", 10)
    search = Search(Task("net", build), facts, 1.0, 0, Local(), Ledger(None), lambda _: None)
    search.tie, search._start = tie, start
    return search


def test_a_decay_that_a_short_training_feels_is_lowered_before_the_rate_is_moved() -> None:
    # SGD at 0.1 has 0.55 in the mean, with momentum: 1/e of a weight after 1 / (0.55 * 1e-3) = 1,818 updates.
    first = Setting(0.1, 8, 1e-3)
    assert forgets_in(0.1, 1e-3, "SGD") == pytest.approx(1 / 0.55e-3)
    rates = [replace(first, max_lr=0.1 * factor) for factor in (10**-0.5, 10**0.5)]
    assert _likely(judge(), first, 1000) == [replace(first, weight_decay=1e-4), *rates]
    assert _likely(judge(), first, 900) == rates
    assert _likely(judge(), replace(first, weight_decay=0.0), 1000) == [
        replace(each, weight_decay=0.0) for each in rates
    ]


def test_on_a_plateau_nothing_is_compared_but_rates() -> None:
    search, setting = judge(), Setting(0.1, 8, 1e-3)
    search._pilot, search._plateau = Result(2.0, train_loss=2.0, val_loss=2.0), True
    for chosen in (search._batch_size, search._weight_decay, search._momentum):
        assert chosen(setting) == setting
    luck = "it begins on a plateau, which a run leaves sooner or later by luck"
    assert [decision.reason for decision in search.decisions] == [
        f"the task's own: {luck}",
        f"the task's own: {luck}",
        f"cycled, the paper's choice: {luck}",
    ]
    assert search.spent == 0


def test_a_batch_smaller_where_short_runs_bear_more_than_the_whole_wants() -> None:
    root = 0.5**0.5
    setting = Setting(0.1, 8, 1e-4)

    def choose(lift: float, half: float, bears: float = 1.0) -> tuple[Setting, str]:
        search = judge()
        search._lift, search._bears = lift, bears
        tried = [setting, search._resized(setting, 0.5)]
        best, why = search._less_or_own(tried, result(1.0), result(half))
        return search._lifted(best), why

    def at(size: int, rate: float) -> Setting:
        near: Any = pytest.approx
        return Setting(near(rate), size, near(1e-4 * (size / 8) ** 0.5))

    # The whole wants about as much as pilots do best with: half has to gain, and the rate goes with the root.
    for lift in (0.8, 1.0, 1.5):
        assert choose(lift, 0.96)[0] == at(8, 0.1 * lift)
        assert choose(lift, 0.94)[0] == at(4, 0.1 * lift * root)
    assert choose(1.0, 0.96)[1] == "4 has to gain 5%"
    assert choose(1.0, 0.94)[1] == "4 has to gain 5%; rate and decay go with its square root"
    # It wants less than half of the batch bears: its rate stays, up to what a quarter bears.
    assert choose(0.3, 1.03)[0] == at(8, 0.03)
    assert choose(0.3, 1.01)[0] == at(4, 0.03)
    assert choose(0.3, 0.94)[0] == at(2, 0.03)
    assert choose(0.6, 0.94)[0] == at(2, 0.05)
    # Of rates that tie over a decade, the highest is what they bear.
    assert choose(1.5, 1.01, bears=10)[0] == at(4, 0.15)
    assert choose(1.5, 0.94, bears=10)[0] == at(2, 0.15)
    assert choose(0.3, 0.94)[1] == (
        "4 has to end as low, and a quarter is taken if that would gain 5%, as they bear more than the 0.03 "
        "for the whole; the decay goes with its square root"
    )


def test_a_decay_that_forgets_within_four_trainings_is_lowered_where_no_layer_normalises() -> None:
    # 1/e of a weight is left after 1 / (0.55 * 0.1 / (1 - 0.9) * decay) updates.
    borne, setting = 1 / 0.55 / 4000, Setting(0.1, 8, 1e-2)

    def bearable(setting: Setting = setting, val: float = 1.0, **facts: Any) -> tuple[float | None, str]:
        search = judge()
        search.facts = replace(search.facts, **{"normalised": False, **facts})
        search._pilot = Result(val, train_loss=1.0, val_loss=val)
        found, words = search._bearable(setting)
        assert replace(found, weight_decay=setting.weight_decay) == setting
        return found.weight_decay, words

    decay, words = bearable()
    assert decay == pytest.approx(borne)
    assert words == (
        "what makes 1/e of a weight in 4 such trainings, where the task's own, 0.01, does in 0.18 of one "
        "(no layer normalises, and the best pilot does not overfit)"
    )
    # Of half the batch there are twice the updates.
    assert bearable(replace(setting, batch_size=4))[0] == pytest.approx(borne / 2)
    # AdamW has its decay apart from the gradient, and its steps do not grow with momentum.
    small = replace(setting, weight_decay=4e-3)
    assert bearable(small, optimizer="AdamW") == (4e-3, "the task's own")
    assert bearable(replace(setting, weight_decay=1.0), optimizer="AdamW")[0] == pytest.approx(10 * borne)
    for own in (
        bearable(replace(setting, weight_decay=4e-4)),
        bearable(val=1.2),
        bearable(normalised=True),
        bearable(optimizer="Adam"),
        bearable(optimizer="RMSprop"),
    ):
        assert own[1] == "the task's own"
    search = judge()
    search.facts = replace(search.facts, normalised=False)
    for pilot in (None, Result(1.0, train_loss=1.0), Result(-1.0, train_loss=-1.0, val_loss=-1.0)):
        search._pilot = pilot
        assert search._bearable(setting) == (setting, "the task's own")


def test_the_task_s_own_decay_stays_unless_others_end_clearly_lower() -> None:
    decays = [1e-4, 1e-3, 1e-2, 0.0]
    for losses, value in (
        ((1.0, 0.99, 0.995, 1.1), 1e-4),
        ((1.0, 0.9, 0.91, 1.1), 1e-2),
        ((1.0, 0.9, 1.1, 1.1), 1e-3),
        ((1.0, 1.1, 1.1, 0.9), 0.0),
        ((1.0, math.inf, math.inf, math.inf), 1e-4),
        ((-1.0, -1.05, -0.9, 0.0), 1e-4),  # of what was gained, 3, a tie is 0.06
        ((-1.0, -1.1, -0.9, 0.0), 1e-3),
    ):
        assert judge()._decay(decays, [result(loss) for loss in losses]) == value
    assert judge(tie=0.1)._decay(decays, [result(loss) for loss in (1.0, 0.95, 1.1, 1.1)]) == 1e-4


def test_without_validation_data_the_least_norm_decides_among_those_that_train_as_well() -> None:
    decays = [0.0, 1e-4, 1e-3]
    runs = [result(loss, val=False, norm=norm) for loss, norm in ((1.0, 9.0), (1.01, 5.0), (1.01, 7.0))]
    assert judge()._decay(decays, runs) == 1e-4
    worse = [result(1.0, val=False, norm=9.0), *[result(1.1, val=False, norm=1.0)] * 2]
    assert judge()._decay(decays, worse) == 0.0


def test_the_time_scale_of_a_decay_is_told_in_epochs() -> None:
    setting = Setting(0.1, 8, 1e-2)
    # 1 / (0.055 / (1 - 0.9) * 0.01) updates of 10 an epoch
    assert judge()._time_scale(setting, 1e-2) == "; time scale 1/(lr wd) about 18 epochs"
    assert judge()._time_scale(setting, 0.0) == ""


def test_a_rate_goes_with_what_makes_steps_larger() -> None:
    search, setting = judge(), Setting(0.1, 8, 1e-4)
    assert search._resized(setting, 0.5) == Setting(0.1 * 0.5**0.5, 4, 1e-4 * 0.5**0.5)
    both = (
        search._time_scale(each, each.weight_decay or 0) for each in (setting, search._resized(setting, 0.25))
    )
    assert next(both) == next(both)
    assert search._with_momentum(setting, 0.97).max_lr == pytest.approx(0.1 * 0.03 / 0.15)


def test_range_tests_at_each_decay_where_they_cost_little(tmp_path: Path) -> None:
    def of_one_size(seed: int, weight_decay: float = 1e-4) -> Net:
        return Net(seed, 8, weight_decay)

    recipe = oc.tune(of_one_size, total_steps=6000, budget=1.0, out=tmp_path)
    records = [read_record(path) for path in (tmp_path / "trials").glob("*.json")]
    swept = {job.weight_decay for job, _ in records if job.kind == "sweep"}
    assert swept == {0.0, 1e-5, 1e-4, 1e-3}
    assert len(list((tmp_path / "curves").glob("weight-decay-*.json"))) == 4
    assert settled(recipe)["weight_decay"]["reason"].startswith("the ")
    oc.tune(of_one_size, total_steps=2000, budget=1.0, out=tmp_path)
    assert not list((tmp_path / "curves").glob("weight-decay-*.json"))


# Lengths -----------------------------------------------------------------------------------------------


def test_a_power_law_through_two_lengths() -> None:
    found = outlook((100, 1.0), (400, 0.5), 1600)
    assert found is not None
    assert found[0] == pytest.approx(0.25)
    assert "near 0.25 at best, and one twice as long 29% lower" in found[1]
    for short, long in (((100, 0.5), (400, 0.6)), ((100, -1.0), (400, -2.0)), ((100, math.inf), (400, 1.0))):
        assert outlook(short, long, 1600) is None


def ended(train: float, val: list[float]) -> Result:
    points = [[10.0 * i, loss] for i, loss in enumerate(val)]
    return Result(
        val[-1], train_loss=train, val_loss=val[-1], history={"step": [], "loss": [], "val": points}
    )


def test_over_and_underfitting_are_said_in_words() -> None:
    assert fit(ended(0.1, [1.0, 0.5, 0.8])).startswith(
        "the validation loss was least at update 11, 0.5, and rose to 0.8: the model overfits"
    )
    assert "which did not rise: it begins to overfit" in fit(ended(0.1, [1.0, 0.8, 0.5]))
    assert "it underfits" in fit(ended(0.5, [1.0, 0.8, 0.5]))
    assert fit(Result(1.0, train_loss=1.0)) == ""


class Shorter(Net):
    """Long runs end worse: the loss turns at update 300."""

    def evaluate(self) -> float | None:
        loss = super().evaluate() or 0.0
        return loss + float(max(self.state["steps"] - 300, 0)) / 100


def test_the_length_is_cut_where_longer_is_worse() -> None:
    def overfits(seed: int) -> Net:
        return Shorter(seed, 8, 1e-4)

    recipe = oc.tune(overfits, total_steps=4000, budget=1.0)
    assert recipe.total_steps is not None
    assert recipe.total_steps < 2000
    assert "longer is worse" in settled(recipe)["total_steps"]["reason"]


# Beyond two trainings ------------------------------------------------------------------------------------


def test_a_large_budget_goes_to_optuna_and_ends_no_worse(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="pip install 'onecycle[optuna]'")

    def of_one_size(seed: int, weight_decay: float = 1e-4) -> Net:
        return Net(seed, 8, weight_decay)

    recipe = oc.tune(of_one_size, total_steps=500, budget=9.0, out=tmp_path, seed=1)
    assert Net.steps <= 9.0 * 500 + 8
    assert 7 < recipe.evidence["cost"] <= 9.0
    whole = [
        (job, found)
        for job, found in map(read_record, (tmp_path / "trials").glob("search-*.json"))
        if job.steps * (job.batch_size or 8) >= 0.99 * 500 * 8
    ]
    assert len(whole) >= 3
    # A rate that won half a decade up is taken a little lower than it was run.
    run = [(math.log10((job.max_lr or math.nan) / recipe.max_lr), job.batch_size) for job, _ in whole]
    assert any(
        rate == pytest.approx(moved) and size == recipe.batch_size
        for rate, size in run
        for moved in (0, 0.125)
    )
    assert oc.tune(of_one_size, total_steps=500, budget=9.0, seed=1) == recipe


def test_a_large_budget_without_optuna_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        ImportError,
        match=r"^a budget above 2 is searched with Optuna: pip install 'onecycle\[optuna\]', or give",
    ):
        oc.tune(build, total_steps=500, budget=3.0)


class Noisy:
    """An engine whose runs end where a formula says, times what luck of the seed says; it trains nothing."""

    workers = 1

    def __init__(self, luck: Callable[[np.random.Generator], float]) -> None:
        self.luck = luck

    def run(self, task: Task, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        for job in jobs:
            if job.kind == "sweep":
                yield job, perform(task, job)
            else:
                assert job.max_lr is not None
                loss = true_loss(job.max_lr, job.weight_decay or 0.0, job.steps)
                random = np.random.default_rng([int(job.key, 16), 7])
                loss *= self.luck(random)
                yield job, Result(loss, train_loss=loss, val_loss=loss)

    def close(self) -> None:
        pass


def true_loss(rate: float, decay: float, steps: int) -> float:
    """Least at a rate that falls with the length, and at a decay far above the task's own."""
    miss = math.log10(rate / 0.05) + 0.5 * math.log10(steps / 500)
    missed = 0.02 * (math.log10(decay + 1e-7) + 2) ** 2
    return float(0.2 * (500 / steps) ** 0.2 * (1 + 0.5 * miss**2) * (1 + missed))


@pytest.mark.parametrize(
    "luck",
    [
        lambda random: float(np.exp(random.normal(0, 0.2))),
        lambda random: 0.03 if random.random() < 0.1 else 1.0,
    ],
    ids=["spread", "jackpots"],
)
def test_a_larger_budget_is_no_worse_in_expectation(luck: Callable[[np.random.Generator], float]) -> None:
    pytest.importorskip("optuna", reason="pip install 'onecycle[optuna]'")

    def of_one_size(seed: int, weight_decay: float = 1e-4) -> Net:
        return Net(seed, 8, weight_decay)

    means = []
    for budget in (1.0, 5.0, 20.0):
        recipes = [
            oc.tune(of_one_size, total_steps=500, budget=budget, seed=10 * seed, engine=Noisy(luck))
            for seed in range(20)
        ]
        assert max(recipe.evidence["cost"] for recipe in recipes) <= budget + 1e-9
        means.append(np.mean([true_loss(each.max_lr, each.weight_decay or 0.0, 500) for each in recipes]))

    assert means[1] <= 1.01 * means[0]  # twenty searches tell no better
    assert means[2] <= 1.01 * means[0]
