"""Images per second of this library's loader and loop, and of a plain PyTorch loop, side by side."""

from __future__ import annotations

import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.headline.runs import RESULTS, Results, Row
from onecycle.tasks import cifar10

WARM = 5  # steps before the clock starts: two workers have four batches ready


class Pictures(Dataset[tuple[Any, int]]):
    """The training set as torchvision's `CIFAR10` gives it: a PIL image at a time, transformed."""

    def __init__(self, transform: Callable[[Any], Tensor]) -> None:
        images = cifar10.load()
        self.pixels, self.labels = images.train.numpy(), images.train_labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


def plain_loader(batch_size: int, workers: int) -> DataLoader[Any]:
    """A DataLoader with the transforms that every tutorial has."""
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(cifar10.MEAN, cifar10.DEVIATION),
        ]
    )
    return DataLoader(
        Pictures(transform),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
    )


def plain_steps(model: nn.Module, batch_size: int, workers: int) -> Iterator[None]:
    """The usual loop, a step at a time."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    loader, model = plain_loader(batch_size, workers), model.to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    loss_fn = nn.CrossEntropyLoss()
    total = 0.0
    while True:
        for x, y in loader:
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
            yield


def plain_model(net: str, batch_size: int, options: dict[str, Any]) -> nn.Module:
    """The very net that ours trains, in the memory order that a user has if he asks for none."""
    model: nn.Module = getattr(cifar10, net)(0, batch_size, **options)._model
    return model.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def our_steps(net: str, batch_size: int, options: dict[str, Any]) -> Iterator[None]:
    """This library's loop: losses are read ten steps late, as `oc.train` does."""
    trial = getattr(cifar10, net)(0, batch_size, 5e-4, **options)
    losses: list[Tensor] = []
    while True:
        trial.set(lr=0.01, momentum=0.9)
        losses.append(trial.step())
        if len(losses) == 10:
            [float(loss) for loss in losses]
            losses.clear()
        yield


class Here:
    """A loop in this process, made by `make` and warm; `first` is the seconds that this took."""

    def __init__(self, make: Callable[[], Iterator[None]]) -> None:
        begin = time.perf_counter()
        self._steps = make()
        self._do(WARM)
        self.first = time.perf_counter() - begin

    def clock(self, count: int) -> float:
        """Seconds of `count` steps, after some that do not count."""
        self._do(WARM)
        begin = time.perf_counter()
        self._do(count)
        return time.perf_counter() - begin

    def _do(self, count: int) -> None:
        for _ in range(count):
            next(self._steps)
        _wait()

    def end(self) -> None:
        """Make no more steps."""


class Apart:
    """The same in a process of its own, so that no loop finds the memory as another has left it."""

    def __init__(self, make: Callable[[], Iterator[None]]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, make, torch.get_num_threads()))
        self._process.start()
        theirs.close()
        said = self._pipe.recv()
        if isinstance(said, str):
            raise RuntimeError(said)
        self.first: float = said

    def clock(self, count: int) -> float:
        """Seconds of `count` steps."""
        self._pipe.send(count)
        seconds: float = self._pipe.recv()
        return seconds

    def end(self) -> None:
        """Make no more steps."""
        self._pipe.close()
        self._process.join()


def _serve(pipe: Connection, make: Callable[[], Iterator[None]], threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        loop = Here(make)
    except Exception as error:  # noqa: BLE001  # a compiler's may be of any kind, and the parent has to know
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send(loop.first)
    with suppress(EOFError):
        while True:
            pipe.send(loop.clock(pipe.recv()))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _begun(name: str, make: Callable[[], Iterator[None]], timed: type[Here | Apart]) -> Here | Apart | None:
    try:
        return timed(make)
    except (ImportError, RuntimeError) as error:
        print(f"{name} is left out: {error}", file=sys.stderr)
        return None


def speed(
    net: str = "resnet20",
    *,
    batch_size: int = 128,
    steps: int = 20,
    repeats: int = 5,
    workers: Sequence[int] = (0,),
    compiled: Sequence[str] = (),
    results: Path = RESULTS,
    timed: type[Here | Apart] = Apart,
    **options: Any,
) -> str:
    """Time the loops in turn, `repeats` times; the table, in images per second. What fails is left out.

    Args:
        net: a function of `onecycle.tasks.cifar10`.
        batch_size: of all loops.
        steps: timed at once.
        repeats: rounds; the median and the range are given.
        workers: processes of the plain loop's loader; with several, the fastest counts as the plain loop.
        compiled: modes of `torch.compile` to time, too.
        results: the folder of the file.
        timed: where each loop is run.
        **options: of the task.
    """
    makes: dict[str, Callable[[], Iterator[None]]] = {
        f"plain PyTorch, {count} workers": partial(
            plain_steps, plain_model(net, batch_size, options), batch_size, count
        )
        for count in workers
    }
    for name, more in (("single precision", {"amp": False}), ("bfloat16", {"amp": "bf16"})):
        makes[f"ours, {name}"] = partial(our_steps, net, batch_size, {**options, **more})
    for mode in compiled:
        more = {"amp": "bf16", "compile": mode}
        makes[f"ours, bfloat16, torch.compile {mode}"] = partial(
            our_steps, net, batch_size, {**options, **more}
        )
    loops: dict[str, Here | Apart] = {}
    seconds: dict[str, list[float]] = {}
    try:
        for name, make in makes.items():
            if (loop := _begun(name, make, timed)) is not None:
                loops[name] = loop
        for _ in range(repeats):
            for name, loop in loops.items():
                seconds.setdefault(name, []).append(loop.clock(steps))
    finally:
        for loop in loops.values():
            loop.end()
    rows = [
        {
            "loop": name,
            "images_per_second": [steps * batch_size / each for each in values],
            "seconds_of_first_steps": loops[name].first,
        }
        for name, values in seconds.items()
    ]
    kept = Results(f"speed-{net}-{'cuda' if torch.cuda.is_available() else 'cpu'}", results)
    kept.restart(net=net, batch_size=batch_size, steps=steps, workers=list(workers), options=options)
    kept.rows.extend(rows)
    kept.save()
    return _table(rows)


def _table(rows: list[Row]) -> str:
    middles = {row["loop"]: statistics.median(row["images_per_second"]) for row in rows}
    plain = max((middle for name, middle in middles.items() if name.startswith("plain")), default=math.nan)
    lines = [
        "| loop | images per second | range | times the plain loop | first steps, s |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        values = row["images_per_second"]
        middle = middles[row["loop"]]
        first = row["seconds_of_first_steps"]
        span = f"{min(values):.0f} to {max(values):.0f}"
        lines.append(f"| {row['loop']} | {middle:.0f} | {span} | {middle / plain:.2f} | {first:.1f} |")
    return "\n".join(lines)
