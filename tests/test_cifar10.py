"""CIFAR-10: files are found and checked, batches cut as promised, and a killed run goes on bit for bit."""

from __future__ import annotations

import hashlib
import json
import lzma
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import onecycle as oc
from onecycle.tasks import BUILT_IN, _cifar10_data, cifar10, resolve
from onecycle.tasks._cifar10_data import COPY, OFFICIAL, Images
from onecycle.tasks._cifar10_nets import ResNet, ThreeLayer
from onecycle.tasks.cifar10 import Batches

NAMES = [name for name in BUILT_IN if name.startswith("cifar10")]
FAKE = """
import torch

from onecycle.tasks import cifar10
from onecycle.tasks._cifar10_data import Images

def half(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    pixels = torch.randint(256, (count, 32, 32, 3), generator=generator)
    pixels[..., 0] = 25 * labels[:, None, None]
    return pixels.to(torch.uint8), labels

cifar10.load = lambda: Images(*half(count=320, seed=1), *half(count=64, seed=2))

def build(seed, batch_size=32, weight_decay=5e-4, **options):
    return cifar10.quick(seed, batch_size, weight_decay, width=4, **options)
"""


def half(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Made-up images whose red tells the label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    pixels = torch.randint(256, (count, 32, 32, 3), generator=generator)
    pixels[..., 0] = 25 * labels[:, None, None]
    return pixels.to(torch.uint8), labels


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> Images:
    """Made-up images in place of the data set."""
    made = Images(*half(96, 1), *half(16, 2))
    monkeypatch.setattr(cifar10, "load", lambda: made)
    return made


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that ONECYCLE_DATA names, with nothing in it, and an empty cache."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("ONECYCLE_DATA", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    _cifar10_data.load.cache_clear()
    yield folder
    _cifar10_data.load.cache_clear()


# Files ----------------------------------------------------------------------------------------------


def official(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    """The official files with three images each, and checksums to match."""
    folder.mkdir(parents=True)
    sums, parts = {}, []
    for number, name in enumerate(_cifar10_data.CHECKSUMS):
        pixels, labels = half(3, number)
        rows = pixels.permute(0, 3, 1, 2).reshape(3, -1).numpy()
        data = pickle.dumps({"data": rows, "labels": labels.tolist()})
        (folder / name).write_bytes(data)
        sums[name] = hashlib.md5(data, usedforsecurity=False).hexdigest()
        parts.append((pixels, labels))
    monkeypatch.setattr(_cifar10_data, "CHECKSUMS", sums)
    train = [torch.cat(each) for each in zip(*parts[:-1], strict=True)]
    return Images(train[0], train[1], *parts[-1])


def same(one: Images, other: Images) -> bool:
    return all(map(torch.equal, one, other))


@pytest.mark.parametrize("place", ["data", "data/cifar10", "cache/onecycle"])
@pytest.mark.usefixtures("nowhere")
def test_the_official_files_are_read_where_they_are(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = official(tmp_path / place / OFFICIAL, monkeypatch)
    assert made.train.shape == (15, 32, 32, 3)
    assert same(_cifar10_data.load(), made)


def test_a_damaged_or_missing_file_is_named(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    official(nowhere / OFFICIAL, monkeypatch)
    file = nowhere / OFFICIAL / "data_batch_3"
    data = bytearray(file.read_bytes())
    data[-20] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"data_batch_3 is damaged: its md5 is .* fetch it anew$"):
        _cifar10_data.load()
    file.unlink()
    with pytest.raises(FileNotFoundError, match=r"data_batch_3 does not exist, and its folder is there"):
        _cifar10_data.load()


def pack(pixels: torch.Tensor) -> bytes:
    """As the copy is packed: the median-edge residuals of the planes G, R - G, B - G, compressed."""
    red, green, blue = (pixels[..., i].numpy().astype(int) for i in range(3))
    planes = np.stack([green, (red - green + 128) & 255, (blue - green + 128) & 255])
    residual = planes.copy()
    for y in range(32):
        for x in range(32):
            if not (x and y):
                before = planes[..., y, x - 1] if x else planes[..., y - 1, x] if y else 0
            else:
                west, north, corner = planes[..., y, x - 1], planes[..., y - 1, x], planes[..., y - 1, x - 1]
                before = np.median([west, north, west + north - corner], axis=0).astype(int)
            residual[..., y, x] = (planes[..., y, x] - before) & 255
    return lzma.compress(residual.astype(np.uint8).tobytes(), preset=0)


def test_the_compressed_copy_is_read_and_kept_in_the_cache(nowhere: Path, tmp_path: Path) -> None:
    made = Images(*half(10, 3), *half(2, 4))
    folder = nowhere / COPY
    folder.mkdir()
    (folder / "test.medxz").write_bytes(pack(made.test))
    for number in range(5):
        (folder / f"train_{number + 1}.medxz").write_bytes(pack(made.train[2 * number : 2 * number + 2]))
    np.save(folder / "train_labels.npy", made.train_labels.numpy().astype(np.uint8))
    np.save(folder / "test_labels.npy", made.test_labels.numpy().astype(np.uint8))
    sums = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {COPY}/{file.name}" for file in folder.iterdir()
    ]
    (nowhere / "SHA256SUMS").write_text("\n".join([*sums, f"{'0' * 64}  text/tinyshakespeare.txt"]))
    second_part = [(folder / f"train_{number}.medxz") for number in (4, 5)]
    for file in second_part:  # it may come in parts, the one later than the other
        file.rename(tmp_path / file.name)
    with pytest.raises(FileNotFoundError, match=r"train_4\.medxz does not exist"):
        _cifar10_data.load()
    for file in second_part:
        (tmp_path / file.name).rename(file)
    assert same(_cifar10_data.load(), made)
    (kept,) = (tmp_path / "cache/onecycle").iterdir()
    assert kept.name.startswith("cifar10-")
    (folder / "train_1.medxz").write_bytes(b"damaged")
    _cifar10_data.load.cache_clear()
    assert same(_cifar10_data.load(), made)  # unpacked once
    kept.unlink()
    _cifar10_data.load.cache_clear()
    with pytest.raises(ValueError, match=r"train_1\.medxz is damaged: its sha256 is"):
        _cifar10_data.load()


@pytest.mark.parametrize("named", [True, False])
def test_without_files_the_ways_out_are_said(
    nowhere: Path, named: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    if not named:
        monkeypatch.delenv("ONECYCLE_DATA")
    looked = f"the folder that ONECYCLE_DATA names, {nowhere}" if named else "for ONECYCLE_DATA names none"
    with pytest.raises(FileNotFoundError) as error:
        _cifar10_data.load()
    message = str(error.value)
    assert looked in message
    assert "put cifar-10-batches-py there, the folder of the official archive https://www.cs" in message
    assert "or install torchvision, which downloads it" in message


@pytest.mark.usefixtures("nowhere")
def test_torchvision_downloads_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = official(tmp_path / "elsewhere", monkeypatch)

    class Datasets:
        @staticmethod
        def CIFAR10(root: str, download: bool) -> None:  # noqa: N802 - torchvision's name
            assert download
            shutil.copytree(tmp_path / "elsewhere", Path(root) / OFFICIAL)

    monkeypatch.setitem(sys.modules, "torchvision.datasets", Datasets)
    assert same(_cifar10_data.load(), made)
    assert (tmp_path / "cache/onecycle" / OFFICIAL / "test_batch").is_file()


@pytest.mark.usefixtures("nowhere")
def test_a_download_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Datasets:
        @staticmethod
        def CIFAR10(*_: str, **__: bool) -> None:  # noqa: N802 - torchvision's name
            raise RuntimeError("no network")

    monkeypatch.setitem(sys.modules, "torchvision.datasets", Datasets)
    with pytest.raises(FileNotFoundError, match=r"torchvision could not download it \(no network\)$"):
        _cifar10_data.load()


@pytest.mark.slow
def test_the_real_images_have_the_published_statistics() -> None:
    try:
        images = _cifar10_data.load()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    assert (len(images.train), len(images.test)) == (50_000, 10_000)
    assert torch.bincount(images.train_labels).tolist() == [5000] * 10
    assert torch.bincount(images.test_labels).tolist() == [1000] * 10
    pixels = images.train.double() / 255
    assert pixels.mean((0, 1, 2)).tolist() == pytest.approx(cifar10.MEAN, abs=1e-4)
    assert pixels.std((0, 1, 2)).tolist() == pytest.approx(cifar10.DEVIATION, abs=1e-4)


# Batches --------------------------------------------------------------------------------------------


def shift(image: np.ndarray[Any, Any], down: int, right: int) -> np.ndarray[Any, Any]:
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    return padded[4 + down : 36 + down, 4 + right : 36 + right]


def test_an_augmented_image_is_a_shifted_and_perhaps_mirrored_one() -> None:
    pixels, labels = half(40, 5)
    batches = Batches(pixels, labels, 40, generator=torch.Generator().manual_seed(0), augment=True)
    ((x, y),) = batches
    assert x.shape == (40, 3, 32, 32)
    assert x.is_contiguous(memory_format=torch.channels_last)
    scale, mean = (np.array(v) for v in (cifar10.DEVIATION, cifar10.MEAN))
    seen = set()
    for image, label in zip(x.permute(0, 2, 3, 1).numpy(), y, strict=True):
        found = np.rint((image * scale + mean) * 255).astype(int)
        ways = [
            (down, right, mirrored)
            for source in pixels[labels == label].numpy().astype(int)
            for mirrored in (False, True)
            for down in range(-4, 5)
            for right in range(-4, 5)
            if np.array_equal(
                found, shift(source, down, right)[:, ::-1] if mirrored else shift(source, down, right)
            )
        ]
        assert len(ways) == 1
        seen |= set(ways)
    assert len(seen) > 25  # of 162


def test_without_augmentation_the_images_are_only_scaled_and_shuffled() -> None:
    pixels, labels = half(20, 6)
    plain = list(Batches(pixels, labels, 8))
    assert [len(y) for _, y in plain] == [8, 8, 4]
    assert torch.equal(torch.cat([y for _, y in plain]), labels)
    expected = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(cifar10.MEAN)[:, None, None]) / torch.tensor(
        cifar10.DEVIATION
    )[:, None, None]
    assert torch.allclose(torch.cat([x for x, _ in plain]), expected, atol=1e-5)
    batches = Batches(pixels, labels, 8, generator=torch.Generator().manual_seed(0))
    first, second = ([y.tolist() for _, y in batches] for _ in range(2))
    assert [len(y) for y in first] == [8, 8]
    assert first != second
    batches = Batches(pixels, labels, 8, generator=torch.Generator().manual_seed(0))
    assert [y.tolist() for _, y in batches] == first


def test_cutout_blanks_a_square() -> None:
    pixels, labels = half(12, 7)
    ((x, _),) = Batches(pixels, labels, 12, generator=torch.Generator().manual_seed(1), cutout=8)
    blank = (x == 0).all(1).sum((1, 2))
    assert blank.max() == 64
    assert blank.min() >= 16  # a corner of it, where the middle lies in one
    ((whole, _),) = Batches(pixels, labels, 12, generator=torch.Generator().manual_seed(1))
    assert not (whole == 0).all(1).any()


# Tasks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("images")
def test_a_task_trains_is_the_same_for_a_seed_and_can_be_put_back(
    name: str,
) -> None:
    task = resolve(name)

    def trained(seed: int) -> tuple[Any, list[float]]:
        trial = task.having({"images": 12}).trial(seed, batch_size=4, weight_decay=1e-3)
        trial.set(lr=1e-3, momentum=0.9)
        return trial, [float(trial.step()) for _ in range(2)]

    trial, losses = trained(0)
    assert trained(0)[1] == losses != trained(1)[1]
    assert trial.size == 4
    assert trial.steps_per_epoch == 3
    assert trial.describe()["weight_decay"] == 1e-3
    state = trial.save()
    after = [float(trial.step()) for _ in range(3)]  # into the next epoch
    trial.restore(state)
    assert [float(trial.step()) for _ in range(3)] == after
    assert task.epochs > 20
    loss = trial.evaluate()
    assert loss is not None
    assert 0 <= trial.metrics["accuracy"] <= 1


def test_the_nets_are_as_published() -> None:
    def parameters(net: Any) -> int:
        return sum(p.numel() for p in net.parameters())

    # He et al. 2015, table 6: 0.27 M and 0.85 M; they count no shortcut, as option A has none.
    assert parameters(ResNet((3, 3, 3))) == 269_722
    assert parameters(ResNet((9, 9, 9))) == 853_018
    assert parameters(ResNet((9, 9, 9), shortcut="conv")) == 853_018 + 16 * 32 + 32 * 64 + 2 * (32 + 64)
    weighted = [m for m in ResNet().modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    assert len(weighted) == 56
    assert parameters(ThreeLayer()) == 89_578  # Caffe's cifar10_full


@pytest.mark.usefixtures("images")
def test_caffe_s_multipliers_are_kept_by_a_sweep() -> None:
    trial = cifar10.three_layer(0, weight_decay=2e-3)
    trial.set(lr=0.01, weight_decay=1e-3)
    groups = trial._optimizers[0].param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.01, 0.02, 0.01, 0.02])
    assert [group["weight_decay"] for group in groups] == pytest.approx([1e-3, 1e-3, 0.25, 0])


def test_held_out_images_are_evaluated_on_and_not_trained_on(images: Images) -> None:
    trial: Any = cifar10.quick(0, 16, width=2, holdout=32)
    assert trial.steps_per_epoch == 4
    assert torch.equal(trial._loader.pixels, images.train[:64])
    assert torch.equal(trial._val_loader.pixels, images.train[64:])
    trial = cifar10.quick(0, 16, width=2)
    assert torch.equal(trial._val_loader.pixels, images.test)
    assert cifar10.quick(0, 16, width=2, images=48).steps_per_epoch == 3


def test_an_average_of_the_weights_is_evaluated(images: Images) -> None:
    trial: Any = cifar10.quick(0, 16, width=2, ema=0.9, augment=False)
    trial.set(lr=0.1)
    net, average = trial._model.net, trial._model.average.module
    kept = []
    for _ in range(3):
        trial.step()
        kept.append([p.detach().clone() for p in net.parameters()])
    for first, second, third, mean in zip(*kept, average.parameters(), strict=True):
        assert torch.allclose(mean, 0.9 * (0.9 * first + 0.1 * second) + 0.1 * third, atol=1e-6)
    loss = trial.evaluate()
    average.eval()
    x, y = next(iter(Batches(images.test, images.test_labels, 16)))
    with torch.no_grad():
        assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(average(x), y)))


@pytest.mark.usefixtures("images")
def test_smoothing_is_of_the_training_loss_alone() -> None:
    plain, smooth = (cifar10.quick(0, 16, width=2, label_smoothing=s) for s in (0.0, 0.4))
    assert plain.evaluate() == smooth.evaluate()
    assert float(plain.step()) != float(smooth.step())


@pytest.mark.usefixtures("images")
def test_accumulation_and_clipping_are_options() -> None:
    trial: Any = cifar10.three_layer(0, 32, accumulate=4, clip_grad_norm=1e-3)
    assert trial.size == 32
    assert trial._loader.batch_size == 8
    assert trial.steps_per_epoch == 3
    trial.step()
    gradients = [p.grad for p in trial._model.parameters()]
    assert float(torch.stack([g.norm() for g in gradients]).norm()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.usefixtures("images")
def test_half_precision_changes_the_loss_but_little() -> None:
    single, half_ = (cifar10.resnet20(0, 16, amp=amp) for amp in (False, "bf16"))
    one, other = float(single.step()), float(half_.step())
    assert one != other
    assert one == pytest.approx(other, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema": 1.0}, "ema must be > 0 and < 1, or None, got 1.0"),
        ({"cutout": 33}, "cutout must be from 0 to 32 pixels, got 33"),
        ({"label_smoothing": 1}, "label_smoothing must be >= 0 and < 1, got 1"),
        ({"accumulate": 3}, "batch_size must be a multiple of accumulate=3, got 16"),
        ({"images": 90, "holdout": 16}, "images must be from 1 to the 80 that holdout leaves, got 90"),
        ({"amp": "int8"}, "amp must be 'bf16', 'fp16'"),
    ],
)
@pytest.mark.usefixtures("images")
def test_bad_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        cifar10.resnet20(0, 16, **options)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("images")
def test_a_compiled_net_trains_as_an_eager_one() -> None:
    eager, compiled = (cifar10.quick(0, 16, width=4, compile=mode) for mode in (None, "default"))
    for trial in (eager, compiled):
        trial.set(lr=0.01)
    for _ in range(3):
        assert float(compiled.step()) == pytest.approx(float(eager.step()), rel=1e-3)
    assert compiled.evaluate() == pytest.approx(eager.evaluate(), rel=1e-2)


# Training -------------------------------------------------------------------------------------------


def program(*arguments: object, cwd: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "onecycle", *map(str, arguments)]
    with (cwd / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=cwd, env=environment, stderr=log)


def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    (tmp_path / "made_up.py").write_text(FAKE)
    oc.Recipe(0.1, total_steps=60, batch_size=32).save(tmp_path / "recipe.toml")
    options = ["ema=0.9", "label_smoothing=0.1", "cutout=8", "accumulate=2", "clip_grad_norm=5"]
    arguments = ["train", "made_up.py", "--recipe", "recipe.toml", "--checkpoint-every", 7]
    arguments += [part for option in options for part in ("--option", option)]
    killed = program(*arguments, "--out", "parts", cwd=tmp_path)
    note, deadline = tmp_path / "parts/checkpoint.json", time.monotonic() + 300
    while not (note.is_file() and json.loads(note.read_text())["step"] >= 14) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert note.is_file(), (tmp_path / "log").read_text()
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(60) == -signal.SIGKILL
    at = json.loads(note.read_text())["step"]
    assert 14 <= at < 60
    whole = program(*arguments, "--out", "whole", cwd=tmp_path)
    resumed = program(*arguments, "--out", "parts", "--resume", cwd=tmp_path)
    assert [each.wait(300) for each in (resumed, whole)] == [0, 0], (tmp_path / "log").read_text()
    one, other = (tmp_path / name / "checkpoint.safetensors" for name in ("whole", "parts"))
    assert one.read_bytes() == other.read_bytes()
    assert (tmp_path / "whole/metrics.csv").read_text() == (tmp_path / "parts/metrics.csv").read_text()
