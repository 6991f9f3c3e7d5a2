"""The examples that need no framework but PyTorch: each runs as a program, and learns."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def output(name: str, folder: Path) -> str:
    """What the example prints; it must leave no file behind."""
    ended = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    assert list(folder.iterdir()) == []
    return ended.stdout


def numbers(pattern: str, text: str) -> list[float]:
    """Every number that the pattern's group finds."""
    return [float(number) for number in re.findall(pattern, text)]


@pytest.mark.parametrize(
    ("name", "least"), [("images_digits", 95), ("numpy_loop", 95), ("tabular_cancer", 93)]
)
def test_it_reads_what_was_held_out(name: str, least: float, tmp_path: Path) -> None:
    (accuracy,) = numbers(r"held out.*: ([\d.]+)%", output(name, tmp_path))
    assert accuracy > least


def test_text_is_learnt_beyond_the_frequency_of_letters(tmp_path: Path) -> None:
    _, by_frequency, after = numbers(r"([\d.]+) bits a letter", output("text_letters", tmp_path))
    assert after < 0.7 * by_frequency


def test_fine_tuning_takes_over_what_was_learnt(tmp_path: Path) -> None:
    alone, tuned = numbers(r"accuracy on \d+: ([\d.]+)%", output("finetune_digits", tmp_path))
    assert tuned > alone + 5


def test_two_optimizers_come_closer_to_the_images(tmp_path: Path) -> None:
    before, after = numbers(r"distance ([\d.]+)", output("gan_digits", tmp_path))
    assert after < before / 3
