"""How often training waits for the device, counted in a profiler's trace: `python -m benchmarks.speed.trace`.

A bare loop that reads no loss, one that reads each, and a range test, on a GPU where there is one. Counted
are the host's waits for the device, and its reads of a scalar, which on a GPU are waits too. Written are
`trace.json`, the counts, and a trace of each for chrome://tracing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.speed import files
from benchmarks.speed.finders import END, START
from onecycle.torch import range_test

WAITS = ("Synchronize", "aten::_local_scalar_dense")  # in the names of what is counted
STEPS = 100


def measure(steps: int, results: Path) -> list[dict[str, Any]]:
    """One row a contender: waits in all, and a step; traces go to `results`."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    contenders: dict[str, Callable[[Any, Any, Any], object]] = {
        "bare": lambda *job: _loop(*job, steps=steps, device=device),
        "bare, each loss read": lambda *job: _loop(*job, steps=steps, device=device, read=True),
        "onecycle": lambda model, optimizer, loader: range_test(
            model,
            optimizer,
            nn.functional.cross_entropy,
            loader,
            start=START,
            end=END,
            steps=steps,
            progress=False,
        ),
    }
    results.mkdir(parents=True, exist_ok=True)
    found = []
    for name, run in contenders.items():
        run(*_job(device))  # what is done once in a process
        job = _job(device)
        kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
        with profile(activities=kinds) as profiler:
            run(*job)
        waits = {e.key: e.count for e in profiler.key_averages() if any(wait in e.key for wait in WAITS)}
        profiler.export_chrome_trace(
            str(results / f"trace-{name.replace(', ', '-').replace(' ', '-')}.json.gz")
        )
        found.append(
            {
                "case": f"MLP, batch 64, {steps} steps on {device.type}",
                "contender": name,
                "waits": waits,
                "waits a step": round(sum(waits.values()) / steps, 3),
            }
        )
    return found


def _job(device: torch.device) -> tuple[nn.Module, torch.optim.Optimizer, DataLoader[Any]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)).to(device)
    data = TensorDataset(torch.randn(2048, 64), torch.randint(10, (2048,)))
    loader: DataLoader[Any] = DataLoader(data, 64, shuffle=True, pin_memory=device.type == "cuda")
    return model, torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9), loader


def _loop(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[Any],
    *,
    steps: int,
    device: torch.device,
    read: bool = False,
) -> None:
    done = 0
    while True:
        for x, y in loader:
            loss: Tensor = nn.functional.cross_entropy(
                model(x.to(device, non_blocking=True)), y.to(device, non_blocking=True)
            )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if read:
                loss.item()
            done += 1
            if done == steps:
                return


def main() -> int:
    """Measure, write and print; returns an exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.trace", description=__doc__)
    parser.add_argument("--results", type=Path, default=files.RESULTS, help="the folder that holds results")
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    rows = measure(options.steps, options.results)
    files.write("trace", rows, options.results)
    for row in rows:
        print(f"{row['case']}: {row['contender']}: {row['waits a step']} waits a step: {row['waits']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
