"""What it takes to start: the import, the command line, and the demo's first curve."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.regret.data import ROOT
from benchmarks.speed.files import installed
from benchmarks.speed.timing import spread

CURVE = """
import sys
from pathlib import Path
from onecycle import range_test
from onecycle.tasks import resolve
range_test(resolve("digits").trial(0), progress=False).save(Path(sys.argv[1]) / "curve.json")
"""
PEERS = {
    "torch": "torch",
    "torch-lr-finder": "torch_lr_finder",
    "fastai": "fastai.callback.schedule",
    "lightning": "lightning.pytorch",
    "pytorch-ignite": "ignite.handlers",
}


def seconds(arguments: Sequence[str]) -> float:
    """Processor seconds of a Python process, its start included."""
    paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(repeats: int, scale: float = 1.0) -> list[dict[str, Any]]:
    """Rows of seconds, and of those beyond a bare Python; `scale` below 1 leaves out all that is slow."""
    quick = {
        "import onecycle": ["-c", "import onecycle"],
        "onecycle --help": ["-m", "onecycle", "--help"],
    }
    found = _measured(quick, repeats)
    if scale < 1:
        return found
    with tempfile.TemporaryDirectory() as folder:
        slow = {
            "first curve of the demo": ["-c", CURVE, folder],
            "import onecycle.torch": ["-c", "import onecycle.torch"],
        }
        slow |= {
            f"import {module}": ["-c", f"import {module}"]
            for name, module in PEERS.items()
            if installed(name)
        }
        found += _measured(slow, min(repeats, 2))
        if not (Path(folder) / "curve.json").is_file():
            raise RuntimeError("the range test left no curve")
    return found


def _measured(commands: Mapping[str, Sequence[str]], repeats: int) -> list[dict[str, Any]]:
    times: dict[str, list[float]] = {name: [] for name in commands}
    bare: list[float] = []
    for turn in range(repeats + 1):
        taken = {name: seconds(command) for name, command in commands.items()}
        python = seconds(["-c", "pass"])
        if turn:  # the first round compiles and fills caches
            bare.append(python)
            for name in commands:
                times[name].append(taken[name])
    return [
        {
            "case": name,
            "beyond Python": spread([max(a - b, 0.0) for a, b in zip(all_, bare, strict=True)]),
            "in all": spread(all_),
        }
        for name, all_ in times.items()
    ]
