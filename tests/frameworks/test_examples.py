from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("name", ["accelerate", "ignite", "optuna", "skorch"])
def test_the_example_reads_digits(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    ended = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}_digits.py"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    accuracy = re.search(r"accuracy on 360 digits that were held out: ([\d.]+)%", ended.stdout)
    assert accuracy is not None, ended.stdout
    assert float(accuracy[1]) > 95
    assert list(tmp_path.iterdir()) == []
