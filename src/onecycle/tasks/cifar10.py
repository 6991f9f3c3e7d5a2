"""CIFAR-10 with the nets of Smith's papers and with a quick one; the whole set lies in memory.

Every function but `options` builds a trial, and takes the options of `Options` beside its own arguments.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from onecycle.tasks._cifar10_data import Images
from onecycle.tasks._cifar10_data import load as load
from onecycle.tasks._cifar10_nets import Averaged, Quick, ResNet, Shortcut, ThreeLayer
from onecycle.torch import Trial

MEAN = (0.4914, 0.4822, 0.4465)  # of the training set, as the reproductions have them
DEVIATION = (0.2470, 0.2435, 0.2616)
SIDE, MARGIN = 32, 4

Build = TypeVar("Build", bound=Callable[..., Trial])


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to train, beside rate, momentum, weight decay and batch size.

    Args:
        augment: flips, and crops shifted by up to 4 pixels, what lies outside mirrored in.
        cutout: side of a square that is blanked in each training image; 0: none.
        label_smoothing: share of the target spread over all classes; the validation loss is without.
        ema: decay of a moving average of weights that is evaluated in place of them; None: none.
        nesterov: Nesterov's momentum.
        amp: "bf16" or "fp16"; None: "bf16" on CUDA, single precision elsewhere; False: single precision.
        compile: mode of `torch.compile`, such as "default", or "reduce-overhead" for CUDA graphs; None:
            not compiled.
        accumulate: parts that a batch is computed in.
        clip_grad_norm: greatest norm of the gradient; None: not clipped.
        device: None: CUDA where there is one, else the CPU.
        images: train on the first so many; None: on all.
        holdout: so many images are taken from the end of the training set and evaluated on in place of
            the test set, for choices that the test set must not see.
    """

    augment: bool = True
    cutout: int = 0
    label_smoothing: float = 0.0
    ema: float | None = None
    nesterov: bool = False
    amp: str | bool | None = None
    compile: str | None = None
    accumulate: int = 1
    clip_grad_norm: float | None = None
    device: str | None = None
    images: int | None = None
    holdout: int = 0

    def __post_init__(self) -> None:
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema must be > 0 and < 1, or None, got {self.ema!r}")
        if not 0 <= self.cutout <= SIDE:
            raise ValueError(f"cutout must be from 0 to {SIDE} pixels, got {self.cutout!r}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be >= 0 and < 1, got {self.label_smoothing!r}")


def _epochs(number: int) -> Callable[[Build], Build]:
    def mark(build: Build) -> Build:
        build.epochs = number  # type: ignore[attr-defined]
        return build

    return mark


@_epochs(95)
def resnet56(seed: int, batch_size: int = 512, weight_decay: float = 1e-4, **options: Any) -> Trial:
    """ResNet-56 (He et al. 2015, n = 9) in Smith's setting: batch 512, 95 epochs."""
    return resnet(seed, batch_size, weight_decay, blocks=9, **options)


@_epochs(95)
def resnet20(seed: int, batch_size: int = 512, weight_decay: float = 1e-4, **options: Any) -> Trial:
    """ResNet-20 (He et al. 2015, n = 3)."""
    return resnet(seed, batch_size, weight_decay, blocks=3, **options)


def resnet(
    seed: int,
    batch_size: int = 512,
    weight_decay: float = 1e-4,
    *,
    blocks: int = 3,
    width: int = 16,
    shortcut: Shortcut = "pad",
    **options: Any,
) -> Trial:
    """A residual net of 6 `blocks` + 2 layers, the first `width` wide."""
    widths = (width, 2 * width, 4 * width)
    return _trial(lambda: ResNet((blocks,) * 3, widths, shortcut), seed, batch_size, weight_decay, options)


@_epochs(25)
def three_layer(seed: int, batch_size: int = 128, weight_decay: float = 3e-3, **options: Any) -> Trial:
    """Smith's 3-layer net (arXiv 1803.09820), which he trained without augmentation."""
    return _trial(ThreeLayer, seed, batch_size, weight_decay, {"augment": False, **options})


@_epochs(50)
def wide(seed: int, batch_size: int = 512, weight_decay: float = 1e-4, **options: Any) -> Trial:
    """Smith's wide net: 32 layers of widths 16, 64 and 256 (`wide32cifar.prototxt` of his hyperParam1)."""
    return _trial(lambda: ResNet((5, 5, 5), (16, 64, 256), "conv"), seed, batch_size, weight_decay, options)


@_epochs(24)
def quick(
    seed: int, batch_size: int = 512, weight_decay: float = 5e-4, *, width: int = 64, **options: Any
) -> Trial:
    """D. Page's nine-layer residual net with Nesterov's momentum: 94 % in 24 epochs, as he reports."""
    return _trial(lambda: Quick(width), seed, batch_size, weight_decay, {"nesterov": True, **options})


def _trial(
    make: Callable[[], nn.Module],
    seed: int,
    batch_size: int,
    weight_decay: float,
    given: dict[str, Any],
    images: Images | None = None,
) -> Trial:
    options = Options(**given)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cpu":
        _keep_freed_memory()
    if batch_size % options.accumulate:
        raise ValueError(
            f"batch_size must be a multiple of accumulate={options.accumulate}, got {batch_size}"
        )
    torch.manual_seed(seed)
    net = make().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = net.groups(weight_decay) if isinstance(net, ThreeLayer) else net.parameters()
    optimizer = torch.optim.SGD(
        groups, lr=1.0, momentum=0.9, weight_decay=weight_decay, nesterov=options.nesterov
    )
    model: nn.Module = net
    if options.ema is not None:
        model = Averaged(net, options.ema)
        optimizer.register_step_post_hook(model.update)
    if options.compile is not None:
        net.compile(mode=options.compile)
    train, val = _split(load() if images is None else images, options)
    amp = ("bf16" if device.type == "cuda" else None) if options.amp is None else options.amp
    return Trial(
        model,
        optimizer,
        _loss(options.label_smoothing),
        Batches(
            *train,
            batch_size // options.accumulate,
            generator=torch.Generator().manual_seed(seed),
            augment=options.augment,
            cutout=options.cutout,
            device=device,
        ),
        evaluated(*val, device),
        amp=amp or None,
        accumulate=options.accumulate,
        clip_grad_norm=options.clip_grad_norm,
        metrics={"accuracy": lambda output, target: (output.argmax(1) == target).float().mean()},
    )


def _keep_freed_memory() -> None:
    """Have this process keep the memory that a step frees, where glibc is what allots it.

    Else tensors of some megabytes are mapped, filled with zeros and given back anew at each step, which
    takes a tenth of the time.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        allot = ctypes.CDLL(None).mallopt
        allot(-4, 0)  # M_MMAP_MAX: map nothing apart
        allot(-1, -1)  # M_TRIM_THRESHOLD: never give back


def _split(images: Images, options: Options) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """What to train on, and what to evaluate on."""
    most = len(images.train) - options.holdout
    count = most if options.images is None else options.images
    if not 0 < count <= most:
        raise ValueError(f"images must be from 1 to the {most} that holdout leaves, got {count}")
    train = images.train[:count], images.train_labels[:count]
    if options.holdout:
        return train, (images.train[most:], images.train_labels[most:])
    return train, (images.test, images.test_labels)


def _loss(smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    def loss(output: Tensor, target: Tensor) -> Tensor:
        share = smoothing if torch.is_grad_enabled() else 0.0  # runs that differ in it stay comparable
        return functional.cross_entropy(output.float(), target, label_smoothing=share)

    return loss


class Batches:
    """Mini-batches of images that lie in memory, on the device, where each is cut, mirrored and scaled.

    All that is random is drawn for a whole epoch at once, on the CPU: the same on every device.

    Args:
        pixels: uint8 [N, 32, 32, 3].
        labels: int64 [N].
        batch_size: images at once; in training the last, smaller batch is left out.
        generator: of the order and of the augmentation; None: all images, in their own order.
        augment: shift by up to 4 pixels each way, and mirror every other image.
        cutout: side of the square that is blanked.
        device: where the images are kept.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        augment: bool = False,
        cutout: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.pixels, self.labels = pixels.to(device), labels.to(device)
        self.batch_size = min(batch_size, len(pixels))
        self.generator = generator
        self.augment = augment
        self.cutout = cutout
        self._line = torch.arange(SIDE, device=device)
        self._mean = 255 * torch.tensor(MEAN, device=device)
        self._factor = 1 / (255 * torch.tensor(DEVIATION, device=device))

    def __len__(self) -> int:
        if self.generator is None:
            return -(-len(self.pixels) // self.batch_size)
        return len(self.pixels) // self.batch_size

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        count = len(self.pixels)
        if self.generator is None:
            order, drawn = torch.arange(count), None
        else:
            order, drawn = torch.randperm(count, generator=self.generator), self._draw(count)
        order = order.to(self.pixels.device)
        for number in range(len(self)):
            part = slice(number * self.batch_size, (number + 1) * self.batch_size)
            chosen = order[part]
            yield self._images(chosen, None if drawn is None else drawn[part]), self.labels[chosen]

    def _draw(self, count: int) -> Tensor | None:
        """For each image: shift down and to the right, whether mirrored, row and column of the square."""
        if not (self.augment or self.cutout):
            return None
        most = (2 * MARGIN + 1, 2 * MARGIN + 1, 2, SIDE, SIDE)
        columns = [torch.randint(end, (count,), generator=self.generator) for end in most]
        return torch.stack(columns, 1).to(self.pixels.device)

    def _images(self, chosen: Tensor, drawn: Tensor | None) -> Tensor:
        """Scaled images [B, 3, 32, 32] in channels-last memory."""
        if drawn is None or not self.augment:
            pixels = self.pixels[chosen]
        else:
            down, right, mirrored = drawn[:, 0:1], drawn[:, 1:2], drawn[:, 2:3].bool()
            line = torch.where(mirrored, self._line.flip(0), self._line)
            rows, columns = _reflected(self._line + down - MARGIN), _reflected(line + right - MARGIN)
            pixels = self.pixels[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
        images = pixels.float().sub_(self._mean).mul_(self._factor)
        if drawn is not None and self.cutout:
            lines = [self._line - drawn[:, i : i + 1] + self.cutout // 2 for i in (3, 4)]
            within = [(line >= 0) & (line < self.cutout) for line in lines]
            images.masked_fill_((within[0][:, :, None] & within[1][:, None, :])[..., None], 0)
        return images.permute(0, 3, 1, 2)


def evaluated(pixels: Tensor, labels: Tensor, device: torch.device) -> Batches:
    """All images in their order, as many at once as is fast: a CPU takes twice as long an image for 1,000."""
    return Batches(pixels, labels, 1000 if device.type == "cuda" else 125, device=device)


def _reflected(place: Tensor) -> Tensor:
    """`place` outside 0 to 31 mirrored at the edge pixel."""
    inside = place.abs()
    return SIDE - 1 - (SIDE - 1 - inside).abs()
