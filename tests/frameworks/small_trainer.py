"""A `Trainer` of a GPT-2 of one layer, on the characters of a real text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

from onecycle.transformers import find_lr  # any text that is always there: this module's documentation

TEXT = f"{Trainer.__doc__}{TrainingArguments.__doc__}{find_lr.__doc__}"
LENGTH = 16


def samples(count: int) -> list[dict[str, torch.Tensor]]:
    codes = torch.tensor([ord(character) % 128 for character in TEXT[: count * LENGTH]])
    return [{"input_ids": row, "labels": row} for row in codes.view(-1, LENGTH)]


def new_trainer(
    folder: str,
    *,
    kind: Callable[..., Any] = Trainer,
    optimizer: Callable[[Any], Any] | None = None,
    data: Any = None,
    dropout: float = 0.1,
    options: dict[str, Any] | None = None,
    **arguments: Any,
) -> Any:
    """A trainer with 60 samples in batches of 4, and none but the arguments given."""
    set_seed(0)
    config = GPT2Config(
        vocab_size=128, n_positions=LENGTH, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0,
        resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout, loss_type="ForCausalLM",
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    return kind(
        model,
        TrainingArguments(
            folder,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            **{
                "per_device_train_batch_size": 4,
                "logging_strategy": "no",
                "save_strategy": "no",
                **arguments,
            },
        ),
        train_dataset=samples(60) if data is None else data,
        eval_dataset=samples(10),
        optimizers=(None if optimizer is None else optimizer(model), None),
        **(options or {}),
    )
