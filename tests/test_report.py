"""The report: what it says of each kind of run, and that it asks nothing and runs nothing of others."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onecycle import Curve, Recipe
from onecycle.report import write
from onecycle.report._use import snippets
from report_folders import curve, find_folder, train_folder, tune_folder, write_run

VOID = {"meta", "path", "rect", "br"}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


class Page(HTMLParser):
    """Tags, attributes and text of a page whose tags must all be closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.words.append(data)

    def values(self, name: str) -> list[str]:
        """Values of an attribute."""
        return [value for _, attribute, value in self.attributes if attribute == name]


def page(folder: Path) -> Page:
    return Page(write(folder))


FOLDERS: dict[str, Callable[[Path], Path]] = {"find": find_folder, "train": train_folder, "tune": tune_folder}


@pytest.mark.parametrize("kind", FOLDERS)
def test_page_needs_nothing_from_outside(kind: str, tmp_path: Path) -> None:
    path = write(FOLDERS[kind](tmp_path / "d"))
    assert path == tmp_path / "d/report.html"
    found = Page(path)
    assert all(link.startswith("#") for link in found.values("href"))
    assert found.values("src") == []
    assert not found.tags.keys() & {"img", "link", "iframe", "object", "embed"}
    outside = set(re.findall(r"https?://[^\"' )]+", found.source))
    assert outside <= {"http://www.w3.org/2000/svg"}
    assert found.tags["figure"] > 2


def test_contents_lead_to_the_sections(tmp_path: Path) -> None:
    found = page(tune_folder(tmp_path / "d"))
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in found.values("href")} <= set(ids)
    for title in ("Weight decay", "Momentum", "Batch size", "Length of training", "Search", "Cost"):
        assert title in found.text


def test_only_the_page_s_own_script_may_run(tmp_path: Path) -> None:
    found = page(find_folder(tmp_path / "d"))
    policy = next(value for value in found.values("content") if "default-src" in value)
    digest = base64.b64encode(hashlib.sha256(found.scripts[-1].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_names_and_texts_in_the_files_stay_text(tmp_path: Path) -> None:
    folder = tmp_path / "a<b"
    tune_folder(folder, 30)
    run = json.loads((folder / "run.json").read_text())
    run |= {"command": HOSTILE, "status": HOSTILE, "reason": HOSTILE, "versions": {HOSTILE: HOSTILE}}
    run["settings"] |= {"task": HOSTILE, HOSTILE: [HOSTILE, {"a": HOSTILE}]}
    (folder / "run.json").write_text(json.dumps(run))
    recipe = Recipe.load(folder / "recipe.toml")
    evil = [{**d, "reason": HOSTILE, "what": HOSTILE} for d in recipe.evidence["decisions"]]
    decisions = [*evil, {**recipe.evidence["decisions"][1], "reason": HOSTILE, "value": HOSTILE}]
    Recipe(0.1, total_steps=10, evidence={"decisions": decisions, "reason": HOSTILE}).save(
        folder / "recipe.toml"
    )
    curve().save(folder / "curves/<script>alert(3)<img onerror=x>.json")
    rate = np.geomspace(1e-5, 1, 30)
    Curve(rate, np.ones(30), hyper=HOSTILE).save(folder / "curves/other.json")
    (folder / "metrics.csv").write_text("step,loss,<img src=x>\n0,1.0,0.5\n1,0.9,0.6\n")
    first = next((folder / "trials").iterdir())
    trial = json.loads(first.read_text())
    trial["job"] |= {"stage": HOSTILE}
    (folder / "trials/y<script>.json").write_text(json.dumps(trial))
    trial["job"] |= {"max_lr": HOSTILE, "momentum": HOSTILE, "steps": HOSTILE}
    (folder / "trials/z<script>.json").write_text(json.dumps(trial))
    (folder / "trials/broken<script>.json").write_text("{" + HOSTILE)

    found = page(folder)
    assert found.tags["img"] == 0
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    blocks = found.tags["script"] - 1
    assert blocks == found.tags["figure"]
    assert found.values("type") == ["application/json"] * blocks
    for text in found.scripts[:-1]:
        json.loads(text)
    assert "alert(1)" in found.text


# What it says -------------------------------------------------------------------------------------------


def verdict(folder: Path) -> str:
    source = write(folder).read_text(encoding="utf-8")
    header = source[source.index("<header>") : source.index("</header>")]
    return " ".join(re.sub("<[^>]+>", " ", header).split())


def test_verdict_of_find(tmp_path: Path) -> None:
    assert verdict(find_folder(tmp_path / "d")) == (
        "onecycle find digits Train with 1cycle up to a learning rate of 0.03 , in batches of 64, with "
        "weight decay 0.0005, for 1,000 updates. What it comes to was not measured: no run of the whole "
        "length was made. The rate was tried in 4 short runs; the best is expected between 0.01 and 0.1."
    )


def test_verdict_of_find_without_pilots(tmp_path: Path) -> None:
    find_folder(tmp_path / "d")
    write_run(tmp_path / "d", "find")
    Recipe(0.03, interval=(0.01, 0.1)).save(tmp_path / "d/recipe.toml")
    assert verdict(tmp_path / "d").endswith(
        "The rate was read from one range test of 100 mini-batches, and not tried; "
        "the best is expected between 0.01 and 0.1."
    )


def test_verdict_of_train(tmp_path: Path) -> None:
    assert re.search(
        r"Trained for 200 updates with 1cycle, up to a learning rate of 0\.1 : "
        r"accuracy 96\.\d% and validation loss 0\.1\d*\.$",
        verdict(train_folder(tmp_path / "d")),
    )


def test_verdict_of_tune_says_what_the_checks_came_to(tmp_path: Path) -> None:
    folder = tune_folder(tmp_path / "d")
    losses = [json.loads(p.read_text())["result"]["loss"] for p in folder.glob("trials/check-*")]
    text = verdict(folder)
    assert f"Expect a loss of {sum(losses) / 3:.3g} ({min(losses):.3g} to {max(losses):.3g} in 3 runs" in text
    assert "It rests on 200 trials, 193 runs among them" in text


@pytest.mark.parametrize(
    ("status", "facts", "text"),
    [
        ("running", {}, "Not finished: it still runs, or was stopped before it could say so."),
        ("interrupted", {}, "Interrupted before its end; this is what was kept."),
        ("inconclusive", {"reason": "the loss is flat."}, "The evidence does not tell: the loss is flat."),
        ("error", {"reason": "OSError: full"}, "Ended with an error: OSError: full."),
        ("diverged", {}, "Training diverged: its loss is not finite at the end. Lower the peak rate."),
    ],
)
def test_verdict_says_how_a_run_ended(status: str, facts: dict[str, Any], text: str, tmp_path: Path) -> None:
    write_run(tmp_path / "d", "find", status, **facts)
    assert text in verdict(tmp_path / "d")
    if status == "interrupted":
        assert "There is no recipe in this folder." in verdict(tmp_path / "d")


def test_figures_state_their_numbers(tmp_path: Path) -> None:
    labels = page(find_folder(tmp_path / "d")).values("aria-label")
    (test,) = [text for text in labels if text.startswith("Loss over learning rate")]
    assert re.fullmatch(
        r"Loss over learning rate, 100 points from 10⁻⁶ to 10\. It falls from 2\.4\d*, fastest at 0\.0\d+, "
        r"and is least, 0\.\d+, at 0\.\d+\. It has diverged at 0\.\d+\. "
        r"Suggested: 0\.0\d+, from 0\.\d+ to 0\.\d+\.",
        test,
    )
    assert "Loss of 4 pilots over their peak rate. 0.003: 0.9; 0.01: 0.7; 0.03: 0.5." in labels


def test_a_curve_that_does_not_tell_is_shown_with_the_refusal(tmp_path: Path) -> None:
    write_run(tmp_path / "d", "find", "inconclusive", reason="flat")
    (tmp_path / "d/curves").mkdir()
    Curve(np.geomspace(1e-5, 1, 50), np.ones(50)).save(tmp_path / "d/curves/lr.json")
    found = page(tmp_path / "d")
    assert "No suggestion: the loss is flat at 1 " in found.text
    assert found.tags["figure"] == 1


def test_losses_that_are_not_finite_are_no_error(tmp_path: Path) -> None:
    folder = train_folder(tmp_path / "d")
    with (folder / "metrics.csv").open("a") as file:
        file.write("200,0.1,0.9,inf\n201,0.1,0.9,nan\n")
    write_run(folder, "train", "diverged")
    (folder / "curves").mkdir()
    Curve(np.geomspace(1e-5, 1, 50), np.full(50, np.nan)).save(folder / "curves/lr.json")
    assert "Training diverged" in page(folder).text


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = tune_folder(tmp_path / "d", 30)
    (folder / "recipe.toml").write_text("max_lr = ")
    (folder / "metrics.csv").write_text("step,loss\n0,abc\n")
    (folder / "curves/lr.json").write_text("{}")
    (folder / "trials/check-00.json").write_text('{"format": "onecycle.trial", "version": 1, "job": 3}')
    text = page(folder).text
    assert "Left out, because it could not be read:" in text
    for name in ("recipe.toml", "metrics.csv", "curves/lr.json", "trials/check-00.json"):
        assert f"{name} could not be read: " in text


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as refusal:
        write(tmp_path)
    assert str(refusal.value) == (
        f"{tmp_path} holds no run.json: name a folder that demo, find, tune or train filled by --out"
    )
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(ValueError, match=r'run\.json: expected a JSON object with "format": "onecycle\.run"'):
        write(tmp_path)


def test_200_trials_fit_two_megabytes(tmp_path: Path) -> None:
    assert write(tune_folder(tmp_path / "d", 200)).stat().st_size <= 2_000_000


# The code that it offers --------------------------------------------------------------------------------

RECIPES = {
    "plain": (Recipe(0.1, total_steps=30), "SGD"),
    "whole": (
        Recipe(0.02, min_lr=0.001, momentum=0.9, weight_decay=1e-3, batch_size=16, total_steps=30),
        "SGD",
    ),
    "adam": (Recipe(1e-3, momentum=None, weight_decay=0.01, total_steps=30, form="to_zero"), "AdamW"),
    "open": (Recipe(0.1), "Lion"),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_code_for_pytorch_trains_by_the_recipe(name: str) -> None:
    recipe, optimizer = RECIPES[name]
    torch.manual_seed(0)
    inputs = torch.randn(160, 4)
    data = torch.utils.data.TensorDataset(inputs, inputs[:, :2].argmax(dim=1))
    names: dict[str, Any] = {
        "model": torch.nn.Linear(4, 2),
        "loss_fn": torch.nn.CrossEntropyLoss(),
        "loader": torch.utils.data.DataLoader(data, recipe.batch_size or 32),
    }
    before = names["loss_fn"](names["model"](inputs), data.tensors[1]).item()
    exec(compile(snippets(recipe, optimizer)["PyTorch"], "<report>", "exec"), names)
    steps = recipe.total_steps or 10 * len(names["loader"])
    assert names["step"] == steps
    assert names["policy"] == recipe.policy(steps)
    assert type(names["optimizer"]).__name__ == ("SGD" if optimizer == "Lion" else optimizer)
    assert names["optimizer"].param_groups[0]["weight_decay"] == pytest.approx(
        recipe.weight_decay or (0.01 if optimizer == "AdamW" else 0)
    )
    assert names["loss_fn"](names["model"](inputs), data.tensors[1]).item() < before


@pytest.mark.parametrize("name", RECIPES)
def test_all_code_is_python(name: str) -> None:
    codes = snippets(*RECIPES[name])
    assert list(codes) == ["PyTorch", "Lightning", "Transformers", "Accelerate", "Keras", "JAX"]
    for framework, code in codes.items():
        compile(code, framework, "exec")
        assert max(map(len, code.splitlines())) <= 110
