"""Two optimizers: a generator of digits and its critic, swept and scheduled together at a fixed ratio.

    $ pip install 'onecycle[torch]' scikit-learn
    $ python gan_digits.py

It takes some ten seconds on a laptop's processor. The loss of such a game does not say how good its images
are, so pilots are judged by what does: the Fréchet distance between the pixels of real and of made images.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader

import onecycle as oc
from onecycle.torch import Trial

NOISE, BATCH, STEPS = 16, 64, 700

torch.manual_seed(0)
images = torch.tensor(load_digits().data, dtype=torch.float32) / 16
loader: DataLoader[Tensor] = DataLoader(images, BATCH, shuffle=True, drop_last=True)  # type: ignore[arg-type]


class Game(nn.Module):
    """A generator and its critic; called with real images, it makes as many."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(*self._layer(NOISE), *self._layer(128), nn.Linear(128, 64))
        self.critic = nn.Sequential(
            *(spectral_norm(nn.Linear(64, 128)), nn.LeakyReLU(0.2)),
            *(spectral_norm(nn.Linear(128, 128)), nn.LeakyReLU(0.2)),
            nn.Linear(128, 1),
        )

    def forward(self, real: Tensor) -> Tensor:
        return torch.sigmoid(self.generator(torch.randn(len(real), NOISE)))

    def _layer(self, inputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU()]


game = Game()
of_critic = torch.optim.Adam(game.critic.parameters(), lr=1e-3, betas=(0.5, 0.99))
of_generator = torch.optim.Adam(game.generator.parameters(), lr=1e-3, betas=(0.5, 0.99))
likely: Any = nn.functional.softplus


def step(real: Tensor) -> Any:
    """An update of each; the critic's loss."""
    made = game(real)
    loss = likely(-game.critic(real)).mean() + likely(game.critic(made.detach())).mean()
    of_critic.zero_grad()
    loss.backward()
    of_critic.step()
    of_generator.zero_grad()
    likely(-game.critic(made)).mean().backward()
    of_generator.step()
    return loss.detach()


def distance(made: Tensor, real: Tensor) -> Any:
    """Fréchet's, of Gaussians with the means and covariances of made and real pixels."""
    made, real = made.double(), real.double()
    a, b = made.T.cov(), real.T.cov()
    # The trace of the root of a product of covariances is the sum of its eigenvalues' roots.
    cross = torch.linalg.eigvals(a @ b).real.clamp(min=0).sqrt().sum()
    return (made.mean(0) - real.mean(0)).square().sum() + a.trace() + b.trace() - 2 * cross


trial = Trial(game, [of_critic, of_generator], distance, loader, [images], step=step)
found = oc.find_lr(trial, total_steps=STEPS, budget=0.6, objective="val")
print(found)

print(f"before: distance {trial.evaluate():.2f}")
# Such a game needs a low momentum, and keeps it.
oc.train(trial, oc.one_cycle(found, STEPS, momentum=0.5))
print(f"after {STEPS} updates: distance {trial.evaluate():.2f}")
