"""What a `Trainer` on two processes does with a policy and a range test; prints it as JSON by rank.

Run by test_transformers.py in an interpreter of its own, which forks the two.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelerate import debug_launcher
from fingerprint import fingerprint
from small_trainer import new_trainer

from onecycle.transformers import one_cycle, range_test


def main(out: Path) -> None:
    """Write this process's findings to `out`."""
    trainer = new_trainer(
        str(out), num_train_epochs=3, gradient_accumulation_steps=2, logging_strategy="steps", logging_steps=1
    )
    before = fingerprint(trainer.model)
    curves = [range_test(trainer, start=1e-4, end=1e3, steps=60, evaluations=3) for _ in range(2)]
    found = {
        "unchanged": fingerprint(trainer.model) == before and trainer.optimizer is None,
        "losses": [curve.loss.tolist() for curve in curves],
        "size": curves[0].settings["batch_size"],
    }
    one_cycle(trainer, 0.1).train()
    log = [row for row in trainer.state.log_history if "learning_rate" in row]
    found["logged"] = [row["learning_rate"] for row in log]
    (out / f"{trainer.args.process_index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    debug_launcher(main, (Path(sys.argv[1]),), num_processes=2)
