from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


class Processes:
    """The processes that train one model together, and what they tell one another; alone, it is free.

    Args:
        count: of them.
        rank: of this one.
        group: torch's, None for all.
        sharded: the modules of which each process holds a part.
    """

    def __init__(self, count: int = 1, rank: int = 0, group: Any = None, sharded: Iterable[Any] = ()) -> None:
        self.count = count
        self.rank = rank
        self.sharded = list(sharded)
        self._group = group

    @classmethod
    def of(cls, modules: Iterable[nn.Module]) -> Processes:
        """Those that the modules are wrapped for, or sharded over.

        Raises:
            ValueError: the modules are sharded in a way that cannot be put back.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        modules = list(modules)
        if any(type(module).__name__ == "FullyShardedDataParallel" for module in modules):
            raise ValueError(
                "model is wrapped in FullyShardedDataParallel, whose parts cannot be put back: "
                "shard it with torch.distributed.fsdp.fully_shard, or use DistributedDataParallel"
            )
        wrapped = [module for module in modules if isinstance(module, DistributedDataParallel)]
        sharded = [module for module in modules if hasattr(module, "reshard") and hasattr(module, "unshard")]
        if not (wrapped or sharded):
            return cls()
        group = wrapped[0].process_group if wrapped else None
        return cls(distributed.get_world_size(group), distributed.get_rank(group), group, sharded)

    def mean(self, value: Tensor, device: torch.device) -> Tensor:
        """The mean of all processes' values, the same bits on each; they talk over `device`."""
        return value if self.count == 1 else self.sum(value, device) / self.count

    def sum(self, value: Tensor, device: torch.device) -> Tensor:
        """The sum of all processes' values, the same bits on each; they talk over `device`."""
        if self.count == 1:
            return value
        total = value.detach().to(device, torch.promote_types(value.dtype, torch.float32), copy=True)
        distributed.all_reduce(total, group=self._group)
        return total.to(value.device)

    def reshard(self) -> None:
        """Leave of sharded modules this process's part alone, so that its parameters are always the same."""
        for module in self.sharded:
            module.reshard()
