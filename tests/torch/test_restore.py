"""Training after a sweep that was put back is training without it, to the last bit."""

from __future__ import annotations

import copy
import gc
import multiprocessing
import random
import shutil
import tempfile
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

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
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Sampler,
    Subset,
    TensorDataset,
)

from onecycle import find_lr, range_test
from onecycle._trial import preserved
from onecycle.torch import Trial, _room, noise_scale
from onecycle.torch._objects import find
from onecycle.torch._state import Kept

Build = Callable[[], Trial]


def assert_put_back(build: Build, *, before: int = 0, after: int = 9, trouble: Any = sweep) -> None:
    """Train `before` steps, have `trouble`, be put back, and train on: as if there had been none."""
    seed_all(1)
    plain = build()
    train(plain, before)
    expected_losses = train(plain, after)
    expected = everything(plain._model, *plain._optimizers)

    seed_all(1)
    trial = build()
    train(trial, before)
    at_start = everything(trial._model, *trial._optimizers)
    with preserved(trial):
        trouble(trial)
    assert everything(trial._model, *trial._optimizers) == at_start
    assert bits(train(trial, after)) == bits(expected_losses)
    assert everything(trial._model, *trial._optimizers) == expected


# Optimizers ------------------------------------------------------------------------------------------

OPTIMIZERS: list[Any] = [
    value
    for name, value in sorted(vars(torch.optim).items())
    if isinstance(value, type)
    and issubclass(value, torch.optim.Optimizer)
    and name not in ("Optimizer", "SparseAdam", "Muon")
]


@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda each: each.__name__)
def test_every_optimizer(optimizer: Any, before: int) -> None:
    def build() -> Trial:
        model = net()
        return make_trial(model, optimizer(model.parameters(), lr=0.01))

    assert_put_back(build, before=before, after=6)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": torch.tensor(0.01), "betas": (torch.tensor(0.9), torch.tensor(0.99)), "capturable": True},
        {"amsgrad": True, "foreach": True},
        {"fused": True},
        {"maximize": True, "weight_decay": 0.1},
    ],
    ids=["tensors", "amsgrad", "fused", "maximize"],
)
def test_adam(options: dict[str, Any]) -> None:
    options = {name: copy.deepcopy(value) for name, value in options.items()}
    if options.pop("capturable", False) and not torch.cuda.is_available():
        options["foreach"] = False

    def build() -> Trial:
        model = net()
        return make_trial(model, torch.optim.Adam(model.parameters(), **copy.deepcopy(options)))

    assert_put_back(build, before=2)


def test_sparse_gradients() -> None:
    def build() -> Trial:
        seed_all(0)
        model = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Flatten(), nn.Linear(8, CLASSES))
        optimizers = [
            torch.optim.SparseAdam(model[0].parameters()),
            torch.optim.SGD(model[2].parameters(), lr=0.1),
        ]
        batches = [(torch.randint(9, (5, 2)), torch.randint(CLASSES, (5,))) for _ in range(3)]
        return make_trial(model, optimizers, train_loader=batches)

    assert_put_back(build, before=2)


def test_muon_beside_adamw() -> None:
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")

    def build() -> Trial:
        model = net()
        matrices = [p for p in model.parameters() if p.ndim == 2]
        others = [p for p in model.parameters() if p.ndim != 2]
        return make_trial(model, [torch.optim.Muon(matrices, lr=0.01), torch.optim.AdamW(others)])

    assert_put_back(build, before=2)


class Lookahead(torch.optim.Optimizer):
    """A wrapper with a state of its own, a count, and slow weights by name."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner = inner
        self.param_groups = inner.param_groups
        self.state: Any = defaultdict(dict)
        self.calls = 0
        self.slow: dict[str, Tensor] = {}
        self.norms: deque[float] = deque(maxlen=4)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        self.inner.step(closure)
        self.calls += 1
        for place, p in enumerate(self.param_groups[0]["params"]):
            slow = self.slow.setdefault(str(place), p.detach().clone())
            self.state[p].setdefault("mean", torch.zeros_like(p)).lerp_(p.detach(), 0.5)
            if self.calls % 3 == 0:
                p.data.copy_(slow.lerp_(p.detach(), 0.5))
                p.data.add_(self.state[p]["mean"], alpha=0.01 * sum(self.norms))
        self.norms.append(float(self.param_groups[0]["params"][0].detach().norm()))

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()


def test_a_wrapper_around_an_optimizer() -> None:
    def build() -> Trial:
        model = net()
        return make_trial(model, Lookahead(torch.optim.Adam(model.parameters(), lr=0.01)))

    assert_put_back(build)
    assert_put_back(build, before=4)


class Delegating(torch.optim.Optimizer):
    """Such as Accelerate's: all that is the inner optimizer's, nothing of its own."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    state = property(lambda self: self.optimizer.state)
    param_groups = property(lambda self: self.optimizer.param_groups)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step(closure)

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()


class DelegatingLookahead(Delegating):
    """Delegates its state, and has a count and slow weights of its own."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer)
        self.k = 0
        self.slow = [p.detach().clone() for p in self.param_groups[0]["params"]]

    def step(self, closure: Any = None) -> Any:
        super().step(closure)
        self.k += 1
        if self.k % 3 == 0:
            for p, slow in zip(self.param_groups[0]["params"], self.slow, strict=True):
                p.data.copy_(slow.lerp_(p.detach(), 0.5))


@pytest.mark.parametrize("before", [0, 4])
def test_a_wrapper_that_delegates_its_state_but_counts(before: int) -> None:
    def build() -> Trial:
        model = net()
        return make_trial(model, DelegatingLookahead(sgd(model)))

    assert_put_back(build, before=before)


def test_a_state_that_a_wrapper_delegates_is_kept_once() -> None:
    def build() -> Trial:
        model = net()
        return make_trial(model, Delegating(torch.optim.Adam(model.parameters(), lr=0.01)))

    assert_put_back(build, before=2)
    assert [tree["state"] is None for tree in build().save()["optimizers"]] == [False, True]


def test_groups_added_meanwhile_are_taken_out() -> None:
    def unfreeze(trial: Trial) -> None:
        trial._optimizers[0].add_param_group({"params": [nn.Parameter(torch.zeros(2))], "lr": 0.1})
        trial._optimizers[0].param_groups[0]["initial_lr"] = 9.0
        sweep(trial)

    def build() -> Trial:
        model = net()
        return make_trial(model, sgd(model))

    assert_put_back(build, before=1, trouble=unfreeze)
    trial = build()
    with preserved(trial):
        unfreeze(trial)
    trial.set(lr=0.3)
    assert [group["lr"] for group in trial._optimizers[0].param_groups] == [0.3]


# Loaders ---------------------------------------------------------------------------------------------


def own_generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


class OwnOrder(Sampler[int]):
    """Another order each epoch, by a generator and a count of its own."""

    def __init__(self) -> None:
        self.generator = np.random.default_rng(5)
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        yield from self.generator.permutation(SAMPLES)[self.epoch % 3 :].tolist()

    def __len__(self) -> int:
        return SAMPLES


class Noisy(Dataset[Any]):
    """Draws from generators of its own, Python's and NumPy's, and counts."""

    def __init__(self, inner: Any, generator: Any) -> None:
        self.inner, self.generator, self.served = inner, generator, 0

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        x, y = self.inner[index]
        self.served += 1
        noise = self.generator.random() + random.random() + np.random.rand()  # noqa: NPY002
        return x + noise + 0.01 * self.served + torch.rand(()), y


class Endless(IterableDataset[Any]):
    """A stream without length."""

    def __iter__(self) -> Iterator[Any]:
        for _ in range(4):
            x = torch.rand(INPUTS)
            yield x, int(x.sum()) % CLASSES


class OwnLoader:
    """An iterable that is no DataLoader, and counts its epochs."""

    def __init__(self) -> None:
        self.epoch = 0

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        generator = torch.Generator().manual_seed(self.epoch)
        for _ in range(3):
            yield (
                torch.rand(4, INPUTS, generator=generator),
                torch.randint(CLASSES, (4,), generator=generator),
            )


class Shuffled(OwnOrder):
    """Another order of the last epoch's, shuffled in its own list."""

    def __init__(self) -> None:
        self.order = list(range(SAMPLES))

    def __iter__(self) -> Iterator[int]:
        random.shuffle(self.order)
        yield from self.order


class Picking:
    """A loader that picks its batches from tensors, each epoch by another change of what it holds."""

    def __init__(self, held: Any, pick: Callable[[Any], Iterable[Any]]) -> None:
        self.held, self.pick = held, pick

    def __iter__(self) -> Iterator[Any]:
        x, y = data().tensors
        for indices in self.pick(self):
            yield x[indices], y[indices]


def in_eights(order: Any) -> Any:
    return torch.as_tensor(order).clone().view(-1, 8)


def shuffle_array(of: Picking) -> Any:
    np.random.shuffle(of.held)  # noqa: NPY002
    return in_eights(of.held)


def bind_another(of: Picking) -> Any:
    of.held = of.held[torch.randperm(SAMPLES)]
    return in_eights(of.held)


def shuffle_batches(of: Picking) -> Any:
    random.shuffle(of.held)
    return [torch.tensor(each) for each in of.held]


def shuffle_each(of: Picking) -> Any:
    for bucket in of.held.values():
        random.shuffle(bucket)
    return [torch.tensor(bucket) for bucket in of.held.values()]


def rotate(of: Picking) -> Any:
    of.held.rotate(1)
    return [torch.tensor(each) for each in list(of.held)[:3]]


def make_order_late(of: Any) -> Any:
    of.order = getattr(of, "order", torch.arange(SAMPLES)).roll(3)
    return in_eights(of.order)


def in_own_lists() -> list[list[int]]:
    return [list(range(start, start + 8)) for start in range(0, SAMPLES, 8)]


class Slotted:
    """Counts in a slot."""

    __slots__ = ("epoch",)

    def __init__(self) -> None:
        self.epoch = 0

    def __iter__(self) -> Iterator[Any]:
        self.epoch += 1
        x, y = data().tensors
        for indices in in_eights(torch.arange(SAMPLES).roll(self.epoch)):
            yield x[indices], y[indices]


class Wrapping:
    """Around another loader, which counts."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        return iter(self.inner)


def batches() -> list[Any]:
    return [(torch.rand(4, INPUTS), torch.randint(CLASSES, (4,))) for _ in range(4)]


def with_closure() -> Any:
    generator = np.random.default_rng(2)

    def collate(samples: list[Any]) -> Any:
        x, y = map(torch.stack, zip(*samples, strict=True))
        return x + float(generator.random()), y

    return loader(collate_fn=collate)


GLOBAL = np.random.RandomState(4)


def collate_by_global(samples: list[Any]) -> Any:
    x, y = map(torch.stack, zip(*samples, strict=True))
    return x + float(GLOBAL.rand()), y


def deep() -> Any:
    sets = [Subset(Noisy(data(20), np.random.default_rng(n)), range(20)) for n in range(2)]
    return DataLoader(ConcatDataset(sets), batch_size=8, shuffle=True)


LOADERS: dict[str, Callable[[], Any]] = {
    "global generator": loader,
    "own generator": lambda: loader(generator=own_generator()),
    "own sampler": lambda: loader(shuffle=False, sampler=OwnOrder()),
    "own batch sampler": lambda: DataLoader(data(), batch_sampler=BatchSampler(OwnOrder(), 8, False)),
    "noise of numpy": lambda: DataLoader(Noisy(data(), np.random.default_rng(1)), 8, shuffle=True),
    "noise of numpy, old": lambda: DataLoader(Noisy(data(), np.random.RandomState(1)), 8),
    "noise of python": lambda: DataLoader(Noisy(data(), random.Random(1)), 8),
    "noise deep inside": deep,
    "noise in a closure": with_closure,
    "noise of a global": lambda: loader(collate_fn=collate_by_global),
    "ragged": lambda: loader(batch_size=7),
    "stream": lambda: DataLoader(Endless(), batch_size=2),
    "list": batches,
    "own loader": OwnLoader,
    "sampler that shuffles its list": lambda: loader(shuffle=False, sampler=Shuffled()),
    "shuffles its batches": lambda: Picking(in_own_lists(), shuffle_batches),
    "shuffles within its dict": lambda: Picking(dict(enumerate(in_own_lists())), shuffle_each),
    "shuffles its array": lambda: Picking(np.arange(SAMPLES), shuffle_array),
    "binds another tensor": lambda: Picking(torch.arange(SAMPLES), bind_another),
    "rotates a deque": lambda: Picking(deque(in_own_lists()), rotate),
    "makes its order late": lambda: Picking(None, make_order_late),
    "counts in a slot": Slotted,
    "wraps a loader": lambda: Wrapping(Wrapping(OwnLoader())),
    "wraps a DataLoader": lambda: Wrapping(loader(shuffle=False, sampler=Shuffled())),
}
WORKERS: dict[str, Callable[[], Any]] = {
    "2 workers": lambda: loader(num_workers=2),
    "2 workers, own generator": lambda: loader(num_workers=2, generator=own_generator()),
    "2 workers that persist": lambda: loader(num_workers=2, persistent_workers=True),
    "2 workers, noise": lambda: DataLoader(
        Noisy(data(), np.random.default_rng(1)), 8, shuffle=True, num_workers=2
    ),
    "2 workers, stream": lambda: DataLoader(Endless(), batch_size=2, num_workers=2),
}


@pytest.mark.parametrize("before", [0, 2, 8], ids=["new", "in the first epoch", "in the second"])
@pytest.mark.parametrize("name", LOADERS)
def test_every_loader(name: str, before: int) -> None:
    GLOBAL.seed(4)

    def build() -> Trial:
        GLOBAL.seed(4)
        return make_trial(train_loader=LOADERS[name](), val_loader=loader())

    assert_put_back(build, before=before)


@pytest.mark.parametrize("name", WORKERS)
def test_loader_with_workers(name: str) -> None:
    assert_put_back(lambda: make_trial(train_loader=WORKERS[name]()), before=3, after=4)


def test_workers_of_the_users_that_persist_are_not_touched() -> None:
    mine = loader(num_workers=1, persistent_workers=True)
    iterator = iter(mine)
    next(iterator)
    trial = make_trial(train_loader=mine, val_loader=mine)
    with preserved(trial):
        sweep(trial, 3)
    assert mine._iterator is iterator
    assert len(list(iterator)) == 4


MEASURED: dict[str, Callable[[Trial], Any]] = {
    "range_test": lambda trial: range_test(trial, steps=12, progress=False),
    "find_lr": lambda trial: find_lr(trial, total_steps=500, progress=False),
    "noise_scale": noise_scale,
    "step, then range_test": lambda trial: (trial.step(), range_test(trial, steps=12, progress=False)),
}


@pytest.mark.parametrize("name", MEASURED)
def test_workers_end_with_the_trial(name: str) -> None:
    """By counting references alone: workers forked later would find a trial that awaits collection.

    Should one of them collect it, PyTorch's iterators in it would send their own workers away from there.
    """
    before = set(multiprocessing.active_children())
    gc.collect()
    gc.disable()
    try:
        trial = make_trial(train_loader=loader(num_workers=1, persistent_workers=True))
        MEASURED[name](trial)
        stream = weakref.ref(trial._stream)
        del trial
        assert stream() is None
        assert set(multiprocessing.active_children()) <= before
    finally:
        gc.enable()


def test_the_users_own_pass_over_the_loader_goes_on() -> None:
    """A sweep in the middle of an epoch of the user's own loop leaves its order alone."""

    def epoch(generator: torch.Generator | None, swept: bool) -> Any:
        model = net()
        mine = loader(generator=generator)
        trial = make_trial(model, train_loader=mine)
        seen = []
        for place, (x, _) in enumerate(mine):
            seen.append(x)
            if place == 2 and swept:
                with preserved(trial):
                    sweep(trial)
        return bits([seen, list(mine), torch.rand(3)])

    for generator in (None, own_generator):
        got = [epoch(generator and generator(), swept) for swept in (False, True)]
        assert got[0] == got[1]


def test_a_sweep_before_training_of_ones_own() -> None:
    """The order of the examples: build all, sweep, then train in a plain loop."""

    def run(swept: bool) -> Any:
        model = net()
        mine = loader()
        optimizer = torch.optim.AdamW(model.parameters())
        model.eval()
        if swept:
            trial = make_trial(model, optimizer, train_loader=mine, val_loader=loader())
            with preserved(trial):
                sweep(trial)
        assert not model.training
        model.train()
        for x, y in (*mine, *mine):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return everything(model, optimizer)

    assert run(swept=True) == run(swept=False)


def test_an_iterator_goes_on_from_where_it_is() -> None:
    with pytest.warns(UserWarning, match="train_loader is an iterator"):
        trial = make_trial(train_loader=iter(batches()))
    train(trial, 1)
    with preserved(trial):
        train(trial, 2)
    train(trial, 1)
    with pytest.raises(ValueError, match="an iterator that is used up"):
        trial.step()


class Shrinking:
    """Gives one batch less each time, by a count out of reach."""

    def __init__(self) -> None:
        left = iter((3, 2, 1))
        self.next_count: Callable[[], int] = lambda: next(left)

    def __iter__(self) -> Iterator[Any]:
        return iter(batches()[: self.next_count()])


def test_a_loader_that_cannot_begin_anew_says_so() -> None:
    trial = make_trial(train_loader=Shrinking())
    train(trial, 3)
    with pytest.raises(ValueError, match=r"^train_loader gave 3 batches, and begun anew only 2: it"):
        trial.restore(trial.save())


# Modules ---------------------------------------------------------------------------------------------


class Stateful(nn.Module):
    """Every way to keep something in a module."""

    seen: Tensor
    scratch: Tensor
    alias: Tensor
    wide: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = nn.Parameter(torch.eye(8))
        self.third = nn.Linear(8, 8)
        self.third.weight = self.second.weight  # tied
        self.last = nn.Linear(8, CLASSES)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)
        self.register_buffer("alias", None)
        self.register_buffer("wide", torch.ones(1, 8).expand(4, 8))
        self.register_parameter("absent", None)
        self.calls = 0
        self.scale = torch.ones(())
        self.array = np.ones(3)
        self.level = np.float32(1)
        self.hidden: Any = (torch.zeros(8), None)
        self.history: deque[float] = deque(maxlen=3)
        self.cache: dict[str, Any] = defaultdict(list)
        self.hooked: dict[str, int] = {}
        self.layers = [self.second, self.third]
        self.weights = [self.first.weight]

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.hooked["calls"] = self.calls
        if self.calls > 3:
            self.first.bias.requires_grad_(self.calls % 2 == 0)
        self.seen = self.seen + x.mean().detach()
        self.scratch.add_(1)
        self.scale.mul_(1.01)
        self.array *= 1.01
        self.level = np.float32(self.level * 1.1)
        h = self.first(x) * float(self.scale) + self.hidden[0] + float(self.level) + self.wide[0]
        self.hidden = (h.detach().mean(0), self.calls)
        self.history.append(float(h.detach().mean()))
        self.cache["calls"].append(self.calls)
        self.cache[str(self.calls)] = h.detach()
        if self.alias is not None:
            h = h + self.alias.mean()
        self.alias = x if self.calls % 2 else self.first.weight.detach()
        for layer in self.layers:
            h = torch.relu(layer(h))
        return self.last(h) + sum(self.history) + float(self.array.sum()) + len(self.cache["calls"])  # type: ignore[no-any-return]


def test_every_kind_of_module_state() -> None:
    def build() -> Trial:
        seed_all(0)
        return make_trial(Stateful(), train_loader=batches())

    def own(trial: Trial) -> Any:
        return bits({name: v for name, v in vars(trial._model).items() if name in owned})

    owned = ("calls", "scale", "array", "level", "hidden", "history", "cache", "hooked")
    for before in (0, 1, 4):
        assert_put_back(build, before=before)
        seed_all(1)
        trial = build()
        train(trial, before)
        at_start, hidden = own(trial), trial._model.history
        state = trial.save()
        sweep(trial)
        assert own(trial) != at_start
        trial.restore(state)
        assert own(trial) == at_start
        assert trial._model.history is hidden


def test_a_batch_or_parameter_that_a_buffer_stands_for_is_not_written_to() -> None:
    seed_all(0)
    mine = batches()
    before = bits(mine)
    trial = make_trial(Stateful(), train_loader=mine)
    for step in range(5):
        state = trial.save()
        train(trial, step)
        trial.restore(state)
        train(trial, 1)
    assert bits(mine) == before


@pytest.mark.parametrize(
    "norm",
    [
        nn.utils.spectral_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.weight_norm,
        pytest.param(
            nn.utils.weight_norm,
            marks=pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated:FutureWarning"),
        ),
    ],
    ids=["spectral, old", "spectral", "weight", "weight, old"],
)
def test_normalised_weights(norm: Any) -> None:
    def build() -> Trial:
        seed_all(0)
        model = nn.Sequential(norm(nn.Linear(INPUTS, 8)), nn.ReLU(), norm(nn.Linear(8, CLASSES)))
        return make_trial(model)

    assert_put_back(build, before=0)
    assert_put_back(build, before=2)


def test_recurrent_net() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = nn.LSTM(INPUTS, 5, batch_first=True)
            self.last = nn.Linear(5, CLASSES)

        def forward(self, x: Tensor) -> Any:
            return self.last(self.cells(x[:, None])[0][:, 0])

    def build() -> Trial:
        seed_all(0)
        return make_trial(Net())

    assert_put_back(build, before=2)


def test_loss_with_parameters() -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(CLASSES))
            self.norm = nn.BatchNorm1d(CLASSES)

        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            return nn.functional.cross_entropy(self.norm(output) * self.scale, target)

    def build(wrap: bool = False) -> Trial:
        model, loss = net(), Weighted()
        optimizer = torch.optim.Adam([*model.parameters(), *loss.parameters()], lr=0.01)
        return make_trial(model, optimizer, (lambda *args: loss(*args)) if wrap else loss)

    assert_put_back(build, before=2)
    seed_all(1)
    for trial in (build(), build(wrap=True)):
        (loss,) = find((Weighted,), trial._loss_fn)
        at_start = everything(loss)
        with preserved(trial):
            sweep(trial)
            assert everything(loss) != at_start
        assert everything(loss) == at_start


def test_frozen_batch_norm_stays_in_eval() -> None:
    model = net()
    model[1].eval()
    trial = make_trial(model, val_loader=loader())
    before = bits([model[1].running_mean, model[1].num_batches_tracked])
    sweep(trial)
    trial.step()
    assert model.training
    assert model[3].training
    assert not model[1].training
    assert bits([model[1].running_mean, model[1].num_batches_tracked]) == before


@pytest.mark.parametrize("mode", [True, False])
def test_mode_is_put_back(mode: bool) -> None:
    model = net().train(mode)
    model[1].eval()
    trial = make_trial(model, val_loader=loader())
    with preserved(trial):
        sweep(trial)
    assert [m.training for m in model.modules()] == [mode, mode, False, mode, mode, mode]


def test_gradients_are_put_back() -> None:
    model = net()
    model[0].weight.grad = torch.full((8, INPUTS), 3.0)
    grads = [p.grad for p in model.parameters()]
    assert_put_back(lambda: make_trial(model), before=0, after=0)
    assert all(a is b for a, b in zip(grads, [p.grad for p in model.parameters()], strict=True))
    assert torch.equal(model[0].weight.grad, torch.full((8, INPUTS), 3.0))


def test_parameters_that_only_an_optimizer_knows() -> None:
    extra = torch.ones(3, requires_grad=True)
    model = net()

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output * extra, target)

    trial = make_trial(model, [sgd(model), torch.optim.Adam([extra], lr=0.1)], loss_fn)
    with preserved(trial):
        sweep(trial)
        assert not torch.equal(extra, torch.ones(3))
    assert torch.equal(extra, torch.ones(3))
    assert extra.grad is None


def test_another_dtype_or_shape_given_meanwhile_is_undone() -> None:
    model: Any = nn.Linear(INPUTS, CLASSES)
    model.register_buffer("memory", torch.zeros(2))
    trial = make_trial(model)
    weight, before = model.weight, everything(model)
    with preserved(trial):
        model.half()
        model.memory.resize_(5)
        model.weight.data = torch.zeros(1)
        model.register_buffer("new", torch.zeros(1))
        model.register_parameter("newer", nn.Parameter(torch.zeros(1)))
        model.label = "new"
    assert everything(model) == before
    assert model.weight is weight
    assert not hasattr(model, "label")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it compiles
def test_compiled_model() -> None:
    def build() -> Trial:
        model: Any = torch.compile(net(), backend="eager")
        return make_trial(model, train_loader=loader(drop_last=True))

    assert_put_back(build, before=2, after=3)
    torch.compiler.reset()


def test_hooks_are_left_alone() -> None:
    model = net()
    trial = make_trial(model)
    state = trial.save()
    handle = model.register_forward_hook(lambda *_: calls.append(1))
    calls: list[int] = []
    trial.restore(state)
    train(trial, 1)
    handle.remove()
    assert calls == [1]


# Trouble ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("place", ["forward", "backward", "update", "data"])
def test_an_error_at_a_step(place: str, step: int, error: type[BaseException]) -> None:
    def trouble(trial: Trial) -> None:
        def fail(*_: Any) -> Any:
            raise error

        train(trial, step)
        model: Any = trial._model
        if place == "forward":
            handle = model[4].register_forward_pre_hook(fail)
        elif place == "backward":
            handle = model[0].weight.register_hook(fail)
        elif place == "update":
            handle = trial._optimizers[0].register_step_post_hook(fail)
        else:
            broken.append(error)
        try:
            with pytest.raises(error):
                train(trial, 9)
        finally:
            if place == "data":
                broken.clear()
            else:
                handle.remove()

    broken: list[Any] = []

    class Breaking(Noisy):
        def __getitem__(self, index: int) -> Any:
            if broken:
                raise broken[0]
            return super().__getitem__(index)

    def build() -> Trial:
        mine = DataLoader(Breaking(data(), np.random.default_rng(0)), 8, shuffle=True)
        return make_trial(train_loader=mine)

    assert_put_back(build, before=2, trouble=trouble)


def test_losses_that_are_nan() -> None:
    def diverge(trial: Trial) -> None:
        trial.set(lr=1e30)
        assert np.isnan(train(trial, 6)[-1])

    def build() -> Trial:
        model = net()
        return make_trial(model, torch.optim.Adam(model.parameters()))

    assert_put_back(build, before=2, trouble=diverge)


def test_a_state_may_be_restored_many_times() -> None:
    trial = make_trial(val_loader=loader())
    train(trial, 3)
    state = trial.save()
    expected = train(trial, 6)
    for steps in (1, 5, 9):
        trial.restore(state)
        sweep(trial, steps)
        trial.restore(state)
        trial.restore(state)
        assert train(trial, 6) == expected


# What a state costs ----------------------------------------------------------------------------------


def tensors(tree: Any) -> Iterator[Tensor]:
    """The tensors that a state copied."""
    if isinstance(tree, Kept):
        if isinstance(tree.content, Tensor):
            yield tree.content
        else:
            yield from tensors(tree.content)
    elif isinstance(tree, (list, tuple, deque)):
        for item in tree:
            yield from tensors(item)
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from tensors(item)


def test_saving_takes_one_copy() -> None:
    seed_all(0)
    model = nn.Sequential(
        nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.LSTM(8, 4), Take(), nn.Linear(4, CLASSES)
    )
    model[2].weight = model[0].weight
    mine = [(torch.rand(4, 8), torch.randint(CLASSES, (4,)))]
    optimizer = torch.optim.Adam(model.parameters())
    trial = make_trial(model, optimizer, train_loader=mine)
    train(trial, 1)
    state = trial.save()
    live = [
        *model.parameters(),
        *(p.grad for p in model.parameters() if p.grad is not None),
        *model.buffers(),
        *(value for each in optimizer.state.values() for value in each.values()),
    ]
    assert sum(t.nbytes for t in tensors(state)) == sum(t.nbytes for t in live)


def test_setting_aside_holds_gradients_that_an_update_drops() -> None:
    trial = make_trial()
    train(trial, 1)
    gradients = [p.grad for p in trial._model.parameters()]
    kept = trial.save()["parameters"].values()
    held = trial.set_aside()["parameters"].values()
    assert all(tree["grad"] is gradient for tree, gradient in zip(held, gradients, strict=True))
    assert all(tree["grad"].content is not gradient for tree, gradient in zip(kept, gradients, strict=True))


class ZeroesInPlace(torch.optim.SGD):
    def zero_grad(self, set_to_none: bool = True) -> None:  # noqa: ARG002 - as others' do
        super().zero_grad(set_to_none=False)


def in_own_step(model: nn.Module, optimizer: torch.optim.Optimizer) -> Callable[[Any], Tensor]:
    def step(batch: Any) -> Tensor:
        optimizer.zero_grad(set_to_none=False)
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    return step


class OwnStep(Trial):
    """Of a user, whose step does not come to the library's."""

    def step(self) -> Tensor:
        loss: Tensor = in_own_step(self._model, self._optimizers[0])(self._next_batch())
        return loss.detach()


@pytest.mark.parametrize("how", ["zeroes in place", "own step", "own class", "in a buffer", "frozen out"])
def test_gradients_that_are_written_to_are_copied(how: str) -> None:
    """By the optimizer, by a step of the user's, by hooks that know a buffer, or as no optimizer has them."""

    def build() -> Trial:
        model = net()
        parameters = list(model.parameters())
        own = parameters[:-1] if how == "frozen out" else parameters
        optimizer = (ZeroesInPlace if how == "zeroes in place" else torch.optim.SGD)(
            own, lr=0.1, momentum=0.9
        )
        if how == "in a buffer":
            buffer = torch.ones(sum(p.numel() for p in parameters))
            for number, p in enumerate(parameters):
                start = sum(each.numel() for each in parameters[:number])
                p.grad = buffer[start : start + p.numel()].view_as(p)
            model.register_forward_pre_hook(lambda *_: buffer.mul_(2).view(-1)[:0].tolist() or None)
        if how == "own class":
            return OwnStep(model, optimizer, nn.functional.cross_entropy, loader())
        return make_trial(model, optimizer, step=in_own_step(model, optimizer) if how == "own step" else None)

    assert_put_back(build, before=0 if how == "in a buffer" else 2)


def test_a_state_set_aside_may_be_put_back_many_times() -> None:
    trial = make_trial()
    train(trial, 3)
    expected = everything(trial._model, *trial._optimizers)
    with preserved(trial) as state:
        for _ in range(3):
            sweep(trial)
            trial.restore(state)
            assert everything(trial._model, *trial._optimizers) == expected


def test_no_place_is_kept_until_what_is_set_aside_is_put_back() -> None:
    trial = make_trial()
    train(trial, 2)
    state = trial.set_aside()
    trial.seed(0)
    train(trial, 7)
    with pytest.raises(RuntimeError, match=r"not known before the state set aside is restored"):
        trial.save()
    trial.restore(state)
    train(trial, 7)
    again = trial.save()
    expected = train(trial, 6)
    trial.restore(again)
    assert train(trial, 6) == expected


@pytest.mark.parametrize("place", ["device", "host", "disk"])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD, torch.optim.LBFGS])
def test_every_place_for_the_copy(place: Any, optimizer: Any) -> None:
    def build() -> Trial:
        model: Any = net()
        model.register_buffer("expanded", torch.ones(1, 3).expand(2, 3))
        model.register_buffer("coarse", torch.ones(4, dtype=torch.bfloat16))
        model.register_buffer("turned", torch.rand(3, 4).t())
        model.register_buffer("empty", torch.empty(0))
        model.register_buffer("count", torch.tensor(3))
        return make_trial(model, optimizer(model.parameters(), lr=0.01), keep_on=place)

    def trouble(trial: Trial) -> None:
        model: Any = trial._model
        sweep(trial)
        for buffer in (model.coarse, model.turned, model.count):
            buffer.add_(1)

    assert_put_back(build, before=2, trouble=trouble)


def test_a_copy_on_disk_is_whole_where_the_shape_has_changed() -> None:
    model: Any = nn.Linear(INPUTS, CLASSES)
    model.register_buffer("memory", torch.arange(2))
    trial = make_trial(model, keep_on="disk")
    weight, before = model.weight, everything(model)
    with preserved(trial):
        model.half()
        model.memory.resize_(5)
        model.weight.data = torch.zeros(1)
    assert everything(model) == before
    assert model.weight is weight


def test_copies_go_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the device that is left as much again, else to the host, else to disk."""
    here, there = torch.zeros(4), torch.zeros(4, device="meta")
    free: dict[str, int | None] = {"cpu": 31, "meta": 31}
    monkeypatch.setattr(_room, "SMALL", 15)
    monkeypatch.setattr(_room, "free_memory", lambda device: free[device.type])
    monkeypatch.setattr(_room, "_disk_has_room", lambda _: False)
    assert isinstance(_room.copier([here], None)(here), _room.OnDisk)
    assert isinstance(_room.copier([there], None)(here), _room.OnDisk)
    free["cpu"] = 32
    assert _room.copier([here], None) is _room.clone
    assert _room.copier([there], None) is _room._to_host
    free["meta"] = None
    assert _room.copier([there], None) is _room.clone
    monkeypatch.setattr(_room, "SMALL", 16)
    free["meta"] = 0
    assert _room.copier([there], None) is _room.clone


def test_large_copies_of_a_cpu_go_to_a_disk_that_has_room(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(_room, "SMALL", 15)
    monkeypatch.setattr(_room, "free_memory", lambda _: None)
    monkeypatch.setattr(_room, "_is_memory", lambda _: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    free = 48
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert isinstance(_room.copier([torch.zeros(4)], None)(torch.zeros(4)), _room.OnDisk)
    assert _room.copier([torch.zeros(3)], None) is _room.clone
    assert _room.copier([torch.zeros(4, device="meta")], None) is _room.clone
    monkeypatch.setattr(_room, "_is_memory", lambda _: True)
    assert _room.copier([torch.zeros(4)], None) is _room.clone
    monkeypatch.setattr(_room, "_is_memory", lambda _: False)
    free = 47
    assert _room.copier([torch.zeros(4)], None) is _room.clone


def test_a_disk_that_fails_is_told_only_where_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_room, "SMALL", 15)
    monkeypatch.setattr(_room, "_disk_has_room", lambda _: True)
    monkeypatch.setattr(
        tempfile, "TemporaryFile", lambda **_: SimpleNamespace(seek=lambda *_: 0, write=full, close=bool)
    )
    there = torch.arange(4.0)
    copy = _room.copier([there], None)(there)
    assert isinstance(copy, Tensor)
    assert copy.tolist() == there.tolist()
    assert copy.data_ptr() != there.data_ptr()
    with pytest.raises(OSError, match="No space left on device"):
        _room.copier([there], "disk")(there)


def test_no_folder_for_a_copy_is_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_room, "_is_memory", lambda _: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert _room._disk_has_room(1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert not _room._disk_has_room(1)


@pytest.mark.skipif(not Path("/proc/self/mounts").exists(), reason="only Linux lists its mounts there")
def test_a_file_system_in_memory_is_known() -> None:
    kinds = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    memory = [place for place, kind in kinds if kind == "tmpfs" and Path(place).is_dir()]
    for place in memory:
        assert _room._is_memory(Path(place))
    assert not _room._is_memory(Path("/proc"))


def test_a_file_that_was_cut_short_is_told() -> None:
    copy: Any = _room.copier([], "disk")(torch.arange(9))
    assert copy.read().tolist() == list(range(9))
    file = copy.disk.file
    file.truncate(8)
    with pytest.raises(OSError, match="the copy of the state on disk cannot be read back"):
        copy.read()
    del copy
    assert file.closed


class Take(nn.Module):
    def forward(self, pair: Any) -> Any:
        return pair[0]


def test_every_tensor_keeps_its_identity() -> None:
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01), foreach=False)
    trial = make_trial(model, optimizer)
    train(trial, 2)

    def addresses() -> list[Any]:
        live = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters())]
        live += [value for each in optimizer.state.values() for value in each.values()]
        live += [group["lr"] for group in optimizer.param_groups]
        return [(id(t), t.data_ptr()) for t in live if t is not None]

    before = addresses()
    containers = [id(each) for each in optimizer.state.values()]
    with preserved(trial):
        sweep(trial)
    assert addresses() == before
    assert [id(each) for each in optimizer.state.values()] == containers


# The search for what is out of sight -----------------------------------------------------------------


def test_find_follows_functions_and_ends() -> None:
    generator, other = random.Random(1), random.Random(2)

    def reader(default: Any = other) -> Any:
        return unset, default

    class Holder:
        def __init__(self) -> None:
            self.me = self
            self.generators = [generator]

        def method(self) -> None:
            """Bound, it leads to its owner."""

    assert find((random.Random,), reader) == [other]
    assert find((random.Random,), Holder().method) == [generator]
    assert find((random.Random,), [[[[generator]]]], depth=2) == []
    assert find((random.Random,), [0] * 5, [generator], most=1) == []
    unset = None


def test_a_generator_of_the_system_s_which_has_no_state_is_left_alone() -> None:
    system = random.SystemRandom()
    trial = make_trial(loss_fn=lambda y, target: nn.functional.cross_entropy(y, target) + system.random())
    trial.restore(trial.save())
    trial.seed(0)
    train(trial, 1)


def test_tensor_data_sets_are_not_copied() -> None:
    mine = DataLoader(TensorDataset(torch.rand(1000, INPUTS), torch.zeros(1000).long()), batch_size=10)
    kept = sum(t.nbytes for t in tensors(make_trial(nn.Linear(INPUTS, CLASSES), train_loader=mine).save()))
    assert kept == 4 * (INPUTS + 1) * CLASSES


def test_batches_that_a_loader_holds_are_not_copied() -> None:
    held = [(torch.rand(4, INPUTS), torch.zeros(4).long()) for _ in range(3)]
    mine = Picking(np.arange(SAMPLES), shuffle_array)
    mine.batches, first = held, held[0]  # type: ignore[attr-defined]
    trial = make_trial(train_loader=mine)
    state = trial.save()
    held.reverse()
    first[0].zero_()
    trial.restore(state)
    assert held[0] is first
    assert not first[0].any()


class FakeDevices:
    """Two CUDA devices and an MPS one, whose generators are numbers."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.cuda, self.mps = [1, 2], 3
        patch.setattr(torch.cuda, "is_initialized", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: len(self.cuda))
        patch.setattr(torch.cuda, "get_rng_state_all", lambda: [*self.cuda])
        patch.setattr(torch.cuda, "set_rng_state", self.set_cuda)
        patch.setattr(torch.backends.mps, "is_available", lambda: self.mps > 0)
        patch.setattr(torch.mps, "get_rng_state", lambda: self.mps)
        patch.setattr(torch.mps, "set_rng_state", self.set_mps)

    def set_cuda(self, state: int, index: int) -> None:
        self.cuda[index] = state

    def set_mps(self, state: int) -> None:
        self.mps = state


def test_generators_of_every_device(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = make_trial()
    with monkeypatch.context() as patch:
        devices = FakeDevices(patch)
        with preserved(trial) as state:
            devices.cuda, devices.mps = [7, 8], 9
        assert (devices.cuda, devices.mps) == ([1, 2], 3)
        devices.cuda, devices.mps = [7], 0
        trial.restore(state)
        assert (devices.cuda, devices.mps) == ([1], 0)
    trial.restore(state)


class Preconditioner:
    """What an optimizer such as Shampoo keeps in its state beside tensors."""

    def __init__(self, p: Tensor) -> None:
        self.statistics = [torch.zeros_like(p)]
        self.calls = 0

    def __call__(self, gradient: Tensor) -> Tensor:
        self.calls += 1
        self.statistics[0].add_(gradient.square())
        return gradient / (self.statistics[0].sqrt() + 1e-3) / self.calls


class Preconditioned(torch.optim.Optimizer):
    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 0.01})

    def state_dict(self) -> dict[str, Any]:
        return {"state": [vars(state["object"]) for state in self.state.values()]}

    @torch.no_grad()
    def step(self, _: Any = None) -> Any:
        for p in self.param_groups[0]["params"]:
            if "object" not in self.state[p]:
                self.state[p]["object"] = Preconditioner(p)
            p.sub_(self.state[p]["object"](p.grad), alpha=self.param_groups[0]["lr"])


@pytest.mark.parametrize("before", [0, 3])
def test_objects_in_an_optimizers_state(before: int) -> None:
    def build() -> Trial:
        model = net()
        return make_trial(model, Preconditioned(model.parameters()))

    def trouble(trial: Trial) -> None:
        held = [state["object"] for state in trial._optimizers[0].state.values()]
        sweep(trial)
        assert [state["object"] for state in trial._optimizers[0].state.values()][: len(held)] == held

    assert_put_back(build, before=before, trouble=trouble)


def test_gradients_are_on_again_after_an_interrupt_that_left_them_off() -> None:
    def trouble(trial: Trial) -> None:
        train(trial, 2)
        torch.set_grad_enabled(False)  # as an interrupt in the exit of torch.no_grad does

    assert_put_back(lambda: make_trial(), trouble=trouble)
    assert torch.is_grad_enabled()
