"""Faults in `onecycle find` and `onecycle train`: each command in a process of its own, which may be killed."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.reliability.faults import Counts, _count
from benchmarks.reliability.problem import DISKS, ERRORS, FILES, NONE, PLACES, SIGNALS, Fault, meet, present

TASK = "benchmarks.reliability.task:build"
LENGTH = "30"  # updates of training: six epochs
NOBODY = 65534


class Command:
    """A command, what its folder holds where nothing goes wrong, and what it must hold after a second start."""

    def __init__(self, name: str, arguments: Sequence[str], files: Sequence[str], folder: Path) -> None:
        self.name, self.arguments, self.files, self.folder = name, list(arguments), files, folder
        out = folder / f"plain-{name}"
        status, told = self.run(out)
        assert status == 0, told
        self.expected = {file: (out / file).read_bytes() for file in files}

    def run(
        self,
        out: Path,
        fault: Fault = NONE,
        before: Callable[[], object] = lambda: None,
        more: Sequence[str] = (),
    ) -> tuple[int, str]:
        """Exit status, or minus the signal that ended it, and what it said on standard error."""
        from onecycle.cli import main

        said = self.folder / "stderr"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from Python 3.12 on, where threads run
            child = os.fork()
        if child == 0:
            status: Any = 99
            try:
                descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                for standard in (1, 2):
                    os.dup2(descriptor, standard)
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
        return os.waitstatus_to_exitcode(ended_as), said.read_text(encoding="utf-8", errors="replace")

    def strike(
        self, counts: Counts, kind: str, fault: Fault = NONE, before: Callable[[], object] = lambda: None,
        out: Path | None = None, undo: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        """Have one fault, start the command again, and count what was lost."""
        out = Path(tempfile.mkdtemp(dir=self.folder)) / "out" if out is None else out
        status, told = self.run(out, fault, before)
        undo()
        if status == 0 and before is _nothing:
            return  # it did not strike
        what = self._lost(out, status, told, kind)
        _count(counts, kind, what, f"{self.name}, {fault.place} {fault.at}")
        shutil.rmtree(out.parent if out.name == "out" else out, ignore_errors=True)

    def _lost(self, out: Path, status: int, told: str, kind: str) -> str:
        wanted = {"kill": -signal.SIGKILL, "NaN": 1, "inf": 1, **dict.fromkeys(SIGNALS, 130)}.get(kind, 2)
        if status != wanted:
            return f"the exit status, {status}, with {told[-300:]!r}"
        if wanted > 0 and (len(told.splitlines()) != 1 or "Traceback" in told):
            return f"the one line: {told[-300:]!r}"
        if kind != "kill" and (left := temporary_files(out)):
            return f"the name of a temporary file: {left}"
        if what := damaged(out):
            return what
        resume = ["--resume"] if (out / "checkpoint.safetensors").exists() else []
        status, told = self.run(out, more=resume)
        if status != 0:
            return f"the second start, which said {told[-300:]!r}"
        for name, content in self.expected.items():
            if (out / name).read_bytes() != content:
                return f"{name}, which is another than without the fault"
        return f"the name of a temporary file, for good: {left}" if (left := temporary_files(out)) else ""


def _nothing() -> None:
    """Before a command that needs no preparation."""


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


def temporary_files(out: Path) -> list[str]:
    """Files that a command began to write and did not rename."""
    return [path.name for path in out.rglob(".*")] if out.is_dir() else []


def damaged(out: Path) -> str:
    """What of the folder cannot be read, empty where all can."""
    import onecycle as oc
    from benchmarks.reliability.task import build
    from onecycle._train import History

    step = 0
    try:
        if (path := out / "run.json").exists():
            json.loads(path.read_text(encoding="utf-8"))
        for path in out.glob("curves/*.json"):
            oc.Curve.load(path)
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


def commands(folder: Path) -> list[Command]:
    """`find` and `train`, with a recipe in `folder`."""
    import onecycle as oc

    recipe = folder / "recipe.toml"
    oc.Recipe(0.2, total_steps=int(LENGTH)).save(recipe)
    find = ["find", TASK, "--steps", "1300", "--seed", "3"]
    train = ["train", TASK, "--recipe", str(recipe), "--seed", "3"]
    return [
        Command("find", find, ["recipe.toml", "curves/lr.json"], folder),
        Command("train", train, ["metrics.csv", "checkpoint.safetensors"], folder),
    ]


def faults_of_commands(counts: Counts, small: bool = False) -> None:
    """Every kind of fault in both commands, in their steps and as they write."""
    with tempfile.TemporaryDirectory() as temporary:
        os.chmod(temporary, 0o777)  # noqa: PTH101, S103 - a child may become nobody
        for command in commands(Path(temporary)):
            steps = (12,) if small else (0, 3, 7, 12, 18, 26)
            for kind in ("kill", *ERRORS, *SIGNALS, "NaN", "inf"):
                for place in ("loss",) if small or kind in ("NaN", "inf") else PLACES:
                    if command.name == "find" and kind in ("NaN", "inf"):
                        continue  # an answer, not an end
                    for at in steps if kind in ("kill", "terminate") else steps[len(steps) // 2 :][:2]:
                        command.strike(counts, kind, Fault(kind, place, at * (8 if place == "data" else 1)), _nothing)
            for kind, place in itertools.product(("kill", "interrupt", "terminate", *DISKS), FILES):
                for at in (1,) if small else range(8):
                    command.strike(counts, kind, Fault(kind, place, at), _nothing)
            _real_disks(counts, command, small)


def _real_disks(counts: Counts, command: Command, small: bool) -> None:
    for size in (300,) if small else (0, 10, 300, 1000, 3000, 10_000, 30_000):

        def limit(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        command.strike(counts, "file size limit", Fault("none", "size", size), limit)
    if small or os.geteuid() != 0:
        return

    def become_nobody() -> None:
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    for mode in (0o555, 0o000):
        out = Path(tempfile.mkdtemp(dir=command.folder))
        out.chmod(mode)
        command.strike(
            counts, "read-only directory", Fault("none", "mode", mode), become_nobody, out,
            lambda out=out: out.chmod(0o755),
        )  # fmt: skip
    for size in (4, 8, 16, 32, 48):  # KiB
        out = Path(tempfile.mkdtemp(dir=command.folder))
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", out], capture_output=True).returncode:
            return
        try:
            command.strike(
                counts, "full file system", Fault("none", "KiB", size), lambda: None, out,
                lambda out=out: subprocess.run(["mount", "-o", "remount,size=100m", out], check=True),
            )  # fmt: skip
        finally:
            subprocess.run(["umount", out], check=True)
