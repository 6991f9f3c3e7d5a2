"""Damaged and hostile files for everything that reads one; coverage-guided where atheris is installed.

An input has escaped where its reader raises anything but ValueError or OSError with one line, takes more
than `SECONDS`, adds more than `MEMORY` to the process, or leaves a trial other than it was.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.reliability import files
from benchmarks.reliability.mutate import damaged, damaged_checkpoint

SECONDS, MEMORY, LINE = 5.0, 200 * 2**20, 1000
Read = Callable[[bytes], object]
Damage = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Target:
    """A reader, files that it can read, and how they are damaged."""

    read: Read
    seeds: list[bytes]
    damage: Damage = damaged


@dataclass
class Tally:
    """What the inputs of one target came to."""

    inputs: int = 0
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    memory: int = 0
    escapes: dict[str, dict[str, str]] = field(default_factory=dict)  # by kind and place


# Targets ---------------------------------------------------------------------------------------------


def targets(folder: Path) -> dict[str, Callable[[], Target]]:
    """By name, what makes each target; files are written to `folder`."""
    return {
        "curve": partial(_curve, folder),
        "curve log": partial(_log, folder),
        "recipe": partial(_recipe, folder),
        "suggestion": _suggestion,
        "policy": _policy,
        "scheduler state": _scheduler,
        "checkpoint": partial(_checkpoint, folder),
        "history": partial(_history, folder),
        "trial record": partial(_record, folder),
        "task reference": _reference,
        "command suggest": partial(_command, folder),
        "report": partial(_report, folder),
    }


def _given(folder: Path, suffix: str, data: bytes) -> Path:
    path = folder / f"input{suffix}"
    path.write_bytes(data)
    return path


def _small_curve() -> Any:
    import onecycle as oc

    rates = [10 ** (-3 + step / 4) for step in range(14)]
    losses = [2.3, 2.3, 2.29, 2.25, 2.1, 1.8, 1.4, 1.1, 0.9, 0.8, 0.9, 1.5, 4.0, float("nan")]
    return oc.Curve(rates, losses, val_loss=losses, settings={"start": 1e-3, "endings": ["end"]})


def _use(curve: Any) -> None:
    """What a curve that was read is there for."""
    import onecycle as oc

    with contextlib.suppress(oc.Inconclusive):
        curve.suggest()
    assert oc.Curve.from_json(curve.to_json()) == curve


def _curve(folder: Path) -> Target:
    import onecycle as oc

    def read(data: bytes) -> None:
        _use(oc.Curve.load(_given(folder, ".json", data)))

    short = oc.Curve([0.1, 0.2], [1.0, 0.5])
    return Target(read, [curve.to_json().encode() for curve in (_small_curve(), short)])


def _log(folder: Path) -> Target:
    import onecycle as oc

    def read(data: bytes) -> None:
        path = _given(folder, ".log", data)
        try:
            _use(oc.Curve.read(path))
        except ValueError as error:
            _check(error)
        oc.Curve.from_csv(path, hyper="momentum")

    rows = [(10 ** (-3 + step / 4), 2.3 - step / 9, step) for step in range(12)]
    csv = "lr,loss,step\n" + "".join(f"{lr:.6g},{loss:.4f},{step}\n" for lr, loss, step in rows)
    records = [{"step": step, "learning_rate": lr, "loss": loss} for lr, loss, step in rows]
    halves = [half for r in records for half in ({"step": r["step"], "lr": r["learning_rate"]}, r)]
    seeds = [
        csv,
        csv.replace(",", ";").replace(".", ","),
        csv.replace(",", "\t"),
        "# a comment\n# lr loss step\n" + csv.partition("\n")[2].replace(",", " "),
        "# lr, loss, step\n" + csv.partition("\n")[2].replace(",", "  "),
        "\ufeff" + csv.replace("lr", "train/learning_rate").replace("loss", "run - loss"),
        "lr,loss\n0.1,\n,2.0\n",
        json.dumps({"log_history": records}),
        json.dumps(records),
        "\n".join(map(json.dumps, halves)),
        "momentum,loss,step,seed,noise,val_loss\n0.8,1,0,0,0.1,1\n0.9,1.5,1,0,0.1,\n",
    ]
    return Target(read, [seed.encode() for seed in seeds])


def _recipe(folder: Path) -> Target:
    import onecycle as oc

    def read(data: bytes) -> None:
        recipe = oc.Recipe.load(_given(folder, ".toml", data))
        recipe.policy(recipe.total_steps or 100)(17)

    evidence = {"task": "digits", "seed": 0, "pilots": [{"max_lr": 0.1, "loss": 0.2}], "reason": "a ü"}
    recipes = [
        oc.Recipe(0.4),
        oc.Recipe(0.4, 0.04, (0.2, 0.8), (0.95, 0.85), 5e-4, 64, 300, "logs", evidence),
        oc.Recipe(0.4, momentum=None),
    ]
    path = folder / "seed.toml"
    seeds = []
    for recipe in recipes:
        recipe.save(path)
        seeds.append(path.read_bytes())
    return Target(read, seeds)


def _suggestion() -> Target:
    import onecycle as oc

    def read(data: bytes) -> None:
        found = oc.Suggestion.from_json(data.decode(errors="surrogateescape"))
        str(found)
        assert oc.Suggestion.from_json(found.to_json()) == found

    return Target(read, [oc.Suggestion(0.4, 0.2, 0.8, "default", "a reason").to_json().encode()])


def _policy() -> Target:
    import onecycle as oc

    def read(data: bytes) -> None:
        policy = oc.Policy.from_json(data.decode(errors="surrogateescape"))
        policy(0), policy(10**9)
        assert oc.Policy.from_json(policy.to_json()) == policy

    policies = [
        oc.one_cycle(0.8, 900),
        oc.one_cycle(0.8, 900, shape="cosine", momentum=0.9, form="logs"),
        oc.cyclical(0.08, 0.8, 200, mode="exp_range", gamma=0.99, momentum=(0.9, 0.8)),
        oc.cyclical(0.08, 0.8, 200, mode="triangular2", total_steps=1000),
    ]
    return Target(read, [policy.to_json().encode() for policy in policies])


def _scheduler() -> Target:
    import torch

    import onecycle as oc
    from onecycle.torch import Scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    policy = oc.one_cycle(0.8, 900)

    def read(data: bytes) -> None:
        scheduler = Scheduler(optimizer, policy)
        try:
            state = json.loads(data)
        except (ValueError, RecursionError):
            raise ValueError("no JSON") from None
        try:
            scheduler.load_state_dict(state)
        finally:
            assert optimizer.param_groups[0]["lr"] == policy(scheduler.last_epoch)["lr"]

    return Target(read, [b'{"last_epoch": 17}', b'{"last_epoch": 3, "_step_count": 4, "base_lrs": [0.1]}'])


def _checkpoint(folder: Path) -> Target:
    import numpy as np
    import torch

    from onecycle.torch import Trial

    def build() -> Any:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
        data: Any = [(torch.ones(4, 3), torch.zeros(4, 2))]
        loader: Any = torch.utils.data.DataLoader(data, None, shuffle=True, generator=torch.Generator())
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        return Trial(model, optimizer, torch.nn.functional.mse_loss, loader)

    trial = build()
    start = trial.save()

    def seen() -> Any:
        parameters = [p.detach().numpy().tobytes() for p in trial._model.state_dict().values()]
        group = {k: v for k, v in trial._optimizers[0].param_groups[0].items() if k != "params"}
        state = [{k: v.numpy().tobytes() for k, v in s.items()} for s in trial._optimizers[0].state.values()]
        return parameters, group, state, trial._model.training, torch.get_rng_state().numpy().tobytes()

    def read(data: bytes) -> None:
        before = seen()
        try:
            trial.read(_given(folder, ".safetensors", data))
        except (ValueError, OSError):
            assert seen() == before, "the trial is another after the refusal"
            raise
        finally:
            trial.restore(start)

    trained = build()
    for _ in range(2):
        trained.step()
    seeds = []
    for state in (build(), trained):
        state.write(folder / "seed.safetensors", {"step": 2, "seed": 0, "numpy": float(np.float64(1))})
        seeds.append((folder / "seed.safetensors").read_bytes())
    return Target(read, seeds, damaged_checkpoint)


def _history(folder: Path) -> Target:
    from onecycle._train import History

    def read(data: bytes) -> None:
        history = History.load(_given(folder, ".csv", data))
        history.until(3), history.metrics, history.last("loss"), history.column("lr"), history.diverged
        history.save(folder / "again.csv")

    seeds = [
        b"step,lr,momentum,loss,val_loss,accuracy\n0,0.1,0.9,2.3,,\n1,0.2,0.85,2.1,1.9,0.4\n",
        b"step,lr,loss\n0,0.1,nan\n",
        b"",
    ]
    return Target(read, seeds)


def _record(folder: Path) -> Target:
    from onecycle._jobs import Job, Result, read_record, write_record

    def read(data: bytes) -> None:
        job, result = read_record(_given(folder, ".json", data))
        assert job.name
        assert result.read_curve() if result.curve else True

    sweep = Job("rate", "sweep", 0, 100)
    run = Job("momentum", "run", 3, 40, 8, 5e-4, 0.4, 0.9)
    curve = json.loads(_small_curve().to_json())
    history = {"step": [0, 1], "loss": [2.0, 1.5], "val": [[1, 1.4]]}
    records = [
        write_record(sweep, Result(0.8, samples=800, curve=curve)),
        write_record(run, Result(1.4, 1.5, 1.4, False, 320, 0.1, {"accuracy": 0.4}, history=history)),
        write_record(run, Result(float("inf"), diverged=True, error="ValueError: no")),
    ]
    return Target(read, [record.encode() for record in records])


def _reference() -> Target:
    from onecycle.tasks import resolve

    real = importlib.import_module

    def harmless(name: str, package: str | None = None) -> Any:
        # What a name means is tried, not what a module that has it by chance does when it is imported.
        first = name.partition(".")[0]
        if first.isidentifier() and first != "onecycle":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, package)

    def read(data: bytes) -> None:
        reference = data.decode(errors="surrogateescape")
        importlib.import_module = harmless
        try:
            resolve(reference)
        except (ValueError, OSError) as error:
            # It repeats the user's own words, which may be of any length and have line ends.
            raise type(error)(str(error)[:4]) from error
        finally:
            importlib.import_module = real

    seeds = [
        "digits",
        "digit",
        "task.py",
        "task.py:build",
        "a/b.py:c",
        "package.module:function",
        ":",
        "",
        ".",
    ]
    return Target(read, [seed.encode() for seed in seeds])


def _command(folder: Path) -> Target:
    from onecycle.cli import main

    def read(data: bytes) -> None:
        path = str(_given(folder, ".txt", data))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main(["suggest", path])
            except SystemExit as ended:
                status = ended.code
        told = err.getvalue().splitlines()
        assert status in (0, 1, 2), f"exit status {status}"
        assert "Traceback" not in err.getvalue(), "a traceback"
        assert "--debug shows where" not in err.getvalue(), f"an unforeseen error: {told[0]}"
        assert (len(told) == 1) == (status != 0), f"{len(told)} lines on standard error"
        if status:
            raise ValueError(told[0])

    log = _log(folder).seeds
    return Target(read, [_small_curve().to_json().encode(), *log])


BETWEEN = b"\n==== "  # before each file's name in one input that stands for a folder


def _report(folder: Path) -> Target:
    from benchmarks.reliability.task import build
    from onecycle import report, tune
    from onecycle._train import History

    def read(data: bytes) -> None:
        run = folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        for part in data.split(BETWEEN)[1:]:
            name, _, content = part.partition(b"\n")
            if name in names:
                path = run / name.decode()
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        report.write(run, folder / "report.html")

    made = folder / "seed run"
    tune(build, total_steps=100, out=made, progress=False)
    History([{"step": 0, "lr": 0.1, "momentum": 0.9, "loss": 2.3, "val_loss": 1.9}]).save(
        made / "metrics.csv"
    )
    files = {path.relative_to(made).as_posix().encode(): path for path in sorted(made.rglob("*.*"))}
    names = frozenset(files)
    run_json = b"".join(
        BETWEEN + name + b"\n" + path.read_bytes() for name, path in files.items() if b"/" not in name
    )
    trials = [
        BETWEEN + name + b"\n" + path.read_bytes() for name, path in files.items() if b"trials/" in name
    ]
    return Target(read, [run_json, run_json + b"".join(trials[:2])], partial(damaged, most=65536))


# Running ---------------------------------------------------------------------------------------------


def _check(error: BaseException) -> None:
    """Raise AssertionError where a refusal is not one clear line."""
    text = str(error)
    assert text.strip(), "a message without a word"
    assert len(text.splitlines()) == 1, "a message of several lines"
    assert len(text) <= LINE, f"a message of {len(text)} characters"


def tried(target: Target, data: bytes, tally: Tally) -> None:
    """Give one input to the target and note what came of it."""
    begin, memory = time.perf_counter(), _peak()
    tally.inputs += 1
    try:
        try:
            target.read(data)
            tally.read += 1
        except (ValueError, OSError) as error:
            _check(error)
            tally.refused += 1
        took = time.perf_counter() - begin
        tally.slowest = max(tally.slowest, took)
        assert took < SECONDS, f"{took:.1f} s"
        grown = _peak() - memory
        tally.memory = max(tally.memory, grown)
        assert grown < MEMORY, f"{grown / 2**20:.0f} MB more"
    except Exception as error:  # noqa: BLE001 - an escape is what is looked for
        last = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in last if "onecycle" in frame.filename and "fuzz.py" not in frame.filename]
        place = ours[-1] if ours else last[-1]
        name = f"{type(error).__name__} in {Path(place.filename).name}:{place.name}"
        tally.escapes.setdefault(name, {"input": repr(data[:2000]), "error": f"{error!s:.300}"})


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def blind(target: Target, runs: int, seed: int = 0) -> Tally:
    """Random damage without guidance, the same for the same seed; what the tests run."""
    tally, rng = Tally(), random.Random(seed)
    pool = list(target.seeds)
    for data in pool:
        tried(target, data, tally)
    while tally.inputs < runs:
        data = target.damage(rng.choice(pool), rng)
        before = tally.read
        tried(target, data, tally)
        if tally.read > before and len(pool) < 200:
            pool.append(data)  # a file that can still be read may take more damage
    return tally


def guided(name: str, runs: int, results: Path, seed: int = 1) -> None:
    """Fuzz one target under atheris, which ends this process; the tally is kept in `results`."""
    atheris = importlib.import_module("atheris")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as temporary:
        folder = Path(temporary)
        with atheris.instrument_imports(include=["onecycle", "tomllib", "tomli", "csv", "json"]):
            for module in (
                "_curve",
                "_logs",
                "_recipe",
                "_suggestion",
                "_policies",
                "_train",
                "cli",
                "tasks",
            ):
                importlib.import_module(f"onecycle.{module}")
            for module in ("_page", "_read", "_stages", "_training", "_trials", "_use", "_verdict", "_words"):
                importlib.import_module(f"onecycle.report.{module}")
            for module in ("_checkpoint", "_trial", "_snapshots", "_state", "_stream", "_scheduler"):
                importlib.import_module(f"onecycle.torch.{module}")
            target = targets(folder)[name]()
        tally = Tally()
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, data in enumerate(target.seeds):
            (corpus / str(number)).write_bytes(data)

        def one(data: bytes) -> None:
            tried(target, data, tally)
            if tally.inputs % 1000 == 0 or tally.inputs >= runs:
                _keep(results, tally)

        def mutator(data: bytes, most: int, seed: int) -> bytes:
            rng = random.Random(seed)
            if rng.random() < 0.3:
                return bytes(atheris.Mutate(data, most))
            return target.damage(rng.choice(target.seeds) if rng.random() < 0.4 else data, rng)[:most]

        most = 65536 if name in ("checkpoint", "report") else 8192
        options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={most}", "-timeout=60", "-rss_limit_mb=0"]
        options += ["-print_final_stats=0", "-verbosity=0", "-close_fd_mask=0"]
        atheris.Setup(["fuzz", *options, str(corpus)], one, custom_mutator=mutator)
        atheris.Fuzz()


def _keep(path: Path, tally: Tally) -> None:
    partial_ = path.with_suffix(".part")
    partial_.write_text(json.dumps(vars(tally)))
    partial_.replace(path)


def record(names: Iterable[str], share: float, seed: int) -> None:
    """Fuzz each target in a process of its own, with `share` of its `RUNS`, and keep what came of it."""
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            runs, kept = max(int(RUNS[name] * share), 1), Path(temporary) / "tally.json"
            arguments = ["-m", "benchmarks.reliability", "fuzz-one", name, str(runs), str(kept), str(seed)]
            begin = time.perf_counter()
            ended = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
            if not kept.is_file():
                raise RuntimeError(f"fuzzing {name} came to nothing:\n{ended.stderr[-3000:]}")
            tally = json.loads(kept.read_text())
        if tally["inputs"] < runs:  # the process died, which is an escape too
            tally["escapes"]["the process ended"] = {"input": "", "error": ended.stderr[-1000:]}
        tally["seconds"] = round(time.perf_counter() - begin, 1)
        tally["engine"] = f"atheris {metadata.version('atheris')}"
        files.add("fuzz", {f"{name}, seed {seed}": tally})
        print(f"{name}: {tally['inputs']} inputs, {len(tally['escapes'])} escapes", file=sys.stderr)


RUNS = {
    "curve": 150_000,
    "curve log": 250_000,
    "recipe": 150_000,
    "suggestion": 100_000,
    "policy": 150_000,
    "scheduler state": 50_000,
    "checkpoint": 60_000,
    "history": 100_000,
    "trial record": 100_000,
    "task reference": 40_000,
    "command suggest": 20_000,
    "report": 20_000,
}
