"""Faults in the commands `find`, `train` and `tune`, each in a process of its own that may be killed."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.reliability import files
from benchmarks.reliability.faults import CLOCKS, Counts, clock, count, lines
from benchmarks.reliability.problem import (
    DISKS,
    ENDS,
    ERRORS,
    FAILS,
    FILES,
    HANGS,
    NONE,
    NUMBERS,
    SIGNALS,
    Fault,
    Problem,
    meet,
    present,
)

TASK = "benchmarks.reliability.task:build"
LENGTH = "30"  # updates of training: six epochs
SEED = "5"  # with which `find` has an answer, also where a worker's own noise is in the data
NOBODY = 65534
AT_LINE, AT_ANY_MOMENT, CLOCK = "interrupt at a line", "kill at any moment", "clock that jumps"
MAY_MISS = (AT_LINE, AT_ANY_MOMENT)  # Python forgets an interrupt as it clears a generator away


class Command:
    """A command, and what its folder must hold in the end, whatever went wrong on the way."""

    def __init__(self, name: str, arguments: Sequence[str], files: Sequence[str], folder: Path) -> None:
        self.name, self.arguments, self.files, self.folder = name, list(arguments), files, folder
        self.plain = out = Path(tempfile.mkdtemp(dir=folder)) / "plain"
        begin = time.perf_counter()
        status, told = self.run(out)
        self.seconds = time.perf_counter() - begin
        assert status == 0, told
        self.expected, self.trials = self._made(out), names(out)

    def _made(self, out: Path) -> dict[str, bytes]:
        return {file: (out / file).read_bytes() for file in self.files}

    def run(
        self,
        out: Path,
        fault: Fault = NONE,
        before: Callable[[], object] = lambda: None,
        more: Sequence[str] = (),
        killed_after: float | None = None,
    ) -> tuple[int, str]:
        """Exit status, or minus the signal that ended it, and what it said on standard error."""
        from onecycle.cli import main

        listen, speak = os.pipe()  # no file, which a full disk would be for, too
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on, where threads run
            child = os.fork()
        if child == 0:
            status: Any = 99
            try:
                for standard in (1, 2):
                    os.dup2(speak, standard)
                sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1)
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.default_int_handler)
                before()
                with places_of_files(), present(fault):
                    main([*self.arguments, "--out", str(out), "--quiet", *more])
            except SystemExit as ended:
                status = ended.code
            finally:
                os._exit(status if isinstance(status, int) else 98)
        if killed_after is not None:
            time.sleep(killed_after)
            os.kill(child, signal.SIGKILL)
        _, ended_as = os.waitpid(child, 0)
        os.close(speak)
        os.set_blocking(listen, False)
        with os.fdopen(listen, "rb") as said:
            told = said.read() or b""
        return os.waitstatus_to_exitcode(ended_as), told.decode(errors="replace")

    def strike(
        self, counts: Counts, kind: str, fault: Fault = NONE, before: Callable[[], object] = lambda: None,
        out: Path | None = None, undo: Callable[[], object] = lambda: None, killed_after: float | None = None,
    ) -> None:  # fmt: skip
        """Have one fault, start the command again, and count what was lost."""
        out = Path(tempfile.mkdtemp(dir=self.folder)) / "out" if out is None else out
        status, told = self.run(out, fault, before, killed_after=killed_after)
        undo()
        if (fault.kind != "none" and not fault.struck) or (kind in MAY_MISS and status == 0):
            return
        what = self._lost(out, status, told, kind)
        count(counts, self.name, kind, what, f"{self.name}, {fault.place} {fault.at}")
        shutil.rmtree(out.parent if out.name == "out" else out, ignore_errors=True)

    def _lost(self, out: Path, status: int, told: str, kind: str) -> str:
        if status not in self._endings(kind):
            return f"the exit status, {status}, with {told[-300:]!r}"
        if status > 0 and (len(told.strip().splitlines()) != 1 or "Traceback" in told):
            return f"the one line: {told[-300:]!r}"
        if status >= 0 and (left := temporary_files(out)):
            return f"the name of a temporary file: {left}"
        if what := damaged(out):
            return what
        finished = {path: path.stat().st_mtime_ns for path in finished_trials(out)}
        as_plain = status != 0 or kind not in (*NUMBERS, ENDS)
        wanted, trials = (self.expected, self.trials) if as_plain else (self._made(out), names(out))
        resume = ["--resume"] if finished or (out / "checkpoint.safetensors").exists() else []
        status, told = self.run(out, more=resume)
        if status != 0:
            return f"the second start, which said {told[-300:]!r}"
        if any(path.stat().st_mtime_ns != then for path, then in finished.items()):
            return "a finished trial, which was done again"
        if left := temporary_files(out):
            return f"the name of a temporary file, for good: {left}"
        if not resume:
            wanted, trials = self.expected, self.trials  # it was begun anew
        if not set(trials) <= set(names(out)):
            return "a trial, or its name"
        if self.name == "tune" and kind in (*ERRORS, FAILS, HANGS):
            # What failed was tried again; what had been tried in its stead is kept as evidence.
            return "" if settings(out) == settings(self.plain) else "the recipe's settings"
        different = [name for name, content in self._made(out).items() if content != wanted[name]]
        return f"{different[0]}, which is another than it must be" if different else ""

    def _endings(self, kind: str) -> Sequence[int]:
        """Exit statuses that tell the truth about a fault."""
        if kind.startswith("kill"):
            return [-signal.SIGKILL]
        if kind in SIGNALS or kind == AT_LINE:
            return [130]
        if kind in NUMBERS:
            return [1] if self.name == "train" else [0, 1]  # a finding about a rate
        if kind == CLOCK:
            return [0]
        if kind == ENDS:
            # 2 where it ends before its first batch; 1 where no rate is found on what it gives, begun anew.
            return [0, 2] if self.name == "train" else [0, 1, 2]
        if self.name == "tune" and kind in (*ERRORS, FAILS, HANGS):
            return [0, 1, 2]  # a finding about a setting; 2 in the first updates, before any
        return [2]


def places_of_files() -> ExitStack:
    """Have the present fault met wherever a file is opened for writing, flushed or renamed."""
    import safetensors.torch

    stack = ExitStack()
    opened, flushed, renamed, saved = Path.open, os.fsync, Path.replace, safetensors.torch.save_file

    def open_(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if set(mode) & set("wxa"):
            meet("open")
        return opened(path, mode, *arguments, **options)

    def flush(descriptor: Any) -> None:
        meet("flush")
        flushed(descriptor)

    def rename(path: Path, target: Any) -> Any:
        meet("rename")
        return renamed(path, target)

    def save(tensors: Any, path: Any, metadata: Any = None) -> None:
        saved(tensors, path, metadata)
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[: len(whole) // 2])  # a fault here leaves half of it
        meet("checkpoint")
        Path(path).write_bytes(whole)

    stack.enter_context(mock.patch.object(Path, "open", open_))
    stack.enter_context(mock.patch.object(os, "fsync", flush))
    stack.enter_context(mock.patch.object(Path, "replace", rename))
    stack.enter_context(mock.patch.object(safetensors.torch, "save_file", save))
    return stack


def names(out: Path) -> list[str]:
    """Names of the finished trials of a search."""
    return sorted(path.name for path in out.glob("trials/*.json"))


def settings(out: Path) -> Any:
    """The recipe in a folder, without what it rests on."""
    import onecycle as oc

    return dataclasses.replace(oc.Recipe.load(out / "recipe.toml"), evidence={})


def finished_trials(out: Path) -> list[Path]:
    """Files of the trials of a search that were done, and did not fail."""
    from onecycle._jobs import read_record

    return [path for path in out.glob("trials/*.json") if read_record(path)[1].error is None]


def temporary_files(out: Path) -> list[str]:
    """Files that a command began to write and did not rename."""
    return [path.name for path in out.rglob(".*")] if out.is_dir() else []


def damaged(out: Path) -> str:
    """What of the folder cannot be read, empty where all can."""
    import onecycle as oc
    from benchmarks.reliability.task import build
    from onecycle._jobs import read_record
    from onecycle._train import History

    step = 0
    try:
        if (path := out / "run.json").exists():
            json.loads(path.read_text(encoding="utf-8"))
        for path in out.glob("curves/*.json"):
            oc.Curve.load(path)
        for path in out.glob("trials/*.json"):
            read_record(path)
        if (path := out / "recipe.toml").exists():
            oc.Recipe.load(path)
        if (path := out / "checkpoint.safetensors").exists():
            step = build(0).read(path)["step"]
            rows = History.load(out / "metrics.csv").until(step).rows
            return "" if len(rows) == step else f"rows of the record: {len(rows)} of {step}"
        if (path := out / "metrics.csv").exists():
            History.load(path)
    except (ValueError, OSError) as error:
        return f"a file: {error}"
    return ""


# All of them -----------------------------------------------------------------------------------------

COMMANDS = ("find", "train", "tune")


def command(name: str, folder: Path, *more: str) -> Command:
    """`find`, `train` or `tune`, with a recipe in `folder`, and more arguments."""
    import onecycle as oc

    recipe = folder / "recipe.toml"
    oc.Recipe(0.2, total_steps=int(LENGTH)).save(recipe)
    arguments, files = {
        "find": (["--steps", "1300"], ["recipe.toml", "curves/lr.json"]),
        "train": (["--recipe", str(recipe)], ["metrics.csv", "checkpoint.safetensors"]),
        "tune": (["--steps", "300"], ["recipe.toml"]),
    }[name]
    return Command(name, [name, TASK, *arguments, "--seed", SEED, *more], files, folder)


def faults_of_command(counts: Counts, name: str, small: bool = False) -> None:
    """Every kind of fault in one command, in its steps and as it writes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o777)  # a child may become nobody
        tried = command(name, folder)
        # Made before any fault, so that one that fails by itself is told at once.
        worked = None if small else command(name, folder, "--option", "workers=1")
        _in_steps(counts, tried, small)
        kinds = ("kill", "full disk") if small else ("kill", "interrupt", "terminate", *DISKS)
        for kind, place, at in itertools.product(kinds, FILES, (1,) if small else (0, 3)):
            if place != "checkpoint" or name == "train":
                tried.strike(counts, kind, Fault(kind, place, at))
        _limits(counts, tried, small)
        _clocks(counts, tried, small)
        if worked is None:
            return
        _anywhere(counts, tried)
        if os.geteuid() == 0:
            _real_disks(counts, tried)
        for at in (5, 20):
            worked.strike(counts, HANGS, Fault(HANGS, "data", at))


def _in_steps(counts: Counts, tried: Command, small: bool) -> None:
    """Faults while it trains, early to late."""
    last = {"find": 250, "train": 29, "tune": 240}[tried.name]
    for kind in ("kill", *SIGNALS, *ERRORS, *NUMBERS, ENDS):
        places = ("loss",) if kind in NUMBERS else ("data",) if kind == ENDS else ("data", "update")
        many = 1 if small else 3 if kind in ("kill", "terminate", *NUMBERS, ENDS) else 2
        for place in places[-1:] if small else places:
            for number in range(many):
                at = (last * (number + 1) // (many + 1)) * (8 if place == "data" else 1)
                fault = Fault(kind, place, at)
                tried.strike(counts, fault.row, fault)


def _clocks(counts: Counts, tried: Command, small: bool) -> None:
    for name in list(CLOCKS)[:1] if small else CLOCKS:
        tried.strike(counts, CLOCK, Fault("none", name, 0), partial(clock, name))


def _anywhere(counts: Counts, tried: Command) -> None:
    """Killed at any moment, and interrupted before any line of this library."""
    rng = random.Random(0)
    for _ in range(12):
        moment = rng.uniform(0, tried.seconds)
        fault = Fault("none", "millisecond", int(1000 * moment))
        tried.strike(counts, AT_ANY_MOMENT, fault, killed_after=moment)
    passed = mmap.mmap(-1, 8)
    tracers = ExitStack()  # which ends with the process that it is entered in

    def traced(at: int) -> None:
        counted = tracers.enter_context(lines(at))
        os_exit = os._exit

        def leave(status: int) -> None:
            passed[:] = struct.pack("<q", counted[0])
            os_exit(status)

        os._exit = leave  # type: ignore[assignment]

    tried.run(Path(tempfile.mkdtemp(dir=tried.folder)), before=partial(traced, 0))
    (total,) = struct.unpack("<q", passed[:])
    for at in sorted(rng.sample(range(1, total + 1), 12)):
        tried.strike(counts, AT_LINE, Fault("none", "line", at), partial(traced, at))


def _limits(counts: Counts, tried: Command, small: bool) -> None:
    for size in (300,) if small else (0, 300, 1000, 3000, 10_000):

        def limit(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        tried.strike(counts, "file size limit", Fault("none", "bytes", size), limit)


def _real_disks(counts: Counts, tried: Command) -> None:
    """A directory that may not be written, and a full file system; root alone can make them."""

    def become_nobody() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    for mode in (0o555, 0o000):
        out = Path(tempfile.mkdtemp(dir=tried.folder))
        out.chmod(mode)
        fault = Fault("none", "mode", mode)
        tried.strike(counts, "read-only directory", fault, become_nobody, out, partial(out.chmod, 0o755))
    for size in (4, 8, 16, 32):
        out = Path(tempfile.mkdtemp(dir=tried.folder))
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(out)]
        if subprocess.run(mount, capture_output=True).returncode:
            return
        widen = partial(subprocess.run, ["mount", "-o", "remount,size=100m", str(out)], check=True)
        try:
            tried.strike(counts, "full file system", Fault("none", "KiB", size), int, out, widen)
        finally:
            subprocess.run(["umount", str(out)], check=True)


def record(names: Sequence[str]) -> None:
    """Have all faults in these commands, and keep what was counted."""
    preload()
    for name in names:
        counts: Counts = {}
        faults_of_command(counts, name)
        files.add("faults", {column: vars(row) for column, row in counts.items()})


def preload() -> None:
    """Import what the commands need, so that their processes, forked from this one, begin at once."""
    for module in (
        "benchmarks.reliability.task",
        "matplotlib.pyplot",
        "onecycle._find",
        "onecycle._run_dir",
        "onecycle._train",
        "onecycle._tune",
        "onecycle.cli",
        "onecycle.cli._demo",
        "onecycle.engines",
        "onecycle.plot",
        "onecycle.tasks",
        "safetensors.torch",
        "tomli_w",
    ):
        importlib.import_module(module)
    Problem()  # an optimizer, the first of which imports a second's worth of torch
