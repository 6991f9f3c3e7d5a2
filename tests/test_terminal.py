"""What a person sees who runs the commands in a terminal, a real one (a pty)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onecycle import Recipe
from onecycle._progress import BARS

fcntl = pytest.importorskip("fcntl", reason="there are no ptys on this system")
import termios  # noqa: E402 - where there is fcntl

TASK = """
import time
from test_tune import Net

def build(seed, batch_size=8, weight_decay=1e-4):
    return Net(seed, batch_size, weight_decay, fail=lambda _: time.sleep(0.001))
"""
CODE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*3[0-7][;m]")


class Terminal:
    """A command that runs in a terminal of 100 columns, and all that it wrote there."""

    def __init__(self, folder: Path, *arguments: object, **environment: str) -> None:
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x1e\x00\x64\x00\x00\x00\x00\x00")  # 30 rows, 100 columns
        env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "onecycle", *map(str, arguments)],
            cwd=folder,
            env={**env, "TERM": "xterm-256color", **environment},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
        )
        os.close(slave)
        self._master = master
        self.raw = ""

    def read(self, until: str | None = None) -> str:
        """What was written by its end, or until a text of it appears; without the control codes."""
        begin = time.monotonic()
        while until is None or until not in CODE.sub("", self.raw):
            assert time.monotonic() - begin < 120, self.raw
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the end, on Linux
                break
            if not data:
                break
            self.raw += data.decode(errors="replace")
        return CODE.sub("", self.raw)

    def press_ctrl_c(self) -> None:
        os.write(self._master, b"\x03")

    def end(self) -> int:
        """Its exit status."""
        os.close(self._master)
        return self.process.wait(60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(TASK)
    Recipe(0.05, total_steps=300, evidence={"task": "slow.py"}).save(tmp_path / "recipe.toml")
    return tmp_path


FIND = ("find", "slow.py", "--steps", 5000)
LONG = ("find", "slow.py", "--steps", 20_000)
TUNE = ("tune", "slow.py", "--steps", 1500)
TRAIN = ("train", "slow.py", "--recipe", "recipe.toml")


@pytest.mark.parametrize(
    ("command", "parts"),
    [
        (FIND, ["loading slow.py", "finding a rate for slow.py", " of 1000 updates, 0:0", "range test of lr",
                "pilot 2, peak ", "best so far: up to ", "range test  ", "max_lr "]),
        (TUNE, ["looking at slow.py", "settling rate", "of 1 trainings", "0:0", "range test of lr",
                "best so far: ", "momentum 0.95 to 0.85", "max_lr  ", "batch_size "]),
        (TRAIN, ["loading slow.py", "training slow.py", "/300, 0:0", "loss ", "best validation loss ",
                 "trained slow.py for 300 updates"]),
        (("demo", "--epochs", 1), ["handwritten digits", "range test of lr", "suggestion  ", "1cycle up to ",
                                   "constant 0.001, the default  ", "validation accuracy"]),
    ],
    ids=["find", "tune", "train", "demo"],
)  # fmt: skip
def test_a_command_shows_what_it_tries_and_what_is_left(
    command: tuple[object, ...], parts: list[str], folder: Path
) -> None:
    terminal = Terminal(folder, *command)
    text = terminal.read()
    assert terminal.end() == 0, text
    for part in [*parts, " left"]:
        assert part in text
    assert re.search(f"[{BARS}]{{8}}", text)  # the curve
    assert COLOUR.search(terminal.raw)


def test_no_color_is_respected(folder: Path) -> None:
    terminal = Terminal(folder, *TRAIN, NO_COLOR="1")
    assert "best validation loss" in terminal.read()
    assert terminal.end() == 0
    assert not COLOUR.search(terminal.raw)


def test_quiet_is_one_line(folder: Path) -> None:
    terminal = Terminal(folder, *FIND, "--quiet")
    assert re.fullmatch(r"max_lr [^\r\n]+\r\n", terminal.read())
    assert terminal.end() == 0


def test_verbose_goes_above_the_display(folder: Path) -> None:
    terminal = Terminal(folder, *FIND, "--verbose")
    text = terminal.read()
    assert terminal.end() == 0
    for part in ("task slow.py, seed 0", "range test: 100 of 100 mini-batches", "pilot: 81 updates", " left"):
        assert part in text


@pytest.mark.parametrize(
    ("command", "at", "message"),
    [
        (LONG, "pilot 1, peak", "; nothing was kept: --out DIR keeps what is finished"),
        ((*LONG, "--out", "f"), "pilot 1, peak",
         "; the range test is kept in f, and `onecycle report f` shows it"),
        (TUNE, "best so far", "; nothing was kept: --out DIR keeps what is finished"),
        ((*TUNE, "--out", "t"), "best so far", r"; \d+ finished runs are kept in t: go on with --resume"),
        ((*TRAIN, "--steps", 50_000), "/50000, ", "; nothing was kept: --out DIR keeps what is finished"),
        ((*TRAIN, "--out", "r", "--steps", 50_000), "0/50000", "; "),
        (("demo", "--out", "d"), "1cycle up to", "; what was finished is in d: the same command begins anew"),
    ],
    ids=["find", "find --out", "tune", "tune --out", "train", "train --out", "demo"],
)  # fmt: skip
def test_ctrl_c_says_what_was_kept_and_how_to_go_on(
    command: tuple[object, ...], at: str, message: str, folder: Path
) -> None:
    terminal = Terminal(folder, *command)
    terminal.read(until=at)
    terminal.press_ctrl_c()
    text = terminal.read()
    assert terminal.end() == 130, text
    assert re.search(f"onecycle: interrupted{message}", text.replace("\r\n", "\n"))
