"""The same faults in the learning rate finders of other tools, each used as its documentation says.

The finder is asked to put back model and optimizer also after an error wherever it has a way to be asked:
torch-lr-finder's `reset()` in a `finally`, ignite's context manager, the rest by themselves.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest import mock

from torch import nn

import onecycle
from benchmarks.reliability import files
from benchmarks.reliability.faults import AFTER
from benchmarks.reliability.problem import ERRORS, NONE, NUMBERS, PLACES, Fault, Problem, bits, present

STEPS, LOW, HIGH = 30, 1e-4, 10.0


def ours(problem: Problem) -> None:
    """`onecycle.torch.range_test`."""
    from onecycle.torch import range_test

    range_test(
        problem.model, problem.optimizer, problem.loss_fn, problem.loader,
        start=LOW, end=HIGH, steps=STEPS, progress=False,
    )  # fmt: skip


def torch_lr_finder(problem: Problem) -> None:
    """`torch_lr_finder.LRFinder`."""
    from torch_lr_finder import LRFinder

    finder = LRFinder(problem.model, problem.optimizer, problem.loss_fn, device="cpu")
    try:
        finder.range_test(problem.loader, start_lr=LOW, end_lr=HIGH, num_iter=STEPS)
    finally:
        finder.reset()


def ignite(problem: Problem) -> None:
    """`ignite.handlers.FastaiLRFinder`."""
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    trainer = create_supervised_trainer(problem.model, problem.optimizer, problem.loss_fn)
    kept = {"model": problem.model, "optimizer": problem.optimizer}
    with FastaiLRFinder().attach(trainer, kept, num_iter=STEPS, start_lr=LOW, end_lr=HIGH) as finding:
        finding.run(problem.loader)


def lightning(problem: Problem) -> None:
    """Lightning's `Tuner.lr_find`."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.tuner import Tuner

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.lr = problem.model, 0.05

        def training_step(self, batch: Any, _: int) -> Any:
            x, y = batch
            return problem.loss_fn(self.net(x), y)

        def configure_optimizers(self) -> Any:
            return problem.optimizer

    trainer = Trainer(
        accelerator="cpu", max_epochs=100, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    Tuner(trainer).lr_find(
        Module(),
        train_dataloaders=problem.loader,
        min_lr=LOW,
        max_lr=HIGH,
        num_training=STEPS,
        update_attr=False,
    )


def fastai(problem: Problem) -> None:
    """Fastai's `Learner.lr_find`."""
    from fastai.callback import schedule  # noqa: F401 - gives Learner its lr_find
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    learner = Learner(
        DataLoaders(problem.loader, problem.loader),
        problem.model,
        problem.loss_fn,
        opt_func=lambda *_, **__: OptimWrapper(opt=problem.optimizer),
    )
    with learner.no_bar(), learner.no_logging():
        learner.lr_find(start_lr=LOW, end_lr=HIGH, num_it=STEPS, show_plot=False)


TOOLS: dict[str, tuple[str, Callable[[Problem], None]]] = {
    "onecycle": ("onecycle", ours),
    "torch-lr-finder": ("torch-lr-finder", torch_lr_finder),
    "fastai": ("fastai", fastai),
    "Lightning": ("lightning", lightning),
    "ignite": ("pytorch-ignite", ignite),
}
PARTS = ("weights", "optimizer", "modes and gradients", "generators", "training goes on", "no file stays")


def kept(find: Callable[[Problem], None], fault: Fault) -> dict[str, bool] | None:
    """Which parts are as they were after a fault; None where it did not strike."""
    from onecycle.torch import _snapshots, _state

    losses = bits(Problem().train(AFTER))
    problem = Problem()
    before, folder = _seen(problem), Path.cwd()
    put_back, load = _state.put_back_modules, nn.Module.load_state_dict

    def disturbed_ours(*arguments: Any) -> None:
        fault.strike_again()
        put_back(*arguments)

    def disturbed(module: nn.Module, *arguments: Any, **options: Any) -> Any:
        fault.strike_again()
        return load(module, *arguments, **options)

    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    with (
        mock.patch.object(_snapshots, "put_back_modules", disturbed_ours),
        mock.patch.object(nn.Module, "load_state_dict", disturbed),
        present(fault),
        contextlib.suppress(BaseException),
    ):
        find(problem)
    for number, handler in handlers:
        signal.signal(number, handler)
    if fault is not NONE and not fault.struck:
        return None
    after = _seen(problem)
    left = [path for path in folder.rglob("*") if path.is_file()]
    for path in left:
        path.unlink()
    return {
        **{name: before[name] == after[name] for name in before},
        "training goes on": bits(problem.train(AFTER)) == losses,
        "no file stays": not left,
    }


def _seen(problem: Problem) -> dict[str, Any]:
    return {
        "weights": bits([[p.detach() for p in problem.model.parameters()], list(problem.model.buffers())]),
        "optimizer": bits(problem.optimizer.state_dict()),
        "modes and gradients": bits(
            [[p.grad for p in problem.model.parameters()], [m.training for m in problem.model.modules()]]
        ),
        "generators": problem.random(),
    }


def count(tool: str, ats: tuple[int, ...] = (1, 7, 23)) -> dict[str, Any]:
    """How many faults one tool's finder had, and after how many each part was as before."""
    _, find = TOOLS[tool]
    faults = [NONE]
    for kind, place, at in itertools.product(
        (*ERRORS, "interrupt", "interrupt twice", *NUMBERS), PLACES, ats
    ):
        if kind not in NUMBERS or place in ("loss", "backward"):
            faults.append(Fault(kind, place, at * (8 if place == "data" else 1)))
    with tempfile.TemporaryDirectory() as folder, _in(folder):
        found = [(fault, kept(find, fault)) for fault in faults]
    rows = [parts for fault, parts in found if parts is not None and fault is not NONE]
    return {
        "release": release(tool),
        "without a fault": [name for name, as_before in (found[0][1] or {}).items() if not as_before],
        "injected": len(rows),
        **{name: sum(parts[name] for parts in rows) for name in PARTS},
        "all": sum(all(parts.values()) for parts in rows),
    }


def release(tool: str) -> str:
    """Of the installed tool.

    Raises:
        PackageNotFoundError: it is not installed.
    """
    return onecycle.__version__ if tool == "onecycle" else metadata.version(TOOLS[tool][0])


@contextlib.contextmanager
def _in(folder: str) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def record(tools: list[str]) -> None:
    """Have the same faults in each tool that is installed, and keep the counts."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    for tool in tools:
        try:
            release(tool)
        except metadata.PackageNotFoundError:
            print(f"{tool} is not installed: left out", file=sys.stderr)
            continue
        files.add("others", {tool: count(tool)})
