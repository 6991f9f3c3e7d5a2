"""What two processes on gloo do with a scheduler, an accumulation and a range test; prints it as JSON.

Run by test_accelerate.py in an interpreter of its own, which forks the two.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DataLoaderConfiguration, debug_launcher
from fingerprint import fingerprint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import onecycle as oc
from onecycle import accelerate
from onecycle import torch as plain
from onecycle.accelerate import find_lr, range_test

UPDATES = 12


def prepared(accelerator: Accelerator, kind: Any = accelerate.Scheduler) -> tuple[nn.Module, Any, Any, Any]:
    """A model, optimizer, loader and scheduler on both processes."""
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = kind(optimizer, oc.one_cycle(0.1, UPDATES))
    loader = DataLoader(TensorDataset(x, x.sum(dim=1, keepdim=True)), batch_size=8, shuffle=True)
    everything: tuple[nn.Module, Any, Any, Any] = accelerator.prepare(model, optimizer, loader, scheduler)
    return everything


def rates(accelerator: Accelerator, kind: Any) -> list[float]:
    """The rates that `UPDATES` updates used, with a scheduler of that kind."""
    model, optimizer, loader, scheduler = prepared(accelerator, kind)
    used: list[float] = []
    optimizer.optimizer.register_step_pre_hook(lambda o, *_: used.append(o.param_groups[0]["lr"]))
    while len(used) < UPDATES:
        for x, y in loader:
            with accelerator.accumulate(model):
                accelerator.backward(nn.functional.mse_loss(model(x), y))
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
    return used[:UPDATES]


def main(out: Path) -> None:
    """Write this process's findings to `out`, by rank."""
    found: dict[str, Any] = {"rates": {}}
    for split, accumulate in product((False, True), (1, 2)):
        accelerator = Accelerator(
            cpu=True,
            gradient_accumulation_steps=accumulate,
            dataloader_config=DataLoaderConfiguration(split_batches=split),
        )
        case = f"split_batches={split}, accumulate={accumulate}"
        found["rates"][case] = [rates(accelerator, kind) for kind in (plain.Scheduler, accelerate.Scheduler)]
    for seedable in (False, True):
        accelerator = Accelerator(
            cpu=True,
            gradient_accumulation_steps=2,
            dataloader_config=DataLoaderConfiguration(use_seedable_sampler=seedable),
        )
        model, optimizer, loader, _ = prepared(accelerator)
        setting = (accelerator, model, optimizer, nn.functional.mse_loss, loader)
        before = fingerprint(model, optimizer)
        curves = [range_test(*setting, start=1e-3, end=1e2, steps=60, seed=seed) for seed in (0, 0, 1)]
        suggestion = find_lr(*setting, total_steps=2000, val_loader=loader)
        found[f"seedable={seedable}"] = {
            "unchanged": fingerprint(model, optimizer) == before,
            "losses": [curve.loss.tolist() for curve in curves],
            "size": curves[0].settings["batch_size"],
            "max_lr": suggestion.max_lr,
            "open": len(accelerator.gradient_state.dataloader_references),
        }
    (out / f"{accelerator.process_index}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    debug_launcher(main, (Path(sys.argv[1]),), num_processes=2)
