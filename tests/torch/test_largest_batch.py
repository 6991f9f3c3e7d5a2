"""The largest batch that runs, what ends the search, and the three answers together."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from onecycle.tasks import Task
from onecycle.torch import Trial, _room, batch_size, largest_batch
from onecycle.torch import _batch_size as module
from onecycle.torch._room import free_memory, sizes

MIB = 2**20
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by Linux alone")


def task(
    loss_fn: Callable[[Tensor, Tensor], Tensor] = nn.functional.mse_loss, samples: int = 4096
) -> Callable[..., Trial]:
    """A builder of trials of a linear model."""

    def build(seed: int, batch_size: int = 32) -> Trial:
        torch.manual_seed(seed)
        x = torch.randn(samples, 4)
        model = nn.Linear(4, 1)
        loader = DataLoader(TensorDataset(x, x[:, :1] + torch.randn(samples, 1)), batch_size, shuffle=True)
        return Trial(model, torch.optim.SGD(model.parameters(), 0.05), loss_fn, loader)

    return build


def failing(above: int, error: Callable[[], BaseException]) -> Callable[..., Trial]:
    """As `task`, with an error for batches above a size."""

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        if len(output) > above:
            raise error()
        return nn.functional.mse_loss(output, target)

    return task(loss_fn)


def hungry(seed: int, batch_size: int = 8) -> Trial:
    """A trial that takes about two MiB a sample."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, MIB // 4), nn.ReLU(), nn.Linear(MIB // 4, 1))
    x = torch.randn(4096, 4)
    loader = DataLoader(TensorDataset(x, x[:, :1]), batch_size)
    return Trial(model, torch.optim.SGD(model.parameters(), 1e-6), nn.functional.mse_loss, loader)


OUT_OF_MEMORY: list[Callable[[], BaseException]] = [
    MemoryError,
    lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    lambda: OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_out_of_memory_is_survived(error: Callable[[], BaseException]) -> None:
    found = largest_batch(failing(40, error), most=1000)
    assert found.size == 40
    assert [run.size for run in found.tried] == [8, 16, 32, 64, 48, 40, 44]
    assert [run.fits for run in found.tried] == [True, True, True, False, False, True, False]
    assert "emory" in str(found.tried[3].error)


def test_out_of_memory_on_an_accelerator_is_survived_in_this_process() -> None:
    """As on a GPU: no process of its own, and what is raised is torch's own error."""
    build = failing(40, OUT_OF_MEMORY[1])
    train = module._here(Task("build", build), 0, torch.device("mps"))
    assert train(32) == (32, None, None)
    assert train(64) == (None, None, "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(KeyError):
        module._here(Task("build", failing(40, KeyError)), 0, torch.device("mps"))(64)


def test_out_of_memory_while_building_is_survived() -> None:
    def build(seed: int, batch_size: int = 8) -> Trial:
        if batch_size > 20:
            raise MemoryError("no room")
        return task()(seed, batch_size)

    found = largest_batch(build, most=64)
    assert found.size == 20
    assert "no room" in str(found.tried[2].error)


@on_linux
def test_a_process_that_is_killed_is_survived() -> None:
    def kill() -> BaseException:
        os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does
        return AssertionError()

    found = largest_batch(failing(40, kill), most=64)
    assert found.size == 40
    assert found.tried[3].error == "its process was ended by SIGKILL"


@on_linux
def test_memory_is_limited_and_its_margin_kept() -> None:
    before = sizes("/proc/self/status")["VmRSS"]
    found = largest_batch(hungry, limit=before + 100 * MIB, margin=0.1)
    best = next(run for run in found.tried if run.size == found.size)
    assert best.memory is not None
    assert 0 < best.memory <= 0.9 * (before + 100 * MIB)
    assert found.size >= 4
    too_large = [run for run in found.tried if not run.fits]
    assert too_large
    assert min(run.size for run in too_large) > found.size
    assert "did not fit with 10% left free" in found.reason


@on_linux
def test_nothing_fits() -> None:
    with pytest.raises(MemoryError, match="no batch fits into 1000 GiB, not even one sample: MemoryError"):
        largest_batch(failing(0, MemoryError), limit=1000 * 2**30)
    with pytest.raises(ValueError, match="limit must be above the"):
        largest_batch(hungry, limit=MIB)


def test_an_eighth_of_an_epoch_is_enough() -> None:
    assert largest_batch(task(samples=800)).size == 100
    assert largest_batch(task(samples=800), most=300).size == 300
    assert largest_batch(task(samples=40), start=16).size == 16


def test_a_build_that_ignores_its_batch_size_is_refused() -> None:
    with pytest.raises(ValueError, match="asked for 16, its trial trained on 32 samples an update, where 64"):
        largest_batch(lambda seed, batch_size: task()(seed, 32))  # noqa: ARG005


def test_accumulated_batches_count_by_batch() -> None:
    def build(seed: int, batch_size: int = 8) -> Trial:
        trial = task()(seed, batch_size)
        return Trial(trial._model, trial._optimizers, nn.functional.mse_loss, trial._loader, accumulate=2)

    assert largest_batch(build, most=32).size == 32


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (failing(0, lambda: KeyError("label")), "a batch of 8 did not train: KeyError: 'label'"),
        (lambda seed: task()(seed), "raised TypeError: .* unexpected keyword argument 'batch_size'"),
        (lambda seed, batch_size: None, "must return a trial, such as .*, got NoneType"),  # noqa: ARG005
    ],
)
def test_a_build_that_fails_says_how(build: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        largest_batch(build)


def test_a_process_that_cannot_begin_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_train", lambda *_: os._exit(1))
    with pytest.raises(RuntimeError, match="ended with status 1: build must be importable there"):
        largest_batch(task())


def test_where_processes_are_not_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # as with threads of autograd
    found = largest_batch(hungry, start=2, most=2)
    assert found.size == 2
    assert found.tried[0].memory
    with pytest.raises(ValueError, match=r"build cannot be sent to a process of its own .* a function of a"):
        largest_batch(task())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"start": 0}, ValueError, "start must be a whole number >= 1, got 0"),
        ({"most": 0}, ValueError, "most must be a whole number >= 1, got 0"),
        ({"limit": 0}, ValueError, "limit must be a whole number >= 1, got 0"),
        ({"margin": 2}, ValueError, r"margin must be a share in \[0, 1\], got 2"),
        ({"build": 3}, TypeError, "build must be a function or a task, got int"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        largest_batch(**{"build": task(), **options})


def test_no_limit_where_none_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert sizes(str(tmp_path / "none")) == {}
    monkeypatch.setattr(_room, "sizes", lambda _: {})
    monkeypatch.setattr(module, "sizes", lambda _: {})
    assert free_memory() is None
    found = largest_batch(task(), most=16)
    assert (found.size, found.limit) == (16, None)


def test_three_answers() -> None:
    found = batch_size(Task("linear", task()), most=128, warm=5, lr=0.01)
    assert found.fits.size == 128
    assert [size for size, _ in found.fast.tried][:3] == [8, 16, 32]
    assert found.fast.size in dict(found.fast.tried)
    assert found.useful.samples > 0
    assert found.size in dict(found.fast.tried)
    assert found.optimizer == "sgd"
    assert found.samples > 5 * 32 + found.useful.samples
    assert found.consequence(32, 64).startswith("from batches of 32 to 64: learning rate times 1.")


def test_noise_is_measured_in_batches_that_are_enough() -> None:
    """The default of 32 makes 8 batches of an epoch of 256."""
    assert batch_size(task(samples=256), most=32).useful.samples % 8 == 0
    assert batch_size(task(samples=256), most=16, start=4).useful.samples <= 256
