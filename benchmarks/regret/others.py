"""Ways to train without looking for a rate: optimizers that set it themselves, and fixed rates.

Each task is trained for its number of steps, from the same weights and in the same order of the data as in
the oracle, with an optimizer of another kind in place of its own.
"""

from __future__ import annotations

import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.regret import records
from benchmarks.regret.data import Batches
from benchmarks.regret.files import RESULTS
from benchmarks.regret.jobs import Row
from benchmarks.regret.tasks import LOSSES, Task, select

DECAY = 0.01  # AdamW's usual weight decay, for all of its kind
WARM_UP = 0.1  # of the steps
KIND, COLUMNS = "others", ("way", "seed")

Schedule = Callable[[float], float]  # share of the training done -> factor of the rate


def falling(share: float) -> float:
    """Linear warm-up over a tenth, then linearly to zero."""
    return min(share / WARM_UP, (1 - share) / (1 - WARM_UP))


def level(_: float) -> float:
    """No schedule."""
    return 1.0


@dataclass(frozen=True)
class Way:
    """One way to train, as its authors have it.

    Args:
        make: the optimizer of a net, and of the steps.
        schedule: of its rate.
        package: the distribution that it comes from.
    """

    make: Callable[[nn.Module, int], Any]
    schedule: Schedule = level
    package: str = "torch"


def _adamw(lr: float) -> Callable[[nn.Module, int], Any]:
    return lambda net, _: torch.optim.AdamW(net.parameters(), lr, weight_decay=DECAY)


def _from(module: str, name: str, **arguments: Any) -> Callable[[nn.Module, int], Any]:
    return lambda net, _: getattr(import_module(module), name)(net.parameters(), **arguments)


def _schedule_free(net: nn.Module, steps: int) -> Any:
    free = import_module("schedulefree").AdamWScheduleFree
    return free(net.parameters(), weight_decay=DECAY, warmup_steps=round(WARM_UP * steps))


def _mechanic(net: nn.Module, _: int) -> Any:
    # Any rate will do, its authors say; but at theirs of 1 AdamW's decay takes a hundredth at each step.
    mechanize = import_module("mechanic_pytorch").mechanize
    return mechanize(torch.optim.AdamW)(net.parameters(), lr=0.01, weight_decay=DECAY)


WAYS: Mapping[str, Way] = {
    "AdamW 3e-3, linear": Way(_adamw(3e-3), falling),
    "AdamW 1e-3, linear": Way(_adamw(1e-3), falling),
    "AdamW 1e-3, constant": Way(_adamw(1e-3)),
    "MoMo-Adam": Way(_from("momo", "MomoAdam", weight_decay=DECAY), package="momo-opt"),
    "schedule-free AdamW": Way(_schedule_free, package="schedulefree"),
    "Prodigy": Way(
        _from("prodigyopt", "Prodigy", weight_decay=DECAY, safeguard_warmup=True), falling, "prodigyopt"
    ),
    "D-Adaptation Adam": Way(
        _from("dadaptation", "DAdaptAdam", weight_decay=DECAY, decouple=True), falling, "dadaptation"
    ),
    "DoG": Way(_from("dog", "DoG"), package="dog-optimizer"),
    "Mechanic AdamW": Way(_mechanic, falling, "mechanic-pytorch"),
}


def run(name: str, way: str, seed: int) -> Row:
    """One full training; what it ended with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old calls of torch in some of the packages
        return _run(select([name])[0], way, seed)


def _run(task: Task, name: str, seed: int) -> Row:
    way = WAYS[name]
    train, val = task.load()
    net, loss_fn = task.model(seed), LOSSES[task.loss]
    optimizer = way.make(net, task.total_steps)
    rates = [group["lr"] for group in optimizer.param_groups]
    average = import_module("dog").PolynomialDecayAverager(net) if name == "DoG" else None
    batches = _forever(Batches(train, task.batch_size, seed))
    begin = time.process_time()
    losses: list[float] = []
    for step in range(task.total_steps):
        # The middle of a step: the first one has a rate above 0, the last one too.
        factor = way.schedule((step + 0.5) / task.total_steps)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        if hasattr(optimizer, "train"):
            optimizer.train()
        x, y = next(batches)
        optimizer.zero_grad()
        loss = loss_fn(net(x), y)
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        optimizer.step(**({"loss": loss.detach()} if name == "MoMo-Adam" else {}))
        if average is not None:
            average.step()
    if hasattr(optimizer, "eval"):
        optimizer.eval()
    final = net if average is None else average.averaged_model
    if name in ("DoG", "schedule-free AdamW"):
        _statistics(final, Batches(train, task.batch_size, seed))
    val_loss = _evaluate(final, loss_fn, val)
    seconds = time.process_time() - begin
    diverged = not (math.isfinite(losses[-1]) and math.isfinite(val_loss))
    return {
        "way": name,
        "seed": seed,
        "val_loss": val_loss,
        "train_loss": statistics.fmean(losses[-max(len(losses) // 20, 1) :]),
        "diverged": diverged,
        "version": version(way.package),
        "seconds": round(seconds, 3),
        "said": f"{name}, seed {seed} " + ("diverged" if diverged else f"loss {val_loss:.4g}"),
    }


def _forever(batches: Batches) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from batches


def _statistics(net: nn.Module, batches: Batches, passes: int = 50) -> None:
    # Weights that are an average need BatchNorm's statistics anew, as the packages say.
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    net.train()
    with torch.no_grad():
        for _, (x, _y) in zip(range(passes), _forever(batches), strict=False):
            net(x)


def _evaluate(net: nn.Module, loss_fn: Callable[..., Tensor], val: tuple[Tensor, Tensor]) -> float:
    net.eval()
    with torch.no_grad():
        parts = [
            (loss_fn(net(x), y).item(), len(x))
            for x, y in zip(torch.split(val[0], 500), torch.split(val[1], 500), strict=True)
        ]
    net.train()
    return sum(loss * count for loss, count in parts) / sum(count for _, count in parts)


def record(tasks: Sequence[Task], *, seeds: int = 3, workers: int = 2, results: Path = RESULTS) -> None:
    """Train all that is missing."""
    keys = [(way, seed) for seed in range(seeds) for way in WAYS]
    records.record(KIND, COLUMNS, tasks, run, lambda _: keys, workers=workers, results=results)
