"""The rate that is found for fine-tuning leaves what was learned before, and ends near the best of a grid."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("transformers", reason="pip install 'onecycle[transformers]'")

import transformers_finetune as example
from transformers import GPT2Config, GPT2LMHeadModel, set_seed

import onecycle as oc
from onecycle.transformers import find_lr, one_cycle, range_test

SHAKESPEARE = Path(__file__).parents[3] / "shared/data/text/tinyshakespeare.txt"


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    from transformers.utils import logging

    logging.disable_progress_bar()
    yield
    logging.enable_progress_bar()


def test_the_example_s_rate_is_near_the_best_and_beats_the_default_and_no_pretraining(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main(str(tmp_path))
    line = capsys.readouterr().out.splitlines()[-1]
    found, default, scratch = map(float, re.findall(r"\d\.\d{3}", line))
    assert found < 0.95 * default
    assert found < 0.95 * scratch
    grid = (3e-4, 3e-3, 3e-2)
    pretrained = (GPT2LMHeadModel.from_pretrained(tmp_path) for _ in grid)
    best = min(
        example.fine_tune(model, str(tmp_path), rate)[1] for model, rate in zip(pretrained, grid, strict=True)
    )
    assert found < 1.03 * best


# The grid with room for more, on Shakespeare: minutes ----------------------------------------------------


@pytest.fixture(scope="module")
def shakespeare() -> str:
    if not SHAKESPEARE.exists():
        pytest.skip("needs tinyshakespeare.txt, beside the repository")
    return SHAKESPEARE.read_text()


@pytest.fixture(scope="module")
def pretrained(shakespeare: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a model that was trained on the first half."""
    folder = str(tmp_path_factory.mktemp("pretrained"))
    set_seed(0)
    config = GPT2Config(
        vocab_size=128, n_positions=example.LENGTH, n_embd=64, n_layer=2, n_head=4, bos_token_id=0,
        eos_token_id=0, loss_type="ForCausalLM",
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    trainer = example.new_trainer(
        model, shakespeare[:500_000], shakespeare[500_000:520_000], folder, max_steps=800
    )
    one_cycle(trainer, find_lr(trainer).max_lr).train()
    model.save_pretrained(folder)
    return folder


TASKS: dict[str, Callable[[str], tuple[str, str, int]]] = {  # texts for training and test, updates
    "code": lambda _: (example.CODE[:60_000], example.CODE[-10_000:], 160),
    "other plays": lambda text: (text[800_000:860_000], text[860_000:870_000], 160),
    "one scene, many epochs": lambda text: (text[900_000:909_000], text[909_000:913_000], 300),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_the_loss_at_the_found_rate_is_near_the_grid_s_best(
    pretrained: str, shakespeare: str, task: str
) -> None:
    train, test, steps = TASKS[task](shakespeare)

    def start() -> Any:
        set_seed(0)
        model = GPT2LMHeadModel.from_pretrained(pretrained)
        return example.new_trainer(model, train, test, pretrained, max_steps=steps)

    def final(rate: float) -> float:
        trainer = one_cycle(start(), rate)
        trainer.train()
        loss: float = trainer.evaluate()["eval_loss"]
        return loss

    before = start().evaluate()["eval_loss"]
    grid = 10 ** np.arange(-4.5, -0.9, 0.5)
    losses = {rate: final(rate) for rate in grid.tolist()}
    best = min(losses.values())
    found = {2.0: find_lr(start(), budget=2.0).max_lr}
    if task == "other plays":  # so like the old that the loss of a range test only rises
        with pytest.raises(oc.Inconclusive, match="leaves none for pilots, short runs that would"):
            find_lr(start(), budget=0.2)
    else:
        found[0.2] = find_lr(start(), budget=0.2).max_lr
    ends = {budget: final(rate) for budget, rate in found.items()}
    curve = range_test(start(), steps=100)
    rules = {}
    for rule in ("steep", "minimum", "valley"):
        with contextlib.suppress(oc.Inconclusive):
            rules[rule] = curve.suggest(rule).max_lr
    print(f"\n{task}: {before=:.3f} {found=} {ends=} {rules=}")
    print({f"{rate:.2g}": round(loss, 3) for rate, loss in losses.items()})
    assert max(ends.values()) < 1.03 * best
    assert max(ends.values()) < before
