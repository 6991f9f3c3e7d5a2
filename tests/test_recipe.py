from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import onecycle as oc
from onecycle import Recipe

FULL: dict[str, Any] = {
    "max_lr": 0.8,
    "min_lr": 0.08,
    "interval": (0.5, 1.2),
    "momentum": (0.95, 0.8),
    "weight_decay": 1e-4,
    "batch_size": 512,
    "total_steps": 9310,
    "form": "logs",
    "evidence": {"task": "cifar10", "cost": 931, "pilots": [{"max_lr": 0.8, "loss": 0.3}], "nothing": {}},
}


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    recipe = Recipe(**FULL)
    recipe.save(tmp_path / "recipe.toml")
    assert Recipe.load(tmp_path / "recipe.toml") == recipe
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]


@pytest.mark.parametrize("momentum", [None, 0.9, (0.9, 0.9), (0.95, 0.85)])
def test_momentum_comes_back_in_each_form(tmp_path: Path, momentum: Any) -> None:
    Recipe(0.1, momentum=momentum).save(tmp_path / "r.toml")
    assert Recipe.load(tmp_path / "r.toml") == Recipe(0.1, momentum=momentum)


def test_policy_is_the_1cycle_of_its_values() -> None:
    recipe = Recipe(**FULL)
    expected = oc.one_cycle(0.8, 9310, min_lr=0.08, momentum=(0.95, 0.8), form="logs")
    assert recipe.policy() == expected
    assert recipe.policy(100).total_steps == 100


def test_a_recipe_without_length_asks_for_one() -> None:
    with pytest.raises(
        ValueError, match=r"^total_steps must be given: this recipe has no length of its own$"
    ):
        Recipe(0.1).policy()


def test_a_person_may_write_one(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('format = "onecycle.recipe"\nversion = 1\nmax_lr = 1\n')
    assert Recipe.load(path) == Recipe(1)


HEAD = 'format = "onecycle.recipe"\nversion = 1\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_lr = ", r"r\.toml is no TOML: .+"),
        ("max_lr = 1", r'r\.toml is no recipe: its format is not "onecycle\.recipe"'),
        ('format = "onecycle.recipe"\nversion = 2\nmax_lr = 1', r"of version 2: upgrade onecycle to read it"),
        ('format = "onecycle.recipe"\nmax_lr = 1', r"of version None: upgrade onecycle to read it"),
        (HEAD, r"r\.toml must have max_lr, a number, got None"),
        (HEAD + 'max_lr = "big"', r"must have max_lr, a number, got 'big'"),
        (HEAD + "max_lr = true", r"must have max_lr, a number, got True"),
        (HEAD + "max_lr = nan", r"must have max_lr, a number, got nan"),
        (HEAD + "max_lr = -1", r"r\.toml: max_lr must be > 0, got -1"),
        (
            HEAD + "max_lr = 1\nlr = 2",
            r"has unknown lr; known are batch_size, evidence, form",
        ),
        (HEAD + 'max_lr = 1\nbatch_size = "64"', r"has batch_size = '64', which is of the wrong type"),
        (HEAD + "max_lr = 1\nbatch_size = 0", r"r\.toml: batch_size must be a whole number >= 1, got 0"),
        (HEAD + "max_lr = 1\nweight_decay = -1", r"r\.toml: weight_decay must be >= 0, got -1"),
        (HEAD + "max_lr = 1\nmomentum = [0.9]", r"r\.toml: momentum must be \(high, low\)"),
        (HEAD + "max_lr = 1\nmomentum = 1.5", r"r\.toml: momentum must be \(high, low\)"),
        (HEAD + 'max_lr = 1\nmomentum = "no"', r"r\.toml: momentum must be a number, got 'no'"),
        (HEAD + "max_lr = 1\ntotal_steps = 0", r"r\.toml: total_steps must be a whole number >= 1, got 0"),
        (HEAD + 'max_lr = 1\nform = "x"', r"r\.toml: form must be 'paper', 'logs' or 'to_zero', got 'x'"),
        (HEAD + "max_lr = 1\ninterval = [1.0]", r"r\.toml: interval must be \(low, high\), got \(1\.0,\)"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        Recipe.load(path)
    assert "r.toml" in str(error.value)
    assert "\n" not in str(error.value).strip()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^recipe .*nothing\.toml does not exist$"):
        Recipe.load(tmp_path / "nothing.toml")


def test_text_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"r\.toml is no TOML"):
        Recipe.load(tmp_path / "r.toml")
