"""The nets of the tasks: small, and each of a kind that people train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


def mlp(*sizes: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers with an activation between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def relu_dropout() -> nn.Sequential:
    """An activation that leaves out three of ten while it trains."""
    return nn.Sequential(nn.ReLU(), nn.Dropout(0.3))


def plain_cnn(widths: Sequence[int], side: int, channels: int = 1) -> nn.Sequential:
    """Convolutions that halve an image of `side` pixels, without normalisation; ten classes."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([channels, *widths]):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
        side = (side + 1) // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * side * side, 10))


group_norm = partial(nn.GroupNorm, 4)


def normed_cnn(channels: int, width: int, norm: Callable[[int], nn.Module] = group_norm) -> nn.Sequential:
    """Three convolutions with a normalisation each, a global mean and ten classes."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([channels, width, 2 * width, 4 * width]):
        layers += [
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            norm(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


def _convolution(inputs: int, outputs: int, stride: int, norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=not norm)
    return [convolution, nn.BatchNorm2d(outputs)] if norm else [convolution]


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, norm: bool) -> None:
        super().__init__()
        self.path = nn.Sequential(
            *_convolution(inputs, outputs, stride, norm), nn.ReLU(), *_convolution(outputs, outputs, 1, norm)
        )
        self.skip = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.skip(x) + self.path(x))


def residual_cnn(channels: int, width: int, norm: bool = True) -> nn.Sequential:
    """A residual net, with BatchNorm or biases, on images halved at its entry: three blocks, ten classes."""
    return nn.Sequential(
        *_convolution(channels, width, 2, norm),
        nn.ReLU(),
        _Block(width, width, 1, norm),
        _Block(width, 2 * width, 2, norm),
        _Block(2 * width, 4 * width, 2, norm),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, 10),
    )


def image_to_image(width: int, outputs: int) -> nn.Sequential:
    """Three convolutions from a grey image to one of `outputs` channels, of the same size."""
    return nn.Sequential(
        nn.Conv2d(1, width, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, outputs, 3, padding=1),
    )


def conv_autoencoder(width: int) -> nn.Sequential:
    """Rows of 784 pixels through 16 numbers and back, by convolutions."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, width, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * 49, 16),
        nn.Linear(16, 2 * width * 49),
        nn.ReLU(),
        nn.Unflatten(1, (2 * width, 7, 7)),
        nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(width, 1, 4, 2, 1),
        nn.Flatten(),
    )


class Fourier(nn.Module):
    """A net on sines and cosines of random frequencies of the place, the same at every seed."""

    frequencies: Tensor

    def __init__(self, frequencies: int, scale: float, width: int, outputs: int) -> None:
        super().__init__()
        random = torch.randn(2, frequencies, generator=torch.Generator().manual_seed(0))
        self.register_buffer("frequencies", 2 * torch.pi * scale * random)
        self.net = mlp(2 * frequencies, width, width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        phase = x @ self.frequencies
        out: Tensor = self.net(torch.cat([phase.sin(), phase.cos()], 1))
        return out


class CharRecurrent(nn.Module):
    """The next character by an LSTM or a GRU of one layer."""

    def __init__(self, alphabet: int, width: int, kind: type[nn.LSTM | nn.GRU] = nn.LSTM) -> None:
        super().__init__()
        self.embed = nn.Embedding(alphabet, width // 2)
        self.recurrent = kind(width // 2, width, batch_first=True)
        self.head = nn.Linear(width, alphabet)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.recurrent(self.embed(x))[0])
        return out


class RowRecurrent(nn.Module):
    """Ten classes of a grey image, read row by row by an LSTM or a GRU of one layer."""

    def __init__(self, side: int, width: int, kind: type[nn.LSTM | nn.GRU] = nn.LSTM) -> None:
        super().__init__()
        self.recurrent = kind(side, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.recurrent(x.squeeze(1))[0][:, -1])
        return out


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.inputs(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return out


class _AcrossTokens(nn.Module):
    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.net = _gelu(tokens, 4 * tokens)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x.transpose(1, 2)).transpose(1, 2)
        return out


def _gelu(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class _Layers(nn.Module):
    """Layers that mix the tokens, then each token's numbers, normalised before each part."""

    def __init__(self, width: int, depth: int, mix: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        for _ in range(depth):
            for part in (mix(), _gelu(width, 4 * width)):
                self.parts.append(nn.Sequential(nn.LayerNorm(width), part))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = x + part(x)
        out: Tensor = self.norm(x)
        return out


class CharTransformer(nn.Module):
    """The next character by a small causal transformer."""

    def __init__(self, alphabet: int, length: int, width: int, depth: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(alphabet, width)
        self.place = nn.Parameter(0.02 * torch.randn(length, width))
        self.layers = _Layers(width, depth, partial(_Attention, width, 4, causal=True))
        self.head = nn.Linear(width, alphabet)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layers(self.embed(x) + self.place))
        return out


class ViT(nn.Module):
    """A small vision transformer, or an MLP-mixer; ten classes from the mean of its tokens."""

    def __init__(
        self, channels: int, side: int, patch: int, width: int, depth: int, mixer: bool = False
    ) -> None:
        super().__init__()
        tokens = (side // patch) ** 2
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.place = nn.Parameter(0.02 * torch.randn(tokens, width))
        attention = partial(_Attention, width, 4, causal=False)
        self.layers = _Layers(width, depth, partial(_AcrossTokens, tokens) if mixer else attention)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.place
        out: Tensor = self.head(self.layers(tokens).mean(1))
        return out
