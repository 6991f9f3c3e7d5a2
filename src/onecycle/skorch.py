"""skorch: a callback that trains with a policy, and a trial around a net, in a few lines each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

try:
    from sklearn.base import clone
    from skorch import NeuralNet
    from skorch.callbacks import Callback
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"onecycle.skorch needs skorch ({error}): pip install 'onecycle[skorch]'", name=error.name
    ) from error

from onecycle._policy import Policy, check_policy
from onecycle.torch._hypers import Hypers
from onecycle.torch._random import keep_random, put_back_random
from onecycle.torch._updates import UpdateTrial, updates

__all__ = ["OneCycle", "Trial"]


class OneCycle(Callback):
    """Trains with the 1cycle policy, or any other, one step per update that really is made.

    The count of updates is recorded in the net's history, batch by batch as `policy_step`, so that
    `partial_fit` after `load_params` goes on where the history ends.

    Args:
        policy: a `Policy`, or any callable from step to a dict.

    Raises:
        TypeError, ValueError: when training begins: see `onecycle.torch.Scheduler`.
    """

    def __init__(self, policy: Policy | Callable[[int], Mapping[str, float]]) -> None:
        self.policy = policy

    def on_train_begin(self, net: NeuralNet, X: Any = None, y: Any = None, **_: Any) -> None:  # noqa: ARG002, N803
        check_policy(self.policy)
        self.optimizers_ = _parts(net, net._optimizers)
        self.hypers_ = Hypers(self.optimizers_)
        self.seen_ = [updates(each) for each in self.optimizers_]
        batches = [batch for row in net.history for batch in row["batches"]]
        self.step_ = max((batch.get("policy_step", 0) for batch in batches), default=0)
        self.hypers_.write(self.policy(self.step_))

    def on_batch_end(self, net: NeuralNet, batch: Any = None, training: bool | None = None, **_: Any) -> None:  # noqa: ARG002
        if not training:
            return
        seen = [updates(each) for each in self.optimizers_]
        self.step_ += seen != self.seen_
        self.seen_ = seen
        net.history.record_batch("policy_step", self.step_)
        self.hypers_.write(self.policy(self.step_))


class Trial(UpdateTrial):
    """A skorch net as a trial, for `onecycle.range_test` and `onecycle.find_lr`.

    A net that is not initialized stays so: a clone of it is trained. No callback sees anything of it but
    `on_grad_computed`, where gradients are clipped. The net's `train_split` gives the validation loss.

    Args:
        net: the net, or a classifier or regressor.
        X, y: what `fit` takes.

    Raises:
        TypeError, ValueError: see `onecycle.torch.Trial`.
    """

    def __init__(self, net: NeuralNet, X: Any, y: Any = None) -> None:  # noqa: N803
        random = keep_random([])
        try:
            if not net.initialized_:
                net = clone(net).initialize()
            train, valid = net.get_split_datasets(X, y)
        finally:
            put_back_random([], random)
        super().__init__(
            nn.ModuleList(_parts(net, net._modules + net._criteria)),
            _parts(net, net._optimizers),
            None,
            net.get_iterator(train, training=True),
            None if valid is None else net.get_iterator(valid, training=False),
            step=lambda batch: net.train_step(batch)["loss"],
        )
        self._net = net

    def _forward(self, batch: Any) -> tuple[Any, Any]:
        return self._net.validation_step(batch), batch

    def _loss(self, output: Any, target: Any) -> Tensor:  # noqa: ARG002
        loss: Tensor = output["loss"]
        return loss


def _parts(net: NeuralNet, names: list[str]) -> list[Any]:
    return [getattr(net, f"{name}_") for name in names]
