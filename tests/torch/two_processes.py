"""What each of some processes on gloo finds, with a model that is replicated or sharded; writes it as JSON.

Run by test_distributed.py, once a process: `two_processes.py FOLDER RANK COUNT`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from small_torch import bits, everything, seed_all
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.torch_version import TorchVersion
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from onecycle.torch import Trial, find_lr, noise_scale, range_test

GLOBAL_BATCH, SAMPLES = 32, 640


def problem(count: int, rank: int) -> tuple[nn.Module, DataLoader[Any], DataLoader[Any]]:
    """A net, and loaders of this process's shares; the batches of all together are the same for any count."""
    seed_all(0)
    x = torch.randn(SAMPLES, 10)
    y = (x[:, :4] + 0.5 * torch.randn(SAMPLES, 4)).argmax(1)
    train, val = TensorDataset(x[:512], y[:512]), TensorDataset(x[512:], y[512:])
    model = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 4))
    return (
        model,
        DataLoader(train, GLOBAL_BATCH // count, sampler=DistributedSampler(train, count, rank)),
        DataLoader(val, GLOBAL_BATCH // count, sampler=DistributedSampler(val, count, rank, shuffle=False)),
    )


def found(kind: str, count: int, rank: int) -> dict[str, Any]:
    """Curve, suggestion and noise scale, and whether all was left as it was."""
    model, loader, val = problem(count, rank)
    if kind == "sharded" and count > 1:
        from torch.distributed.fsdp import fully_shard

        fully_shard(next(model.children()))
        fully_shard(model)
    elif count > 1:
        model = DistributedDataParallel(model)
    optimizer: torch.optim.Optimizer
    if kind == "sharded":
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    else:
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    loss_fn = nn.functional.cross_entropy
    trial = Trial(model, optimizer, loss_fn, loader, val, metrics={"accuracy": accuracy})
    for _ in range(3):
        trial.step()
    before = local(model, optimizer)
    curve = range_test(
        model, optimizer, loss_fn, loader, val_loader=val, start=1e-4, steps=40, evaluations=4,
        accumulate=2, clip_grad_norm=10, keep_on="disk" if rank else "device",
    )  # fmt: skip
    after_range_test = local(model, optimizer)
    suggestion = find_lr(model, optimizer, loss_fn, loader, val_loader=val, total_steps=1300)
    after_find = local(model, optimizer)
    trial.evaluate()
    noise = noise_scale(trial, batches=8)
    after_all = local(model, optimizer)
    return {
        "loss": curve.loss.tolist(),
        "moved": None if curve.moved is None else [v for v in curve.moved.tolist() if v == v],
        "val_loss": None if curve.val_loss is None else [v for v in curve.val_loss.tolist() if v == v],
        "size": curve.settings["batch_size"],
        "steps_per_epoch": trial.steps_per_epoch,
        "max_lr": suggestion.max_lr,
        "rule": suggestion.rule,
        "accuracy": trial.metrics["accuracy"],
        "noise": [noise.value, noise.noise, noise.signal, noise.samples],
        "main": trial.is_main,
        "unchanged": before == after_range_test == after_find == after_all,
        "next": [float(trial.step()) for _ in range(3)],
    }


def accuracy(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(1) == target).float().mean()


def local(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    """This process's part of everything, to the bit."""
    for module in model.modules():
        if callable(reshard := getattr(module, "reshard", None)):
            reshard()

    def part(value: Any) -> Any:
        if hasattr(value, "to_local"):
            return value.to_local()
        if isinstance(value, dict):
            return {key: part(item) for key, item in value.items()}
        return [part(item) for item in value] if isinstance(value, list) else value

    state = [(part(p.data), part(p.grad)) for p in model.parameters()]
    return bits([everything(nn.Identity()), part(optimizer.state_dict()), state])


def main(folder: Path, rank: int, count: int) -> None:
    """Write what this process finds."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    # On a CPU, fully_shard of torch 2.6 fails, and that of 2.8 gives twice the gradient on two processes.
    kinds = ("replicated", "sharded") if torch.__version__ >= TorchVersion("2.9") else ("replicated",)
    results = {kind: found(kind, count, rank) for kind in kinds}
    (folder / f"{rank}.json").write_text(json.dumps(results))
    distributed.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
