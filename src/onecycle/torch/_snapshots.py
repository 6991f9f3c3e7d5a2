"""Which objects make up a model in training, kept and put back together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from torch import Tensor, nn
from torch.optim import Optimizer

from onecycle.torch._processes import Processes
from onecycle.torch._room import Copy, Place, clone, copier
from onecycle.torch._state import (
    Tree,
    keep_modules,
    keep_optimizers,
    keep_parameters,
    name_parameters,
    put_back_modules,
    put_back_optimizers,
    put_back_parameters,
)


class Snapshots:
    """Takes snapshots of modules, their parameters and the optimizers of these, and puts them back.

    Args:
        roots: the modules by the prefix of their parameters' names.
        modules: `roots` and all that is in them, each once.
        optimizers: all that hold a state, also those that others wrap.
        processes: that train the modules together.
        keep_on: where copies lie that are set aside; see `Trial`.
    """

    def __init__(
        self,
        roots: Mapping[str, nn.Module],
        modules: Iterable[nn.Module],
        optimizers: Iterable[Optimizer],
        processes: Processes,
        keep_on: Place | None,
    ) -> None:
        self._roots = roots
        self._modules = list(modules)
        self.optimizers = list(optimizers)
        self._processes = processes
        self._keep_on = keep_on

    def take(self, *, entire: bool, aside: Collection[int] | None = None) -> dict[str, Tree]:
        """A copy of the modules, and of parameters and optimizers too if `entire`.

        Args:
            entire: whether more than buffers and plain attributes will change.
            aside: where the copies are to lie where there is room, the ids of gradients that need none;
                None: every copy is on its own device.
        """
        named = self._named()
        copied: Copy = clone if aside is None else copier(self._live(named.values()), self._keep_on)
        state: dict[str, Tree] = {"modules": keep_modules(self._modules, named, copied)}
        if entire:
            state["parameters"] = keep_parameters(named, copied, aside or ())
            state["optimizers"] = keep_optimizers(self.optimizers, copied)
        return state

    def put_back(self, state: dict[str, Tree]) -> None:
        """Put back what `take` copied, in the very same tensors."""
        named = self._named()
        if "parameters" in state:
            named = put_back_parameters(named, state["parameters"])
            put_back_optimizers(self.optimizers, state["optimizers"])
        put_back_modules(self._modules, state["modules"], named)

    def _named(self) -> dict[str, Tensor]:
        self._processes.reshard()
        return name_parameters(self._roots, self.optimizers)

    def _live(self, parameters: Iterable[Tensor]) -> Iterator[Tensor]:
        """Most of what a snapshot has copies of."""
        yield from parameters
        for optimizer in self.optimizers:
            for values in optimizer.state.values():
                if isinstance(values, dict):
                    yield from (value for value in values.values() if isinstance(value, Tensor))
