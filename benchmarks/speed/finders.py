"""Range tests of this library and of others, each of which trains and puts back; and the bare loop.

Each function gets a job ready, with all that training by that tool needs anyway, and gives what is timed.
None of them stops early, draws or shows a bar, as far as its tool allows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.speed.files import installed
from benchmarks.speed.nets import Job
from onecycle.torch import range_test
from onecycle.torch._room import Place

START, END = 1e-7, 1e-3  # no net diverges below
NEVER = 1e12  # times the best loss, where another tool stops


def bare(job: Job) -> Callable[[], object]:
    """As many updates, by the loop in torch's own tutorial."""

    def run() -> None:
        job.model.train()
        done = 0
        while True:
            for x, y in job.loader:
                job.optimizer.zero_grad()
                job.loss_fn(job.model(x), y).backward()  # type: ignore[no-untyped-call]
                job.optimizer.step()
                done += 1
                if done == job.steps:
                    return

    return run


def onecycle(job: Job, keep_on: Place | None = None) -> Callable[[], object]:
    """This library's range test."""

    def run() -> None:
        curve = range_test(
            job.model,
            job.optimizer,
            job.loss_fn,
            job.loader,
            start=START,
            end=END,
            steps=job.steps,
            progress=False,
            keep_on=keep_on,
        )
        if len(curve) != job.steps:
            raise RuntimeError(f"the sweep ended after {len(curve)} of {job.steps} steps")

    return run


def torch_lr_finder(job: Job) -> Callable[[], object]:
    """`LRFinder.range_test` and `reset`."""
    import torch_lr_finder

    def run() -> None:
        finder = torch_lr_finder.LRFinder(job.model, job.optimizer, job.loss_fn, device="cpu")
        finder.range_test(job.loader, start_lr=START, end_lr=END, num_iter=job.steps, diverge_th=NEVER)
        finder.reset()

    return run


def fastai(job: Job) -> Callable[[], object]:
    """`Learner.lr_find` without its suggestion."""
    import fastai.callback.progress  # which give a learner lr_find and no_bar
    import fastai.callback.schedule  # noqa: F401
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    kind, options = type(job.optimizer), dict(job.optimizer.defaults)
    options = {name: options[name] for name in ("momentum", "betas") if name in options}
    learner = Learner(
        DataLoaders(job.loader, job.loader),
        job.model,
        job.loss_fn,
        opt_func=partial(OptimWrapper, opt=kind, **options),
        path=Path(tempfile.gettempdir()),
    )

    def run() -> None:
        with learner.no_bar(), learner.no_logging():
            learner.lr_find(START, END, job.steps, stop_div=False, show_plot=False, suggest_funcs=None)

    return run


def lightning(job: Job) -> Callable[[], object]:
    """`Tuner.lr_find`."""
    import logging
    import warnings

    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.tuner import Tuner

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.lr = job.model, START

        def training_step(self, batch: Any, _: int) -> Any:
            x, y = batch
            return job.loss_fn(self.model(x), y)

        def configure_optimizers(self) -> Any:
            return job.optimizer

    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tempfile.gettempdir(),
    )
    module = Module()

    def run() -> None:
        Tuner(trainer).lr_find(
            module,
            train_dataloaders=job.loader,
            min_lr=START,
            max_lr=END,
            num_training=job.steps,
            early_stop_threshold=None,
            update_attr=False,
        )

    return run


def ignite(job: Job) -> Callable[[], object]:
    """`FastaiLRFinder.attach` and a run."""
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    trainer = create_supervised_trainer(job.model, job.optimizer, job.loss_fn)

    def run() -> None:
        finder = FastaiLRFinder()
        kept = {"model": job.model, "optimizer": job.optimizer}
        with finder.attach(
            trainer, kept, num_iter=job.steps, start_lr=START, end_lr=END, diverge_th=NEVER
        ) as training:
            training.run(job.loader)

    return run


FINDERS: dict[str, Callable[[Job], Callable[[], object]]] = {"bare": bare, "onecycle": onecycle}
_PEERS = {
    "torch-lr-finder": torch_lr_finder,
    "fastai": fastai,
    "lightning": lightning,
    "pytorch-ignite": ignite,
}
FINDERS |= {name: finder for name, finder in _PEERS.items() if installed(name)}
IN_MEMORY = {"onecycle, in memory": partial(onecycle, keep_on="device")}  # as most others keep it
