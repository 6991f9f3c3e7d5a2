"""Peak memory of a range test beyond that of the bare loop, in units of the state that is put back.

Each contender runs in a process of its own: `python -m benchmarks.speed.memory CONTENDER STATE WIDTH`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.regret.data import ROOT
from benchmarks.speed.files import installed

STATES = ("fresh", "warm")  # before the first update: parameters; after it: gradients and momentum, too
OURS = ("onecycle", "onecycle, in memory")
PEERS = ("torch-lr-finder", "fastai", "lightning", "pytorch-ignite")
LAYERS, STEPS = 5, 10


def measure(repeats: int, scale: float = 1.0) -> list[dict[str, Any]]:
    """Rows for each contender and state; `scale` makes the net smaller, too small to tell anything."""
    width = max(int(2048 * scale), 32)
    found = []
    names = [*OURS, *(name for name in PEERS if scale >= 1 and installed(name))]
    for state in STATES:
        peaks: dict[str, list[float]] = {name: [] for name in ("bare", *names)}
        for _ in range(repeats):
            for name, values in peaks.items():
                values.append(_peak(name, state, width))
        size = LAYERS * (width * width + width) * 4 * (1 if state == "fresh" else 3)
        for name in names:
            beyond = [(a - b) / size for a, b in zip(peaks[name], peaks["bare"], strict=True)]
            found.append(
                {
                    "case": state,
                    "contender": name,
                    "state bytes": size,
                    "peak bytes": int(statistics.median(peaks[name])),
                    "peak bytes of the bare loop": int(statistics.median(peaks["bare"])),
                    "beyond bare, in states": {
                        "min": round(min(beyond), 3),
                        "median": round(statistics.median(beyond), 3),
                        "max": round(max(beyond), 3),
                        "pairs": repeats,
                    },
                }
            )
    return found


def _peak(name: str, state: str, width: int) -> int:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "OMP_NUM_THREADS": "1",
        # Else the C library comes to keep what is given back to it, and the peak depends on the order.
        "MALLOC_MMAP_THRESHOLD_": str(2**20),
    }
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed.memory", name, state, str(width)]
    done = subprocess.run(command, check=True, env=environment, capture_output=True, text=True)
    result: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return result["peak"] - result["before"]


def _main(name: str, state: str, width: int) -> None:
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, TensorDataset

    from benchmarks.speed.finders import FINDERS, IN_MEMORY
    from benchmarks.speed.nets import Job

    torch.set_num_threads(1)
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(LAYERS)))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    data = TensorDataset(torch.randn(64, width), torch.randn(64, width))
    loader: DataLoader[Any] = DataLoader(data, 4, shuffle=True)
    finder = (FINDERS | IN_MEMORY)[name]
    finder(Job(nn.Linear(4, 4), torch.optim.SGD([torch.zeros(1)], 0.1), nn.functional.mse_loss, loader, 1))
    if state == "warm":
        FINDERS["bare"](Job(model, optimizer, nn.functional.mse_loss, loader, 1))()
    run = finder(Job(model, optimizer, nn.functional.mse_loss, loader, STEPS))
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    run()
    print(json.dumps({"before": before, "peak": _status("VmHWM")}))


def _status(field: str) -> int:
    """Bytes, as Linux counts them."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
