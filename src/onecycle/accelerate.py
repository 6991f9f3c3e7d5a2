"""Hugging Face Accelerate: one scheduler step an update, range tests whose loss all processes share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from onecycle import _find, _range_test
from onecycle._curve import Curve
from onecycle._policy import Policy
from onecycle._suggestion import Suggestion
from onecycle.torch import Trial as TorchTrial
from onecycle.torch._arguments import check_norm
from onecycle.torch._pipeline import keep_counters, put_back_counters
from onecycle.torch._processes import Processes
from onecycle.torch._state import Tree
from onecycle.torch._trial import Loss
from onecycle.torch._updates import UpdateScheduler

try:
    from accelerate import Accelerator, DistributedType
    from accelerate.optimizer import AcceleratedOptimizer
    from accelerate.state import GradientState
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"onecycle.accelerate needs Accelerate ({error}): pip install 'onecycle[accelerate]'", name=error.name
    ) from error

__all__ = ["Scheduler", "Trial", "find_lr", "range_test"]

SHARDED = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)


class Scheduler(UpdateScheduler):
    """A scheduler for `accelerator.prepare` that steps once an update, however that prepares it.

    Any other it steps `num_processes` times an update, unless batches are split. Call `step()` wherever you
    call the optimizer's: where that accumulates gradients, or the update is skipped, this does not count.
    `accelerator.save_state` and `load_state` include it.

    Args:
        optimizer: before or after `accelerator.prepare`.
        policy, start_step: see `onecycle.torch.Scheduler`.

    Raises:
        TypeError: `optimizer` is none, or `policy` is no callable that gives a dict.
        ValueError: `start_step` is below 0, or the policy names a hyper-parameter that is not known.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        policy: Policy | Callable[[int], Mapping[str, float]],
        *,
        start_step: int = 0,
    ) -> None:
        own = optimizer.optimizer if isinstance(optimizer, AcceleratedOptimizer) else optimizer
        super().__init__(own, policy, start_step=start_step)


class Trial(TorchTrial):
    """What `accelerator.prepare` gave, in training; the same on every process, in one and the same order.

    A step is one update of the optimizer, with as many batches as the accelerator accumulates. Its loss
    is the mean over these and over all processes, so that they all see the same curve, and stop at the
    same step. Batches are those of `onecycle.torch.Trial`.

    Args:
        accelerator: that has prepared the others.
        model, optimizer, train_loader, val_loader: what its `prepare` returned; one optimizer, or a list.
        loss_fn: gives a scalar; None: the loss that the model's output holds.
        step: your own `batch -> loss tensor` for one batch, `with accelerator.accumulate(model)` and all
            that follows in it.
        clip_grad_norm: greatest norm of the whole gradient.
        metrics: see `onecycle.torch.Trial`.

    Raises:
        TypeError: an argument is of the wrong kind; the message names it and the way out.
        ValueError: an argument is out of its range, or the model is sharded over processes.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        loss_fn: Loss | None,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        *,
        step: Callable[[Any], Tensor] | None = None,
        clip_grad_norm: float | None = None,
        metrics: Mapping[str, Loss] | None = None,
    ) -> None:
        if accelerator.distributed_type in SHARDED:
            raise ValueError(
                f"accelerator shards the model ({accelerator.distributed_type}), and no process could put "
                "all of it back: run this without sharding, on one process or under DDP"
            )
        prepared: list[Any] = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
        for each in prepared:
            if not isinstance(each, AcceleratedOptimizer):
                raise TypeError(
                    f"optimizer must be what accelerator.prepare returned, got {type(each).__name__}"
                )
        if step is not None and clip_grad_norm is not None:
            raise ValueError("step does its own update: do clip_grad_norm in it")
        check_norm(clip_grad_norm)
        self._accelerator = accelerator
        self._prepared = prepared
        self._max_norm = clip_grad_norm
        self._counters = [accelerator, accelerator.gradient_state, train_loader, val_loader, *prepared]
        super().__init__(
            model,
            [each.optimizer for each in prepared],
            loss_fn,
            self._epochs(train_loader),
            val_loader,
            step=step or self._train_on,
            metrics=metrics,
        )

    @property
    def steps_per_epoch(self) -> int | None:
        """Updates in one pass over the training data, None where the loader has no length."""
        batches = super().steps_per_epoch
        return None if batches is None else -(-batches // self._accelerator.gradient_accumulation_steps)

    def _step(self) -> Tensor:
        # An update that the loss scaler skipped counts as no step; 32 of them are more than it ever skips.
        for _ in range(32):
            losses = [super()._step()]
            while not self._accelerator.sync_gradients:
                losses.append(super()._step())
            if not self._accelerator.optimizer_step_was_skipped:
                return self._mean(torch.stack(losses).mean())
        return torch.tensor(float("nan"))

    def evaluate(self) -> float | None:
        """Mean loss over all processes' shares of the validation set, None where there is none."""
        loss = super().evaluate()
        if loss is None or self._accelerator.num_processes == 1:
            return loss
        means = self._mean(torch.tensor([loss, *self.metrics.values()], device=self._device)).tolist()
        self.metrics = dict(zip(self.metrics, means[1:], strict=True))
        return float(means[0])

    def save(self) -> Tree:
        """Everything that `restore` needs; each tensor is copied once, on its own device."""
        return {**super().save(), "accelerate": keep_counters(self._counters)}

    def restore(self, state: Tree) -> None:
        """Put the trial back to where `save` was called, in the very same tensors."""
        super().restore(state)
        put_back_counters(self._counters, state["accelerate"])

    def _together(self) -> Processes:
        return Processes()  # the accelerator has a say in what they tell one another

    def _epochs(self, loader: Iterable[Any]) -> Epochs:
        return Epochs(loader, self._accelerator.gradient_accumulation_steps)

    def _train_on(self, batch: Any) -> Tensor:
        with self._accelerator.accumulate(self._model):
            loss: Tensor = self._loss(*self._forward(batch))
            self._accelerator.backward(loss)
            if self._max_norm is not None and self._accelerator.sync_gradients:
                self._accelerator.clip_grad_norm_(self._model.parameters(), self._max_norm)
            for each in self._prepared:
                each.step()
                each.zero_grad()
        return loss

    def _mean(self, value: Tensor) -> Tensor:
        mean: Tensor = self._accelerator.reduce(value, "mean")
        return mean


class Epochs:
    """A prepared loader, each of whose epochs has the order that a seed gives, on all processes the same.

    A loader that is left midway takes leave of the accelerator all the same.
    """

    def __init__(self, loader: Iterable[Any], accumulate: int) -> None:
        self.loader = loader
        self.generator = torch.Generator()
        size = getattr(loader, "total_batch_size", None)
        if isinstance(size, int):
            self.batch_size = size * accumulate

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        state = GradientState()
        open_loaders = list(state.dataloader_references)
        if hasattr(self.loader, "set_epoch"):
            self.loader.set_epoch(int(torch.randint(1 << 16, (), generator=self.generator)))
        try:
            yield from self.loader
        finally:
            state.dataloader_references = open_loaders


def range_test(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    loss_fn: Loss | None,
    train_loader: Iterable[Any],
    *,
    val_loader: Iterable[Any] | None = None,
    step: Callable[[Any], Tensor] | None = None,
    clip_grad_norm: float | None = None,
    progress: bool = True,
    **settings: Any,
) -> Curve:
    """Sweep the learning rate (or momentum, or weight decay) and record the loss; all is put back after.

    To be called on every process; each gets the same curve.

    Args:
        accelerator, model, optimizer, loss_fn, train_loader, val_loader, step, clip_grad_norm: see `Trial`.
        progress: show the sweep while it runs, on the main process alone.
        **settings: `start`, `end`, `steps`, `repeats`, `sweep`, `hyper`, `seed`, `batches_per_value` (here:
            updates), `evaluations`: see `onecycle.range_test`.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range; the message names it.
    """
    trial = Trial(
        accelerator,
        model,
        optimizer,
        loss_fn,
        train_loader,
        val_loader,
        step=step,
        clip_grad_norm=clip_grad_norm,
    )
    return _range_test.range_test(trial, progress=progress and accelerator.is_main_process, **settings)


def find_lr(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    loss_fn: Loss | None,
    train_loader: Iterable[Any],
    *,
    total_steps: int,
    val_loader: Iterable[Any] | None = None,
    step: Callable[[Any], Tensor] | None = None,
    clip_grad_norm: float | None = None,
    progress: bool = True,
    **settings: Any,
) -> Suggestion:
    """Suggest the peak rate for a 1cycle run of `total_steps` updates: range test, then short pilots.

    To be called on every process; each gets the same suggestion.

    Args:
        accelerator, model, optimizer, loss_fn, train_loader, val_loader, step, clip_grad_norm: see `Trial`.
        total_steps: updates of the training that the rate is for.
        progress: show what runs, on the main process alone.
        **settings: `objective`, `budget`, `seed`: see `onecycle.find_lr`.

    Raises:
        Inconclusive: the evidence does not tell; its `reason` says why.
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range; the message names it.
    """
    trial = Trial(
        accelerator,
        model,
        optimizer,
        loss_fn,
        train_loader,
        val_loader,
        step=step,
        clip_grad_norm=clip_grad_norm,
    )
    progress = progress and accelerator.is_main_process
    return _find.find_lr(trial, total_steps=total_steps, progress=progress, **settings)
