"""The tasks: those to tune on (dev) and those to judge by (test), looked at once for each rule.

The first thirty are of fifteen kinds, each twice, once in each half; three came to dev later, of a kind that
it lacked: squares, momentum, and a best rate that 100 steps may not show. The first test half judged two
rules, and then joined dev, as did six further ones of fresh tasks, of other data, nets and settings; an
eighth is the test half since.
Each list was set by hand before anything of it was trained at more than a few rates, to see that it trains.
It stays as it is: a task that turns out odd is an odd task, in its half.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

import onecycle as oc
from benchmarks.regret import data, nets
from benchmarks.regret.data import Batches, Data
from onecycle._suggestion import Use
from onecycle.torch import Trial

Split = Literal["dev", "test"]
Loss = Literal["classes", "squares", "density"]
Kind = Literal["sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop", "muon"]
SPLITS: tuple[Split, ...] = ("dev", "test")


@dataclass(frozen=True)
class Task:
    """A net, its data and its optimizer, for a number of steps.

    Args:
        name: data, net and optimizer in short.
        split: "dev" to choose constants by, "test" to judge them.
        about: data and net in words.
        load: reads the data.
        make: makes the net, from the global random generator.
        loss: "classes" (cross entropy), "squares" or "density" (negative log of a Gaussian density).
        optimizer: its kind.
        batch_size: samples per step.
        total_steps: length of training.
        seeds: how many the oracle takes; more where a run is cheap, so that small differences show.
    """

    name: str
    split: Split
    about: str
    load: Callable[[], Data]
    make: Callable[[], nn.Module]
    loss: Loss
    optimizer: Kind
    batch_size: int
    total_steps: int
    seeds: int = 3

    @property
    def usual_lr(self) -> float:
        """What people take for this optimizer without looking: the fallback of a rule that refuses."""
        return USUAL[self.optimizer].lr

    @property
    def signed(self) -> bool:
        """Whether the loss can be negative."""
        return self.loss == "density"

    def model(self, seed: int) -> nn.Module:
        """The net with its first weights."""
        torch.manual_seed(seed)
        return self.make()

    def build(
        self,
        seed: int,
        batch_size: int | None = None,
        weight_decay: float | None = None,
        optimizer: Callable[[nn.Module], Any] | None = None,
    ) -> Trial:
        """A fresh trial; the seed sets the weights and the order of the data."""
        train, val = self.load()
        model = self.model(seed)
        decay = USUAL[self.optimizer].weight_decay if weight_decay is None else weight_decay
        chunks = zip(*(torch.split(part, 500) for part in val), strict=True)
        return Trial(
            model,
            USUAL[self.optimizer].make(model, decay) if optimizer is None else optimizer(model),
            LOSSES[self.loss],
            Batches(train, batch_size or self.batch_size, seed),
            list(chunks),
        )

    def policy(self, lr: float, use: Use = "one_cycle") -> oc.Policy:
        """The whole training: 1cycle as the library has it up to that rate; or four cycles; or constant.

        The cycles begin at a fourth of the rate, as Smith proposes (arXiv 1506.01186, section 3.3).
        """
        if use == "constant":
            return oc.Policy(self.total_steps, lr=oc.constant(lr))
        if use == "cyclical":
            return oc.cyclical(lr / 4, lr, -(-self.total_steps // 8), total_steps=self.total_steps)
        return oc.one_cycle(lr, self.total_steps)

    def trivial_loss(self) -> float:
        """Validation loss of the best answer that does not look at the input."""
        train, val = (part[1] for part in self.load())
        if self.loss == "classes":
            shares = torch.bincount(train.flatten()).double() / train.numel()
            return float(functional.nll_loss(shares.log().expand(val.numel(), -1), val.flatten()))
        squares = (val - train.mean(0)) ** 2
        if self.loss == "squares":
            return float(squares.mean())
        variance = train.var(0)
        return float(0.5 * (squares / variance + variance.log() + math.log(2 * math.pi)).mean())


# Losses -----------------------------------------------------------------------------------------------


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """Mean over all predictions, of images or of characters."""
    return functional.cross_entropy(output.reshape(-1, output.shape[-1]), target.reshape(-1))


def gaussian(output: Tensor, target: Tensor) -> Tensor:
    """Negative log density per number; the output holds means, then what gives the variances."""
    mean, raw = output.chunk(2, 1)
    variance = functional.softplus(raw) + 1e-4
    return 0.5 * ((target - mean) ** 2 / variance + variance.log() + math.log(2 * math.pi)).mean()


LOSSES: Mapping[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "classes": cross_entropy,
    "squares": functional.mse_loss,
    "density": gaussian,
}


# Optimizers -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Usual:
    """What people take for an optimizer without looking."""

    lr: float
    weight_decay: float
    make: Callable[[nn.Module, float], Any]


def _muon(model: nn.Module, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's layers, AdamW at 0.15 of its rate for all else."""
    hidden = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name]
    chosen = set(map(id, hidden))
    others = [p for p in model.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(hidden, lr=0.02, weight_decay=weight_decay),
        torch.optim.AdamW(others, lr=0.003, weight_decay=weight_decay),
    ]


def _sgd(momentum: float, nesterov: bool = False) -> Callable[[nn.Module, float], torch.optim.Optimizer]:
    return lambda model, decay: torch.optim.SGD(
        model.parameters(), lr=0.01, momentum=momentum, nesterov=nesterov, weight_decay=decay
    )


USUAL: Mapping[Kind, Usual] = {
    "sgd": Usual(0.1, 5e-4, _sgd(0)),
    "momentum": Usual(0.01, 5e-4, _sgd(0.9)),
    "nesterov": Usual(0.01, 5e-4, _sgd(0.9, nesterov=True)),
    "adam": Usual(1e-3, 0, lambda m, decay: torch.optim.Adam(m.parameters(), weight_decay=decay)),
    "adamw": Usual(1e-3, 0.01, lambda m, decay: torch.optim.AdamW(m.parameters(), weight_decay=decay)),
    "rmsprop": Usual(
        1e-3, 0, lambda m, decay: torch.optim.RMSprop(m.parameters(), lr=1e-3, weight_decay=decay)
    ),
    "muon": Usual(0.02, 0.01, _muon),
}


# Nets that are trained already ------------------------------------------------------------------------


def _first(name: str) -> nn.Module:
    return _colour_cnn() if name == "cifar10" else _cnn()


@cache
def _trained(name: str) -> Mapping[str, Tensor]:
    """Weights after 300 steps on the classes 0 to 4, once per process."""
    train, _ = data.image_classes(name, range(5), 4000)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        model = _first(name)
        optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
        batches: Iterable[tuple[Tensor, Tensor]] = Batches(train, 64, 0)
        for step, (x, y) in enumerate(batch for _ in range(5) for batch in batches):
            for group in optimizer.param_groups:
                group["lr"] = 2e-3 * (1 - step / 310)
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
    return model.state_dict()


def _tuned_on(name: str) -> nn.Module:
    """A net trained on five classes, with a new last layer."""
    model = _first(name)
    weights = {key: value for key, value in _trained(name).items() if not key.startswith("7.")}
    model.load_state_dict(weights, strict=False)
    return model


# The list ---------------------------------------------------------------------------------------------

_mnist = partial(data.grey_images, "mnist", 10_000)
_fashion = partial(data.grey_images, "fashion_mnist", 10_000)
_cifar = partial(data.colour_images, 8000)
_text = partial(data.text, 48)
_cnn = partial(nets.plain_cnn, (16, 32, 64), 28)
_colour_cnn = partial(nets.plain_cnn, (8, 16, 32), 32, 3)

TASKS: tuple[Task, ...] = (
    # plain convolutions
    Task("mnist-cnn-sgd", "dev", "MNIST 10k, plain CNN",
         _mnist, _cnn, "classes", "sgd", 64, 1000),
    Task("fashion-cnn-nesterov", "dev", "Fashion-MNIST 10k, plain CNN",
         _fashion, _cnn, "classes", "nesterov", 128, 600),
    # residual, with BatchNorm
    Task("cifar-resnet-momentum", "dev", "CIFAR-10 8k, residual CNN, BatchNorm",
         _cifar, partial(nets.residual_cnn, 3, 8), "classes", "momentum", 128, 400),
    Task("fashion-resnet-adamw", "dev", "Fashion-MNIST 10k, residual CNN, BatchNorm",
         _fashion, partial(nets.residual_cnn, 1, 8), "classes", "adamw", 64, 600),
    # GroupNorm
    Task("fashion-groupnorm-adam", "dev", "Fashion-MNIST 10k, CNN, GroupNorm",
         _fashion, partial(nets.normed_cnn, 1, 16), "classes", "adam", 32, 1000),
    Task("cifar-groupnorm-momentum", "dev", "CIFAR-10 8k, CNN, GroupNorm",
         _cifar, partial(nets.normed_cnn, 3, 16), "classes", "momentum", 256, 300),
    # small MLPs
    Task("digits-mlp-momentum", "dev", "digits, MLP 64-64",
         data.digits, partial(nets.mlp, 64, 64, 64, 10), "classes", "momentum", 16, 1500, 9),
    Task("fashion-mlp-sgd", "dev", "Fashion-MNIST 10k, MLP 128-128",
         _fashion, partial(nets.mlp, 784, 128, 128, 10), "classes", "sgd", 64, 1500),
    # LSTM
    Task("text-lstm-adam", "dev", "Tiny Shakespeare, LSTM of 96",
         _text, partial(nets.CharRecurrent, data.ALPHABET, 96), "classes", "adam", 32, 800),
    Task("text-lstm-rmsprop", "dev", "Tiny Shakespeare, LSTM of 64",
         _text, partial(nets.CharRecurrent, data.ALPHABET, 64), "classes", "rmsprop", 64, 600),
    # transformer
    Task("text-transformer-adamw", "dev", "Tiny Shakespeare, transformer of 2 layers of 64",
         _text, partial(nets.CharTransformer, data.ALPHABET, 48, 64, 2), "classes", "adamw", 16, 600),
    Task("text-transformer-muon", "dev", "Tiny Shakespeare, transformer of 2 layers of 48",
         _text, partial(nets.CharTransformer, data.ALPHABET, 48, 48, 2), "classes", "muon", 32, 400),
    # vision transformer
    Task("fashion-vit-muon", "dev", "Fashion-MNIST 10k, ViT of 2 layers of 48",
         _fashion, partial(nets.ViT, 1, 28, 7, 48, 2), "classes", "muon", 64, 500),
    Task("cifar-vit-adamw", "dev", "CIFAR-10 8k, ViT of 2 layers of 64",
         _cifar, partial(nets.ViT, 3, 32, 8, 64, 2), "classes", "adamw", 128, 300),
    # autoencoder
    Task("mnist-autoencoder-adamw", "dev", "MNIST 10k, autoencoder 784-128-16-128-784",
         partial(data.grey_pixels, "mnist", 10_000), partial(nets.mlp, 784, 128, 16, 128, 784),
         "squares", "adamw", 256, 600),
    Task("fashion-autoencoder-momentum", "dev", "Fashion-MNIST 10k, convolutional autoencoder",
         partial(data.grey_pixels, "fashion_mnist", 10_000), partial(nets.conv_autoencoder, 8),
         "squares", "momentum", 64, 600),
    # a table, classes
    Task("cancer-mlp-nesterov", "dev", "breast cancer, MLP 32-32",
         partial(data.table, "breast_cancer"), partial(nets.mlp, 30, 32, 32, 2),
         "classes", "nesterov", 32, 500, 9),
    Task("wine-mlp-adam", "dev", "wine, MLP 32",
         partial(data.table, "wine"), partial(nets.mlp, 13, 32, 3), "classes", "adam", 16, 300, 9),
    # a table, a number
    Task("diabetes-mlp-sgd", "dev", "diabetes, standardised target, MLP 64-64",
         partial(data.table, "diabetes"), partial(nets.mlp, 10, 64, 64, 1), "squares", "sgd", 32, 300, 9),
    Task("cancer-column-momentum", "dev", "breast cancer, worst compactness from the rest, MLP 64-64 tanh",
         partial(data.column, "breast_cancer", "worst compactness"),
         partial(nets.mlp, 29, 64, 64, 1, activation=nn.Tanh), "squares", "momentum", 32, 600, 9),
    # a picture from its coordinates
    Task("china-fourier-adam", "dev", "china.jpg, MLP 96-96 on Fourier features",
         partial(data.picture, "china"), partial(nets.Fourier, 64, 8.0, 96, 3),
         "squares", "adam", 512, 1000),
    Task("flower-fourier-adamw", "dev", "flower.jpg, MLP 96-96 on Fourier features",
         partial(data.picture, "flower"), partial(nets.Fourier, 64, 4.0, 96, 3),
         "squares", "adamw", 256, 1500),
    # from trained weights
    Task("mnist-finetune-momentum", "dev", "MNIST 5 to 9, 1k, plain CNN trained on 0 to 4",
         partial(data.image_classes, "mnist", range(5, 10), 1000), partial(_tuned_on, "mnist"),
         "classes", "momentum", 32, 300, 9),
    Task("fashion-finetune-adam", "dev", "Fashion-MNIST 5 to 9, 1k, plain CNN trained on 0 to 4",
         partial(data.image_classes, "fashion_mnist", range(5, 10), 1000),
         partial(_tuned_on, "fashion_mnist"),
         "classes", "adam", 32, 300, 9),
    # wrong labels
    Task("fashion-noisy-rmsprop", "dev", "Fashion-MNIST 5k, 30 % of labels random, MLP 128-128",
         partial(data.grey_images, "fashion_mnist", 5000, 0.3), partial(nets.mlp, 784, 128, 128, 10),
         "classes", "rmsprop", 128, 800),
    Task("mnist-noisy-momentum", "dev", "MNIST 5k, 40 % of labels random, plain CNN",
         partial(data.grey_images, "mnist", 5000, 0.4), _cnn, "classes", "momentum", 64, 800),
    # a density, whose loss turns negative
    Task("cifar-density-adam", "dev", "CIFAR-10, density of a pixel given 24 neighbours, MLP 96-96",
         partial(data.centre_pixels, 8000), partial(nets.mlp, 72, 96, 96, 2),
         "density", "adam", 128, 1500),
    Task("flower-density-rmsprop", "dev", "flower.jpg, density of a colour, MLP 96-96 on Fourier features",
         partial(data.picture, "flower"), partial(nets.Fourier, 64, 4.0, 96, 6),
         "density", "rmsprop", 512, 1000),
    # deep and plain, badly started
    Task("digits-deep-momentum", "dev", "digits, plain MLP of 8 hidden layers of 64",
         data.digits, partial(nets.mlp, 64, *8 * [64], 10), "classes", "momentum", 64, 1500, 9),
    Task("mnist-deep-adam", "dev", "MNIST 10k, plain MLP of 12 hidden layers of 64",
         _mnist, partial(nets.mlp, 784, *12 * [64], 10), "classes", "adam", 128, 1000),
    # squares with momentum, added after the first test half had been looked at once
    Task("digits-autoencoder-momentum", "dev", "digits, autoencoder 64-48-8-48-64",
         data.digit_pixels, partial(nets.mlp, 64, 48, 8, 48, 64), "squares", "momentum", 32, 800, 9),
    Task("diabetes-column-momentum", "dev", "diabetes, total cholesterol from the rest, MLP 32-32",
         partial(data.column, "diabetes", "s1"), partial(nets.mlp, 9, 32, 32, 1),
         "squares", "momentum", 16, 500, 9),
    Task("cifar-colour-momentum", "dev", "CIFAR-10 4k at half size, colours from grey, three convolutions",
         partial(data.colours_of_grey, 4000), partial(nets.image_to_image, 12, 3),
         "squares", "momentum", 32, 500),
    # the second test half
    Task("cifar-cnn-adam", "dev", "CIFAR-10 8k, plain CNN",
         _cifar, _colour_cnn, "classes", "adam", 16, 600),
    Task("fashion-batchnorm-sgd", "dev", "Fashion-MNIST 10k, CNN, BatchNorm",
         _fashion, partial(nets.normed_cnn, 1, 8, nn.BatchNorm2d), "classes", "sgd", 64, 400),
    Task("mnist-resnet-momentum", "dev", "MNIST 10k, residual CNN, BatchNorm",
         _mnist, partial(nets.residual_cnn, 1, 4), "classes", "momentum", 16, 400),
    Task("fashion-residual-nesterov", "dev", "Fashion-MNIST 10k, residual CNN, no normalisation",
         _fashion, partial(nets.residual_cnn, 1, 4, norm=False), "classes", "nesterov", 32, 400),
    Task("mnist-dropout-adam", "dev", "MNIST 10k, MLP 64-64, dropout 0.3",
         _mnist, partial(nets.mlp, 784, 64, 64, 10, activation=nets.relu_dropout),
         "classes", "adam", 128, 800),
    Task("text-gru-rmsprop", "dev", "Tiny Shakespeare, GRU of 64",
         partial(data.text, 24), partial(nets.CharRecurrent, data.ALPHABET, 64, nn.GRU),
         "classes", "rmsprop", 16, 500),
    Task("text-transformer-adam", "dev", "Tiny Shakespeare, transformer of 1 layer of 32",
         partial(data.text, 32), partial(nets.CharTransformer, data.ALPHABET, 32, 32, 1),
         "classes", "adam", 16, 600),
    Task("mnist-mixer-muon", "dev", "MNIST 10k, MLP-mixer of 2 layers of 32",
         _mnist, partial(nets.ViT, 1, 28, 7, 32, 2, mixer=True), "classes", "muon", 32, 250),
    Task("cifar-autoencoder-momentum", "dev", "CIFAR-10 8k at half size, autoencoder 768-128-24-128-768",
         partial(data.colour_pixels, 8000), partial(nets.mlp, 768, 128, 24, 128, 768),
         "squares", "momentum", 64, 800),
    Task("iris-mlp-sgd", "dev", "iris, MLP 16-16",
         partial(data.table, "iris"), partial(nets.mlp, 4, 16, 16, 3), "classes", "sgd", 16, 300, 9),
    Task("wine-column-nesterov", "dev", "wine, alcohol from the rest, MLP 32-32",
         partial(data.column, "wine", "alcohol"), partial(nets.mlp, 12, 32, 32, 1),
         "squares", "nesterov", 32, 400, 9),
    Task("china-density-adamw", "dev", "china.jpg, density of a colour, MLP 96-96 on Fourier features",
         partial(data.picture, "china"), partial(nets.Fourier, 64, 4.0, 96, 6),
         "density", "adamw", 128, 1200),
    Task("cifar-finetune-adamw", "dev", "CIFAR-10 5 to 9, 1k, plain CNN trained on 0 to 4",
         partial(data.image_classes, "cifar10", range(5, 10), 1000), partial(_tuned_on, "cifar10"),
         "classes", "adamw", 64, 300),
    Task("digits-noisy-sgd", "dev", "digits, 20 % of labels random, MLP 128-128",
         partial(data.digits, 0.2), partial(nets.mlp, 64, 128, 128, 10), "classes", "sgd", 16, 1000, 9),
    Task("fashion-deep-momentum", "dev", "Fashion-MNIST 10k, plain MLP of 6 hidden layers of 64",
         _fashion, partial(nets.mlp, 784, *6 * [64], 10), "classes", "momentum", 32, 1200),
    Task("flower-coordinates-momentum", "dev", "flower.jpg, MLP 96-96-96 on the place alone",
         partial(data.picture, "flower"), partial(nets.mlp, 2, 96, 96, 96, 3),
         "squares", "momentum", 512, 1000),
    # the third test half
    Task("mnist-cnn-nesterov", "dev", "MNIST 10k, narrow plain CNN",
         _mnist, partial(nets.plain_cnn, (8, 16, 32), 28), "classes", "nesterov", 128, 400),
    Task("cifar-batchnorm-momentum", "dev", "CIFAR-10 8k, CNN, BatchNorm",
         _cifar, partial(nets.normed_cnn, 3, 8, nn.BatchNorm2d), "classes", "momentum", 64, 300),
    Task("mnist-groupnorm-adamw", "dev", "MNIST 10k, CNN, GroupNorm",
         _mnist, partial(nets.normed_cnn, 1, 8), "classes", "adamw", 32, 500),
    Task("fashion-resnet-sgd", "dev", "Fashion-MNIST 10k, residual CNN, BatchNorm",
         _fashion, partial(nets.residual_cnn, 1, 4), "classes", "sgd", 32, 350),
    Task("cifar-mlp-rmsprop", "dev", "CIFAR-10 8k, MLP 64",
         _cifar, partial(nets.mlp, 3072, 64, 10), "classes", "rmsprop", 64, 700),
    Task("fashion-dropout-nesterov", "dev", "Fashion-MNIST 10k, MLP 96-96, dropout 0.3",
         _fashion, partial(nets.mlp, 784, 96, 96, 10, activation=nets.relu_dropout),
         "classes", "nesterov", 32, 1000),
    Task("text-lstm-adamw", "dev", "Tiny Shakespeare, LSTM of 48",
         partial(data.text, 32), partial(nets.CharRecurrent, data.ALPHABET, 48), "classes", "adamw", 16, 500),
    Task("text-gru-momentum", "dev", "Tiny Shakespeare, GRU of 48",
         partial(data.text, 24), partial(nets.CharRecurrent, data.ALPHABET, 48, nn.GRU),
         "classes", "momentum", 32, 500),
    Task("text-transformer-nesterov", "dev", "Tiny Shakespeare, transformer of 1 layer of 48",
         partial(data.text, 24), partial(nets.CharTransformer, data.ALPHABET, 24, 48, 1),
         "classes", "nesterov", 16, 600),
    Task("fashion-vit-adam", "dev", "Fashion-MNIST 10k, ViT of 1 layer of 32",
         _fashion, partial(nets.ViT, 1, 28, 7, 32, 1), "classes", "adam", 32, 300),
    Task("cifar-mixer-muon", "dev", "CIFAR-10 8k, MLP-mixer of 1 layer of 32",
         _cifar, partial(nets.ViT, 3, 32, 8, 32, 1, mixer=True), "classes", "muon", 32, 250),
    Task("mnist-autoencoder-nesterov", "dev", "MNIST 10k, autoencoder 784-64-12-64-784",
         partial(data.grey_pixels, "mnist", 10_000), partial(nets.mlp, 784, 64, 12, 64, 784),
         "squares", "nesterov", 64, 800),
    Task("diabetes-mlp-adamw", "dev", "diabetes, standardised target, MLP 48",
         partial(data.table, "diabetes"), partial(nets.mlp, 10, 48, 1), "squares", "adamw", 16, 400, 9),
    Task("wine-mlp-momentum", "dev", "wine, MLP 24-24",
         partial(data.table, "wine"), partial(nets.mlp, 13, 24, 24, 3), "classes", "momentum", 16, 300, 9),
    Task("cancer-column-sgd", "dev", "breast cancer, mean texture from the rest, MLP 48",
         partial(data.column, "breast_cancer", "mean texture"), partial(nets.mlp, 29, 48, 1),
         "squares", "sgd", 32, 500, 9),
    Task("iris-column-momentum", "dev", "iris, petal width from the rest, MLP 32-32 tanh",
         partial(data.column, "iris", "petal width (cm)"),
         partial(nets.mlp, 3, 32, 32, 1, activation=nn.Tanh), "squares", "momentum", 16, 400, 9),
    Task("china-coordinates-adam", "dev", "china.jpg, MLP 96-96 on the place alone",
         partial(data.picture, "china"), partial(nets.mlp, 2, 96, 96, 3), "squares", "adam", 256, 1000),
    Task("china-density-nesterov", "dev", "china.jpg, density of a colour, MLP 64-64 on Fourier features",
         partial(data.picture, "china"), partial(nets.Fourier, 48, 3.0, 64, 6),
         "density", "nesterov", 256, 1000),
    Task("fashion-finetune-sgd", "dev", "Fashion-MNIST 5 to 9, 2k, plain CNN trained on 0 to 4",
         partial(data.image_classes, "fashion_mnist", range(5, 10), 2000),
         partial(_tuned_on, "fashion_mnist"), "classes", "sgd", 32, 300),
    Task("digits-noisy-adam", "dev", "digits, 30 % of labels random, MLP 96",
         partial(data.digits, 0.3), partial(nets.mlp, 64, 96, 10), "classes", "adam", 32, 600, 9),
    Task("digits-deep-nesterov", "dev", "digits, plain MLP of 6 hidden layers of 48",
         data.digits, partial(nets.mlp, 64, *6 * [48], 10), "classes", "nesterov", 32, 1200, 9),
    Task("mnist-deep-adamw", "dev", "MNIST 10k, plain MLP of 8 hidden layers of 48",
         _mnist, partial(nets.mlp, 784, *8 * [48], 10), "classes", "adamw", 64, 800),
    # the fourth test half
    Task("cifar-cnn-momentum", "dev", "CIFAR-10 8k, plain CNN",
         _cifar, _colour_cnn, "classes", "momentum", 64, 400),
    Task("fashion-cnn-adamw", "dev", "Fashion-MNIST 10k, narrow plain CNN",
         _fashion, partial(nets.plain_cnn, (8, 16, 32), 28), "classes", "adamw", 64, 500),
    Task("cifar-resnet-nesterov", "dev", "CIFAR-10 8k, narrow residual CNN, BatchNorm",
         _cifar, partial(nets.residual_cnn, 3, 4), "classes", "nesterov", 64, 300),
    Task("mnist-batchnorm-rmsprop", "dev", "MNIST 10k, CNN, BatchNorm",
         _mnist, partial(nets.normed_cnn, 1, 8, nn.BatchNorm2d), "classes", "rmsprop", 64, 300),
    Task("fashion-groupnorm-nesterov", "dev", "Fashion-MNIST 10k, narrow CNN, GroupNorm",
         _fashion, partial(nets.normed_cnn, 1, 8), "classes", "nesterov", 32, 500),
    Task("mnist-mlp-momentum", "dev", "MNIST 5k, MLP 96-96",
         partial(data.grey_images, "mnist", 5000), partial(nets.mlp, 784, 96, 96, 10),
         "classes", "momentum", 32, 800),
    Task("fashion-tanh-adam", "dev", "Fashion-MNIST 10k, MLP 64-64 tanh",
         _fashion, partial(nets.mlp, 784, 64, 64, 10, activation=nn.Tanh), "classes", "adam", 128, 600),
    Task("text-lstm-momentum", "dev", "Tiny Shakespeare, LSTM of 48",
         partial(data.text, 24), partial(nets.CharRecurrent, data.ALPHABET, 48),
         "classes", "momentum", 16, 500),
    Task("text-gru-adam", "dev", "Tiny Shakespeare, GRU of 32",
         partial(data.text, 24), partial(nets.CharRecurrent, data.ALPHABET, 32, nn.GRU),
         "classes", "adam", 32, 400),
    Task("text-transformer-momentum", "dev", "Tiny Shakespeare, transformer of 1 layer of 32",
         partial(data.text, 24), partial(nets.CharTransformer, data.ALPHABET, 24, 32, 1),
         "classes", "momentum", 32, 500),
    Task("mnist-vit-adamw", "dev", "MNIST 10k, ViT of 1 layer of 32",
         _mnist, partial(nets.ViT, 1, 28, 7, 32, 1), "classes", "adamw", 64, 400),
    Task("fashion-mixer-muon", "dev", "Fashion-MNIST 10k, MLP-mixer of 1 layer of 32",
         _fashion, partial(nets.ViT, 1, 28, 7, 32, 1, mixer=True), "classes", "muon", 64, 300),
    Task("fashion-pixels-momentum", "dev", "Fashion-MNIST 10k, autoencoder 784-96-16-96-784",
         partial(data.grey_pixels, "fashion_mnist", 10_000), partial(nets.mlp, 784, 96, 16, 96, 784),
         "squares", "momentum", 32, 700),
    Task("mnist-pixels-adam", "dev", "MNIST 10k, narrow convolutional autoencoder",
         partial(data.grey_pixels, "mnist", 10_000), partial(nets.conv_autoencoder, 4),
         "squares", "adam", 64, 400),
    Task("cancer-mlp-adam", "dev", "breast cancer, MLP 24-24",
         partial(data.table, "breast_cancer"), partial(nets.mlp, 30, 24, 24, 2),
         "classes", "adam", 16, 400, 9),
    Task("diabetes-mlp-momentum", "dev", "diabetes, standardised target, MLP 32 tanh",
         partial(data.table, "diabetes"), partial(nets.mlp, 10, 32, 1, activation=nn.Tanh),
         "squares", "momentum", 32, 400, 9),
    Task("wine-column-adam", "dev", "wine, colour intensity from the rest, MLP 32-32",
         partial(data.column, "wine", "color_intensity"), partial(nets.mlp, 12, 32, 32, 1),
         "squares", "adam", 16, 300, 9),
    Task("cancer-column-nesterov", "dev", "breast cancer, mean smoothness from the rest, MLP 48-48",
         partial(data.column, "breast_cancer", "mean smoothness"), partial(nets.mlp, 29, 48, 48, 1),
         "squares", "nesterov", 16, 500, 9),
    Task("flower-fourier-momentum", "dev", "flower.jpg, MLP 64-64 on Fourier features",
         partial(data.picture, "flower"), partial(nets.Fourier, 48, 3.0, 64, 3),
         "squares", "momentum", 256, 1000),
    Task("flower-density-adam", "dev", "flower.jpg, density of a colour, MLP 64-64 on Fourier features",
         partial(data.picture, "flower"), partial(nets.Fourier, 48, 3.0, 64, 6),
         "density", "adam", 256, 800),
    Task("mnist-finetune-adam", "dev", "MNIST 5 to 9, 2k, plain CNN trained on 0 to 4",
         partial(data.image_classes, "mnist", range(5, 10), 2000), partial(_tuned_on, "mnist"),
         "classes", "adam", 32, 300, 9),
    Task("mnist-noisy-nesterov", "dev", "MNIST 5k, 30 % of labels random, MLP 128",
         partial(data.grey_images, "mnist", 5000, 0.3), partial(nets.mlp, 784, 128, 10),
         "classes", "nesterov", 64, 700),
    Task("mnist-deep-momentum", "dev", "MNIST 10k, plain MLP of 5 hidden layers of 64",
         _mnist, partial(nets.mlp, 784, *5 * [64], 10), "classes", "momentum", 64, 1000),
    Task("fashion-deep-adam", "dev", "Fashion-MNIST 10k, plain MLP of 8 hidden layers of 48",
         _fashion, partial(nets.mlp, 784, *8 * [48], 10), "classes", "adam", 64, 800),
    # of it, too: plain SGD, forgotten at first
    Task("fashion-cnn-sgd", "dev", "Fashion-MNIST 10k, narrow plain CNN",
         _fashion, partial(nets.plain_cnn, (8, 16, 32), 28), "classes", "sgd", 32, 600),
    Task("digits-tanh-sgd", "dev", "digits, MLP 48-48 tanh",
         data.digits, partial(nets.mlp, 64, 48, 48, 10, activation=nn.Tanh), "classes", "sgd", 16, 800, 9),
    # the fifth test half
    Task("mnist-cnn-rmsprop", "dev", "MNIST 10k, plain CNN",
         _mnist, _cnn, "classes", "rmsprop", 128, 400),
    Task("cifar-cnn-sgd", "dev", "CIFAR-10 8k, plain CNN",
         _cifar, _colour_cnn, "classes", "sgd", 128, 400),
    Task("mnist-cnn-adam", "dev", "MNIST 10k, narrow plain CNN",
         _mnist, partial(nets.plain_cnn, (8, 16, 32), 28), "classes", "adam", 256, 400),
    Task("fashion-resnet-momentum", "dev", "Fashion-MNIST 10k, narrow residual CNN, BatchNorm",
         _fashion, partial(nets.residual_cnn, 1, 4), "classes", "momentum", 128, 300),
    Task("mnist-residual-momentum", "dev", "MNIST 10k, residual CNN, no normalisation",
         _mnist, partial(nets.residual_cnn, 1, 4, norm=False), "classes", "momentum", 64, 400),
    Task("fashion-batchnorm-nesterov", "dev", "Fashion-MNIST 10k, narrow CNN, BatchNorm",
         _fashion, partial(nets.normed_cnn, 1, 8, nn.BatchNorm2d), "classes", "nesterov", 128, 300),
    Task("cifar-groupnorm-adamw", "dev", "CIFAR-10 8k, narrow CNN, GroupNorm",
         _cifar, partial(nets.normed_cnn, 3, 8), "classes", "adamw", 64, 300),
    Task("fashion-mlp-nesterov", "dev", "Fashion-MNIST 10k, MLP 64-64",
         _fashion, partial(nets.mlp, 784, 64, 64, 10), "classes", "nesterov", 256, 500),
    Task("digits-mlp-adamw", "dev", "digits, MLP 96-96",
         data.digits, partial(nets.mlp, 64, 96, 96, 10), "classes", "adamw", 32, 600, 9),
    Task("cifar-tanh-momentum", "dev", "CIFAR-10 8k, MLP 64 tanh",
         _cifar, partial(nets.mlp, 3072, 64, 10, activation=nn.Tanh), "classes", "momentum", 128, 500),
    Task("text-lstm-nesterov", "dev", "Tiny Shakespeare, LSTM of 32",
         partial(data.text, 24), partial(nets.CharRecurrent, data.ALPHABET, 32),
         "classes", "nesterov", 16, 500),
    Task("text-gru-sgd", "dev", "Tiny Shakespeare, GRU of 48",
         partial(data.text, 24), partial(nets.CharRecurrent, data.ALPHABET, 48, nn.GRU),
         "classes", "sgd", 32, 500),
    Task("text-transformer-rmsprop", "dev", "Tiny Shakespeare, transformer of 1 layer of 32",
         partial(data.text, 24), partial(nets.CharTransformer, data.ALPHABET, 24, 32, 1),
         "classes", "rmsprop", 16, 500),
    Task("text-transformer-sgd", "dev", "Tiny Shakespeare, transformer of 1 layer of 48",
         partial(data.text, 24), partial(nets.CharTransformer, data.ALPHABET, 24, 48, 1),
         "classes", "sgd", 16, 600),
    Task("fashion-vit-momentum", "dev", "Fashion-MNIST 10k, ViT of 1 layer of 32",
         _fashion, partial(nets.ViT, 1, 28, 7, 32, 1), "classes", "momentum", 64, 400),
    Task("cifar-vit-muon", "dev", "CIFAR-10 8k, ViT of 1 layer of 32",
         _cifar, partial(nets.ViT, 3, 32, 8, 32, 1), "classes", "muon", 32, 250),
    Task("cifar-pixels-adam", "dev", "CIFAR-10 8k at half size, autoencoder 768-96-16-96-768",
         partial(data.colour_pixels, 8000), partial(nets.mlp, 768, 96, 16, 96, 768),
         "squares", "adam", 64, 600),
    Task("digits-pixels-nesterov", "dev", "digits, autoencoder 64-32-6-32-64",
         data.digit_pixels, partial(nets.mlp, 64, 32, 6, 32, 64), "squares", "nesterov", 16, 800, 9),
    Task("mnist-pixels-momentum", "dev", "MNIST 10k, narrow convolutional autoencoder",
         partial(data.grey_pixels, "mnist", 10_000), partial(nets.conv_autoencoder, 4),
         "squares", "momentum", 32, 400),
    Task("iris-mlp-adam", "dev", "iris, MLP 24-24",
         partial(data.table, "iris"), partial(nets.mlp, 4, 24, 24, 3), "classes", "adam", 16, 300, 9),
    Task("cancer-mlp-momentum", "dev", "breast cancer, MLP 48",
         partial(data.table, "breast_cancer"), partial(nets.mlp, 30, 48, 2),
         "classes", "momentum", 16, 400, 9),
    Task("diabetes-mlp-rmsprop", "dev", "diabetes, standardised target, MLP 32-32",
         partial(data.table, "diabetes"), partial(nets.mlp, 10, 32, 32, 1), "squares", "rmsprop", 16, 300, 9),
    Task("diabetes-column-adam", "dev", "diabetes, blood pressure from the rest, MLP 48-48",
         partial(data.column, "diabetes", "bp"), partial(nets.mlp, 9, 48, 48, 1),
         "squares", "adam", 32, 400, 9),
    Task("wine-column-momentum", "dev", "wine, flavanoids from the rest, MLP 48",
         partial(data.column, "wine", "flavanoids"), partial(nets.mlp, 12, 48, 1),
         "squares", "momentum", 16, 400, 9),
    Task("cancer-column-adamw", "dev", "breast cancer, mean symmetry from the rest, MLP 64",
         partial(data.column, "breast_cancer", "mean symmetry"), partial(nets.mlp, 29, 64, 1),
         "squares", "adamw", 32, 500, 9),
    Task("china-fourier-nesterov", "dev", "china.jpg, MLP 64-64 on Fourier features",
         partial(data.picture, "china"), partial(nets.Fourier, 48, 3.0, 64, 3),
         "squares", "nesterov", 512, 800),
    Task("flower-coordinates-adamw", "dev", "flower.jpg, MLP 96-96 on the place alone",
         partial(data.picture, "flower"), partial(nets.mlp, 2, 96, 96, 3), "squares", "adamw", 128, 1000),
    Task("cifar-density-momentum", "dev", "CIFAR-10, density of a pixel given 24 neighbours, MLP 64-64",
         partial(data.centre_pixels, 8000), partial(nets.mlp, 72, 64, 64, 2),
         "density", "momentum", 256, 800),
    Task("cifar-finetune-nesterov", "dev", "CIFAR-10 5 to 9, 2k, plain CNN trained on 0 to 4",
         partial(data.image_classes, "cifar10", range(5, 10), 2000), partial(_tuned_on, "cifar10"),
         "classes", "nesterov", 32, 300),
    Task("digits-noisy-momentum", "dev", "digits, 20 % of labels random, MLP 96-96",
         partial(data.digits, 0.2), partial(nets.mlp, 64, 96, 96, 10), "classes", "momentum", 32, 800, 9),
    Task("fashion-deep-nesterov", "dev", "Fashion-MNIST 10k, plain MLP of 6 hidden layers of 48",
         _fashion, partial(nets.mlp, 784, *6 * [48], 10), "classes", "nesterov", 64, 1000),
    Task("mnist-deep-rmsprop", "dev", "MNIST 10k, plain MLP of 8 hidden layers of 64",
         _mnist, partial(nets.mlp, 784, *8 * [64], 10), "classes", "rmsprop", 64, 800),
    # the sixth test half
    Task("fashion-cnn-rmsprop", "dev", "Fashion-MNIST 10k, narrow plain CNN",
         _fashion, partial(nets.plain_cnn, (8, 16, 32), 28), "classes", "rmsprop", 32, 400),
    Task("mnist-cnn-momentum", "dev", "MNIST 10k, narrow plain CNN",
         _mnist, partial(nets.plain_cnn, (8, 16, 32), 28), "classes", "momentum", 64, 300),
    Task("mnist-resnet-adam", "dev", "MNIST 10k, narrow residual CNN, BatchNorm",
         _mnist, partial(nets.residual_cnn, 1, 4), "classes", "adam", 64, 250),
    Task("cifar-residual-adamw", "dev", "CIFAR-10 8k, narrow residual CNN, no normalisation",
         _cifar, partial(nets.residual_cnn, 3, 4, norm=False), "classes", "adamw", 64, 300),
    Task("cifar-batchnorm-adam", "dev", "CIFAR-10 8k, narrow CNN, BatchNorm",
         _cifar, partial(nets.normed_cnn, 3, 8, nn.BatchNorm2d), "classes", "adam", 128, 200),
    Task("mnist-groupnorm-momentum", "dev", "MNIST 10k, narrow CNN, GroupNorm",
         _mnist, partial(nets.normed_cnn, 1, 8), "classes", "momentum", 64, 300),
    Task("mnist-mlp-nesterov", "dev", "MNIST 5k, MLP 128",
         partial(data.grey_images, "mnist", 5000), partial(nets.mlp, 784, 128, 10),
         "classes", "nesterov", 16, 800),
    Task("fashion-mlp-rmsprop", "dev", "Fashion-MNIST 10k, MLP 64-64",
         _fashion, partial(nets.mlp, 784, 64, 64, 10), "classes", "rmsprop", 64, 600),
    Task("digits-mlp-sgd", "dev", "digits, MLP 64",
         data.digits, partial(nets.mlp, 64, 64, 10), "classes", "sgd", 32, 800, 9),
    Task("text-lstm-sgd", "dev", "Tiny Shakespeare, LSTM of 32",
         partial(data.text, 24), partial(nets.CharRecurrent, data.ALPHABET, 32), "classes", "sgd", 32, 500),
    Task("text-gru-adamw", "dev", "Tiny Shakespeare, GRU of 48",
         partial(data.text, 24), partial(nets.CharRecurrent, data.ALPHABET, 48, nn.GRU),
         "classes", "adamw", 16, 400),
    Task("text-short-muon", "dev", "Tiny Shakespeare, 16 characters, transformer of 1 layer of 32",
         partial(data.text, 16), partial(nets.CharTransformer, data.ALPHABET, 16, 32, 1),
         "classes", "muon", 64, 300),
    Task("mnist-vit-nesterov", "dev", "MNIST 10k, ViT of 1 layer of 32",
         _mnist, partial(nets.ViT, 1, 28, 7, 32, 1), "classes", "nesterov", 32, 400),
    Task("fashion-vit-rmsprop", "dev", "Fashion-MNIST 10k, ViT of 1 layer of 48",
         _fashion, partial(nets.ViT, 1, 28, 7, 48, 1), "classes", "rmsprop", 64, 300),
    Task("mnist-mixer-adamw", "dev", "MNIST 10k, MLP-mixer of 1 layer of 32",
         _mnist, partial(nets.ViT, 1, 28, 7, 32, 1, mixer=True), "classes", "adamw", 64, 300),
    Task("fashion-pixels-adamw", "dev", "Fashion-MNIST 10k, autoencoder 784-64-8-64-784",
         partial(data.grey_pixels, "fashion_mnist", 10_000), partial(nets.mlp, 784, 64, 8, 64, 784),
         "squares", "adamw", 128, 500),
    Task("digits-pixels-momentum", "dev", "digits, autoencoder 64-48-12-48-64",
         data.digit_pixels, partial(nets.mlp, 64, 48, 12, 48, 64), "squares", "momentum", 64, 600, 9),
    Task("iris-mlp-nesterov", "dev", "iris, MLP 16",
         partial(data.table, "iris"), partial(nets.mlp, 4, 16, 3), "classes", "nesterov", 16, 300, 9),
    Task("wine-mlp-adamw", "dev", "wine, MLP 32-32",
         partial(data.table, "wine"), partial(nets.mlp, 13, 32, 32, 3), "classes", "adamw", 32, 300, 9),
    Task("cancer-mlp-sgd", "dev", "breast cancer, MLP 64",
         partial(data.table, "breast_cancer"), partial(nets.mlp, 30, 64, 2), "classes", "sgd", 64, 400, 9),
    Task("diabetes-mlp-nesterov", "dev", "diabetes, standardised target, MLP 64 tanh",
         partial(data.table, "diabetes"), partial(nets.mlp, 10, 64, 1, activation=nn.Tanh),
         "squares", "nesterov", 64, 300, 9),
    Task("wine-column-sgd", "dev", "wine, proline from the rest, MLP 32",
         partial(data.column, "wine", "proline"), partial(nets.mlp, 12, 32, 1), "squares", "sgd", 16, 400, 9),
    Task("cancer-column-adam", "dev", "breast cancer, mean fractal dimension from the rest, MLP 48",
         partial(data.column, "breast_cancer", "mean fractal dimension"), partial(nets.mlp, 29, 48, 1),
         "squares", "adam", 16, 400, 9),
    Task("iris-column-adamw", "dev", "iris, sepal length from the rest, MLP 32",
         partial(data.column, "iris", "sepal length (cm)"), partial(nets.mlp, 3, 32, 1),
         "squares", "adamw", 16, 300, 9),
    Task("flower-fourier-nesterov", "dev", "flower.jpg, MLP 96 on Fourier features",
         partial(data.picture, "flower"), partial(nets.Fourier, 64, 4.0, 96, 3),
         "squares", "nesterov", 256, 1000),
    Task("china-coordinates-momentum", "dev", "china.jpg, MLP 64-64 on the place alone",
         partial(data.picture, "china"), partial(nets.mlp, 2, 64, 64, 3), "squares", "momentum", 256, 800),
    Task("china-density-adam", "dev", "china.jpg, density of a colour, MLP 64-64 on Fourier features",
         partial(data.picture, "china"), partial(nets.Fourier, 48, 3.0, 64, 6),
         "density", "adam", 256, 800),
    Task("mnist-finetune-sgd", "dev", "MNIST 5 to 9, 1k, plain CNN trained on 0 to 4",
         partial(data.image_classes, "mnist", range(5, 10), 1000), partial(_tuned_on, "mnist"),
         "classes", "sgd", 32, 300),
    Task("cifar-finetune-adam", "dev", "CIFAR-10 5 to 9, 2k, plain CNN trained on 0 to 4",
         partial(data.image_classes, "cifar10", range(5, 10), 2000), partial(_tuned_on, "cifar10"),
         "classes", "adam", 64, 300),
    Task("fashion-noisy-momentum", "dev", "Fashion-MNIST 5k, 20 % of labels random, MLP 96",
         partial(data.grey_images, "fashion_mnist", 5000, 0.2), partial(nets.mlp, 784, 96, 10),
         "classes", "momentum", 64, 700),
    Task("digits-noisy-adamw", "dev", "digits, 40 % of labels random, MLP 64",
         partial(data.digits, 0.4), partial(nets.mlp, 64, 64, 10), "classes", "adamw", 32, 600, 9),
    Task("mnist-deep-nesterov", "dev", "MNIST 10k, plain MLP of 7 hidden layers of 64",
         _mnist, partial(nets.mlp, 784, *7 * [64], 10), "classes", "nesterov", 64, 1000),
    Task("digits-deep-adam", "dev", "digits, plain MLP of 8 hidden layers of 48",
         data.digits, partial(nets.mlp, 64, *8 * [48], 10), "classes", "adam", 32, 800, 9),
    # the seventh test half
    Task("cifar-cnn-nesterov", "dev", "CIFAR-10 8k, plain CNN",
         _cifar, _colour_cnn, "classes", "nesterov", 64, 300),
    Task("mnist-cnn-adamw", "dev", "MNIST 10k, narrow plain CNN",
         _mnist, partial(nets.plain_cnn, (8, 16, 32), 28), "classes", "adamw", 32, 300),
    Task("fashion-resnet-nesterov", "dev", "Fashion-MNIST 10k, narrow residual CNN, BatchNorm",
         _fashion, partial(nets.residual_cnn, 1, 4), "classes", "nesterov", 64, 250),
    Task("mnist-residual-adam", "dev", "MNIST 10k, narrow residual CNN, no normalisation",
         _mnist, partial(nets.residual_cnn, 1, 4, norm=False), "classes", "adam", 64, 300),
    Task("mnist-batchnorm-adam", "dev", "MNIST 10k, narrow CNN, BatchNorm",
         _mnist, partial(nets.normed_cnn, 1, 8, nn.BatchNorm2d), "classes", "adam", 128, 250),
    Task("fashion-groupnorm-momentum", "dev", "Fashion-MNIST 10k, narrow CNN, GroupNorm",
         _fashion, partial(nets.normed_cnn, 1, 8), "classes", "momentum", 32, 350),
    Task("mnist-mlp-adam", "dev", "MNIST 10k, MLP 64-64",
         _mnist, partial(nets.mlp, 784, 64, 64, 10), "classes", "adam", 128, 500),
    Task("cifar-mlp-momentum", "dev", "CIFAR-10 8k, MLP 96",
         _cifar, partial(nets.mlp, 3072, 96, 10), "classes", "momentum", 64, 500),
    Task("fashion-tanh-sgd", "dev", "Fashion-MNIST 10k, MLP 64-64 tanh",
         _fashion, partial(nets.mlp, 784, 64, 64, 10, activation=nn.Tanh), "classes", "sgd", 32, 800),
    Task("digits-mlp-nesterov", "dev", "digits, MLP 48-48",
         data.digits, partial(nets.mlp, 64, 48, 48, 10), "classes", "nesterov", 64, 500, 9),
    Task("fashion-dropout-adamw", "dev", "Fashion-MNIST 10k, MLP 96-96, dropout 0.3",
         _fashion, partial(nets.mlp, 784, 96, 96, 10, activation=nets.relu_dropout),
         "classes", "adamw", 64, 700),
    Task("text-gru-nesterov", "dev", "Tiny Shakespeare, GRU of 32",
         partial(data.text, 24), partial(nets.CharRecurrent, data.ALPHABET, 32, nn.GRU),
         "classes", "nesterov", 32, 500),
    Task("text-short-adam", "dev", "Tiny Shakespeare, 16 characters, transformer of 1 layer of 48",
         partial(data.text, 16), partial(nets.CharTransformer, data.ALPHABET, 16, 48, 1),
         "classes", "adam", 32, 400),
    Task("mnist-vit-muon", "dev", "MNIST 10k, ViT of 1 layer of 48",
         _mnist, partial(nets.ViT, 1, 28, 7, 48, 1), "classes", "muon", 64, 250),
    Task("cifar-vit-momentum", "dev", "CIFAR-10 8k, ViT of 1 layer of 32",
         _cifar, partial(nets.ViT, 3, 32, 8, 32, 1), "classes", "momentum", 64, 300),
    Task("fashion-mixer-adam", "dev", "Fashion-MNIST 10k, MLP-mixer of 1 layer of 32",
         _fashion, partial(nets.ViT, 1, 28, 7, 32, 1, mixer=True), "classes", "adam", 64, 300),
    Task("fashion-pixels-nesterov", "dev", "Fashion-MNIST 10k, autoencoder 784-64-12-64-784",
         partial(data.grey_pixels, "fashion_mnist", 10_000), partial(nets.mlp, 784, 64, 12, 64, 784),
         "squares", "nesterov", 128, 500),
    Task("mnist-pixels-rmsprop", "dev", "MNIST 10k, narrow convolutional autoencoder",
         partial(data.grey_pixels, "mnist", 10_000), partial(nets.conv_autoencoder, 4),
         "squares", "rmsprop", 64, 300),
    Task("iris-mlp-momentum", "dev", "iris, MLP 32",
         partial(data.table, "iris"), partial(nets.mlp, 4, 32, 3), "classes", "momentum", 32, 300, 9),
    Task("wine-mlp-sgd", "dev", "wine, MLP 24",
         partial(data.table, "wine"), partial(nets.mlp, 13, 24, 3), "classes", "sgd", 16, 300, 9),
    Task("cancer-mlp-adamw", "dev", "breast cancer, MLP 32",
         partial(data.table, "breast_cancer"), partial(nets.mlp, 30, 32, 2), "classes", "adamw", 16, 400, 9),
    Task("diabetes-mlp-adam", "dev", "diabetes, standardised target, MLP 32 tanh",
         partial(data.table, "diabetes"), partial(nets.mlp, 10, 32, 1, activation=nn.Tanh),
         "squares", "adam", 32, 300, 9),
    Task("wine-column-adamw", "dev", "wine, hue from the rest, MLP 32-32",
         partial(data.column, "wine", "hue"), partial(nets.mlp, 12, 32, 32, 1),
         "squares", "adamw", 16, 400, 9),
    Task("cancer-column-rmsprop", "dev", "breast cancer, mean concavity from the rest, MLP 32",
         partial(data.column, "breast_cancer", "mean concavity"), partial(nets.mlp, 29, 32, 1),
         "squares", "rmsprop", 32, 500, 9),
    Task("iris-column-nesterov", "dev", "iris, petal length from the rest, MLP 24-24",
         partial(data.column, "iris", "petal length (cm)"), partial(nets.mlp, 3, 24, 24, 1),
         "squares", "nesterov", 16, 300, 9),
    Task("china-fourier-momentum", "dev", "china.jpg, MLP 64-64 on Fourier features",
         partial(data.picture, "china"), partial(nets.Fourier, 48, 3.0, 64, 3),
         "squares", "momentum", 256, 800),
    Task("flower-coordinates-nesterov", "dev", "flower.jpg, MLP 64-64 on the place alone",
         partial(data.picture, "flower"), partial(nets.mlp, 2, 64, 64, 3), "squares", "nesterov", 128, 800),
    Task("flower-density-momentum", "dev", "flower.jpg, density of a colour, MLP 64-64 on Fourier features",
         partial(data.picture, "flower"), partial(nets.Fourier, 48, 3.0, 64, 6),
         "density", "momentum", 256, 800),
    Task("fashion-finetune-momentum", "dev", "Fashion-MNIST 5 to 9, 1k, plain CNN trained on 0 to 4",
         partial(data.image_classes, "fashion_mnist", range(5, 10), 1000),
         partial(_tuned_on, "fashion_mnist"), "classes", "momentum", 32, 300),
    Task("mnist-noisy-adamw", "dev", "MNIST 5k, 20 % of labels random, MLP 96",
         partial(data.grey_images, "mnist", 5000, 0.2), partial(nets.mlp, 784, 96, 10),
         "classes", "adamw", 64, 600),
    Task("digits-noisy-nesterov", "dev", "digits, 30 % of labels random, MLP 64",
         partial(data.digits, 0.3), partial(nets.mlp, 64, 64, 10), "classes", "nesterov", 32, 600, 9),
    Task("mnist-deep-sgd", "dev", "MNIST 10k, plain MLP of 5 hidden layers of 64",
         _mnist, partial(nets.mlp, 784, *5 * [64], 10), "classes", "sgd", 32, 1000),
    Task("digits-deep-adamw", "dev", "digits, plain MLP of 7 hidden layers of 48",
         data.digits, partial(nets.mlp, 64, *7 * [48], 10), "classes", "adamw", 32, 800, 9),
    # the eighth, and present, test half
    Task("cifar-cnn-adamw", "test", "CIFAR-10 8k, plain CNN",
         _cifar, _colour_cnn, "classes", "adamw", 64, 300),
    Task("fashion-cnn-momentum", "test", "Fashion-MNIST 10k, narrow plain CNN",
         _fashion, partial(nets.plain_cnn, (8, 16, 32), 28), "classes", "momentum", 32, 400),
    Task("mnist-resnet-nesterov", "test", "MNIST 10k, narrow residual CNN, BatchNorm",
         _mnist, partial(nets.residual_cnn, 1, 4), "classes", "nesterov", 64, 250),
    Task("fashion-residual-momentum", "test", "Fashion-MNIST 10k, narrow residual CNN, no normalisation",
         _fashion, partial(nets.residual_cnn, 1, 4, norm=False), "classes", "momentum", 64, 300),
    Task("fashion-batchnorm-adam", "test", "Fashion-MNIST 10k, narrow CNN, BatchNorm",
         _fashion, partial(nets.normed_cnn, 1, 8, nn.BatchNorm2d), "classes", "adam", 64, 300),
    Task("mnist-groupnorm-nesterov", "test", "MNIST 10k, narrow CNN, GroupNorm",
         _mnist, partial(nets.normed_cnn, 1, 8), "classes", "nesterov", 64, 300),
    Task("mnist-mlp-sgd", "test", "MNIST 10k, MLP 96",
         _mnist, partial(nets.mlp, 784, 96, 10), "classes", "sgd", 64, 600),
    Task("cifar-mlp-nesterov", "test", "CIFAR-10 8k, MLP 64-64",
         _cifar, partial(nets.mlp, 3072, 64, 64, 10), "classes", "nesterov", 128, 500),
    Task("mnist-tanh-momentum", "test", "MNIST 10k, MLP 64-64 tanh",
         _mnist, partial(nets.mlp, 784, 64, 64, 10, activation=nn.Tanh), "classes", "momentum", 32, 800),
    Task("digits-mlp-adam", "test", "digits, MLP 64-64",
         data.digits, partial(nets.mlp, 64, 64, 64, 10), "classes", "adam", 32, 500, 9),
    Task("mnist-dropout-momentum", "test", "MNIST 10k, MLP 96-96, dropout 0.3",
         _mnist, partial(nets.mlp, 784, 96, 96, 10, activation=nets.relu_dropout),
         "classes", "momentum", 64, 700),
    Task("mnist-gru-adam", "test", "MNIST 10k by rows, GRU of 32",
         _mnist, partial(nets.RowRecurrent, 28, 32, nn.GRU), "classes", "adam", 32, 400),
    Task("text-short-adamw", "test", "Tiny Shakespeare, 16 characters, transformer of 1 layer of 48",
         partial(data.text, 16), partial(nets.CharTransformer, data.ALPHABET, 16, 48, 1),
         "classes", "adamw", 64, 400),
    Task("digits-vit-muon", "test", "digits, ViT of 1 layer of 32",
         data.digit_images, partial(nets.ViT, 1, 8, 2, 32, 1), "classes", "muon", 32, 300),
    Task("fashion-vit-nesterov", "test", "Fashion-MNIST 10k, ViT of 1 layer of 32",
         _fashion, partial(nets.ViT, 1, 28, 7, 32, 1), "classes", "nesterov", 64, 400),
    Task("mnist-mixer-adam", "test", "MNIST 10k, MLP-mixer of 1 layer of 48",
         _mnist, partial(nets.ViT, 1, 28, 7, 48, 1, mixer=True), "classes", "adam", 32, 300),
    Task("cifar-pixels-nesterov", "test", "CIFAR-10 8k at half size, autoencoder 768-64-16-64-768",
         partial(data.colour_pixels, 8000), partial(nets.mlp, 768, 64, 16, 64, 768),
         "squares", "nesterov", 64, 600),
    Task("fashion-autoencoder-adamw", "test", "Fashion-MNIST 10k, narrow convolutional autoencoder",
         partial(data.grey_pixels, "fashion_mnist", 10_000), partial(nets.conv_autoencoder, 4),
         "squares", "adamw", 64, 300),
    Task("iris-mlp-adamw", "test", "iris, MLP 32-32",
         partial(data.table, "iris"), partial(nets.mlp, 4, 32, 32, 3), "classes", "adamw", 16, 300, 9),
    Task("wine-mlp-nesterov", "test", "wine, MLP 32",
         partial(data.table, "wine"), partial(nets.mlp, 13, 32, 3), "classes", "nesterov", 32, 300, 9),
    Task("cancer-mlp-rmsprop", "test", "breast cancer, MLP 48",
         partial(data.table, "breast_cancer"), partial(nets.mlp, 30, 48, 2),
         "classes", "rmsprop", 32, 400, 9),
    Task("diabetes-dropout-adam", "test", "diabetes, standardised target, MLP 64-64, dropout 0.3",
         partial(data.table, "diabetes"), partial(nets.mlp, 10, 64, 64, 1, activation=nets.relu_dropout),
         "squares", "adam", 32, 400, 9),
    Task("wine-column-rmsprop", "test", "wine, magnesium from the rest, MLP 32",
         partial(data.column, "wine", "magnesium"), partial(nets.mlp, 12, 32, 1),
         "squares", "rmsprop", 16, 300, 9),
    Task("cancer-density-adamw", "test", "breast cancer, density of texture error from the rest, MLP 32-32",
         partial(data.column, "breast_cancer", "texture error"), partial(nets.mlp, 29, 32, 32, 2),
         "density", "adamw", 32, 500, 9),
    Task("iris-column-sgd", "test", "iris, sepal width from the rest, MLP 32",
         partial(data.column, "iris", "sepal width (cm)"), partial(nets.mlp, 3, 32, 1),
         "squares", "sgd", 16, 300, 9),
    Task("cifar-fourier-momentum", "test", "CIFAR-10, a picture of 16 images, MLP 64-64 on Fourier features",
         partial(data.sheet, 4), partial(nets.Fourier, 48, 3.0, 64, 3), "squares", "momentum", 256, 800),
    Task("china-coordinates-nesterov", "test", "china.jpg, MLP 64-64 on the place alone",
         partial(data.picture, "china"), partial(nets.mlp, 2, 64, 64, 3), "squares", "nesterov", 512, 800),
    Task("china-density-momentum", "test", "china.jpg, density of a colour, MLP 64-64 on Fourier features",
         partial(data.picture, "china"), partial(nets.Fourier, 48, 3.0, 64, 6),
         "density", "momentum", 256, 800),
    Task("cifar-finetune-momentum", "test", "CIFAR-10 5 to 9, 2k, plain CNN trained on 0 to 4",
         partial(data.image_classes, "cifar10", range(5, 10), 2000), partial(_tuned_on, "cifar10"),
         "classes", "momentum", 32, 300),
    Task("fashion-noisy-nesterov", "test", "Fashion-MNIST 5k, 30 % of labels random, MLP 64-64",
         partial(data.grey_images, "fashion_mnist", 5000, 0.3), partial(nets.mlp, 784, 64, 64, 10),
         "classes", "nesterov", 64, 600),
    Task("mnist-noisy-adam", "test", "MNIST 5k, 40 % of labels random, MLP 96",
         partial(data.grey_images, "mnist", 5000, 0.4), partial(nets.mlp, 784, 96, 10),
         "classes", "adam", 32, 600),
    Task("digits-deep-sgd", "test", "digits, plain MLP of 5 hidden layers of 64",
         data.digits, partial(nets.mlp, 64, *5 * [64], 10), "classes", "sgd", 16, 1000, 9),
    Task("fashion-deep-adamw", "test", "Fashion-MNIST 10k, plain MLP of 7 hidden layers of 64",
         _fashion, partial(nets.mlp, 784, *7 * [64], 10), "classes", "adamw", 64, 800),
)  # fmt: skip


def select(names: Iterable[str] = (), split: Split | None = None) -> list[Task]:
    """Tasks by name, or all of a half, or all.

    Raises:
        ValueError: no task of that name.
    """
    known = {task.name: task for task in TASKS}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no task {', '.join(unknown)}; the tasks are {', '.join(known)}")
    chosen = [known[name] for name in names] or list(TASKS)
    return [task for task in chosen if split is None or task.split == split]
