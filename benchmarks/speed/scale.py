"""How cost grows: with parameters, tensors, param groups, points of a curve, and trials of a search."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

import onecycle as oc
from benchmarks.speed.reading import curve_of
from benchmarks.speed.schedules import optimizer
from benchmarks.speed.timing import Make, exponent, in_turn
from onecycle._jobs import Job, Ledger, Result
from onecycle.tasks import Task
from onecycle.torch import Scheduler, Trial

PARAMETERS = (10**4, 10**5, 10**6, 10**7, 10**8)
GROUPS = (1, 3, 10, 30, 100, 300, 1000)
POINTS = (10**3, 10**4, 10**5, 10**6)
TENSORS = (1, 10, 100, 1000)
META = tuple(10**power for power in range(4, 10))
TRIALS = (1, 10, 100, 1000, 10_000)


def measure(repeats: int, scale: float = 1.0) -> list[dict[str, Any]]:
    """One row a curve of cost: sizes, seconds, and the exponent of its upper half; `scale` shortens it."""
    torch.set_num_threads(1)
    small = scale < 1
    parameters = PARAMETERS[:2] if small else PARAMETERS
    return [
        _row("save and restore, over parameters", parameters, _kept, repeats),
        _row("one copy of them, over parameters", parameters, _copied, repeats),
        _row(
            "save and restore, over tensors of 100", TENSORS[:2] if small else TENSORS, _kept_tensors, repeats
        ),
        _row("save and restore on the meta device, over parameters", META, _meta, repeats),
        _row("1000 steps of a schedule, over groups", GROUPS[:2] if small else GROUPS, _stepped, repeats),
        _row("a suggestion, over points", POINTS[:2] if small else POINTS, _suggested, repeats),
        _row("a search's own work, over trials", TRIALS[:2] if small else TRIALS, _searched, repeats),
    ]


def _row(
    case: str, sizes: Sequence[int], make: Callable[[int], Callable[[], object]], repeats: int
) -> dict[str, Any]:
    makes: dict[str, Make] = {str(size): (lambda size=size: make(size)) for size in sizes}  # type: ignore[misc]
    times = in_turn(makes, repeats)
    seconds = [min(times[str(size)]) for size in sizes]
    half = len(sizes) // 2 if len(sizes) > 2 else 0  # below it, what does not grow prevails
    return {
        "case": case,
        "sizes": list(sizes),
        "seconds": [float(f"{s:.3g}") for s in seconds],
        "exponent": exponent(sizes[half:], [max(s, 1e-9) for s in seconds[half:]]),
    }


def _trial(model: nn.Module) -> Trial:
    batch = (torch.zeros(1, 1), torch.zeros(1, 1))
    return Trial(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.functional.mse_loss, [batch])


def _net(parameters: int, tensors: int, device: str = "cpu") -> nn.Module:
    net = nn.Module()
    for number in range(tensors):
        net.register_parameter(f"p{number}", nn.Parameter(torch.zeros(parameters, device=device)))
    return net


def _kept(parameters: int) -> Callable[[], object]:
    trial = _trial(_net(parameters // 10, 10))
    return lambda: trial.restore(trial.save())


def _copied(parameters: int) -> Callable[[], object]:
    tensors = [p.detach() for p in _net(parameters // 10, 10).parameters()]

    def run() -> None:
        copies: list[Tensor] = [tensor.clone() for tensor in tensors]
        for tensor, kept in zip(tensors, copies, strict=True):
            tensor.copy_(kept)

    return run


def _kept_tensors(tensors: int) -> Callable[[], object]:
    trial = _trial(_net(100, tensors))
    return lambda: trial.restore(trial.save())


def _meta(parameters: int) -> Callable[[], object]:
    trial = _trial(_net(parameters // 10, 10, "meta"))
    return lambda: trial.restore(trial.save())


def _stepped(groups: int) -> Callable[[], object]:
    step = Scheduler(optimizer("SGD", groups), oc.one_cycle(0.1, 10**6)).step

    def run() -> None:
        for _ in range(1000):
            step()

    return run


def _suggested(points: int) -> Callable[[], object]:
    return curve_of(points).suggest


class _Done:
    """An engine whose trials take no time."""

    workers = 1

    def run(self, _: Task, jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        return ((job, Result(1.0)) for job in jobs)

    def close(self) -> None:
        """Nothing is held."""


def _searched(trials: int) -> Callable[[], object]:
    """What a search does beside its trials: each asked for, named, kept, and given back in order."""
    jobs = [Job("search", "run", seed, 100, max_lr=0.1) for seed in range(trials)]
    task = Task("none", lambda: None)
    return lambda: list(Ledger(None).complete(jobs, _Done(), task, lambda *_: None))
