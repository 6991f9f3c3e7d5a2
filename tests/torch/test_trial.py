"""The trial: batches of every form, accumulation, clipping, precision, own steps, evaluation, refusals."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from small_torch import (
    CLASSES,
    INPUTS,
    SAMPLES,
    bits,
    data,
    everything,
    loader,
    make_trial,
    net,
    seed_all,
    sgd,
    sweep,
    train,
)
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler, TensorDataset

import onecycle
from onecycle._trial import preserved
from onecycle.torch import Trial
from onecycle.torch._optimizers import drop_gradients

X, Y = data().tensors
cross_entropy = nn.functional.cross_entropy


def linear() -> nn.Linear:
    seed_all(0)
    return nn.Linear(INPUTS, CLASSES)


def first_loss(model: nn.Module, loss_fn: Any, batch: Any, **options: Any) -> float:
    return train(make_trial(model, torch.optim.SGD(model.parameters()), loss_fn, [batch], **options), 1)[0]


def test_it_is_a_trial() -> None:
    trial: onecycle.Trial = make_trial()
    assert isinstance(trial, onecycle.Trial)


# Batches ---------------------------------------------------------------------------------------------


class Two(nn.Module):
    """A net of two inputs, named or not."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = linear()

    def forward(self, a: Tensor, b: Tensor) -> Any:
        return self.linear(a) + self.linear(b)


@dataclass
class Output:
    loss: Tensor
    logits: Tensor


class WithLoss(nn.Module):
    """A net that gives its own loss, in an object or a dict, as those of Hugging Face do."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.linear, self.form = linear(), form

    def forward(self, inputs: Tensor, labels: Tensor) -> Any:
        logits = self.linear(inputs)
        loss = cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits} if self.form == "dict" else Output(loss, logits)


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


class Record:
    """A batch that is no container, but can move."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y, self.moves = x, y, 0

    def to(self, device: torch.device) -> Record:
        self.moves += 1
        return Record(self.x.to(device), self.y.to(device))


@dataclass
class Bare:
    """A batch that is no container."""

    x: Tensor
    y: Tensor


EXPECTED = float(cross_entropy(linear()(X), Y).detach())
TWICE = float(cross_entropy(linear()(X) * 2, Y).detach())


@pytest.mark.parametrize("kind", [tuple, list, Pair._make])
def test_pair(kind: Any) -> None:
    assert first_loss(linear(), cross_entropy, kind([X, Y])) == EXPECTED


def test_several_inputs() -> None:
    assert first_loss(Two(), cross_entropy, (X, X, Y)) == pytest.approx(TWICE)


@pytest.mark.parametrize("target", ["labels", "label", "targets", "target", "y"])
def test_dict_with_labels(target: str) -> None:
    assert first_loss(Two(), cross_entropy, {"a": X, target: Y, "b": X}) == pytest.approx(TWICE)


def test_dict_without_labels_is_itself_the_target() -> None:
    def loss_fn(output: Tensor, batch: dict[str, Tensor]) -> Tensor:
        return (output - batch["a"][:, :CLASSES]).square().mean()

    assert first_loss(Two(), loss_fn, {"a": X, "b": X}) > 0


@pytest.mark.parametrize("form", ["dict", "object"])
@pytest.mark.parametrize("batch", [{"inputs": X, "labels": Y}, (X, Y)], ids=["dict", "pair"])
def test_loss_of_the_model(form: str, batch: Any) -> None:
    assert first_loss(WithLoss(form), None, batch) == EXPECTED


@pytest.mark.parametrize("batch", [X, [X], (X,)], ids=["tensor", "list", "tuple"])
def test_input_is_its_own_target(batch: Any) -> None:
    """An autoencoder, from a loader of tensors or one over a `TensorDataset` of one tensor."""
    model = nn.Linear(INPUTS, INPUTS)
    expected = float(nn.functional.mse_loss(model(X), X).detach())
    assert first_loss(model, nn.functional.mse_loss, batch) == expected


@pytest.mark.parametrize("kind", [Record, Bare])
def test_any_object(kind: Any) -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear()

        def forward(self, batch: Any) -> Any:
            return self.linear(batch.x)

    batch = kind(X, Y)
    assert first_loss(Reader(), lambda output, batch: cross_entropy(output, batch.y), batch) == EXPECTED
    assert getattr(batch, "moves", 1) == 1


def test_batches_are_moved_to_the_device() -> None:
    """All that is in tuples, lists, dicts and named tuples; the rest goes as it is."""
    from onecycle.torch._batch import on_device

    there = torch.device("meta")
    batch = {"a": [X, (Y, "text")], "b": Pair(X, Y), "c": 3}
    moved = on_device(batch, there)
    assert moved["a"][0].device == moved["a"][1][0].device == moved["b"].x.device == there
    assert (moved["a"][1][1], type(moved["b"]), moved["c"]) == ("text", Pair, 3)
    assert make_trial(device="cpu")._device == torch.device("cpu")
    assert make_trial(nn.Linear(INPUTS, CLASSES, device="meta"))._device == there


@pytest.mark.parametrize("output", [X, None])
def test_no_loss_anywhere(output: Any) -> None:
    class Net(nn.Linear):
        def forward(self, *_: Any) -> Any:
            return output

    model = Net(INPUTS, CLASSES)
    with pytest.raises(TypeError, match=r"^loss_fn is None, and the model's output, a \w+, holds no loss: "):
        first_loss(model, None, (X, Y))


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (
            torch.zeros(4, 2),
            r"^loss_fn must give a scalar, got a tensor of shape \(4, 2\): take its ",
        ),
        ("text", r"^loss_fn must give a scalar tensor, got str$"),
        (None, r"^loss_fn must give a scalar tensor, got NoneType$"),
    ],
)
def test_loss_that_is_no_scalar(loss: Any, text: str) -> None:
    trial = make_trial(loss_fn=lambda *_: loss, val_loader=loader())
    with pytest.raises(ValueError, match=text):
        trial.step()
    with pytest.raises(ValueError, match=text):
        trial.evaluate()
    trial = make_trial(step=lambda _: loss)
    with pytest.raises(ValueError, match=text.replace("loss_fn", "step")):
        trial.step()


def test_loss_of_one_element_will_do() -> None:
    model = linear()
    assert first_loss(model, lambda *pair: cross_entropy(*pair).reshape(1, 1), (X, Y)) == EXPECTED


# Sizes -----------------------------------------------------------------------------------------------


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from zip(X, Y, strict=True)


@pytest.mark.parametrize(
    ("train_loader", "before", "after", "per_epoch"),
    [
        (loader(), 8, 8, 5),
        (DataLoader(data(), batch_sampler=BatchSampler(SequentialSampler(data()), 4, False)), 4, 4, 10),
        (DataLoader(Stream(), batch_size=8), 8, 8, None),
        (DataLoader(Stream(), batch_size=None), 0, INPUTS, None),
        ([(X[:3], Y[:3])], 0, 3, 1),
        ([{"inputs": X[:3], "labels": Y[:3]}], 0, 3, 1),
    ],
    ids=["loader", "batch sampler", "stream", "no batching", "list", "dicts"],
)
def test_sizes(train_loader: Any, before: int, after: int, per_epoch: int | None) -> None:
    trial = make_trial(train_loader=train_loader, step=lambda _: torch.zeros(()))
    assert (trial.size, trial.steps_per_epoch) == (before, per_epoch)
    trial.step()
    assert trial.size == after


def test_it_tells_whether_a_layer_normalises() -> None:
    class RMSNormOfMine(nn.Identity):
        pass

    for model, told in (
        (linear(), False),
        (nn.Sequential(linear(), nn.GroupNorm(1, CLASSES)), True),
        (nn.Sequential(linear(), RMSNormOfMine()), True),
    ):
        assert make_trial(model, torch.optim.SGD(model.parameters())).describe()["normalised"] is told


def test_samples_of_a_batch() -> None:
    from onecycle.torch._batch import samples_in

    assert samples_in(torch.zeros(())) == 1
    assert samples_in((["a", "b"], X[:2])) == 2
    assert samples_in({"text": "abc", "x": X[:3]}) == 3
    assert samples_in(object()) == 1
    assert samples_in([]) == 1


# Accumulation, clipping, several optimizers ----------------------------------------------------------


def test_accumulating_is_one_big_batch() -> None:
    models = [linear(), linear()]
    quarters = list(zip(X.reshape(4, 10, -1), Y.reshape(4, 10), strict=True))
    many = make_trial(models[0], train_loader=quarters, accumulate=4)
    one = make_trial(models[1], train_loader=[(X, Y)])
    assert train(many, 3) == pytest.approx(train(one, 3), rel=1e-5)
    assert torch.allclose(models[0].weight, models[1].weight, atol=1e-6)
    assert (many.size, many.steps_per_epoch) == (40, 1)


def test_accumulating_goes_on_across_epochs() -> None:
    trial = make_trial(accumulate=3)
    assert (trial.size, trial.steps_per_epoch) == (24, 1)
    assert make_trial(accumulate=9).steps_per_epoch == 1
    train(trial, 3)
    assert trial._stream._taken == 4


@pytest.mark.parametrize("amp", [None, torch.amp.GradScaler("cpu", init_scale=4.0)])
def test_the_gradient_is_clipped(amp: Any) -> None:
    models = nn.Linear(INPUTS, CLASSES), nn.Linear(INPUTS, CLASSES)
    both = nn.Sequential(*models)
    optimizers = [torch.optim.SGD(m.parameters(), lr=1.0) for m in models]
    trial = make_trial(
        both,
        optimizers,
        loss_fn=lambda *_: sum(1e3 * p.float().sum() for p in both.parameters()),
        train_loader=[(X[:, :0].expand(40, 0), Y)],
        clip_grad_norm=0.5,
        amp=amp,
    )
    both.forward = lambda x: x  # type: ignore[method-assign]
    before = nn.utils.parameters_to_vector(both.parameters()).detach().clone()
    trial.step()
    moved = nn.utils.parameters_to_vector(both.parameters()).detach() - before
    assert float(moved.norm()) == pytest.approx(0.5, rel=1e-4)


def test_every_optimizer_updates_its_part() -> None:
    model = net()
    optimizers = [torch.optim.SGD(model[0].parameters(), lr=0.1), torch.optim.Adam(model[4].parameters())]
    trial = make_trial(model, optimizers)
    before = bits([model[0].weight, model[4].weight])
    trial.set(lr=0.2, momentum=0.8)
    trial.step()
    after = bits([model[0].weight, model[4].weight])
    assert after[0] != before[0]
    assert after[1] != before[1]
    assert [each.param_groups[0]["lr"] for each in optimizers] == pytest.approx([0.2, 0.002])
    assert optimizers[0].param_groups[0]["momentum"] == 0.8
    assert optimizers[1].param_groups[0]["betas"] == (0.8, 0.999)


def test_momentum_can_be_turned_on_in_mid_training() -> None:
    """RMSprop began without the buffers that it then looks for; with them it is as if begun so."""
    model = linear()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=0.01)
    trial = make_trial(model, optimizer)
    train(trial, 2)
    trial.set(momentum=0.0)
    assert "momentum_buffer" not in optimizer.state[model.weight]
    trial.set(momentum=0.9)
    assert not optimizer.state[model.weight]["momentum_buffer"].any()
    train(trial, 2)


def test_only_known_hyper_parameters_can_be_set() -> None:
    with pytest.raises(ValueError, match=r"^'rate' cannot be set, only 'lr', 'momentum', 'weight_decay'$"):
        make_trial().set(rate=1.0)


# Own steps -------------------------------------------------------------------------------------------


class Gan:
    """Two nets, two optimizers and a step of one's own that refers to them."""

    def __init__(self) -> None:
        seed_all(0)
        self.maker = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, INPUTS))
        self.judge = nn.Sequential(nn.Linear(INPUTS, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 1))
        self.optimizers = [torch.optim.Adam(m.parameters(), lr=0.01) for m in (self.maker, self.judge)]
        self.noise = torch.Generator().manual_seed(1)

    def step(self, batch: Any) -> Tensor:
        real = batch[0]
        made = self.maker(torch.randn(len(real), 2, generator=self.noise))
        doubt = (self.judge(made.detach()) - self.judge(real)).mean()
        self.optimizers[1].zero_grad()
        doubt.backward()
        self.optimizers[1].step()
        loss: Tensor = -self.judge(made).mean()
        self.optimizers[0].zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizers[0].step()
        return loss

    def everything(self) -> Any:
        modules = nn.ModuleList([self.maker, self.judge])
        return everything(modules, *self.optimizers), bits(self.noise.get_state())


@pytest.mark.parametrize("told", ["all", "optimizers", "one"])
def test_own_step(told: str) -> None:
    """What the step refers to is put back, whether the trial was told of it or not."""

    def build() -> tuple[Gan, Trial]:
        gan = Gan()
        model = nn.ModuleList([gan.maker, gan.judge]) if told == "all" else gan.maker
        optimizers = gan.optimizers[:1] if told == "one" else gan.optimizers
        seed_all(1)
        return gan, make_trial(model, optimizers, None, step=gan.step)

    gan, trial = build()
    losses = train(trial, 8)
    expected = gan.everything()
    for before in (0, 3):
        gan, trial = build()
        begun = train(trial, before)
        with preserved(trial):
            sweep(trial)
        assert begun + train(trial, 8 - before) == losses
        assert gan.everything() == expected


def test_own_step_with_a_scaler_of_its_own() -> None:
    model = linear()
    optimizer, scaler = sgd(model), torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)

    def step(batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model(batch[0]), batch[1])
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
        return loss

    trial = make_trial(model, optimizer, step=step)
    with preserved(trial):
        train(trial, 2)
        assert scaler.get_scale() == 32.0
    assert scaler.get_scale() == 8.0


def test_own_step_may_refer_to_what_is_not_there_yet() -> None:
    def step(_: Any) -> Tensor:
        return torch.full((), float(trial.size))

    trial = make_trial(step=step)
    assert train(trial, 1) == [8.0]


def test_own_step_may_give_a_number() -> None:
    trial = make_trial(step=lambda _: 3)
    assert train(trial, 1) == [3.0]


# Precision -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amp", ["bf16", torch.bfloat16, True])
def test_bf16(amp: Any) -> None:
    seen: list[torch.dtype] = []

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        seen.append(output.dtype)
        return cross_entropy(output, target)

    trial = make_trial(loss_fn=loss_fn, amp=amp, val_loader=loader())
    assert np.isfinite(train(trial, 3)).all()
    trial.evaluate()
    assert set(seen) == {torch.bfloat16}
    assert trial._scalers == []


@pytest.mark.filterwarnings("ignore:torch.cuda.amp.GradScaler is enabled, but CUDA is not:UserWarning")
def test_precision_by_device() -> None:
    from onecycle.torch._arguments import precision

    dtype, scaler = precision(True, torch.device("cuda"))
    assert dtype == torch.float16
    assert isinstance(scaler, torch.amp.GradScaler)
    assert precision(False, torch.device("cuda")) == (None, None)


def overflowing(infinite: list[bool], **options: Any) -> tuple[nn.Linear, torch.amp.GradScaler, Trial]:
    """A trial whose gradient is infinite where the list says so."""
    model, scaler = linear(), torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=100)
    turns = iter(infinite)
    weight: Any = model.weight
    weight.register_hook(lambda grad: grad * (math.inf if next(turns, False) else 1))
    return model, scaler, make_trial(model, torch.optim.SGD(model.parameters()), amp=scaler, **options)


def test_fp16_updates_that_are_skipped_are_no_steps() -> None:
    model, scaler, trial = overflowing([True, True, False], clip_grad_norm=1.0)
    before = bits(model.weight)
    assert math.isfinite(float(trial.step()))
    assert trial._stream._taken == 3
    assert scaler.get_scale() == 256.0
    assert bits(model.weight) != before
    train(trial, 1)
    assert trial._stream._taken == 4


def test_fp16_that_only_overflows_gives_nan() -> None:
    model, _, trial = overflowing([True] * 99)
    before = bits(model.weight)
    assert math.isnan(float(trial.step()))
    assert bits(model.weight) == before
    assert trial._stream._taken == 32 % 5


def test_fp16_the_users_scaler_is_put_back() -> None:
    _, scaler, trial = overflowing([False, True, True])
    train(trial, 1)
    before = scaler.state_dict()
    with preserved(trial):
        sweep(trial)
        assert scaler.state_dict() != before
    assert scaler.state_dict() == before


def test_fp16_after_an_error_between_unscaling_and_update() -> None:
    *_, trial = overflowing([], clip_grad_norm=1.0)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    state = trial.save()
    handle = trial._optimizers[0].register_step_post_hook(fail)
    with pytest.raises(ZeroDivisionError):
        trial.step()
    handle.remove()
    trial.restore(state)
    assert math.isfinite(train(trial, 2)[1])


def test_fp16_scaler_that_is_off() -> None:
    trial = make_trial(amp=torch.amp.GradScaler("cpu", enabled=False))
    with preserved(trial):
        train(trial, 2)
    assert np.isfinite(train(trial, 2)).all()


# Evaluation ------------------------------------------------------------------------------------------


def test_no_validation_set() -> None:
    assert make_trial().evaluate() is None


def test_the_mean_is_over_samples() -> None:
    """40 samples in batches of 16, 16 and 8."""
    model = net().eval()
    accuracy = {"accuracy": lambda output, target: (output.argmax(1) == target).float().mean()}
    trial = make_trial(model, val_loader=DataLoader(data(), batch_size=16), metrics=accuracy)
    with torch.no_grad():
        output = model(X)
    assert trial.evaluate() == pytest.approx(float(cross_entropy(output, Y)), rel=1e-6)
    assert trial.metrics == {"accuracy": pytest.approx(float((output.argmax(1) == Y).float().mean()))}


def test_the_loss_of_the_model_is_evaluated_too() -> None:
    trial = make_trial(WithLoss("dict"), loss_fn=None, val_loader=[{"inputs": X, "labels": Y}])
    assert trial.evaluate() == pytest.approx(EXPECTED)


@pytest.mark.parametrize("workers", [0, 2])
def test_training_with_evaluation_is_training_without(workers: int) -> None:
    def run(evaluate: bool) -> Any:
        model = net()
        generator = torch.Generator().manual_seed(0)
        validation = loader(generator=generator, num_workers=workers, persistent_workers=workers > 0)
        model[1].eval()
        trial = make_trial(model, train_loader=loader(generator=generator), val_loader=validation)
        losses = []
        for _ in range(7):
            losses += train(trial, 1)
            if evaluate and len(losses) % 3 == 0:
                trial.evaluate()
        return bits(losses), everything(model, *trial._optimizers), bits(generator.get_state())

    assert run(evaluate=True) == run(evaluate=False)


def test_evaluation_leaves_mode_counts_and_gradients() -> None:
    class Counting(nn.Linear):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x)

    model = nn.Sequential(Counting(INPUTS, CLASSES), nn.Dropout()).eval()
    trial = make_trial(model, val_loader=loader())
    trial.evaluate()
    assert not model.training
    assert "calls" not in vars(model[0])
    train(trial, 2)
    before = everything(model, *trial._optimizers)
    trial.evaluate()
    assert everything(model, *trial._optimizers) == before
    assert model[0].calls == 2


def test_evaluation_that_fails_leaves_training_as_it_was() -> None:
    def broken() -> Any:
        yield X, Y
        raise ZeroDivisionError

    class Broken:
        def __iter__(self) -> Any:
            return broken()

    trial = make_trial(val_loader=Broken())
    train(trial, 2)
    before = everything(trial._model, *trial._optimizers)
    with pytest.raises(ZeroDivisionError):
        trial.evaluate()
    assert everything(trial._model, *trial._optimizers) == before


def test_validation_set_that_is_used_up() -> None:
    trial = make_trial(val_loader=iter([(X, Y)]))
    trial.evaluate()
    with pytest.raises(ValueError, match=r"^val_loader gave no batch: it is empty, or an iterator that is"):
        trial.evaluate()


class ScheduleFree(torch.optim.SGD):
    """Swaps averaged weights in for evaluation, and back with rounding, as schedule-free optimizers do."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=0.1)
        self.train_mode = False
        self.swaps: list[str] = []

    def step(self, closure: Any = None) -> Any:
        assert self.train_mode, "please insert .train() and .eval() calls"
        super().step(closure)
        for p in self.param_groups[0]["params"]:
            self.state[p].setdefault("mean", p.detach().clone()).lerp_(p.detach(), 0.1)

    def _swap(self, mode: bool) -> None:
        self.swaps.append("train" if mode else "eval")
        if mode != self.train_mode:
            for p in self.param_groups[0]["params"]:
                if "mean" in self.state[p]:
                    p.data.lerp_(self.state[p]["mean"], -9.0 if mode else 0.9)
        self.train_mode = mode

    def train(self) -> None:
        self._swap(True)

    def eval(self) -> None:
        self._swap(False)


def test_schedule_free_optimizers_are_switched() -> None:
    def run(evaluate: bool) -> Any:
        model = net().eval()
        optimizer = ScheduleFree(model.parameters())
        trial = make_trial(model, optimizer, val_loader=loader())
        losses = []
        for _ in range(4):
            losses += train(trial, 1)
            if evaluate:
                trial.evaluate()
                assert optimizer.train_mode
        return bits(losses), everything(model, optimizer)

    assert run(evaluate=True) == run(evaluate=False)
    model = net().eval()
    optimizer = ScheduleFree(model.parameters())
    trial = make_trial(model, optimizer, val_loader=loader())
    with preserved(trial):
        sweep(trial)
    assert not optimizer.train_mode
    assert optimizer.swaps == []
    trial.evaluate()
    assert not optimizer.train_mode


# A plain step is the step -----------------------------------------------------------------------------


NAMED: Any = [{"inputs": x, "labels": y} for x, y in zip(X, Y, strict=True)]


def plain_and_not(make: Any, loss_fn: Any, samples: Any, optimizer: Any) -> tuple[list[Any], list[Any]]:
    """Losses, and all that training leaves behind, of the step in fewer calls and of the whole one."""
    found = []
    for plain in (True, False):
        model = make()
        model.train()
        optimizers = optimizer(model)
        trial = Trial(model, optimizers, loss_fn, DataLoader(samples, 8, shuffle=True))
        assert trial._plain
        trial._plain = plain
        trial.seed(0)
        sweep(trial, 12)  # into the third epoch
        losses = [trial.step() for _ in range(3)]
        found.append(
            [losses, everything(model, *(optimizers if isinstance(optimizers, list) else [optimizers]))]
        )
    return found[0], found[1]


@pytest.mark.parametrize(
    ("make", "loss_fn", "samples"),
    [
        (net, cross_entropy, data()),
        (Two, cross_entropy, TensorDataset(X, X, Y)),
        (lambda: WithLoss("dict"), None, data()),
        (lambda: WithLoss("object"), None, NAMED),
        (net, lambda output, y: cross_entropy(output, y).reshape(1), data()),
    ],
    ids=["pair", "three", "own loss", "dict", "of one element"],
)
@pytest.mark.parametrize(
    "optimizer",
    [
        sgd,
        lambda model: torch.optim.Adam(model.parameters()),
        lambda model: [torch.optim.SGD(list(model.parameters())[:1], 0.1, 0.9), sgd(model)],
    ],
    ids=["SGD", "Adam", "two"],
)
def test_a_plain_step_is_the_step(make: Any, loss_fn: Any, samples: Any, optimizer: Any) -> None:
    plain, whole = plain_and_not(make, loss_fn, samples, optimizer)
    assert plain == whole


@pytest.mark.parametrize(
    "options", [{"accumulate": 2}, {"clip_grad_norm": 1.0}, {"amp": "bf16"}, {"step": len}], ids=str
)
def test_what_is_no_plain_step(options: dict[str, Any]) -> None:
    assert not make_trial(**options)._plain
    assert not make_trial(train_loader=[(X, Y)])._plain  # whose batches tell their size

    class Own(Trial):
        def _forward(self, batch: Any) -> Any:
            return super()._forward(batch)

    model = net()
    assert not Own(model, sgd(model), cross_entropy, loader())._plain


class Zeroing(torch.optim.SGD):
    """Counts the calls of a `zero_grad` of its own."""

    calls = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.calls += 1
        super().zero_grad(set_to_none)


@pytest.mark.parametrize("plain", [True, False])
def test_a_zero_grad_of_ones_own_is_called(plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    first, second, third, *_ = model.parameters()
    own, patched, usual = Zeroing([first], 0.1), torch.optim.SGD([second], 0.1), torch.optim.SGD([third], 0.1)
    calls: list[str] = []
    patched.zero_grad = lambda **_: calls.append("on the object")  # type: ignore[method-assign]
    trial = Trial(model, [own, patched, usual], cross_entropy, loader())
    assert trial._plain
    trial._plain = plain
    trial.step()
    assert (own.calls, calls) == (1, ["on the object"])
    monkeypatch.setattr(torch.optim.Optimizer, "zero_grad", lambda *_, **__: calls.append("on the class"))
    trial.step()
    assert (own.calls, calls[1:]) == (2, ["on the class", "on the object", "on the class"])


def test_gradients_are_dropped_where_the_method_drops_them() -> None:
    """Those of the optimizer whose method it is, of its parameters alone, and of groups that came since."""
    model = net()
    first, second, *others = model.parameters()
    inner, outer = torch.optim.SGD([first], 0.1), torch.optim.SGD([second], 0.1)
    outer.zero_grad = inner.zero_grad  # type: ignore[method-assign]
    inner.add_param_group({"params": others[:1]})
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    drop_gradients([outer])
    assert [p.grad is None for p in (first, second, *others[:2])] == [True, False, True, False]


# The loss is that before the update ------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.LBFGS])
def test_the_loss_is_that_before_the_update(optimizer: Any) -> None:
    model = linear()
    trial = make_trial(model, optimizer(model.parameters(), lr=0.1), train_loader=[(X, Y)])
    for _ in range(3):
        expected = float(cross_entropy(model(X), Y).detach())
        loss = trial.step()
        assert isinstance(loss, float)  # of a CPU, which need not be waited for
        assert loss == expected


@pytest.mark.parametrize("plain", [True, False])
def test_a_step_reads_nothing_off_a_device(plain: bool) -> None:
    """On the device "meta" nothing can be read."""
    model = net().to("meta")
    trial = make_trial(model, torch.optim.Adam(model.parameters()))
    trial._plain = plain
    losses = [trial.step() for _ in range(2)]
    assert all(isinstance(loss, Tensor) and loss.device.type == "meta" for loss in losses)


def test_losses_are_read_together_where_they_are_alike() -> None:
    trial = make_trial()
    losses = [torch.tensor(number) for number in (0.25, 0.5, 0.75)]
    assert trial.read_losses(losses) == [0.25, 0.5, 0.75]
    assert trial.read_losses([trial.step(), 2.0])[1] == 2.0
    assert trial.read_losses([*losses, torch.tensor(0.1, dtype=torch.float64)])[-1] == 0.1
    assert trial.read_losses([]) == []


@pytest.mark.filterwarnings("ignore:Complex modules:UserWarning")
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("keep", [Trial.save, Trial.set_aside])
def test_how_far_the_weights_moved_is_a_share_of_their_size(
    kind: torch.dtype, keep: Callable[[Trial], Any]
) -> None:
    first, second = nn.Linear(INPUTS, 8), nn.Linear(8, CLASSES)
    model = nn.Sequential(first, second).to(kind)
    first.bias.requires_grad_(False)  # what is not trained does not count
    trial = make_trial(model)
    state = keep(trial)
    assert trial.moved(state) == 0
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.no_grad():
        first.bias.fill_(100)
        for parameter in trained:
            parameter.mul_(1.5)
    assert trial.moved(state) == pytest.approx(0.5, rel=1e-2 if kind == torch.bfloat16 else 1e-5)
    with torch.no_grad():
        before = torch.cat([p.flatten() for p in trained]).to(torch.complex128)
        second.weight[0, 0] += 3
        after = torch.cat([p.flatten() for p in trained]).to(torch.complex128)
    start = before / 1.5
    assert trial.moved(state) == pytest.approx(float((after - start).norm() / start.norm()), rel=1e-2)
    trial.restore(state)
    assert trial.moved(state) == 0


@pytest.mark.parametrize("place", ["device", "host", "disk"])
def test_how_far_the_weights_moved_is_the_same_wherever_the_copies_lie_and_piece_by_piece(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moved(trial: Trial, state: Any) -> float:
        with torch.no_grad():
            for parameter in trial._model.parameters():
                parameter.add_(torch.linspace(0, 1, parameter.numel()).view(parameter.shape))
        return trial.moved(state)

    whole = make_trial()
    expected = moved(whole, whole.save())
    for piece in (2**20, 112, 16):
        monkeypatch.setattr("onecycle.torch._distance.PIECE", piece)
        trial = make_trial(keep_on=place)
        state = trial.set_aside()
        assert trial.moved(state) == 0
        assert moved(trial, state) == pytest.approx(expected, rel=1e-6)
        trial.restore(state)
        assert trial.moved(state) == 0


def moved_by(trial: Trial, factor: float = 1.5) -> float:
    """What a trial says after all weights that its optimizer has were multiplied by that."""
    state = trial.save()
    with torch.no_grad():
        for group in trial._snapshots.optimizers[0].param_groups:
            for parameter in group["params"]:
                parameter.mul_(factor)
    return trial.moved(state)


def test_what_no_optimizer_trains_does_not_count_in_how_far_the_weights_moved() -> None:
    body, head = nn.Linear(INPUTS, 8), nn.Linear(8, CLASSES)
    trial = make_trial(nn.Sequential(body, head), torch.optim.SGD(head.parameters(), 0.1))
    state = trial.save()
    with torch.no_grad():
        body.weight.add_(9)  # such as a target net that is set anew in the step
    assert trial.moved(state) == 0
    assert moved_by(trial) == pytest.approx(0.5)


def test_rows_that_never_move_do_not_count_in_how_far_the_weights_moved() -> None:
    moved = []
    for words in (4, 4000):
        torch.manual_seed(0)
        bag = nn.EmbeddingBag(words, 3, _weight=torch.ones(words, 3))
        trial = Trial(bag, torch.optim.SGD(bag.parameters(), 1.0), nn.functional.mse_loss, loader())
        state = trial.save()
        with torch.no_grad():
            bag.weight[:4] += 0.25
        moved.append(trial.moved(state))
    assert moved == [pytest.approx(0.25)] * 2


def test_weights_that_begin_at_zero_do_not_count_and_say_nothing_where_they_are_most() -> None:
    first, second = nn.Linear(INPUTS, 8), nn.Linear(8, CLASSES)
    model = nn.Sequential(first, second)
    with torch.no_grad():
        second.weight.zero_()
    trial = make_trial(model)
    state = trial.save()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.where(parameter == 0, 100, 1.5 * parameter))
    assert trial.moved(state) == pytest.approx(0.5)
    trial.restore(state)
    with torch.no_grad():
        first.weight.zero_()
    assert math.isnan(make_trial(model).moved(make_trial(model).save()))


@pytest.mark.parametrize("place", ["device", "disk"])
def test_how_far_the_weights_moved_in_any_order_of_memory(place: Any) -> None:
    def moved(weight: torch.Tensor) -> float:
        model = nn.Linear(INPUTS, CLASSES)
        model.weight = nn.Parameter(weight)
        trial = make_trial(model, keep_on=place)
        state = trial.set_aside()
        with torch.no_grad():
            model.weight.add_(torch.linspace(0, 1, weight.numel()).view(weight.shape))
        share = trial.moved(state)
        trial.restore(state)
        return share

    values = torch.linspace(1, 2, INPUTS * CLASSES).view(CLASSES, INPUTS)
    assert moved(values.t().contiguous().t()) == pytest.approx(moved(values.clone()), rel=1e-6)


class Wrapping(Trial):
    """A trial whose state is in another."""

    def save(self) -> Any:
        return {"base": super().save()}

    def restore(self, state: Any) -> None:
        super().restore(state["base"])


def test_a_range_test_does_not_need_to_know_how_far_the_weights_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = net()
    wrapping = Wrapping(model, torch.optim.SGD(model.parameters(), 0.1), cross_entropy, loader())
    assert onecycle.range_test(wrapping, steps=20, progress=False).moved is None
    placeholder = net()
    placeholder[-1].register_parameter("later", nn.Parameter(torch.empty(3, device="meta")))
    trial = make_trial(placeholder)
    assert onecycle.range_test(trial, steps=20, progress=False).moved is not None

    def fails(*_: Any) -> None:
        raise NotImplementedError("not on this device")

    monkeypatch.setattr("onecycle.torch._distance._squares", fails)
    assert onecycle.range_test(make_trial(), steps=20, progress=False).moved is None


def test_how_far_the_weights_moved_is_not_known_of_none() -> None:
    frozen = net().requires_grad_(False)
    trial = make_trial(frozen, torch.optim.SGD(frozen.parameters()))
    assert math.isnan(trial.moved(trial.save()))


def test_how_far_the_weights_moved_changes_nothing() -> None:
    trial = make_trial()
    state = trial.save()
    losses = [trial.step() for _ in range(4)]
    trial.restore(state)
    seen = []
    for _ in range(4):
        seen.append(trial.step())
        trial.moved(state)
    assert seen == losses


def test_seed_starts_everything_anew() -> None:
    def run(trial: Trial, seed: int) -> Any:
        trial.seed(seed)
        return [float(x.sum()) for x in [next(trial._stream)[0] for _ in range(3)]] + torch.rand(2).tolist()

    trial = make_trial(train_loader=loader(generator=torch.Generator()), step=lambda _: 0)
    assert run(trial, 3) == run(trial, 3) != run(trial, 4)


@pytest.mark.parametrize("generator", [np.random.default_rng(9), np.random.RandomState(9), torch.Generator()])
def test_seed_reaches_every_generator(generator: Any) -> None:
    def draw() -> float:
        if isinstance(generator, torch.Generator):
            return float(torch.rand((), generator=generator))
        return float(generator.random())

    trial = make_trial(loss_fn=lambda *_: generator)
    values = []
    for seed in (1, 2, 1):
        trial.seed(seed)
        values.append(draw())
    assert values[0] == values[2] != values[1]


# What is refused -------------------------------------------------------------------------------------


def test_an_iterator_is_warned_of_where_it_is_passed() -> None:
    text = r"^train_loader is an iterator: the batches taken from it cannot be put back; pass the Data"
    model = linear()
    with pytest.warns(UserWarning, match=text) as caught:
        Trial(model, sgd(model), cross_entropy, iter([(X, Y)]))
    assert caught[0].filename == __file__


MODEL = linear()
SGD = sgd(MODEL)


NO_OPTIMIZER = "optimizer must be a torch optimizer or a list of them, got"
NO_PRECISION = "amp must be 'bf16', 'fp16', their torch dtype, a GradScaler or None, got"
CLOSURE = "an optimizer that needs a closure, such as LBFGS, must be alone and without amp"
STEP = (
    "step does its own forward, backward and update: do accumulate, clip_grad_norm and amp in it "
    f"and leave them out here, got {len!r} with "
)
EMPTY = "is empty: give one with a batch (a data set below one, with drop_last=True?)"
LBFGS = torch.optim.LBFGS(MODEL.parameters())


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.UninitializedParameter()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"model": 3}, TypeError, "model must be a torch.nn.Module, got int"),
        ({"optimizer": 3}, TypeError, f"{NO_OPTIMIZER} 3"),
        ({"optimizer": []}, TypeError, f"{NO_OPTIMIZER} []"),
        ({"optimizer": [SGD, 3]}, TypeError, f"{NO_OPTIMIZER} 3 in a list"),
        ({"train_loader": 3}, TypeError, "train_loader must be an iterable of batches, got int"),
        ({"val_loader": 3}, TypeError, "val_loader must be an iterable of batches, got int"),
        ({"train_loader": []}, ValueError, f"train_loader {EMPTY}"),
        ({"val_loader": ()}, ValueError, f"val_loader {EMPTY}"),
        ({"accumulate": 0}, ValueError, "accumulate must be a whole number of batches >= 1, got 0"),
        ({"accumulate": 1.5}, ValueError, "accumulate must be a whole number of batches >= 1, got 1.5"),
        ({"loss_fn": 3}, TypeError, "loss_fn must be a function or None, got 3"),
        ({"step": 3}, TypeError, "step must be a function or None, got 3"),
        ({"device": "gpu"}, ValueError, "device must be a torch device such as 'cpu' or 'cuda', got 'gpu'"),
        ({"clip_grad_norm": "1"}, TypeError, "clip_grad_norm must be a number or None, got str"),
        ({"clip_grad_norm": 0}, ValueError, "clip_grad_norm must be > 0 or None, got 0"),
        ({"clip_grad_norm": math.nan}, ValueError, "clip_grad_norm must be > 0 or None, got nan"),
        ({"keep_on": "cpu"}, ValueError, "keep_on must be 'device', 'host', 'disk' or None, got 'cpu'"),
        ({"step": len, "amp": True}, ValueError, f"{STEP}accumulate=1, clip_grad_norm=None, amp=True"),
        ({"step": len, "accumulate": 2}, ValueError, f"{STEP}accumulate=2, clip_grad_norm=None, amp=None"),
        ({"step": len, "clip_grad_norm": 2}, ValueError, f"{STEP}accumulate=1, clip_grad_norm=2, amp=None"),
        ({"amp": "fp8"}, ValueError, f"{NO_PRECISION} 'fp8'"),
        ({"amp": torch.float64}, ValueError, f"{NO_PRECISION} torch.float64"),
        (
            {"model": Lazy()},
            ValueError,
            "model has lazy parameters that are not yet made: run one batch through it first",
        ),
        ({"optimizer": [LBFGS, SGD]}, ValueError, CLOSURE),
        ({"optimizer": LBFGS, "amp": "fp16"}, ValueError, CLOSURE),
    ],
)
def test_what_is_refused(change: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments = {"model": MODEL, "optimizer": SGD, "loss_fn": cross_entropy, "train_loader": [(X, Y)]}
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        Trial(**{**arguments, **change})


def test_loader_that_gives_nothing() -> None:
    mine = DataLoader(TensorDataset(X[:0], Y[:0]), batch_size=4, sampler=[])
    with pytest.raises(ValueError, match=r"^train_loader is empty"):
        make_trial(train_loader=mine)
    trial = make_trial(train_loader=DataLoader(Nothing(), batch_size=4))
    with pytest.raises(ValueError, match=r"^train_loader gave no batch: it is empty, an iterator that is"):
        trial.step()


class Nothing(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


def test_a_model_without_parameters_is_on_the_cpu() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    assert make_trial(nn.ReLU(), optimizer, train_loader=[(X, Y)], step=lambda b: len(b[0])).step() == SAMPLES


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "a"])
def test_seeds_out_of_range(seed: Any) -> None:
    with pytest.raises(ValueError, match=rf"^seed must be an int >= 0 and < 2\*\*32, got {seed!r}$"):
        make_trial().seed(seed)


def test_seed_of_numpy() -> None:
    make_trial().seed(np.int64(3))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["a", math.nan, math.inf])
def test_values_that_are_no_number(value: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"^lr must be a number, finite in single precision, got {value!r}$"
    ):
        make_trial().set(lr=value)


def test_momentum_of_an_optimizer_without_one() -> None:
    model = net()
    adagrad = torch.optim.Adagrad(model.parameters())
    trial = make_trial(model, adagrad)
    trial.set(lr=0.1, momentum=0.9)  # as a policy does
    with pytest.raises(
        ValueError, match=r"^momentum cannot be set: the optimizer, Adagrad, has no momentum$"
    ):
        onecycle.torch.range_test(
            model, adagrad, nn.functional.cross_entropy, loader(), hyper="momentum", start=0.5, end=0.9
        )


def test_a_loss_without_a_gradient() -> None:
    trial = make_trial(loss_fn=lambda output, y: nn.functional.cross_entropy(output.detach(), y))
    with pytest.raises(ValueError, match=r"^loss_fn gave a loss without a gradient: "):
        trial.step()


@pytest.mark.parametrize("name", ["range_test", "find_lr"])
def test_unknown_keywords_of_the_helpers(name: str) -> None:
    model = net()
    helper = getattr(onecycle.torch, name)
    with pytest.raises(TypeError, match=rf"^{name}\(\) has no argument 'stepz': its keywords are .*, amp, "):
        helper(
            model, sgd(model), None, loader(), stepz=3, **({"total_steps": 9} if name == "find_lr" else {})
        )
