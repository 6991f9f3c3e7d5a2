from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from reprlib import repr as brief
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from onecycle._arguments import check_functions
from onecycle._policy import HYPERS
from onecycle._range_test import SINGLE
from onecycle._trial import Afterwards
from onecycle.torch import _checkpoint
from onecycle.torch._arguments import (
    Amp,
    check_left_to,
    check_loader,
    check_metrics,
    check_model,
    check_norm,
    check_place,
    device_of,
    differentiable,
    optimizers_of,
    parameters_of,
    precision,
    scalar,
)
from onecycle.torch._batch import batch_size_of, batches_in, on_device, samples_in
from onecycle.torch._distance import moved
from onecycle.torch._hypers import Hypers
from onecycle.torch._objects import find, held_by
from onecycle.torch._optimizers import drop_gradients, needs_closure, swap, zeroes_as_torch
from onecycle.torch._processes import Processes
from onecycle.torch._room import Place
from onecycle.torch._snapshots import Snapshots
from onecycle.torch._state import Tree, unwrap
from onecycle.torch._stream import Stream, private

TARGETS = ("labels", "label", "targets", "target", "y")
_GRAD = "grad_enabled"
Loss = Callable[..., Tensor]


class Trial:
    """A PyTorch model in training that can be put back exactly as it was.

    A batch (x, …, y) trains on `loss_fn(model(x, …), y)`; a dict on `loss_fn(model(**rest), labels)`,
    where labels is its entry of that or a like name; a tensor x on `loss_fn(model(x), x)`; any other
    batch on `loss_fn(model(batch), batch)`. Without `loss_fn`, on the loss that the model's own output
    holds. Anything else is what `step` is for.

    Put back are all parameters, buffers, gradients, optimizers and loss scalers, the plain values, tensors
    and containers that modules and optimizers have as attributes, what loader, samplers and data set count
    and the order in which they hold things, and the random generators; also those that `step` refers to.
    What is out of reach: an iterator's batches, state within other objects, and whatever a step does beyond
    this process. (A file holds of the loader only what it counts.)

    Where the model is wrapped in DistributedDataParallel or sharded by `fully_shard`, there is one such trial
    on every process, and all take every step together: losses are means over the processes, the validation
    loss is over all their samples, and `size` counts them all.

    Args:
        model: on the device where it is to be trained.
        optimizer: one, or a list of them, each of which updates its part at every step.
        loss_fn: gives a scalar.
        train_loader: any iterable of batches, with or without a length, begun anew at each epoch.
        val_loader: likewise, for `evaluate`; None: there is no validation loss.
        step: your own `batch -> loss tensor` that does forward, backward and update itself.
        device: where batches are moved to; None: where the model's first parameter is.
        amp: autocast with "bf16" or "fp16" (or the torch dtype; True: "fp16" on CUDA, else "bf16").
            With fp16 the loss is scaled, and updates that the scaler skips count as no step; your own
            `torch.amp.GradScaler` is used, and put back, if given.
        accumulate: batches per update.
        clip_grad_norm: greatest norm of the whole gradient.
        metrics: functions of (model output, target) by name that give a batch's mean; `evaluate`
            leaves their means over the validation set in `self.metrics`.
        keep_on: where a copy of parameters and optimizer state lies while a range test or pilots train:
            their "device", the "host" or a temporary file on "disk". None: the first of these that is left
            as much room again; more than 64 MiB of a CPU's memory go to disk, if there is room on one.

    Raises:
        TypeError: an argument is of the wrong kind; the message names it and the way out.
        ValueError: an argument is out of its range, or the model's parameters are lazy and not yet made.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer],
        loss_fn: Loss | None,
        train_loader: Iterable[Any],
        val_loader: Iterable[Any] | None = None,
        *,
        step: Callable[[Any], Tensor] | None = None,
        device: torch.device | str | None = None,
        amp: Amp = None,
        accumulate: int = 1,
        clip_grad_norm: float | None = None,
        metrics: Mapping[str, Loss] | None = None,
        keep_on: Place | None = None,
    ) -> None:
        check_model(model)
        optimizers = optimizers_of(optimizer)
        check_loader(train_loader, "train_loader")
        if val_loader is not None:
            check_loader(val_loader, "val_loader")
        if not isinstance(accumulate, int) or accumulate < 1:
            raise ValueError(f"accumulate must be a whole number of batches >= 1, got {accumulate!r}")
        check_functions(loss_fn=loss_fn, step=step)
        check_metrics(metrics)
        check_norm(clip_grad_norm)
        check_place(keep_on)
        if step is not None:
            check_left_to(step, accumulate, clip_grad_norm, amp)
        parameters = parameters_of(model)
        self.metrics: dict[str, float] = {}
        self._model = model
        self._optimizers = optimizers
        self._loss_fn = loss_fn
        self._loader = train_loader
        self._val_loader = val_loader
        self._own_step = step
        self._device = device_of(device, parameters[0].device if parameters else "cpu")
        # On a CPU steps give numbers: a tensor kept from each lies between what the next ones take and free.
        self._on_cpu = self._device.type == "cpu"
        self._dtype, self._scaler = precision(amp, self._device)
        self._accumulate = accumulate
        self._clip = clip_grad_norm
        self._metrics = dict(metrics or {})
        self._setting_aside = False
        used = {"step": step, "loss_fn": loss_fn}
        roots = {"": model}
        for name, user in used.items():
            for number, module in enumerate(find((nn.Module,), user)):
                roots[f"{name}[{number}]"] = module
        modules = {id(module): module for root in roots.values() for module in root.modules()}
        self._modules = list(modules.values())
        self._scalers = find((torch.amp.GradScaler,), self._scaler, step)
        self._stream = Stream(train_loader, val_loader, *used.values(), *map(held_by, self._modules))
        self._hypers = Hypers(optimizers)
        self._needs_closure = any(map(needs_closure, optimizers))
        if self._needs_closure and (len(optimizers) > 1 or self._scaler is not None):
            raise ValueError(
                "an optimizer that needs a closure, such as LBFGS, must be alone and without amp"
            )
        self._processes = self._together()
        stateful = unwrap([*optimizers, *find((Optimizer,), step)])
        self._snapshots = Snapshots(roots, self._modules, stateful, self._processes, keep_on)
        fixed = batch_size_of(train_loader)
        self._batch_size, self._measure = fixed or 0, fixed is None
        kind, usual = type(self), (Trial._step, Trial._forward, Trial._loss, Trial._next_batch)
        self._plain = (
            (kind._step, kind._forward, kind._loss, kind._next_batch) == usual
            and self._processes.count == accumulate == 1
            and (step, clip_grad_norm, self._dtype) == (None, None, None)
            and not (self._needs_closure or self._measure)
        )

    # The protocol ----------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Samples per step; where the loader does not tell, those of the last batch, 0 before the first."""
        return self._batch_size * self._accumulate * self._processes.count

    @property
    def is_main(self) -> bool:
        """Whether this process is the only one, or the first of those that train the model together."""
        return self._processes.rank == 0

    @property
    def steps_per_epoch(self) -> int | None:
        """Updates in one pass over the training data, None where the loader has no length."""
        length = batches_in(self._loader)
        return None if length is None else max(length // self._accumulate, 1)

    @property
    def norm(self) -> float:
        """Euclidean norm of all parameters."""
        norms = [parameter.detach().norm() for parameter in self._model.parameters()]
        return float(torch.stack([norm.double().cpu() for norm in norms]).norm()) if norms else 0.0

    def describe(self) -> dict[str, Any]:
        """What a curve's settings keep of it.

        Optimizers, the first group's values, steps in an epoch, and whether a layer of the model normalises,
        as by its class's name.
        """
        first = {name: self._hypers.read(name)[:1] for name in HYPERS}
        return {
            "optimizer": "+".join(type(each).__name__ for each in self._optimizers),
            **{name: values[0] for name, values in first.items() if values},
            "steps_per_epoch": self.steps_per_epoch,
            "normalised": any("norm" in type(each).__name__.lower() for each in self._model.modules()),
        }

    def set(self, **hyper: float) -> None:
        """Set `lr`, `momentum` (or beta1) or `weight_decay`; param groups keep their ratios.

        Raises:
            ValueError: a value is no number that is finite in single precision, or momentum is to be set
                alone and there is none.
        """
        for name, value in hyper.items():
            if type(value) is float and -SINGLE <= value <= SINGLE:
                continue
            if not isinstance(value, (int, float, np.number)) or not abs(value) <= SINGLE:
                raise ValueError(f"{name} must be a number, finite in single precision, got {value!r:.60}")
        if "momentum" in hyper and len(hyper) == 1 and not self._hypers.has_momentum:
            raise ValueError(
                f"momentum cannot be set: the optimizer, {self.describe()['optimizer']}, has no momentum"
            )
        self._hypers.write(hyper)

    def seed(self, seed: int) -> None:
        """Seed every random generator, the loader's own too, and start the data anew.

        Raises:
            ValueError: `seed` is no int from 0 to below 2**32, which is what NumPy takes.
        """
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
            raise ValueError(f"seed must be an int >= 0 and < 2**32, got {brief(seed)}")
        self._stream.seed(int(seed))

    def step(self) -> float | Tensor:
        """Train on one batch (`accumulate` of them); its loss before the update.

        A number where the trial is on a CPU, else a scalar tensor that is still on the device.

        Raises:
            ValueError: the loss is no scalar, or the loader gives no batch.
        """
        if self._plain:
            return self._plain_step()
        loss = self._step()
        return loss.item() if self._on_cpu else loss

    def _step(self) -> Tensor:
        if not self._model.training:
            self._train_mode(True)
        if self._own_step is not None:
            return self._over_all(scalar(self._own_step(self._next_batch()), "step").detach())
        # A scale of 2^16, halved at each skip, fits any loss within 32 of them.
        for _ in range(32):
            batches = [self._next_batch()]
            while len(batches) < self._accumulate:
                batches.append(self._next_batch())
            if self._needs_closure:
                loss: Tensor = self._optimizers[0].step(partial(self._backward, batches))  # type: ignore[arg-type, assignment]
            else:
                loss = self._backward(batches)
                if self._scaler is None:
                    for each in self._optimizers:
                        each.step()
                elif not self._scaled_update(self._scaler):
                    continue
            return loss if self._processes.count == 1 else self._over_all(loss)
        return torch.tensor(float("nan"), device=self._device)

    def _plain_step(self) -> float | Tensor:
        """`step` for one batch and plain updates: the same in fewer calls, which a tiny net feels."""
        if not self._model.training:
            self._train_mode(True)
        batch = on_device(next(self._stream), self._device)
        drop_gradients(self._optimizers)
        if type(batch) in (tuple, list) and len(batch) == 2 and self._loss_fn is not None:
            loss: Any = self._loss_fn(self._model(batch[0]), batch[1])
        else:
            loss = self._loss(*self._forward(batch))
        if type(loss) is not Tensor or loss.ndim or not loss.requires_grad:
            loss = differentiable(loss)
        loss.backward()
        loss = loss.item() if self._on_cpu else loss.detach()
        for each in self._optimizers:
            each.step()
        return loss  # type: ignore[no-any-return]

    def evaluate(self) -> float | None:
        """Mean loss over the validation set, None where there is none; training goes on as if not called."""
        if self._val_loader is None:
            return None
        sources, gradients = self._stream.keep_sources(), torch.is_grad_enabled()
        state = self._snapshots.take(entire=any(map(swap, self._optimizers)))

        def put_back() -> None:
            torch.set_grad_enabled(gradients)
            self._snapshots.put_back(state)
            self._stream.put_back_sources(sources)

        total = torch.zeros(2 + len(self._metrics), dtype=torch.float64)  # of samples, losses, metrics
        with Afterwards(put_back):
            torch.set_grad_enabled(False)
            self._train_mode(False)
            for batch in private(self._val_loader):
                batch = on_device(batch, self._device)
                size = samples_in(batch)
                with self._autocast():
                    output, target = self._forward(batch)
                    values = [
                        1.0,
                        self._loss(output, target),
                        *(f(output, target) for f in self._metrics.values()),
                    ]
                total += size * torch.stack([scalar(v, "loss_fn").double().cpu() for v in values])
        count, *totals = self._processes.sum(total, self._device).tolist()
        if count == 0:
            raise ValueError("val_loader gave no batch: it is empty, or an iterator that is used up")
        loss, *metrics = (each / count for each in totals)
        self.metrics = dict(zip(self._metrics, metrics, strict=True))
        return float(loss)

    def save(self) -> Tree:
        """Everything that `restore` needs; each tensor is copied once, on its own device."""
        return {
            **self._snapshots.take(entire=True, aside=self._dropped() if self._setting_aside else None),
            "scalers": [scaler.state_dict() for scaler in self._scalers],
            "data": self._stream.keep(),
            _GRAD: torch.is_grad_enabled(),
        }

    def set_aside(self) -> Tree:
        """`save` for a state that is restored before anything but this trial has changed it: it costs less.

        The copies lie where there is room for them. A gradient that the first update drops is held, and not
        copied. Where an epoch begins is not kept until the state is restored.
        """
        self._setting_aside = True
        try:
            state = self.save()
        finally:
            self._setting_aside = False
        self._stream.resumable = False
        return state

    def restore(self, state: Tree) -> None:
        """Put the trial back to where `save` was called, in the very same tensors."""
        # An interrupt that strikes in the exit of torch.no_grad leaves it on.
        torch.set_grad_enabled(state.get(_GRAD, torch.is_grad_enabled()))
        self._snapshots.put_back(state)
        for scaler, kept in zip(self._scalers, state["scalers"], strict=True):
            if scaler.is_enabled():
                scaler.load_state_dict(kept)
                scaler._per_optimizer_states.clear()  # a step that failed midway leaves it half unscaled
        self._stream.put_back(state["data"])

    def moved(self, state: Tree) -> float:
        """How far the weights that are trained lie from those of `state`, as a share of their size there.

        The norms are Euclidean, over all parameters of the optimizers, and all processes. What has not
        moved counts nothing, nor does a tensor that began at zero. NaN where it cannot be told.
        """
        return moved(state, self._snapshots.optimizers, self._processes, self._device)

    def read_losses(self, losses: Sequence[float | Tensor]) -> list[float]:
        """What steps gave, as floats; the device is waited for once."""
        tensors = [loss for loss in losses if isinstance(loss, Tensor)]
        if len(tensors) < len(losses) or len({(loss.device, loss.dtype) for loss in tensors}) != 1:
            return [float(loss) for loss in losses]
        numbers: list[float] = torch.stack(tensors).tolist()
        return numbers

    def write(self, path: str | Path, note: Mapping[str, Any] | None = None) -> None:
        """Write `save()`, and a JSON-like `note` with it, to one safetensors file, atomically.

        Raises:
            ValueError: the model is sharded over processes.
        """
        self._check_whole()
        state = {name: part for name, part in self.save().items() if name != _GRAD}  # of this process alone
        _checkpoint.write(path, state, self._device, note or {})

    def read(self, path: str | Path) -> dict[str, Any]:
        """Restore what `write` wrote, in this process or another; returns its note.

        On an error the trial is left as it was.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no checkpoint, or of another model, optimizer or loader, or the model is
                sharded over processes.
        """
        self._check_whole()
        (state, note), before = _checkpoint.read(path, self._device), self.save()
        try:
            _checkpoint.check_same(state, before)
            self.restore(state)
        except BaseException as error:
            self.restore(before)
            if not isinstance(error, Exception):
                raise
            raise ValueError(
                f"{path} is the state of another trial: {_checkpoint.in_one_line(error)}"
            ) from error
        return note

    # The parts -------------------------------------------------------------------------------------

    def _together(self) -> Processes:
        return Processes.of(self._modules)

    def _check_whole(self) -> None:
        if self._processes.sharded:
            raise ValueError(
                "the model is sharded, and a file would hold this process's part alone: "
                "save it with torch.distributed.checkpoint"
            )

    def _over_all(self, loss: Tensor) -> Tensor:
        return self._processes.mean(loss, self._device)

    def _dropped(self) -> frozenset[int]:
        """The ids of the gradients that an update drops, and that nothing else writes to."""
        plain = all(map(zeroes_as_torch, self._optimizers))
        others = distributed.is_available() and distributed.is_initialized()  # they have buckets of them
        kind = type(self)
        usual = self._own_step is None and (kind.step, kind._step) == (Trial.step, Trial._step)
        if not usual or not plain or others:
            return frozenset()
        parameters = (p for each in self._optimizers for group in each.param_groups for p in group["params"])
        gradients = (p.grad for p in parameters if p.grad is not None and p.grad.layout == torch.strided)
        return frozenset(id(g) for g in gradients if g.untyped_storage().nbytes() == g.nbytes)

    def _next_batch(self) -> Any:
        batch = on_device(next(self._stream), self._device)
        if self._measure:
            self._batch_size = samples_in(batch)
        return batch

    def _scaled_update(self, scaler: torch.amp.GradScaler) -> bool:
        """Update every optimizer by scaled gradients; False where the scaler skipped it."""
        for each in self._optimizers:
            scaler.step(each)
        scale = scaler.get_scale()
        scaler.update()
        return scaler.get_scale() >= scale

    def _backward(self, batches: list[Any]) -> Tensor:
        """Leave the gradient of the mean loss over the batches in the parameters; that loss."""
        drop_gradients(self._optimizers)
        total: Tensor | None = None
        for batch in batches:
            if self._dtype is None:
                loss = self._loss(*self._forward(batch))
            else:
                with self._autocast():
                    loss = self._loss(*self._forward(batch))
            loss = differentiable(loss)
            if len(batches) > 1:
                loss = loss / len(batches)
            (loss if self._scaler is None else self._scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
            total = loss.detach() if total is None else total + loss.detach()
        if self._clip is not None:
            self._clip_gradients(self._clip)
        assert total is not None
        return total

    def _clip_gradients(self, norm: float) -> None:
        parameters = []
        for each in self._optimizers:
            if self._scaler is not None:
                self._scaler.unscale_(each)
            parameters += [p for group in each.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, norm)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self._dtype is None:
            return nullcontext()
        return torch.autocast(self._device.type, self._dtype)

    def _forward(self, batch: Any) -> tuple[Any, Any]:
        """The model's output, and the target to hold against it."""
        if isinstance(batch, (tuple, list)) and len(batch) > 1 and self._loss_fn is not None:
            *inputs, target = batch
            return self._model(*inputs), target
        if isinstance(batch, (tuple, list)):
            return self._model(*batch), batch[0]
        if isinstance(batch, Mapping):
            name = next((name for name in TARGETS if name in batch), None)
            if self._loss_fn is None or name is None:
                return self._model(**batch), batch
            return self._model(**{key: batch[key] for key in batch if key != name}), batch[name]
        return self._model(batch), batch

    def _loss(self, output: Any, target: Any) -> Any:
        if self._loss_fn is not None:
            return self._loss_fn(output, target)
        loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
        if loss is None:
            raise TypeError(
                f"loss_fn is None, and the model's output, a {type(output).__name__}, holds no loss: "
                "pass loss_fn, or step for a loop of your own"
            )
        return loss

    def _train_mode(self, mode: bool) -> None:
        self._model.train(mode)
        for each in self._optimizers:
            if (switch := swap(each, mode)) is not None:
                switch()
