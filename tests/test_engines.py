"""Processes of the local engine: they die and hang, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("cloudpickle", reason="pip install 'onecycle[workers]'")

import onecycle as oc
from onecycle._jobs import Job
from onecycle.engines import Local
from onecycle.tasks import Task
from test_tune import Net, build


@pytest.fixture
def two() -> Iterator[Local]:
    engine = Local(2)
    yield engine
    engine.close()


def test_functions_that_no_worker_could_import_are_sent(two: Local) -> None:
    decay = 2.0

    def local(seed: int, batch_size: int = 8, weight_decay: float = 1e-4) -> Net:
        return Net(seed, batch_size, weight_decay * decay)

    jobs = [Job("rate", "run", 0, 50, weight_decay=w, max_lr=0.1) for w in (1e-3, 1e-4)]
    here = dict(Local().run(Task("net", local), jobs))
    there = dict(two.run(Task("net", local), jobs))
    assert [here[job].loss for job in jobs] == [there[job].loss for job in jobs]


def test_a_worker_that_is_killed_is_replaced_and_its_job_done_again(two: Local, tmp_path: Path) -> None:
    once = tmp_path / "killed"

    def dies(seed: int, batch_size: int = 8, weight_decay: float = 1e-4) -> Net:
        def fail(step: int) -> None:
            if step == 20 and not once.exists():
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        return Net(seed, batch_size, weight_decay, fail=fail)

    jobs = [Job("rate", "run", 0, 50, max_lr=10.0**-i) for i in range(1, 5)]
    done = dict(two.run(Task("dies", dies), jobs))
    assert once.exists()
    assert set(done) == set(jobs)
    assert all(result.error is None for result in done.values())


def test_a_job_that_kills_each_worker_is_told(two: Local) -> None:
    def dies(seed: int) -> Net:  # noqa: ARG001
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    message = (
        r"^a worker process died 3 times, last with these to do: rate-.*; finished trials are kept. It may "
        r"lack memory: use fewer workers; a script must start the search below if __name__ == '__main__'$"
    )
    with pytest.raises(RuntimeError, match=message):
        list(two.run(Task("dies", dies), [Job("rate", "run", 0, 50, max_lr=0.1)]))


def test_workers_end_with_an_iteration_that_is_left(two: Local) -> None:
    def slow(seed: int, batch_size: int = 8, weight_decay: float = 1e-4) -> Net:
        return Net(seed, batch_size, weight_decay, fail=lambda _: time.sleep(0.05))

    quick, endless = Job("rate", "run", 0, 1, max_lr=0.1), Job("rate", "run", 0, 10**6, max_lr=0.1)
    running = two.run(Task("slow", slow), [quick, endless])
    next(running)
    assert two._pool is not None
    processes = list(two._pool._processes)
    running.close()  # type: ignore[attr-defined]
    for number in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


SEARCH = """
import sys
sys.path[:0] = {path!r}
import onecycle as oc
from onecycle.engines import Local
from test_tune import build

def main():
    oc.tune(build, total_steps=6000, budget=1.0, engine=Local(2), out={out!r}, resume=True)

if __name__ == "__main__":
    main()
"""


def test_a_driver_that_is_killed_loses_no_finished_trial(tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = [str(Path(__file__).parent), str(Path(oc.__file__).parents[1])]
    script = tmp_path / "search.py"
    script.write_text(textwrap.dedent(SEARCH.format(path=path, out=str(out))))
    driver = subprocess.Popen([sys.executable, str(script)])
    while len(list(out.glob("trials/*.json"))) < 3:
        assert driver.poll() is None
        time.sleep(0.01)
    driver.kill()
    driver.wait()
    kept = {path.name: path.read_bytes() for path in out.glob("trials/*.json")}
    assert len(kept) >= 3
    subprocess.run([sys.executable, str(script)], check=True)
    assert {name: (out / "trials" / name).read_bytes() for name in kept} == kept
    found, whole = oc.Recipe.load(out / "recipe.toml"), oc.tune(build, total_steps=6000, budget=1.0)
    assert found.policy() == whole.policy()
    for name in ("decisions", "trials", "cost"):
        assert found.evidence[name] == whole.evidence[name]
    assert not list(out.rglob(".*"))


@pytest.mark.parametrize(
    ("workers", "threads", "message"),
    [
        (0, None, "workers must be a whole number >= 1, got 0"),
        (1, 0, "threads must be a whole number >= 1, got 0"),
    ],
)
def test_bad_input_is_named(workers: int, threads: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Local(workers, threads)
