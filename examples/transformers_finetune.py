"""Pretrain a small language model on English, then fine-tune it on Python code at a rate that was found.

Both texts come with Python: the documentation of its statements, and the source of a few of its modules.

    pip install "onecycle[transformers]"
    python examples/transformers_finetune.py
"""

from __future__ import annotations

import argparse
import inspect
import pydoc_data.topics
import subprocess
import tarfile
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

from onecycle.transformers import find_lr, one_cycle

LENGTH = 48  # characters a sample
ENGLISH = "".join(pydoc_data.topics.topics.values())
CODE = "".join(map(inspect.getsource, (argparse, subprocess, tarfile)))


def samples(text: str) -> list[dict[str, torch.Tensor]]:
    """The text's characters in samples of one length, each its own label."""
    codes = torch.tensor([min(ord(character), 127) for character in text])
    rows = codes[: len(codes) // LENGTH * LENGTH].view(-1, LENGTH)
    return [{"input_ids": row, "labels": row} for row in rows]


def new_model() -> GPT2LMHeadModel:
    """A GPT-2 of two layers that reads characters."""
    config = GPT2Config(
        vocab_size=128, n_positions=LENGTH, n_embd=48, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0,
        loss_type="ForCausalLM",
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def new_trainer(model: GPT2LMHeadModel, train: str, test: str, folder: str, **options: Any) -> Trainer:
    """A trainer of `model` that keeps quiet."""
    arguments = TrainingArguments(
        folder, use_cpu=True, report_to="none", logging_strategy="no", save_strategy="no", disable_tqdm=True,
        per_device_train_batch_size=32, per_device_eval_batch_size=64, **options,
    )  # fmt: skip
    return Trainer(model, arguments, train_dataset=samples(train), eval_dataset=samples(test))


def pretrain(folder: str) -> None:
    """Train a model on the English text, at a rate that is found, and save it to `folder`."""
    model = new_model()
    trainer = new_trainer(model, ENGLISH[:300_000], ENGLISH[-20_000:], folder, max_steps=300)
    one_cycle(trainer, find_lr(trainer).max_lr).train()
    model.save_pretrained(folder)


def fine_tune(model: GPT2LMHeadModel, folder: str, rate: float | None = None) -> tuple[float, float]:
    """Train the model on code; the rate, found unless given, and the loss on code it has not seen."""
    trainer = new_trainer(model, CODE[:40_000], CODE[-10_000:], folder, num_train_epochs=4)
    if rate is None:  # fine-tuning is short: a budget of all of it is but one range test
        rate = find_lr(trainer, budget=1.0).max_lr
    one_cycle(trainer, rate).train()
    return rate, trainer.evaluate()["eval_loss"]


def main(folder: str) -> None:
    """Fine-tune at the rate that is found, at the default rate, and without pretraining."""
    set_seed(0)
    pretrain(folder)
    rate, loss = fine_tune(GPT2LMHeadModel.from_pretrained(folder), folder)
    _, default = fine_tune(
        GPT2LMHeadModel.from_pretrained(folder), folder, TrainingArguments(folder).learning_rate
    )
    _, scratch = fine_tune(new_model(), folder, rate)
    print(f"rate found for fine-tuning: {rate:.2g}")
    print(f"loss on unseen code: {loss:.3f}, at the default rate {default:.3f}, from scratch {scratch:.3f}")


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        main(temporary)
