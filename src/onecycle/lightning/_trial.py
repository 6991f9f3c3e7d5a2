"""A trial on what a Lightning trainer is fitting."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor

from onecycle._trial import Afterwards
from onecycle.torch._batch import samples_in
from onecycle.torch._state import Tree
from onecycle.torch._stream import private
from onecycle.torch._updates import UpdateTrial


@contextmanager
def trial_of(trainer: Trainer, loss: str | None, monitor: str | None) -> Iterator[Trial]:
    """A trial on what `trainer` is fitting, its callbacks and loggers muted for as long."""
    logged: dict[str, Any] = {}
    modules = [each for each in trainer.lightning_module.modules() if isinstance(each, LightningModule)]
    callbacks, loggers, should_stop = trainer.callbacks, trainer.loggers, trainer.should_stop
    trainer.callbacks, trainer.loggers = [], [DummyLogger() for _ in loggers]
    for module in modules:
        module.log = lambda name, value, *_, **__: logged.update({name: value})
    try:
        yield Trial(trainer, logged, loss, monitor)
    finally:
        for module in modules:
            del module.log
        trainer.callbacks, trainer.loggers, trainer.should_stop = callbacks, loggers, should_stop


class Trial(UpdateTrial):
    """The module that a trainer is fitting, trained by the trainer's own strategy and precision."""

    def __init__(
        self, trainer: Trainer, logged: dict[str, Any], loss: str | None, monitor: str | None
    ) -> None:
        self._trainer = trainer
        self._module = trainer.lightning_module
        self._logged = logged
        self._loss_name, self._monitor = loss, monitor
        super().__init__(self._module, trainer.optimizers, None, _Batches(trainer))
        self._accumulate = trainer.accumulate_grad_batches
        self._takes_index = _arguments(self._module.training_step) > 1
        if "dataloader_iter" in inspect.signature(self._module.training_step).parameters:
            raise TypeError("training_step takes a dataloader_iter, which cannot be given to a range test")

    def _step(self) -> Tensor:
        loss = super()._step()
        # All processes see the same loss, and so stop at the same step.
        reduced = self._trainer.strategy.reduce(loss, reduce_op="mean")
        return reduced if isinstance(reduced, Tensor) else loss

    def evaluate(self) -> float | None:
        """Mean over the validation set of what `validation_step` logs as `monitor`; None without one.

        Raises:
            ValueError: there is no validation set, or `monitor` is not logged in `validation_step`.
        """
        if self._monitor is None:
            return None
        sources, gradients = self._stream.keep_sources(), torch.is_grad_enabled()
        modes = [module.training for module in self._modules]

        def put_back() -> None:
            torch.set_grad_enabled(gradients)
            self._trainer.training = True
            for module, mode in zip(self._modules, modes, strict=True):
                module.training = mode
            self._stream.put_back_sources(sources)

        total = count = 0.0
        with Afterwards(put_back):
            torch.set_grad_enabled(False)
            self._module.eval()
            self._trainer.validating = True
            for batch, *indices in self._validation_batches():
                batch = self._to_device(batch)
                self._logged.clear()
                self._trainer.strategy.validation_step(batch, *indices)
                if self._monitor not in self._logged:
                    raise ValueError(
                        f"monitor {self._monitor!r} is not logged in validation_step, which logs "
                        f"{', '.join(map(repr, self._logged)) or 'nothing'}"
                    )
                size = samples_in(batch)
                total += size * float(self._logged[self._monitor])
                count += size
        if not count:
            raise ValueError("monitor needs validation data, and the fit has none")
        mean = torch.tensor(total / count, device=self._module.device)
        return float(self._trainer.strategy.reduce(mean, reduce_op="mean"))

    def save(self) -> Tree:
        """As every trial, and with loss scaler and schedulers."""
        return {
            **super().save(),
            "precision": copy.deepcopy(self._trainer.precision_plugin.state_dict()),
            "schedulers": [
                (dict(vars(each)), copy.deepcopy(each.state_dict())) for each in self._schedulers()
            ],
        }

    def restore(self, state: Tree) -> None:
        """Put all that `save` kept back in its place."""
        for scheduler, (attributes, kept) in zip(self._schedulers(), state["schedulers"], strict=True):
            vars(scheduler).update(attributes)
            scheduler.load_state_dict(copy.deepcopy(kept))
        self._trainer.precision_plugin.load_state_dict(copy.deepcopy(state["precision"]))
        super().restore(state)

    def _schedulers(self) -> list[Any]:
        return [config.scheduler for config in self._trainer.lr_scheduler_configs]

    def _to_device(self, batch: Any) -> Any:
        batch = self._trainer.precision_plugin.convert_input(batch)
        batch = self._module._on_before_batch_transfer(batch, dataloader_idx=0)
        return self._trainer.strategy.batch_to_device(batch, dataloader_idx=0)

    def _train(self) -> list[Tensor]:
        return self._automatic() if self._module.automatic_optimization else self._manual()

    def _manual(self) -> list[Tensor]:
        return [self._loss_of(self._training_step(self._batch())).detach()]

    def _automatic(self) -> list[Tensor]:
        """One optimizer step as the trainer does it, after as many batches as it accumulates."""
        module, strategy = self._module, self._trainer.strategy
        (optimizer,) = self._optimizers
        losses: dict[int, Tensor] = {}

        def closure(number: int, batch: Any) -> Tensor | None:
            output = self._training_step(batch)
            if number == 0:
                module.on_before_zero_grad(optimizer)
                module.optimizer_zero_grad(module.current_epoch, self._index, optimizer)
            if output is None:  # this batch is to be passed over
                return None
            losses.setdefault(number, self._loss_of(output).detach())
            loss = output if isinstance(output, Tensor) else output["loss"]
            scaled: Tensor = strategy.backward(loss / self._accumulate, optimizer)
            return scaled

        last = self._accumulate - 1
        for number in range(last):
            closure(number, self._batch())
        batch = self._batch()
        module.optimizer_step(
            module.current_epoch,
            self._index,
            module.optimizers(),
            lambda: closure(last, batch),  # which LBFGS calls more than once
        )
        return list(losses.values())

    @property
    def _index(self) -> int:
        return self._stream._taken - 1

    def _batch(self) -> Any:
        batch = self._to_device(next(self._stream))
        self._batch_size = self._batch_size or samples_in(batch)
        return batch

    def _training_step(self, batch: Any) -> Any:
        self._logged.clear()
        arguments = (batch, self._index) if self._takes_index else (batch,)
        return self._trainer.strategy.training_step(*arguments)

    def _loss_of(self, output: Any) -> Tensor:
        """The loss to record."""
        if self._loss_name is not None:
            loss = self._logged.get(self._loss_name)
            where = f"log {self._loss_name!r}, the name that is given as loss"
        else:
            loss = output.get("loss") if isinstance(output, Mapping) else output
            where = "return the loss, or log it under a name that is given as loss=…"
        if loss is None:
            raise TypeError(f"training_step must {where}")
        return torch.as_tensor(loss, device=self._module.device).float().reshape(())

    def _validation_batches(self) -> Iterator[tuple[Any, ...]]:
        loop = self._trainer.fit_loop.epoch_loop.val_loop
        if loop._data_source.is_defined():
            loop.setup_data()
        loaders = [] if loop._combined_loader is None else loop._combined_loader.flattened
        several = _arguments(self._module.validation_step) > 2
        for number, (loader, most) in enumerate(zip(loaders, loop.max_batches, strict=False)):
            batches = islice(private(loader), None if math.isinf(most) else int(most))
            for index, batch in enumerate(batches):
                yield (batch, index, number) if several else (batch, index)


class _Batches:
    """The training batches of a fit, an epoch at each iteration, apart from the fit's own iterator."""

    def __init__(self, trainer: Trainer) -> None:
        combined = trainer.fit_loop._combined_loader
        if combined is None or not trainer.optimizers:
            raise RuntimeError(
                "the fit has no data or no optimizer yet: call this from on_train_start or later"
            )
        self.loaders = combined.flattened
        self._combined = combined
        self._most = trainer.num_training_batches
        if len(self.loaders) == 1:
            for name in ("batch_sampler", "batch_size", "sampler"):
                if hasattr(self.loaders[0], name):
                    setattr(self, name, getattr(self.loaders[0], name))

    def __iter__(self) -> Iterator[Any]:
        combined = copy.copy(self._combined)
        combined.flattened = [private(loader) for loader in self.loaders]
        most = None if math.isinf(self._most) else int(self._most)
        return (batch for batch, _, _ in islice(combined, most))


def _arguments(function: Callable[..., Any]) -> int:
    """How many arguments `function` takes by position."""
    kinds = [parameter.kind for parameter in inspect.signature(function).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 99
    return sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds
    )
