"""Real data sets as tensors in memory, the same at every call: (what to train on, what to validate on)."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
DATA = "ONECYCLE_DATA"


class Data(NamedTuple):
    """Inputs and targets, one row a sample."""

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]


class Batches:
    """Mini-batches of tensors, shuffled anew at each pass; the last, smaller one is left out.

    A DataLoader collates sample by sample, which takes up to a quarter of a step of these small nets.
    """

    def __init__(self, tensors: tuple[Tensor, Tensor], batch_size: int, seed: int) -> None:
        self.tensors = tensors
        self.batch_size = min(batch_size, len(tensors[0]))
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.tensors[0]) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        inputs, targets = self.tensors
        order = torch.randperm(len(inputs), generator=self.generator)
        for chosen in torch.split(order, self.batch_size)[: len(self)]:
            yield inputs[chosen], targets[chosen]


def folder() -> Path:
    """Where the data sets lie.

    Raises:
        FileNotFoundError: they are not there; the message says where they are looked for.
    """
    place = Path(os.environ.get(DATA) or ROOT.parent / "shared" / "data")
    if not (place / "read.py").is_file():
        raise FileNotFoundError(
            f"{place} holds no data sets (CIFAR-10, MNIST, Fashion-MNIST, Tiny Shakespeare and read.py): "
            f"name their folder in the environment variable {DATA}"
        )
    return place


@cache
def _reader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("onecycle_benchmark_data", folder() / "read.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Images -----------------------------------------------------------------------------------------------


@cache
def _grey(name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Standardised images [N, 1, 28, 28] and labels of the first 10,000 to train and 2,000 to test on."""
    read = _reader()
    parts: list[Tensor] = []
    for split, count in (("train", 10_000), ("test", 2_000)):
        images, labels = read.idx(name, split)
        pixels = torch.from_numpy(images[:count].astype(np.float32))[:, None] / 255
        parts += [pixels, torch.from_numpy(labels[:count])]
    mean, sd = parts[0].mean(), parts[0].std()
    return (parts[0] - mean) / sd, parts[1], (parts[2] - mean) / sd, parts[3]


@cache
def _colour() -> tuple[Tensor, Tensor]:
    """Pixels in 0 to 1 [10,000, 3, 32, 32] and labels of the first fifth of CIFAR-10's training set."""
    read = _reader()
    place = folder() / "cifar10"
    # The reader's own function unpacks all five files, and takes as many times as long.
    images = read._unpack((place / "train_1.medxz").read_bytes())
    labels = np.load(place / "train_labels.npy")[: len(images)].astype(np.int64)
    return torch.from_numpy(images.astype(np.float32)) / 255, torch.from_numpy(labels)


@cache
def grey_images(name: str, count: int, label_noise: float = 0.0) -> Data:
    """`count` images of "mnist" or "fashion_mnist"; a share of the training labels replaced at random."""
    x, y, x_val, y_val = _grey(name)
    return Data((x[:count], _noisy(y[:count], label_noise)), (x_val, y_val))


def _noisy(labels: Tensor, share: float) -> Tensor:
    """Ten classes, a share of them replaced at random."""
    rng = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(labels), generator=rng) < share
    return torch.where(wrong, torch.randint(10, (len(labels),), generator=rng), labels)


@cache
def image_classes(name: str, classes: range, count: int) -> Data:
    """At most `count` images of some of the ten classes, labels counted from 0; "cifar10", too."""
    (x, y), (x_val, y_val) = colour_images(8000) if name == "cifar10" else grey_images(name, 10_000)
    keep, keep_val = ((labels >= classes[0]) & (labels <= classes[-1]) for labels in (y, y_val))
    return Data(
        (x[keep][:count], y[keep][:count] - classes[0]),
        (x_val[keep_val], y_val[keep_val] - classes[0]),
    )


@cache
def grey_pixels(name: str, count: int) -> Data:
    """Images in 0 to 1 as rows of 784 pixels, which are their own targets."""
    x, _, x_val, _ = _grey(name)
    low, high = x.min(), x.max()
    x, x_val = (((part - low) / (high - low)).flatten(1) for part in (x[:count], x_val))
    return Data((x, x), (x_val, x_val))


@cache
def colour_images(count: int) -> Data:
    """`count` images of CIFAR-10, and 2,000 others for validation."""
    x, y = _colour()
    x = (x - 0.47) / 0.25
    return Data((x[:count], y[:count]), (x[-2000:], y[-2000:]))


@cache
def _half_size() -> Tensor:
    """CIFAR-10 at half its size, in 0 to 1 [10,000, 3, 16, 16]."""
    return functional.avg_pool2d(_colour()[0], 2)


@cache
def colour_pixels(count: int) -> Data:
    """CIFAR-10 at half its size as rows of 768 numbers, which are their own targets."""
    x = _half_size().flatten(1)
    return Data((x[:count], x[:count]), (x[-1000:], x[-1000:]))


@cache
def colours_of_grey(count: int) -> Data:
    """CIFAR-10 at half its size: the colours [3, 16, 16] in 0 to 1 from their mean [1, 16, 16]."""
    x = _half_size()
    grey = (x.mean(1, keepdim=True) - 0.47) / 0.25
    return Data((grey[:count], x[:count]), (grey[-1000:], x[-1000:]))


@cache
def centre_pixels(count: int) -> Data:
    """The green value of a pixel of CIFAR-10 from the 24 pixels around it, one place an image."""
    x, _ = _colour()
    rng = np.random.default_rng(0)
    n = count + 2000
    rows, columns = rng.integers(0, 28, n), rng.integers(0, 28, n)
    patches = torch.stack(
        [image[:, r : r + 5, c : c + 5].flatten(1) for image, r, c in zip(x[:n], rows, columns, strict=True)]
    )
    around = torch.cat([patches[:, :, :12], patches[:, :, 13:]], 2).flatten(1)
    inputs, targets = (around - 0.47) / 0.25, patches[:, 1, 12:13]
    return Data((inputs[:count], targets[:count]), (inputs[count:], targets[count:]))


@cache
def picture(name: str) -> Data:
    """Red, green and blue of scikit-learn's "china" or "flower" from the place, both from 0 to 1."""
    from sklearn.datasets import load_sample_image

    return _by_place(torch.from_numpy(load_sample_image(f"{name}.jpg")[::4, ::4].astype(np.float32)) / 255)


@cache
def sheet(side: int) -> Data:
    """The first images of CIFAR-10, `side` rows of as many, as one picture; colours from the place."""
    images = _colour()[0][: side * side].view(side, side, 3, 32, 32)
    return _by_place(images.permute(0, 3, 1, 4, 2).reshape(side * 32, side * 32, 3))


def _by_place(pixels: Tensor) -> Data:
    height, width, _ = pixels.shape
    grid = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return _split(torch.stack(grid, 2).reshape(-1, 2), pixels.reshape(-1, 3), 0.2)


# Tables and text --------------------------------------------------------------------------------------


@cache
def digits(label_noise: float = 0.0) -> Data:
    """scikit-learn's handwritten digits as rows of 64 pixels; a share of training labels at random."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    inputs = torch.from_numpy(loaded.data.astype(np.float32)) / 8 - 1
    (x, y), val = _split(inputs, torch.from_numpy(loaded.target.astype(np.int64)), 0.3)
    return Data((x, _noisy(y, label_noise)), val)


@cache
def digit_images() -> Data:
    """The digits as images [N, 1, 8, 8]."""
    (x, y), (x_val, y_val) = digits()
    return Data((x.view(-1, 1, 8, 8), y), (x_val.view(-1, 1, 8, 8), y_val))


@cache
def digit_pixels() -> Data:
    """The digits as rows of 64 pixels in 0 to 1, which are their own targets."""
    (x, _), (x_val, _) = digits()
    x, x_val = (x + 1) / 2, (x_val + 1) / 2
    return Data((x, x), (x_val, x_val))


@cache
def table(name: str) -> Data:
    """A table of scikit-learn: breast_cancer, iris, wine (classes) or diabetes (a standardised number)."""
    loaded = _load(name)
    inputs = torch.from_numpy(loaded.data.astype(np.float32))
    if name != "diabetes":
        return _split(_standard(inputs), torch.from_numpy(loaded.target.astype(np.int64)), 0.4)
    targets = torch.from_numpy(loaded.target.astype(np.float32))[:, None]
    return _split(_standard(inputs), _standard(targets), 0.4)


@cache
def column(name: str, target: str) -> Data:
    """One standardised column of a table of scikit-learn from the others."""
    loaded = _load(name)
    columns = _standard(torch.from_numpy(loaded.data.astype(np.float32)))
    at = list(loaded.feature_names).index(target)
    others = [i for i in range(columns.shape[1]) if i != at]
    return _split(columns[:, others], columns[:, at : at + 1], 0.4)


@cache
def text(length: int) -> Data:
    """Windows of Tiny Shakespeare as characters' numbers, and the same one character on."""
    characters = (folder() / "text" / "tinyshakespeare.txt").read_text(encoding="utf-8")
    alphabet = {character: i for i, character in enumerate(sorted(set(characters)))}
    codes = torch.tensor([alphabet[c] for c in characters[:260_000]])
    parts = []
    for part in (codes[:200_001], codes[-50_001:]):
        rows = (len(part) - 1) // length
        parts.append((part[:-1][: rows * length].view(rows, -1), part[1:][: rows * length].view(rows, -1)))
    return Data(*parts)


ALPHABET = 65  # different characters in Tiny Shakespeare


def _load(name: str) -> Any:
    import sklearn.datasets

    return getattr(sklearn.datasets, f"load_{name}")()


def _standard(columns: Tensor) -> Tensor:
    return (columns - columns.mean(0)) / columns.std(0)


def _split(inputs: Tensor, targets: Tensor, share: float) -> Data:
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(inputs)))
    val, train = order.tensor_split([int(share * len(inputs))])
    return Data((inputs[train], targets[train]), (inputs[val], targets[val]))
