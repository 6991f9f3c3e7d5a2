"""Two processes on gloo, a model replicated or sharded: one curve, one suggestion, all put back on each."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_torch import make_trial
from torch import distributed, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from onecycle.torch import Trial, batch_size
from onecycle.torch._processes import Processes

ROOT = Path(__file__).parents[2]
KINDS = ("replicated", "sharded")

pytestmark = pytest.mark.skipif(not distributed.is_available(), reason="torch without torch.distributed")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """By kind, what each of two processes and then one alone found."""
    program = Path(__file__).parent / "two_processes.py"
    folders = [tmp_path_factory.mktemp(name) for name in ("two", "one")]
    runs = [(folders[0], 0, 2), (folders[0], 1, 2), (folders[1], 0, 1)]
    processes = [
        subprocess.Popen([sys.executable, str(program), *map(str, run)], stderr=subprocess.PIPE, text=True)
        for run in runs
    ]
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:  # one that waits for another that failed
            process.kill()
            process.communicate()
    assert [process.returncode for process in processes] == [0, 0, 0], "".join(errors)
    found = [json.loads((folder / f"{rank}.json").read_text()) for folder, rank, _ in runs]
    return {kind: [each[kind] for each in found] for kind in found[0]}


@pytest.fixture(params=KINDS)
def of_kind(results: dict[str, Any], request: pytest.FixtureRequest) -> Any:
    """What the two and the one found, with a model of a kind."""
    if request.param not in results:
        pytest.skip("a release of torch whose fully_shard is not right on a CPU")
    return results[request.param]


def test_both_processes_find_the_same_to_the_bit(of_kind: Any) -> None:
    first, second, _ = of_kind
    assert {**first, "main": False} == second
    assert first["main"]


def test_everything_is_put_back_on_each(of_kind: Any) -> None:
    assert [each["unchanged"] for each in of_kind] == [True, True, True]


def test_two_processes_suggest_what_one_does(of_kind: Any) -> None:
    two, _, one = of_kind
    assert two["rule"] == one["rule"] == "pilots"
    assert two["max_lr"] == pytest.approx(one["max_lr"], rel=0.02)
    assert len(two["moved"]) == len(one["moved"]) > 0
    assert two["moved"][:2] == pytest.approx(one["moved"][:2], rel=1e-3)


def test_losses_are_those_of_the_whole_batch(of_kind: Any) -> None:
    two, _, one = of_kind
    assert two["size"] == one["size"] == 64
    assert two["steps_per_epoch"] == one["steps_per_epoch"] == 16
    assert len(two["loss"]) == len(one["loss"])
    assert two["loss"][:20] == pytest.approx(one["loss"][:20], rel=1e-4)
    assert two["val_loss"][:3] == pytest.approx(one["val_loss"][:3], rel=1e-4)
    assert two["next"] == pytest.approx(one["next"], rel=1e-4)
    assert two["accuracy"] == pytest.approx(one["accuracy"])
    assert two["noise"] == pytest.approx(one["noise"], rel=1e-3)


def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs/distributed.md").read_text(encoding="utf-8")
    program = page.split("```python\n")[1].split("```")[0]
    (tmp_path / "train.py").write_text(program, encoding="utf-8")
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]
    ended = subprocess.run([sys.executable, *run], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    # Gloo's own lines, one of each process, may run into one another.
    suggestion, accuracy = re.findall(r"^[\d.]+[:%] .*$", ended.stdout, re.MULTILINE)
    assert 0.01 < float(suggestion.split(":")[0]) < 1
    assert float(accuracy.split("%")[0]) > 90


def test_the_order_of_a_distributed_sampler_follows_the_seed() -> None:
    data = TensorDataset(torch.arange(16.0)[:, None], torch.zeros(16, 1))
    sampler: DistributedSampler[Any] = DistributedSampler(data, 1, 0)
    seen: list[float] = []

    def step(batch: Any) -> torch.Tensor:
        seen.extend(batch[0].flatten().tolist())
        return torch.zeros(())

    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    trial = Trial(model, optimizer, None, DataLoader(data, 4, sampler=sampler), step=step)

    def orders(seed: int, steps: int = 8) -> list[float]:
        trial.seed(seed)
        seen.clear()
        for _ in range(steps):
            trial.step()
        return seen.copy()

    sampler.set_epoch(7)
    state = trial.save()
    first = orders(0)
    assert sorted(first[:16]) == sorted(first[16:])
    assert first[:16] != first[16:]
    assert orders(0) == first
    assert orders(1) != first
    trial.restore(state)
    assert sampler.epoch == 7
    orders(0, steps=5)
    state = trial.save()
    trial.restore(state)
    seen.clear()
    for _ in range(3):
        trial.step()
    assert seen == first[20:]


@pytest.fixture
def grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that torchrun started."""
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)


@pytest.mark.usefixtures("grouped")
def test_a_model_that_no_one_shares_is_left_alone() -> None:
    processes = Processes.of([nn.Linear(1, 1)])
    assert (processes.count, processes.rank, processes.sharded) == (1, 0, [])
    value = torch.ones(())
    assert processes.mean(value, value.device) is value


@pytest.mark.usefixtures("grouped")
def test_a_sharded_state_is_not_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trial = make_trial()
    monkeypatch.setattr(trial, "_processes", Processes(2, 0, None, [nn.Linear(1, 1)]))
    for call in (lambda: trial.write(tmp_path / "state"), lambda: trial.read(tmp_path / "state")):
        with pytest.raises(ValueError, match=r"sharded.*save it with torch.distributed.checkpoint"):
            call()


@pytest.mark.usefixtures("grouped")
def test_batch_sizes_are_for_one_process() -> None:
    with pytest.raises(ValueError, match="try before init_process_group"):
        batch_size(lambda seed, batch_size: None)  # noqa: ARG005


@pytest.mark.usefixtures("grouped")
def test_older_sharding_is_refused() -> None:
    class FullyShardedDataParallel(nn.Module):  # which needs an accelerator
        pass

    with pytest.raises(ValueError, match=r"shard it with torch.distributed.fsdp.fully_shard"):
        Processes.of([FullyShardedDataParallel()])
