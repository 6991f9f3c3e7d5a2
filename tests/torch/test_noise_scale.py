"""The noise scale of a trial against that from full gradients, and that nothing is left behind."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from small_torch import everything, make_trial, net, seed_all, sgd
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.utils.data import DataLoader, TensorDataset

from onecycle.torch import Trial, noise_scale
from onecycle.torch._noise import KEPT

SAMPLES = 2000


def problem(kind: str) -> tuple[TensorDataset, nn.Module, Any]:
    """Data with a signal in them, a net, and its loss."""
    seed_all(0)
    x = torch.randn(SAMPLES, 10)
    if kind == "classes":
        y = (x[:, :3] + 0.5 * torch.randn(SAMPLES, 3)).argmax(1)
        return TensorDataset(x, y), _mlp(3), nn.functional.cross_entropy
    target = x[:, :1] * x[:, 1:2] + 0.3 * torch.randn(SAMPLES, 1)
    return TensorDataset(x, target), _mlp(1), nn.functional.mse_loss


def _mlp(outputs: int, width: int = 16) -> nn.Module:
    return nn.Sequential(nn.Linear(10, width), nn.Tanh(), nn.Linear(width, outputs))


def trial_of(data: TensorDataset, model: nn.Module, loss_fn: Any, size: int = 16, **options: Any) -> Trial:
    loader = DataLoader(data, size, shuffle=True, drop_last=True)
    return Trial(model, sgd(model, lr=0.05), loss_fn, loader, **options)


def from_full_gradients(data: TensorDataset, model: nn.Module, loss_fn: Any) -> float:
    """The definition: covariance over all samples, mean gradient over all samples."""
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        value: Tensor = loss_fn(functional_call(model, weights, (x[None],)), y[None])
        return value

    each = vmap(grad(loss), (None, 0, 0))(weights, *data.tensors)
    rows = torch.cat([g.flatten(1) for g in each.values()], 1).double()
    mean = rows.mean(0)
    return float(((rows - mean) ** 2).sum() / (len(rows) - 1) / (mean @ mean))


@pytest.mark.parametrize("kind", ["classes", "squares"])
@pytest.mark.parametrize("warm", [0, 50])
def test_agrees_with_full_gradients(kind: str, warm: int) -> None:
    data, model, loss_fn = problem(kind)
    trial = trial_of(data, model, loss_fn)
    trial.seed(3)
    for _ in range(warm):
        trial.step()
    true = from_full_gradients(data, model, loss_fn)
    found = [noise_scale(trial, seed=seed) for seed in range(5)]
    for each in found:
        assert true / 1.5 < each.value < true * 1.5
    assert sum(each.low <= true <= each.high for each in found) >= 4


def test_warm_updates_come_first() -> None:
    data, model, loss_fn = problem("classes")
    trial = trial_of(data, model, loss_fn)
    found = noise_scale(trial, warm=50, seed=3)
    trial.seed(3)
    for _ in range(50):
        trial.step()
    assert found == noise_scale(trial, seed=4)
    trial.set(lr=0.5)
    assert noise_scale(trial, warm=20, lr=0.05) == noise_scale(trial_at(trial, 0.05), warm=20)


def trial_at(trial: Trial, lr: float) -> Trial:
    trial.set(lr=lr)
    return trial


@pytest.mark.parametrize("warm", [0, 3])
def test_everything_is_put_back(warm: int) -> None:
    model = net()  # with batch norm and dropout
    optimizer = sgd(model)
    trial = make_trial(model, optimizer)
    trial.step()
    before = everything(model, optimizer)
    noise_scale(trial, warm=warm, lr=0.3)
    assert everything(model, optimizer) == before
    again = make_trial(model, optimizer)
    assert float(trial.step()) != float(again.step())  # it goes on in its epoch


def test_same_seed_same_answer() -> None:
    trial = trial_of(*problem("classes"))
    assert noise_scale(trial, seed=1) == noise_scale(trial, seed=1)
    assert noise_scale(trial, seed=1).value != noise_scale(trial, seed=2).value


def test_stops_when_it_is_close_enough_or_the_epoch_is_over() -> None:
    data, model, loss_fn = problem("classes")
    found = noise_scale(trial_of(data, model, loss_fn, size=4))
    assert found.samples < SAMPLES
    assert found.high <= 1.4 * found.value
    assert noise_scale(trial_of(data, model, loss_fn, size=400)).samples == SAMPLES
    assert noise_scale(trial_of(data, model, loss_fn), batches=10).samples == 160


def test_many_parameters_are_kept_as_sums_and_tell_the_same() -> None:
    data, _, loss_fn = problem("classes")
    wide = _mlp(3, 8000)
    assert sum(p.numel() for p in wide.parameters()) > KEPT
    trial = trial_of(data, wide, loss_fn)
    found = noise_scale(trial, batches=20)
    rows = []
    trial.seed(0)
    for _ in range(20):
        batch = trial._next_batch()
        wide.zero_grad()
        trial._loss(*trial._forward(batch)).backward()
        rows.append(torch.cat([p.grad.flatten() for p in wide.parameters() if p.grad is not None]))
    mean = torch.stack(rows).double().mean(0)
    noise = 16 * float(((torch.stack(rows) - mean) ** 2).sum()) / 19
    assert found.noise == pytest.approx(noise, rel=0.02)
    signal = float(mean @ mean) - noise * (1 / 320 - 1 / SAMPLES)
    assert found.signal == pytest.approx(signal, rel=0.05)


def test_a_loader_without_length() -> None:
    class Endless:
        def __iter__(self) -> Any:
            rng = np.random.default_rng(int(torch.randint(2**31, ())))
            while True:
                x = torch.from_numpy(rng.standard_normal((16, 10), np.float32))
                yield x, x[:, :3].argmax(1)

    model = _mlp(3)
    found = noise_scale(Trial(model, sgd(model), nn.functional.cross_entropy, Endless()))
    assert found.tells
    assert found.samples % 128 == 0


def test_parameters_without_a_gradient_and_sparse_ones() -> None:
    seed_all(0)
    tokens = torch.randint(20, (400, 5))
    model = nn.Sequential(nn.EmbeddingBag(20, 4, sparse=True), nn.Linear(4, 3))
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    loader = DataLoader(TensorDataset(tokens, tokens.sum(1) % 3), 8, shuffle=True)
    trial = Trial(model, torch.optim.SGD(model.parameters(), 0.1), nn.functional.cross_entropy, loader)
    assert noise_scale(trial).noise > 0


@pytest.mark.filterwarnings("ignore:.*GradScaler is enabled, but CUDA is not:UserWarning")
def test_a_scaled_loss_gives_the_same() -> None:
    data, model, loss_fn = problem("classes")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaled = noise_scale(trial_of(data, model, loss_fn, amp=scaler), batches=20)
    plain = noise_scale(trial_of(data, model, loss_fn), batches=20)
    assert scaled.value == pytest.approx(plain.value, rel=0.02)
    assert scaled.noise == pytest.approx(plain.noise, rel=0.02)


def test_a_diverged_net_says_so() -> None:
    data, model, loss_fn = problem("squares")
    found = noise_scale(trial_of(data, model, loss_fn), warm=30, lr=1e30)
    assert not found.tells
    assert "not finite" in found.reason


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": 3}, "batches must be a whole number >= 4, got 3"),
        ({"warm": -1}, "warm must be a whole number >= 0, got -1"),
        ({"lr": 0.0}, "lr must be > 0, got 0"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noise_scale(make_trial(), **options)


def test_what_has_no_gradients_to_show_is_refused() -> None:
    with pytest.raises(ValueError, match="a step of its own, which does not show its gradients"):
        noise_scale(make_trial(step=lambda _: torch.zeros(())))
    with pytest.raises(ValueError, match="train_loader gives 2 batches an epoch"):
        noise_scale(trial_of(*problem("classes"), size=SAMPLES // 2))
    with pytest.raises(TypeError, match=r"trial must be an onecycle.torch.Trial, got Linear"):
        noise_scale(nn.Linear(1, 1))  # type: ignore[arg-type]  # wrong on purpose
    assert math.isfinite(noise_scale(make_trial()).low)
