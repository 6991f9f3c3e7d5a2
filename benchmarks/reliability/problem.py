"""A small training with a place for a fault at every turn, and all that must be as it was."""

from __future__ import annotations

import errno
import gc
import mmap
import multiprocessing
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

PLACES = ("data", "forward", "loss", "backward", "update")
ERRORS: dict[str, Callable[[], BaseException]] = {
    "exception": lambda: RuntimeError("a fault of the harness"),
    "out of memory": lambda: torch.OutOfMemoryError("a fault of the harness: out of memory"),
    "no memory": lambda: MemoryError("a fault of the harness"),
}
SIGNALS = {"interrupt": signal.SIGINT, "interrupt twice": signal.SIGINT, "terminate": signal.SIGTERM}
DISKS = {"full disk": errno.ENOSPC, "read-only file system": errno.EROFS, "broken disk": errno.EIO}
FILES = ("open", "flush", "rename", "checkpoint")  # places where a command writes
NUMBERS = {"NaN": float("nan"), "inf": float("inf")}
ENDS, HANGS, FAILS = "loader that ends early", "worker that hangs", "loader that fails midway"


class Fault:
    """One fault, which strikes the `at`-th time that a place is come to, and once alone.

    Args:
        kind: of `ERRORS`, `SIGNALS`, `NUMBERS`, `DISKS`, or "kill", `ENDS`, `HANGS`.
        place: of `PLACES` or `FILES`, or "evaluate".
        at: how many times the place is passed before; for `HANGS`, updates before, as its worker counts none.
    """

    def __init__(self, kind: str, place: str, at: int) -> None:
        self.kind, self.place, self.at = kind, place, at
        self.passed: Counter[str] = Counter()
        self.again = False
        self._struck = mmap.mmap(-1, 1)  # one byte for this process and those that it forks

    def __reduce__(self) -> tuple[type[Fault], tuple[str, str, int]]:
        return Fault, (self.kind, self.place, self.at)  # what is sent to another node shares no byte with it

    @property
    def struck(self) -> bool:
        """Whether it has struck, in this process or in one forked from it."""
        return bool(self._struck[0])

    @property
    def row(self) -> str:
        """What the table counts it as."""
        return FAILS if (self.kind, self.place) == ("exception", "data") else self.kind

    def meet(self, place: str) -> float:
        """Come to a place: a factor for what is computed there, if the fault does not strike otherwise."""
        self.passed[place] += 1
        if self.struck and self.kind in DISKS and place in FILES:
            raise self._disk()  # it stays full
        passed = self.passed["update"] + 1 if self.kind == HANGS else self.passed[place]
        if self.struck or place != self.place or passed <= self.at:
            return 1.0
        self._struck[0] = 1
        if self.kind in ERRORS:
            raise ERRORS[self.kind]()
        if self.kind == ENDS:
            raise StopIteration
        if self.kind == HANGS:
            time.sleep(600)
        if self.kind in DISKS:
            raise self._disk()
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind in SIGNALS:
            self.again = self.kind == "interrupt twice"
            signal.raise_signal(SIGNALS[self.kind])
        return NUMBERS.get(self.kind, 1.0)

    def _disk(self) -> OSError:
        return OSError(DISKS[self.kind], os.strerror(DISKS[self.kind]))

    def strike_again(self) -> None:
        """The second interrupt, while what the first one broke off is put back."""
        if self.again:
            self.again = False
            signal.raise_signal(signal.SIGINT)


def updated(*_: object) -> None:
    """Come to the end of an update."""
    meet("update")


NONE = Fault("none", "nowhere", 0)
# Not an attribute of the data set: what that counts is put back after a range test, the fault's count too.
_faults = [NONE]


def meet(place: str) -> float:
    """Come to a place where the present fault may strike."""
    return _faults[-1].meet(place)


@contextmanager
def present(fault: Fault) -> Iterator[None]:
    """Have `fault` strike in this block."""
    _faults.append(fault)
    try:
        yield
    finally:
        _faults.remove(fault)


class Samples(Dataset[Any]):
    """Forty samples with noise from the global generators; a fault may lie in any of them."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(7)
        self.x = torch.randn(40, 6, generator=generator)
        self.y = torch.randint(3, (40,), generator=generator)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        meet("data")
        return self.x[index] + 0.01 * torch.randn(6) + 0.01 * random.random(), self.y[index]


@dataclass(frozen=True)
class Variant:
    """What a problem is made of."""

    name: str
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    amp: str | None = None
    accumulate: int = 1
    workers: int = 0  # processes that load the data


VARIANTS = (
    Variant("SGD with momentum", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3)),
    Variant("AdamW, two batches an update", lambda p: torch.optim.AdamW(p, lr=0.01), accumulate=2),
    Variant("RMSprop, fp16 with a loss scaler", lambda p: torch.optim.RMSprop(p, lr=0.01), amp="fp16"),
)
WITH_A_WORKER = Variant("SGD, a worker", lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), workers=1)


def loader(batch_size: int, generator: torch.Generator, workers: int = 0) -> DataLoader[Any]:
    """The samples, shuffled by `generator`; a worker may take twenty seconds for a batch."""
    return DataLoader(
        Samples(),
        batch_size,
        shuffle=True,
        generator=generator,
        num_workers=workers,
        timeout=20 if workers else 0,
    )


class Problem:
    """A net with batch norm and dropout, an optimizer with a history, a shuffled loader with a generator."""

    def __init__(self, variant: Variant = VARIANTS[0], trained: int = 3) -> None:
        random.seed(1)
        np.random.seed(1)  # noqa: NPY002 - the global generator is what is looked after
        torch.manual_seed(1)
        self.variant = variant
        self.model = nn.Sequential(
            nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
        )
        self.optimizer = variant.optimizer(self.model.parameters())
        self.generator = torch.Generator().manual_seed(3)
        self.loader: Any = loader(8, self.generator, variant.workers)
        self.val_loader = [(torch.ones(4, 6), torch.zeros(4, dtype=torch.long))]
        self.model.register_forward_pre_hook(self._forward)
        self.last = self.model[4].get_parameter("weight")
        self.last.register_hook(lambda gradient: gradient * meet("backward"))  # type: ignore[no-untyped-call]
        self.optimizer.register_step_post_hook(updated)
        self.losses = self.train(trained)

    def _forward(self, model: nn.Module, _: Any) -> None:
        meet("forward" if model.training else "evaluate")

    def loss_fn(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross entropy, or what a fault makes of it."""
        return nn.functional.cross_entropy(output, target) * meet("loss")

    def train(self, steps: int) -> list[float]:
        """The user's own loop, epoch after epoch from the loader's start; the loss at each step."""
        losses: list[float] = []
        self.model.train()
        while len(losses) < steps:
            for x, y in self.loader:
                self.optimizer.zero_grad()
                loss = nn.functional.cross_entropy(self.model(x), y)
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                losses.append(loss.item())
                if len(losses) == steps:
                    break
        return losses

    def weights(self) -> Any:
        """Parameters, buffers, modes, gradients and the optimizer, bit for bit."""
        parameters = [(p.detach(), p.grad, p.requires_grad) for p in self.model.parameters()]
        modes = [module.training for module in self.model.modules()]
        return bits([parameters, list(self.model.buffers()), modes, self.optimizer.state_dict()])

    def random(self) -> Any:
        """Every random generator, bit for bit."""
        numpy = np.random.get_state(legacy=False)  # noqa: NPY002 - as above
        return bits([random.getstate(), numpy, torch.get_rng_state(), self.generator.get_state()])


def surroundings() -> Any:
    """What of the process must be as it was: handlers of signals, threads, open files."""
    gc.collect()  # a loader's worker, with its files, goes with its iterator
    for child in multiprocessing.active_children():
        child.join(5)  # older torch ends a worker that hangs, and does not wait for its end
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    files = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0
    return (
        handlers,
        threading.active_count(),
        files,
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
    )


def bits(value: Any) -> Any:
    """`value` as nested tuples that are equal where every bit is, NaN included."""
    if isinstance(value, Tensor) and value.is_sparse:
        return tuple(value.shape), bits(value._indices()), bits(value._values())
    if isinstance(value, Tensor):
        dense = value.detach().contiguous().to("cpu")
        return str(dense.dtype), tuple(dense.shape), dense.reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, np.ndarray):
        return str(value.dtype), value.shape, value.tobytes()
    if isinstance(value, float):
        return value.hex()
    if isinstance(value, Mapping):
        return tuple((key, bits(item)) for key, item in value.items())
    if isinstance(value, Iterable) and not isinstance(value, (str, bytes)):
        return tuple(bits(item) for item in value)
    return value
