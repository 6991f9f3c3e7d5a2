"""The Ray engine, where Ray is installed: the same recipe, and nothing lost when a worker dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="pip install 'onecycle[ray]'")

import onecycle as oc
from onecycle._jobs import Job
from onecycle.engines import Ray, choose
from onecycle.tasks import Task
from test_tune import Net, build


@pytest.fixture(scope="module")
def engine() -> Iterator[Ray]:
    found = Ray()
    yield found
    found.close()


def test_the_recipe_is_the_same_as_in_this_process(engine: Ray, tmp_path: Path) -> None:
    here = oc.tune(build, total_steps=2000, budget=1.0, seed=3, out=tmp_path / "here")
    there = oc.tune(build, total_steps=2000, budget=1.0, seed=3, engine=engine, out=tmp_path / "there")
    assert here == there
    names = [
        sorted(path.name for path in (tmp_path / each / "trials").iterdir()) for each in ("here", "there")
    ]
    assert names[0] == names[1]


def test_code_that_no_worker_could_import_goes_with_the_job(engine: Ray) -> None:
    factor = 1.0

    def local(seed: int, batch_size: int = 8, weight_decay: float = 1e-4) -> Net:
        return Net(seed, batch_size, weight_decay * factor)

    assert oc.tune(local, total_steps=2000, budget=0.2, engine=engine).max_lr > 0


def test_a_worker_that_is_killed_loses_no_trial(engine: Ray, tmp_path: Path) -> None:
    once = tmp_path / "killed"

    def dies(seed: int, batch_size: int = 8, weight_decay: float = 1e-4) -> Net:
        def fail(step: int) -> None:
            if step == 20 and not once.exists():
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)

        return Net(seed, batch_size, weight_decay, fail=fail)

    jobs = [Job("rate", "run", 0, 50, max_lr=10.0**-i) for i in (1, 2)]
    done = dict(engine.run(Task("dies", dies), jobs))
    assert once.exists()
    assert set(done) == set(jobs)
    assert all(result.error is None for result in done.values())


def test_by_name() -> None:
    assert isinstance(choose("ray"), Ray)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cpus": 0}, r"^cpus must be a whole number >= 1, got 0$"),
        ({"gpus": -1}, r"^gpus must be a share of a GPU >= 0, got -1$"),
    ],
)
def test_bad_input_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Ray(**arguments)


def test_a_node_that_dies_loses_no_trial(tmp_path: Path) -> None:
    script = tmp_path / "cluster.py"
    script.write_text(CLUSTER.format(path=[str(Path(__file__).parent), str(Path(oc.__file__).parents[1])]))
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, timeout=120)


CLUSTER = """
import sys, threading, time
sys.path[:0] = {path!r}
from pathlib import Path
import ray
from ray.cluster_utils import Cluster
from onecycle._jobs import Job
from onecycle.engines import Ray
from onecycle.tasks import Task
from test_tune import Net

begun = Path(sys.argv[1]) / "begun"
cluster = Cluster(initialize_head=True, head_node_args=dict(num_cpus=1))
doomed = cluster.add_node(num_cpus=1)
ray.init(address=cluster.address, log_to_driver=False)

def slow(seed, batch_size=8, weight_decay=1e-4):
    begun.touch()
    return Net(seed, batch_size, weight_decay, fail=lambda step: time.sleep(0.02))

engine = Ray()
assert engine.workers == 2
jobs = [Job("rate", "run", 0, 100, max_lr=10.0**-i) for i in (1, 2, 3)]

def kill():
    while not begun.exists():
        time.sleep(0.01)
    time.sleep(0.5)
    cluster.remove_node(doomed, allow_graceful=False)

thread = threading.Thread(target=kill)
thread.start()
done = dict(engine.run(Task("slow", slow), jobs))
thread.join()
assert set(done) == set(jobs)
assert all(result.error is None for result in done.values()), done
ray.shutdown()
cluster.shutdown()
"""
