"""Nets for images of 32 x 32: residual ones as published, Smith's shallow one, and a quick one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

CLASSES = 10
Shortcut = Literal["pad", "conv"]


class ResNet(nn.Sequential):
    """He et al. 2015 (arXiv 1512.03385), section 4.2: 6n + 2 weighted layers for `blocks` of (n, n, n).

    Args:
        blocks: residual blocks of each stage.
        widths: channels of each stage; the first convolution has those of the first.
        shortcut: where width changes, "pad" with zeros as in the paper (its option A), or "conv", a 1 x 1
            convolution (option B), as in Smith's prototxts and the article's code.
    """

    def __init__(
        self,
        blocks: Sequence[int] = (9, 9, 9),
        widths: Sequence[int] = (16, 32, 64),
        shortcut: Shortcut = "pad",
    ) -> None:
        layers: list[nn.Module] = [_conv(3, widths[0])]
        inputs = widths[0]
        for stage, (count, width) in enumerate(zip(blocks, widths, strict=True)):
            for number in range(count):
                stride = 2 if stage and number == 0 else 1
                layers.append(_Block(inputs, width, stride, shortcut))
                inputs = width
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.first = _conv(inputs, outputs, stride)
        self.second = nn.Sequential(_filters(outputs, outputs), nn.BatchNorm2d(outputs))
        self.shortcut: nn.Module = nn.Identity()
        if (inputs, stride) != (outputs, 1):
            self.shortcut = (
                _Pad(outputs - inputs, stride)
                if shortcut == "pad"
                else nn.Sequential(_filters(inputs, outputs, stride, size=1), nn.BatchNorm2d(outputs))
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.shortcut(x))


class _Pad(nn.Module):
    """Every `stride`-th pixel, and `more` channels of zeros."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more, self.stride = more, stride

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))


class ThreeLayer(nn.Sequential):
    """Smith's shallow net: Caffe's `cifar10_full`, as in `cifar3.prototxt` of his hyperParam1.

    It was made for pixels from 0 to 255 less their mean, and so were its rates: the input is scaled back.
    """

    def __init__(self) -> None:
        def layer(inputs: int, outputs: int, *after: nn.Module) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 5, padding=2), *after]

        average = nn.AvgPool2d(3, 2, ceil_mode=True)
        super().__init__(
            _Scale(63.0),
            *layer(3, 32, nn.MaxPool2d(3, 2, ceil_mode=True), nn.ReLU(), _Normalise()),
            *layer(32, 32, nn.ReLU(), average, _Normalise()),
            *layer(32, 64, nn.ReLU(), average),
            nn.Flatten(),
            nn.Linear(64 * 16, CLASSES),
        )
        weighted = [m for m in self if isinstance(m, (nn.Conv2d, nn.Linear))]
        for module, deviation in zip(weighted, (1e-4, 1e-2, 1e-2, 1e-2), strict=True):
            nn.init.normal_(module.weight, std=deviation)
            assert module.bias is not None
            nn.init.zeros_(module.bias)

    def groups(self, weight_decay: float) -> list[dict[str, object]]:
        """Param groups as in Caffe: biases learn twice as fast, the last layer decays 250 times so."""
        last = self[-1]
        inner = [m for m in self if isinstance(m, nn.Conv2d)]
        return [
            {"params": [m.weight for m in inner], "lr": 1.0, "weight_decay": weight_decay},
            {"params": [m.bias for m in inner], "lr": 2.0, "weight_decay": weight_decay},
            {"params": [last.weight], "lr": 1.0, "weight_decay": 250 * weight_decay},
            {"params": [last.bias], "lr": 2.0, "weight_decay": 0.0},
        ]


class _Normalise(nn.Module):
    """Caffe's local response normalisation over 3 x 3 pixels within each channel."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + 5e-5 * functional.avg_pool2d(x * x, 3, 1, 1)).pow(-0.75)


class _Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class Quick(nn.Sequential):
    """The nine-layer residual net of D. Page, "How to train your ResNet" (2018), first of the quick ones.

    Args:
        width: channels of its first layer; 64 as published.
    """

    def __init__(self, width: int = 64) -> None:
        layers: list[nn.Module] = [_conv(3, width)]
        for number, (inputs, outputs) in enumerate(pairwise((width, 2 * width, 4 * width, 8 * width))):
            layers += [_conv(inputs, outputs), nn.MaxPool2d(2)]
            if number != 1:
                layers.append(_Residual(outputs))
        super().__init__(
            *layers,
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(8 * width, CLASSES, bias=False),
            _Scale(0.125),
        )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(_conv(width, width), _conv(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)  # type: ignore[no-any-return]


class Averaged(nn.Module):
    """A net that is judged by the exponential moving average of its weights and statistics.

    Args:
        net: what is trained; `update` after each of its updates.
        decay: share of the average that an update keeps.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        super().__init__()
        self.net = net
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(net, multi_avg_fn=average, use_buffers=True)
        self.average.requires_grad_(False)

    def update(self, *_: object) -> None:
        """Take in the net as it is."""
        self.average.update_parameters(self.net)

    def forward(self, x: Tensor) -> Tensor:
        net = self.net if self.training else self.average
        return net(x)  # type: ignore[no-any-return]


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(_filters(inputs, outputs, stride), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _filters(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
