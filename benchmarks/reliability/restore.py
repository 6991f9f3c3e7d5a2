"""Whether a trial that was put back trains on as if nothing had been: optimizers, nets and loaders."""

from __future__ import annotations

import importlib
import random
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    TensorDataset,
    WeightedRandomSampler,
)

from benchmarks.reliability import files
from benchmarks.reliability.problem import bits
from onecycle.torch import Trial

BEFORE, AFTER = 3, 8  # steps of training before the sweep and after it
Parameters = list[nn.Parameter]

# Optimizers ------------------------------------------------------------------------------------------

OTHERS: dict[
    str, dict[str, dict[str, Any]]
] = {  # by package, the optimizers of others, each with what it must be given beside the rate
    "lion-pytorch": {"lion_pytorch.Lion": {}},
    "prodigyopt": {"prodigyopt.Prodigy": {}},
    "schedulefree": {
        f"schedulefree.{name}": {}
        for name in (
            "AdamWScheduleFree",
            "SGDScheduleFree",
            "RAdamScheduleFree",
            "AdamWScheduleFreeReference",
        )
    },
    "dadaptation": {
        f"dadaptation.{name}": {} for name in ("DAdaptAdam", "DAdaptSGD", "DAdaptLion", "DAdaptAdaGrad")
    },
    "bitsandbytes": {f"bitsandbytes.optim.{name}": {} for name in ("Adam8bit", "AdamW8bit", "Lion8bit")},
    "pytorch-optimizer": {
        f"pytorch_optimizer.{name}": {}
        for name in (
            *(
                "AdaBelief",
                "AdaBound",
                "Adai",
                "Adan",
                "ADOPT",
                "AggMo",
                "Amos",
                "CAME",
                "DiffGrad",
                "Fromage",
            ),
            *("Grams", "Lamb", "LARS", "MADGRAD", "MARS", "Nero", "PNM", "QHAdam", "QHM", "Ranger"),
            *("SOAP", "ScalableShampoo", "Shampoo", "StableAdamW", "Tiger", "Yogi"),
        )
    },
}


def optimizers() -> dict[str, Callable[[nn.Module], Any]]:
    """By name, what makes each optimizer that is installed, for a model."""
    found: dict[str, Callable[[nn.Module], Any]] = {}
    for name, kind in sorted(vars(torch.optim).items()):
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and name != "Optimizer":
            if name in ("Muon", "SparseAdam"):
                continue
            found[name] = partial(_switched, kind, {})
    if hasattr(torch.optim, "Muon"):
        found["Muon and AdamW"] = _muon
    found["Adam, fused"] = lambda model: torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    found["AdamW, amsgrad, foreach"] = lambda model: torch.optim.AdamW(
        model.parameters(), lr=0.01, amsgrad=True, foreach=True
    )
    for package, names in OTHERS.items():
        if not _installed(package):
            print(f"{package} is not installed: left out", file=sys.stderr)
            continue
        for path, options in names.items():
            module, _, name = path.rpartition(".")
            kind = getattr(importlib.import_module(module), name)
            found[f"{name} of {package}"] = partial(_switched, kind, options)
    return found


def _installed(package: str) -> bool:
    (module,) = {path.partition(".")[0] for path in OTHERS[package]}
    return find_spec(module) is not None


def _switched(kind: Any, options: dict[str, Any], model: nn.Module) -> Any:
    optimizer = kind(model.parameters(), lr=0.01, **options)
    if hasattr(optimizer, "train"):  # as schedule-free ones want to be told
        optimizer.train()
    return optimizer


def _muon(model: nn.Module) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    return [torch.optim.Muon(matrices, lr=0.01), torch.optim.AdamW(others, lr=0.01)]


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum."""
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW."""
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def sparse_adam(model: nn.Module) -> torch.optim.Optimizer:
    """Adam for gradients that are sparse."""
    return torch.optim.SparseAdam(model.parameters(), lr=0.05)


def plain_sgd(model: nn.Module) -> torch.optim.Optimizer:
    """SGD alone, which takes sparse gradients."""
    return torch.optim.SGD(model.parameters(), lr=0.05)


# Nets ------------------------------------------------------------------------------------------------


def mlp() -> nn.Sequential:
    """Batch norm, dropout and two linear layers."""
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.relu(self.second(torch.relu(self.first(x)))))
        return y


class Symmetric(nn.Module):
    """A parametrization."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.triu() + weight.triu(1).mT


class Sparse(nn.Module):
    """Two embeddings whose gradients are sparse, looked up by what the samples' signs spell."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.EmbeddingBag(64, 3, mode="sum", sparse=True) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        words = ((x > 0) * 2 ** torch.arange(x.shape[1])).cumsum(1)
        y: Tensor = self.first(words) + self.second(words.flip(1) // 2)
        return y


class Recurrent(nn.Module):
    """An LSTM over three steps."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.last = nn.LSTM(2, 5, batch_first=True, dropout=0.2, num_layers=2), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.cells(x.view(-1, 3, 2))[0][:, -1])
        return y


class Attention(nn.Module):
    """A transformer's layer over three tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.last = nn.TransformerEncoderLayer(2, 1, 4, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.layer(x.view(-1, 3, 2)).flatten(1))
        return y


def _normalised(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(norm(nn.Linear(6, 8)), nn.ReLU(), norm(nn.Linear(8, 3)))


def _symmetric() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    nn.utils.parametrize.register_parametrization(model[0], "weight", Symmetric())
    return model


def _quantized() -> nn.Module:
    quantization = torch.ao.quantization
    model = nn.Sequential(
        quantization.QuantStub(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), quantization.DeQuantStub()
    )
    model.qconfig = quantization.get_default_qat_qconfig("x86")  # type: ignore[no-untyped-call]
    prepared: nn.Module = quantization.prepare_qat(model.train())  # type: ignore[no-untyped-call]
    return prepared


def _lazy() -> nn.Module:
    model = nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.ReLU(), nn.Linear(8, 3))
    model(torch.zeros(4, 6))
    return model


def _frozen() -> nn.Module:
    model = mlp()
    model[1].eval()
    model[0].requires_grad_(False)
    return model


def _compiled(backend: str) -> nn.Module:
    compiled: Any = torch.compile(mlp(), backend=backend)
    module: nn.Module = compiled
    return module


NETS: dict[str, Callable[[], nn.Module]] = {
    "batch norm and dropout": mlp,
    "spectral norm": lambda: _normalised(nn.utils.parametrizations.spectral_norm),
    "spectral norm, old": lambda: _normalised(nn.utils.spectral_norm),
    "weight norm": lambda: _normalised(nn.utils.parametrizations.weight_norm),
    "orthogonal": lambda: _normalised(nn.utils.parametrizations.orthogonal),
    "embeddings": Sparse,  # for optimizers that take sparse gradients
    "tied weights": Tied,
    "a parametrization": _symmetric,
    "LSTM": Recurrent,
    "transformer layer": Attention,
    "quantization stubs, QAT": _quantized,
    "lazy, made": _lazy,
    "partly frozen": _frozen,
    "compiled": partial(_compiled, "eager"),
    "group norm, no bias": lambda: nn.Sequential(
        nn.Linear(6, 8, bias=False), nn.GroupNorm(2, 8), nn.SiLU(), nn.AlphaDropout(0.2), nn.Linear(8, 3)
    ),
}
if shutil.which("g++"):
    NETS["compiled by Inductor"] = partial(_compiled, "inductor")

# Loaders ---------------------------------------------------------------------------------------------


def data() -> TensorDataset:
    """Forty samples in three classes."""
    generator = torch.Generator().manual_seed(7)
    return TensorDataset(
        torch.randn(40, 6, generator=generator), torch.randint(3, (40,), generator=generator)
    )


class Noisy(torch.utils.data.Dataset[Any]):
    """Samples with noise from a generator of their own and from the global ones."""

    def __init__(self) -> None:
        self.samples, self.generator = data(), np.random.default_rng(5)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        x, y = self.samples[index]
        return x + 0.1 * float(self.generator.normal()) + 0.1 * random.random() + 0.1 * torch.randn(6), y


class Streaming(IterableDataset[Any]):
    """A data set without length, in an order of its own, which it counts."""

    def __init__(self) -> None:
        self.samples, self.generator, self.passes = data(), np.random.default_rng(3), 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        for index in self.generator.permutation(len(self.samples)):
            yield self.samples[int(index)]


class Epochs(Sampler[int]):
    """Another order each epoch, by a count, as distributed samplers have it."""

    def __init__(self) -> None:
        self.epoch = 0

    def __len__(self) -> int:
        return 40

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        return iter(np.random.default_rng(self.epoch).permutation(40).tolist())


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


LOADERS: dict[str, Callable[[], Any]] = {
    "shuffled": lambda: DataLoader(data(), 8, shuffle=True),
    "with a generator": lambda: DataLoader(data(), 8, shuffle=True, generator=_generator()),
    "a sampler's generator": lambda: DataLoader(
        data(), 8, sampler=RandomSampler(data(), generator=_generator())
    ),
    "a weighted sampler": lambda: DataLoader(
        data(), 8, sampler=WeightedRandomSampler([1.0] * 40, 40, generator=_generator())
    ),
    "a sampler that counts epochs": lambda: DataLoader(data(), 8, sampler=Epochs()),
    "a batch sampler": lambda: DataLoader(
        data(), batch_sampler=BatchSampler(RandomSampler(data(), generator=_generator()), 8, False)
    ),
    "noise in the samples": lambda: DataLoader(Noisy(), 8, shuffle=True),
    "a stream": lambda: DataLoader(Streaming(), 8),
    "two workers": lambda: DataLoader(Noisy(), 8, shuffle=True, num_workers=2, generator=_generator()),
    "persistent workers": lambda: DataLoader(
        data(), 8, shuffle=True, num_workers=1, persistent_workers=True, generator=_generator()
    ),
    "a stream with a worker": lambda: DataLoader(Streaming(), 8, num_workers=1),
    "a list": lambda: [(torch.randn(8, 6), torch.randint(3, (8,))) for _ in range(4)],
}

# How it trains ---------------------------------------------------------------------------------------

WAYS: dict[str, dict[str, Any]] = {
    "autocast bf16": {"amp": "bf16"},
    "fp16 with a scaler": {"amp": "fp16"},
    "two batches an update, clipped": {"accumulate": 2, "clip_grad_norm": 0.5},
}


class Averaged:
    """A loop of one's own with a moving average of the weights."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.average = torch.optim.swa_utils.AveragedModel(
            model,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9),  # type: ignore[no-untyped-call]
        )

    def __call__(self, batch: Any) -> Tensor:
        x, y = batch
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.average.update_parameters(self.model)
        return loss


# Combinations ----------------------------------------------------------------------------------------


def combinations() -> dict[str, Callable[[], Trial]]:
    """By name, what makes each trial that is put back."""
    found: dict[str, Callable[[], Trial]] = {}

    def add(name: str, net: str, optimizer: Callable[[nn.Module], Any], loader: str, **options: Any) -> None:
        def make() -> Trial:
            model = NETS[net]()
            return Trial(model, optimizer(model), nn.functional.cross_entropy, LOADERS[loader](), **options)

        found[name] = make

    for name, optimizer in optimizers().items():
        add(f"{name}, {(net := 'batch norm and dropout')}", net, optimizer, "with a generator")
    for name, optimizer in (("SparseAdam", sparse_adam), ("SGD", plain_sgd)):
        add(f"{name}, sparse gradients", "embeddings", optimizer, "with a generator")
    for optimizer in (sgd, adamw):
        kind = {sgd: "SGD", adamw: "AdamW"}[optimizer]
        for net in NETS:
            if net == "embeddings":
                continue
            add(f"{kind}, {net}, shuffled", net, optimizer, "shuffled")
        for loader in LOADERS:
            add(f"{kind}, LSTM, {loader}", "LSTM", optimizer, loader)
        for way, options in WAYS.items():
            add(
                f"{kind}, transformer layer, {way}",
                "transformer layer",
                optimizer,
                "noise in the samples",
                **options,
            )

        def averaged(optimizer: Callable[[nn.Module], torch.optim.Optimizer] = optimizer) -> Trial:
            model = mlp()
            ours = optimizer(model)
            return Trial(model, ours, None, LOADERS["shuffled"](), step=Averaged(model, ours))

        found[f"{kind}, a moving average of the weights"] = averaged
    return found


def differs(make: Callable[[], Trial]) -> str:
    """What is other than without a sweep that was put back, empty where nothing is."""
    _seed()
    plain = make()
    _train(plain, BEFORE)
    expected = bits(_train(plain, AFTER)), _everything(plain)
    _seed()
    trial = make()
    _train(trial, BEFORE)
    before = _everything(trial)
    state = trial.save()
    for step in range(7):
        trial.set(lr=0.003 * 3.0**step)
        trial.step()
    if _everything(trial) == before:
        return "nothing, since the sweep did nothing"
    trial.restore(state)
    if _everything(trial) != before:
        return "the state after the sweep"
    if bits(_train(trial, AFTER)) != expected[0]:
        return "the losses of the training after it"
    return "" if _everything(trial) == expected[1] else "the state after further training"


def _seed() -> None:
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator is what is looked after
    torch.manual_seed(1)


def _train(trial: Trial, steps: int) -> list[float]:
    return [float(trial.step()) for _ in range(steps)]


def _everything(trial: Trial) -> Any:
    modules = [
        (dict(module._buffers), [(p.detach(), p.grad) for p in module.parameters(False)], module.training)
        for module in trial._modules
    ]
    state = [
        [
            list(each.state.values()),
            [{k: v for k, v in g.items() if k != "params"} for g in each.param_groups],
        ]
        for each in trial._snapshots.optimizers
    ]
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002 - as above
    return bits([modules, _values(state), random.getstate(), numpy, torch.get_rng_state()])


def _values(tree: Any) -> Any:
    """Numbers and tensors of an optimizer's state, without the functions and objects in it."""
    if isinstance(tree, dict):
        return {str(key): _values(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_values(value) for value in tree]
    return tree if isinstance(tree, (bool, int, float, str, Tensor, np.ndarray, type(None))) else None


def record() -> None:
    """Put back every combination, and keep what was the same to the last bit and what was not."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    same, other, failed = [], {}, {}
    for name, make in combinations().items():
        try:
            if what := differs(make):
                other[name] = what
            else:
                same.append(name)
        except Exception as error:  # noqa: BLE001 - an optimizer that cannot train the net at all is told
            failed[name] = f"{type(error).__name__}: {error!s:.200}"
        torch.compiler.reset()
    versions = {package: metadata.version(package) for package in OTHERS if _installed(package)}
    files.add("restore", {"all": {"same": same, "other": other, "failed": failed, "releases": versions}})
    print(f"{len(same)} bit for bit, {len(other)} not, {len(failed)} did not train", file=sys.stderr)
