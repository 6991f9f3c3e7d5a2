"""CIFAR-10 in memory: where its files are found, checked and read."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]

DATA = "ONECYCLE_DATA"
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE = "cifar-10-binary.tar.gz"
CHECKSUM = "c32a1d4ab5d03f1284b67883e8d87530"  # MD5, as https://www.cs.toronto.edu/~kriz/cifar.html has it
TRAIN, TEST = [f"data_batch_{number}" for number in range(1, 6)], ["test_batch"]
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the red, green and blue plane by rows
COPY = "cifar10"  # folder of a copy whose images are compressed without loss, in parts that travel
CLASSES = 10


class Images(NamedTuple):
    """Pixels, uint8 [N, 32, 32, 3], and labels, int64 [N], of both halves in the official order."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


@cache
def load() -> Images:
    """The 50,000 and 10,000 images, each file checked against its checksum, kept for the next call.

    They are looked for in the folder that ONECYCLE_DATA names: the official binary archive,
    `cifar-10-binary.tar.gz`, or a compressed copy with its checksums in `cifar10`; then in the cache, into
    which torchvision downloads the archive where it can.

    Raises:
        FileNotFoundError: they are nowhere, and cannot be downloaded; the message says the ways out.
        ValueError: a file is damaged; the message names it.
    """
    named = os.environ.get(DATA)
    places = [Path(named), Path(named) / COPY] if named else []
    for place in (*places, cache_folder()):
        if (place / ARCHIVE).is_file():
            return _official(place / ARCHIVE)
    if named and (Path(named) / COPY / "test.medxz").is_file():
        return _copy(Path(named))
    return _official(_download(named))


def cache_folder() -> Path:
    """Where what was downloaded or unpacked is kept: `onecycle` in the user's folder of caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onecycle"


def _download(named: str | None) -> Path:
    looked = f"the folder that {DATA} names, {named}" if named else f"no folder, for {DATA} names none"
    ways = f"CIFAR-10 was looked for in {looked}, and in {cache_folder()}: put the official {URL} there"
    try:
        from torchvision.datasets.utils import download_url
    except (ImportError, RuntimeError) as error:
        raise FileNotFoundError(f"{ways}, or install torchvision, which downloads it ({error})") from error
    path = cache_folder() / ARCHIVE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as unfinished:
        try:
            download_url(URL, unfinished, ARCHIVE, CHECKSUM)
        except (OSError, RuntimeError) as error:
            raise FileNotFoundError(f"{ways}; torchvision could not download it ({error})") from error
        return (Path(unfinished) / ARCHIVE).replace(path)


# The official archive -------------------------------------------------------------------------------


def _official(path: Path) -> Images:
    """The images of the binary version, which is bytes alone; its members are read where they are."""
    with tarfile.open(fileobj=io.BytesIO(_checked(path, CHECKSUM, "md5"))) as archive:
        return _images(*_records(archive, TRAIN), *_records(archive, TEST))


def _records(archive: tarfile.TarFile, names: Sequence[str]) -> tuple[Array, Array]:
    files = [archive.extractfile(f"cifar-10-batches-bin/{name}.bin") for name in names]
    rows = np.frombuffer(b"".join(file.read() for file in files if file), np.uint8).reshape(-1, RECORD)
    return rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), rows[:, 0].astype(np.int64)


def _checked(path: Path, wanted: str, kind: str) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, and its folder is there: fetch it anew")
    data = path.read_bytes()
    found = hashlib.new(kind, data, usedforsecurity=False).hexdigest()
    if found != wanted:
        raise ValueError(
            f"{path} is damaged: its {kind} is {found}, and {wanted} that of the right one; fetch it anew"
        )
    return data


def _images(train: Array, labels: Array, test: Array, test_labels: Array) -> Images:
    return Images(*(torch.from_numpy(np.ascontiguousarray(a)) for a in (train, labels, test, test_labels)))


# The copy -------------------------------------------------------------------------------------------


def _copy(folder: Path) -> Images:
    """The copy in `folder`, unpacked once and then taken from the cache."""
    from safetensors.torch import load_file, save_file

    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in map(str.split, lines)}
    parts = sorted(name for name in sums if name.startswith(f"{COPY}/") and name.endswith(".medxz"))
    key = hashlib.sha256("".join(sums[name] for name in parts).encode()).hexdigest()[:16]
    kept = cache_folder() / f"cifar10-{key}.safetensors"
    if kept.is_file():
        return Images(**load_file(kept))
    labels = [_labels(folder, sums, half) for half in ("train", "test")]
    packed = [_checked(folder / name, sums[name], "sha256") for name in parts]
    with ThreadPoolExecutor() as pool:
        pixels = dict(zip(parts, pool.map(_unpack, packed), strict=True))
    train = [pixels[name] for name in parts if "train" in name]
    images = _images(np.concatenate(train), labels[0], pixels[f"{COPY}/test.medxz"], labels[1])
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_name(f".{kept.name}.{os.getpid()}")
    save_file(images._asdict(), temporary)
    temporary.replace(kept)
    return images


def _labels(folder: Path, sums: Mapping[str, str], half: str) -> Array:
    name = f"{COPY}/{half}_labels.npy"
    _checked(folder / name, sums[name], "sha256")
    return np.load(folder / name).astype(np.int64)  # type: ignore[no-any-return]


def _unpack(blob: bytes) -> Array:
    """Undo xz and the prediction of each pixel from its neighbours, in planes G, R - G, B - G modulo 256.

    The prediction is the median-edge one of LOCO-I (Weinberger, Seroussi and Sapiro, 2000).
    """
    residual = np.frombuffer(lzma.decompress(blob), np.uint8).reshape(3, -1, 32, 32).transpose(2, 3, 0, 1)
    plane = np.zeros(residual.shape, np.int16)
    for y in range(32):
        for x in range(32):
            if y and x:
                west, north, corner = plane[y, x - 1], plane[y - 1, x], plane[y - 1, x - 1]
                high, low = np.maximum(west, north), np.minimum(west, north)
                guess: Array | int = np.clip(west + north - corner, low, high)
            else:
                guess = plane[y, x - 1] if x else plane[y - 1, x] if y else 0
            plane[y, x] = (residual[y, x] + guess) & 255
    green, red, blue = plane[:, :, 0], plane[:, :, 1], plane[:, :, 2]
    colours: Sequence[Array] = ((red + green - 128) & 255, green, (blue + green - 128) & 255)
    return np.stack(colours, 2).astype(np.uint8).transpose(3, 0, 1, 2)
