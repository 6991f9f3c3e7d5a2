"""Images per second of this library's loader and loop, and of a plain PyTorch loop, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.headline.runs import RESULTS, Results, Row
from onecycle.tasks import cifar10

WARM = 3  # steps before the clock starts


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


def plain_steps(loader: DataLoader[Any], model: nn.Module, device: str) -> Iterator[None]:
    """The usual loop, a step at a time."""
    model = model.to(device)
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


def our_steps(trial: Any) -> Iterator[None]:
    """This library's loop: losses are read ten steps late, as `oc.train` does."""
    losses: list[Tensor] = []
    while True:
        trial.set(lr=0.01, momentum=0.9)
        losses.append(trial.step())
        if len(losses) == 10:
            [float(loss) for loss in losses]
            losses.clear()
        yield


def clock(steps: Iterator[None], count: int, batch_size: int) -> float:
    """Images per second over `count` steps."""
    _wait()
    begin = time.perf_counter()
    for _ in range(count):
        next(steps)
    _wait()
    return count * batch_size / (time.perf_counter() - begin)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def speed(
    net: str = "resnet20",
    *,
    batch_size: int = 128,
    steps: int = 20,
    repeats: int = 3,
    workers: int = 0,
    compiled: tuple[str, ...] = (),
    results: Path = RESULTS,
    **options: Any,
) -> str:
    """Time both loops in turn, `repeats` times; the table, in images per second.

    Args:
        net: a function of `onecycle.tasks.cifar10`.
        batch_size: of both loops.
        steps: timed at once.
        repeats: rounds; the median and the range are given.
        workers: processes of the plain loop's loader.
        compiled: modes of `torch.compile` to time, too.
        results: the folder of the file.
        **options: of the task.
    """
    build = getattr(cifar10, net)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    def ours(**more: Any) -> Iterator[None]:
        return our_steps(build(0, batch_size, 5e-4, **options, **more))

    loops = {
        "plain PyTorch": plain_steps(
            plain_loader(batch_size, workers), _plain_model(build, batch_size, options), device
        ),
        "ours, single precision": ours(amp=False),
        "ours, bfloat16": ours(amp="bf16"),
    }
    for mode in compiled:
        loops[f"ours, bfloat16, torch.compile {mode}"] = ours(amp="bf16", compile=mode)
    first: dict[str, float] = {}
    for name, loop in loops.items():
        begin = time.perf_counter()
        for _ in range(WARM):
            next(loop)
        _wait()
        first[name] = time.perf_counter() - begin
    found: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repeats):
        for name, loop in loops.items():
            found[name].append(clock(loop, steps, batch_size))
    rows = [
        {"loop": name, "images_per_second": values, "seconds_of_first_steps": first[name]}
        for name, values in found.items()
    ]
    kept = Results(f"speed-{net}-{device}", results)
    kept.facts.clear()
    kept.facts.update(net=net, batch_size=batch_size, steps=steps, workers=workers, options=options)
    kept.rows[:] = rows
    kept.save()
    return _table(rows)


def _plain_model(build: Any, batch_size: int, options: dict[str, Any]) -> nn.Module:
    model: nn.Module = build(0, batch_size, **options)._model
    return model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]


def _table(rows: list[Row]) -> str:
    plain = statistics.median(rows[0]["images_per_second"])
    lines = [
        "| loop | images per second | range | times the plain loop | first steps, s |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        values = row["images_per_second"]
        middle = statistics.median(values)
        first = row["seconds_of_first_steps"]
        span = f"{min(values):.0f} to {max(values):.0f}"
        lines.append(f"| {row['loop']} | {middle:.0f} | {span} | {middle / plain:.2f} | {first:.1f} |")
    return "\n".join(lines)
