"""Other tools' own finders, as installed packages, through their public interface.

Each tool is given a fresh net and optimizer, a shuffling DataLoader, 100 steps, and the range that it takes
by itself: 1e-7 to 10, Lightning 1e-8 to 1. What it suggests is kept, with its version.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.regret import records
from benchmarks.regret.files import RESULTS
from benchmarks.regret.jobs import Row
from benchmarks.regret.tasks import LOSSES, USUAL, Task, select

KIND, COLUMNS = "peers", ("tool", "seed")
STEPS = 100
LEAST, MOST = 1e-7, 10.0

Rates = dict[str, float | None]  # by rule


def _torch_lr_finder(task: Task, net: nn.Module, optimizer: Any, loader: Any) -> Rates:
    from torch_lr_finder import LRFinder

    finder = LRFinder(net, optimizer, LOSSES[task.loss], device="cpu")
    finder.range_test(loader, start_lr=LEAST, end_lr=MOST, num_iter=STEPS)
    _, rate = finder.plot(suggest_lr=True, ax=_axes())
    return {"torch-lr-finder": rate}


def _ignite(task: Task, net: nn.Module, optimizer: Any, loader: Any) -> Rates:
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    for group in optimizer.param_groups:
        group["lr"] = LEAST
    trainer = create_supervised_trainer(net, optimizer, LOSSES[task.loss])
    finder = FastaiLRFinder()
    with finder.attach(trainer, {"model": net, "optimizer": optimizer}, num_iter=STEPS) as sweep:
        sweep.run(loader)
    return {"ignite": finder.lr_suggestion()}


def _fastai(task: Task, net: nn.Module, optimizer: Any, loader: Any) -> Rates:
    from fastai.basics import DataLoaders, Learner, OptimWrapper
    from fastai.callback.schedule import minimum, slide, steep, valley

    learner = Learner(
        DataLoaders(loader, loader),
        net,
        loss_func=LOSSES[task.loss],
        opt_func=lambda *_, **__: OptimWrapper(opt=optimizer),
        wd=optimizer.param_groups[0]["weight_decay"],
    )
    with learner.no_bar():
        found = learner.lr_find(show_plot=False, suggest_funcs=(minimum, steep, valley, slide))
    return {f"fastai {name}": rate for name, rate in found._asdict().items()}


def _lightning(task: Task, net: nn.Module, optimizer: Any, loader: Any) -> Rates:
    import lightning.pytorch as pl
    from lightning.pytorch.tuner import Tuner

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.lr = net, LEAST

        def training_step(self, batch: Any, _: int) -> Any:
            return LOSSES[task.loss](self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            for group in optimizer.param_groups:
                group["lr"] = self.lr
            return optimizer

    with tempfile.TemporaryDirectory() as folder:  # for the state that it saves and reads again
        trainer = pl.Trainer(
            accelerator="cpu", devices=1, max_epochs=-1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        found = Tuner(trainer).lr_find(Module(), loader)
    return {"lightning": None if found is None else found.suggestion()}


TOOLS: Mapping[str, Callable[[Task, nn.Module, Any, Any], Rates]] = {
    "torch-lr-finder": _torch_lr_finder,
    "pytorch-ignite": _ignite,
    "fastai": _fastai,
    "lightning": _lightning,
}

RULES: Mapping[str, Sequence[str]] = {
    "torch-lr-finder": ["torch-lr-finder"],
    "pytorch-ignite": ["ignite"],
    "fastai": [f"fastai {name}" for name in ("minimum", "steep", "valley", "slide")],
    "lightning": ["lightning"],
}


def run(name: str, tool: str, seed: int) -> Row:
    """What one tool suggests from one seed, by rule; None where it gives nothing."""
    task = select([name])[0]
    net = task.model(seed)
    usual = USUAL[task.optimizer]
    optimizer = usual.make(net, usual.weight_decay)
    train, _ = task.load()
    torch.manual_seed(seed)
    loader = DataLoader(TensorDataset(*train), task.batch_size, shuffle=True, drop_last=True)
    begin = time.process_time()
    rates: Rates = {}
    refused = None
    if isinstance(optimizer, list):
        refused = "takes one optimizer, and this task has two"
    else:
        try:
            with _quiet():
                rates = TOOLS[tool](task, net, optimizer, loader)
        except Exception as error:  # noqa: BLE001 - whatever a tool raises is its refusal
            refused = f"{type(error).__name__}: {error}"
    good = {rule: rate for rule, rate in rates.items() if rate and math.isfinite(rate) and rate > 0}
    return {
        "tool": tool,
        "seed": seed,
        "rates": {rule: float(f"{good[rule]:.7g}") if rule in good else None for rule in rates},
        "refused": refused,
        "version": version(tool),
        "seconds": round(time.process_time() - begin, 3),
        "said": f"{tool}, seed {seed}: {refused or rates}",
    }


@contextlib.contextmanager
def _quiet() -> Any:
    for name in ("lightning.pytorch", "lightning.fabric", "ignite"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _axes() -> Any:
    from matplotlib.figure import Figure

    return Figure().subplots()


def record(tasks: Sequence[Task], *, seeds: int = 5, workers: int = 2, results: Path = RESULTS) -> None:
    """Ask every tool that is missing."""
    keys = [(tool, seed) for seed in range(seeds) for tool in TOOLS]
    records.record(
        KIND, COLUMNS, tasks, run, lambda _: keys, workers=workers, results=results, steps=lambda _: STEPS
    )
