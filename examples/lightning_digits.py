"""Handwritten digits with Lightning: find a rate by a range test, train with the 1cycle policy.

    $ pip install 'onecycle[lightning]' scikit-learn
    $ python lightning_digits.py

It takes some seconds on a laptop's processor, and prints the rate that was found and the accuracy on digits
that the network has not seen.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from onecycle.lightning import OneCycle, RangeTest


class Digits(LightningDataModule):
    """1,797 images of 8 x 8 pixels, a fifth of them held out."""

    def setup(self, stage: str) -> None:
        images, labels = load_digits(return_X_y=True)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        x = (torch.tensor(images, dtype=torch.float32) / 16)[order].reshape(-1, 1, 8, 8)
        y = torch.tensor(labels)[order]
        self.train, self.held_out = TensorDataset(x[360:], y[360:]), TensorDataset(x[:360], y[:360])

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, batch_size=64, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.held_out, batch_size=360)


class Network(LightningModule):
    """A small convolutional network. Its optimizer's own rate is a placeholder."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(512, 10)),
        )

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.cross_entropy(self.layers(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_accuracy", (self.layers(x).argmax(dim=1) == y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)


def main() -> float:
    """Train; returns the accuracy on the held-out digits."""
    seed_everything(0)
    test = RangeTest(start=1e-5)
    trainer = Trainer(
        max_epochs=8,
        accelerator="cpu",
        callbacks=[test, OneCycle(test), LearningRateMonitor("step", log_momentum=True)],
        logger=CSVLogger("."),
        log_every_n_steps=1,
    )
    trainer.fit(Network(), datamodule=Digits())
    accuracy = float(trainer.callback_metrics["val_accuracy"])
    print(test.suggestion)
    print(f"accuracy on 360 held-out digits: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
