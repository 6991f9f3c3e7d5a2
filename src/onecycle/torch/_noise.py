from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from onecycle._arguments import as_rate, as_whole
from onecycle._noise import FEWEST, NoiseScale
from onecycle._schedules import Array
from onecycle._trial import preserved
from onecycle.torch._arguments import scalar
from onecycle.torch._batch import batches_in, samples_in
from onecycle.torch._optimizers import drop_gradients
from onecycle.torch._trial import Trial

MOST = 256  # batches, where their number is not given
BLOCK = 8  # batches between two looks at the interval
CLOSE = 1.4  # low and high within this factor of the value are close enough
# Numbers kept of a gradient: a prime, so that rows of a weight do not fall on one another.
KEPT = 65521


def noise_scale(
    trial: Trial,
    *,
    batches: int | None = None,
    warm: int = 0,
    lr: float | None = None,
    seed: int = 0,
) -> NoiseScale:
    """Measure the gradient noise scale of a trial: the batch size above which larger ones gain little.

    The gradients of the loader's batches are compared with their mean, without an update between them,
    after McCandlish et al. 2018 (arXiv 1812.06162). The trial is put back exactly as it was. In fresh
    nets the noise scale is low, and it grows while they train: `warm` updates come first.

    Of batches drawn from a loader with a length, no more than one epoch is taken, and the mean gradient
    meant is that over the whole epoch. A gradient of more than 65,521 numbers is kept as as many sums of
    its numbers under random signs, which makes norms right to about half a per cent.

    Args:
        trial: whose batches must be of the size that its own loader gives; under batch norm that size is
            part of the loss.
        batches: gradients, >= 4; None: until the interval is within a factor of 1.4 on either side, an
            epoch is over, or there are 256.
        warm: updates before the measurement, at the values that the trial has, or at rate `lr`.
        lr: rate of these updates; None: the trial's own.
        seed: of the random generators and the data order.

    Raises:
        TypeError: the trial is no `onecycle.torch.Trial`.
        ValueError: an argument is out of its range, an epoch has fewer than four batches, or the trial
            has a `step` of its own, which does not show its gradients.
    """
    if not isinstance(trial, Trial):
        raise TypeError(f"trial must be an onecycle.torch.Trial, got {type(trial).__name__}")
    if trial._own_step is not None:
        raise ValueError(
            "trial has a step of its own, which does not show its gradients: build it with loss_fn instead"
        )
    warm = as_whole("warm", warm, least=0)
    rate = None if lr is None else as_rate("lr", lr)
    most = MOST if batches is None else as_whole("batches", batches, least=FEWEST)
    length = batches_in(trial._loader)
    if length is not None and length < FEWEST:
        raise ValueError(
            f"train_loader gives {length} batches an epoch, and the noise scale needs {FEWEST} or more: "
            "give it a smaller batch size"
        )
    most = most if length is None else min(most, length)
    with preserved(trial):
        if warm:
            trial.seed(seed)
            if rate is not None:
                trial.set(lr=rate)
            for _ in range(warm):
                trial.step()
        trial.seed(seed + 1 if warm else seed)
        trial._train_mode(True)
        keep = _keeper(trial)
        rows: list[Array] = []
        sizes: list[int] = []
        while True:
            sizes.append(_gradient(trial))
            rows.append(keep())
            if len(rows) < most and (batches is not None or len(rows) % BLOCK):
                continue
            found = NoiseScale.from_gradients(rows, sizes, _population(length, sizes))
            if len(rows) == most or _close(found):
                return found


def _population(length: int | None, sizes: list[int]) -> int | None:
    """Samples in an epoch; the last batch alone may be smaller than the first."""
    if length is None:
        return None
    return sum(sizes) if len(sizes) == length else max(length * sizes[0], sum(sizes))


def _close(found: NoiseScale) -> bool:
    return found.tells and found.high <= CLOSE * found.value and found.value <= CLOSE * found.low


def _gradient(trial: Trial) -> int:
    """Leave the gradient of the next batch in the parameters; the samples in it."""
    batch = trial._next_batch()
    drop_gradients(trial._optimizers)
    with trial._autocast():
        loss = scalar(trial._loss(*trial._forward(batch)), "loss_fn")
    scale = 1.0 if trial._scaler is None else trial._scaler.get_scale()
    (loss * scale).backward()  # type: ignore[no-untyped-call]
    if scale != 1:
        for p in _parameters(trial):
            if p.grad is not None:
                p.grad /= scale
    return samples_in(batch) * trial._processes.count


def _parameters(trial: Trial) -> list[Tensor]:
    return [p for each in trial._optimizers for group in each.param_groups for p in group["params"]]


def _keeper(trial: Trial) -> Callable[[], Array]:
    """A function that gives the present gradient as at most `KEPT` numbers."""
    parameters = _parameters(trial)
    count = sum(p.numel() for p in parameters)
    random = torch.Generator().manual_seed(0)
    signs = [
        torch.randint(0, 2, (p.numel(),), generator=random, dtype=torch.bool).to(p.device)
        for p in (parameters if count > KEPT else ())
    ]

    def keep() -> Array:
        flat = [_whole_gradient(p) for p in parameters]
        if signs:
            flat = [torch.where(sign, g, -g) for sign, g in zip(signs, flat, strict=True)]
        numbers = torch.cat([g.to(trial._device, torch.float32) for g in flat])
        if signs:
            numbers = nn.functional.pad(numbers, (0, -count % KEPT)).view(-1, KEPT).sum(0)
        return numbers.double().cpu().numpy()

    return keep


def _whole_gradient(parameter: Tensor) -> Tensor:
    """The gradient in one dimension, however it is held."""
    if parameter.grad is None:
        return torch.zeros(parameter.numel(), device=parameter.device)
    gradient = parameter.grad.detach()
    if hasattr(gradient, "full_tensor"):  # each process holds a part
        gradient = gradient.full_tensor()
    return (gradient if gradient.layout == torch.strided else gradient.to_dense()).flatten()
