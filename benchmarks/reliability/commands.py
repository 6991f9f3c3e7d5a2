"""Faults in the commands `find`, `train` and `tune`, each in a process of its own that may be killed."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.reliability import files
from benchmarks.reliability.faults import Counts, count
from benchmarks.reliability.problem import DISKS, ERRORS, FILES, NONE, SIGNALS, Fault, meet, present

TASK = "benchmarks.reliability.task:build"
LENGTH = "30"  # updates of training: six epochs
NOBODY = 65534


class Command:
    """A command, and what its folder must hold in the end, whatever went wrong on the way."""

    def __init__(self, name: str, arguments: Sequence[str], files: Sequence[str], folder: Path) -> None:
        self.name, self.arguments, self.files, self.folder = name, list(arguments), files, folder
        out = folder / f"plain-{name}"
        status, told = self.run(out)
        assert status == 0, told
        self.expected = {file: (out / file).read_bytes() for file in files}
        self.trials = names(out)

    def run(
        self,
        out: Path,
        fault: Fault = NONE,
        before: Callable[[], object] = lambda: None,
        more: Sequence[str] = (),
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
        _, ended_as = os.waitpid(child, 0)
        os.close(speak)
        os.set_blocking(listen, False)
        with os.fdopen(listen, "rb") as said:
            told = said.read() or b""
        return os.waitstatus_to_exitcode(ended_as), told.decode(errors="replace")

    def strike(
        self, counts: Counts, kind: str, fault: Fault = NONE, before: Callable[[], object] = lambda: None,
        out: Path | None = None, undo: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        """Have one fault, start the command again, and count what was lost."""
        out = Path(tempfile.mkdtemp(dir=self.folder)) / "out" if out is None else out
        status, told = self.run(out, fault, before)
        undo()
        if status == 0 and fault.kind != "none":
            return  # it did not strike
        what = self._lost(out, status, told, kind)
        count(counts, kind, what, f"{self.name}, {fault.place} {fault.at}")
        shutil.rmtree(out.parent if out.name == "out" else out, ignore_errors=True)

    def _lost(self, out: Path, status: int, told: str, kind: str) -> str:
        wanted = {"kill": -signal.SIGKILL, "NaN": 1, "inf": 1, **dict.fromkeys(SIGNALS, 130)}.get(kind, 2)
        if status != wanted:
            return f"the exit status, {status}, with {told[-300:]!r}"
        if wanted > 0 and (len(told.strip().splitlines()) != 1 or "Traceback" in told):
            return f"the one line: {told[-300:]!r}"
        if kind != "kill" and (left := temporary_files(out)):
            return f"the name of a temporary file: {left}"
        if what := damaged(out):
            return what
        finished = {path: path.stat().st_mtime_ns for path in out.glob("trials/*.json")}
        resume = ["--resume"] if finished or (out / "checkpoint.safetensors").exists() else []
        status, told = self.run(out, more=resume)
        if status != 0:
            return f"the second start, which said {told[-300:]!r}"
        if any(path.stat().st_mtime_ns != then for path, then in finished.items()):
            return "a finished trial, which was done again"
        if names(out) != self.trials:
            return "a trial, or its name"
        for name, content in self.expected.items():
            if (out / name).read_bytes() != content:
                return f"{name}, which is another than without the fault"
        return f"the name of a temporary file, for good: {left}" if (left := temporary_files(out)) else ""


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


def command(name: str, folder: Path) -> Command:
    """`find`, `train` or `tune`, with a recipe in `folder`."""
    import onecycle as oc

    recipe = folder / "recipe.toml"
    oc.Recipe(0.2, total_steps=int(LENGTH)).save(recipe)
    arguments, files = {
        "find": (["--steps", "1300"], ["recipe.toml", "curves/lr.json"]),
        "train": (["--recipe", str(recipe)], ["metrics.csv", "checkpoint.safetensors"]),
        "tune": (["--steps", "300"], ["recipe.toml"]),
    }[name]
    return Command(name, [name, TASK, *arguments, "--seed", "3"], files, folder)


def faults_of_command(counts: Counts, name: str, small: bool = False) -> None:
    """Every kind of fault in one command, in its steps and as it writes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o777)  # a child may become nobody
        tried = command(name, folder)
        _in_steps(counts, tried, small)
        kinds = ("kill", "full disk") if small else ("kill", "interrupt", "terminate", *DISKS)
        for kind, place, at in itertools.product(kinds, FILES, (1,) if small else (0, 3)):
            if place != "checkpoint" or name == "train":
                tried.strike(counts, kind, Fault(kind, place, at))
        _limits(counts, tried, small)
        if not small and os.geteuid() == 0:
            _real_disks(counts, tried)


def _in_steps(counts: Counts, tried: Command, small: bool) -> None:
    """Faults while it trains; those that a search takes for findings about its settings are left out."""
    errors = () if tried.name == "tune" else tuple(ERRORS)
    numbers = ("NaN", "inf") if tried.name == "train" else ()
    places = ("update",) if small else ("data", "update")
    last = {"find": 250, "train": 29, "tune": 600}[tried.name]
    for kind in ("kill", *SIGNALS, *errors, *numbers):
        many = 1 if small else 3 if kind in ("kill", "terminate") else 2
        for place in ("loss",) if kind in numbers else places:
            for number in range(many):
                at = (last * (number + 1) // (many + 1)) * (8 if place == "data" else 1)
                tried.strike(counts, kind, Fault(kind, place, at))


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
        files.add("faults", {f"{name}: {kind}": vars(count) for kind, count in counts.items()})


def preload() -> None:
    """Import what the commands need, so that their processes, forked from this one, begin at once."""
    for module in (
        *(
            "benchmarks.reliability.task",
            "onecycle.cli",
            "onecycle.tasks",
            "onecycle.plot",
            "onecycle.cli._demo",
        ),
        *("onecycle._find", "onecycle._run_dir", "onecycle._train", "onecycle._tune", "onecycle.engines"),
        *("safetensors.torch", "tomli_w", "matplotlib.pyplot"),
    ):
        importlib.import_module(module)
