"""skorch: the conformance scenarios with its nets, and what its nets have of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from conformance import Conformance, Values
from torch import nn
from torch_loops import fingerprint, loader, net, spy

import onecycle as oc

pytest.importorskip("skorch", reason="skorch is not installed: pip install 'onecycle[skorch]'")

from skorch import NeuralNetRegressor
from skorch.callbacks import Callback, GradientNormClipping
from skorch.dataset import ValidSplit

from onecycle.skorch import OneCycle, Trial


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = net()

    def forward(self, x: Any) -> Any:
        return self.net(x)


class Accumulating(NeuralNetRegressor):
    """Gradient accumulation as skorch's documentation does it."""

    def __init__(self, *arguments: Any, every: int = 1, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.every = every

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        step = self.train_step_single(batch, **fit_params)
        if len(self.history[-1, "batches"]) % self.every == 0:
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step


def regressor(seen: Values, *callbacks: Any, kind: Any = NeuralNetRegressor, **settings: Any) -> Any:
    sgd = {"optimizer": spy(torch.optim.SGD, seen), "optimizer__momentum": 0.9}
    return kind(
        Model,
        **{
            **({} if "optimizer" in settings else sgd),
            "lr": 0.1,
            "batch_size": 4,
            "callbacks": list(callbacks),
            "train_split": None,
            "verbose": 0,
            **settings,
        },
    )


def arrays(batches: int = 8) -> tuple[Any, Any]:
    x, y = loader(batches).dataset[:]
    return x.numpy(), y.numpy()


class TestSkorch(Conformance):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path

    def used(
        self,
        policy: oc.Policy,
        steps: int,
        *,
        adam: bool = False,
        stop_at: int | None = None,
        factors: tuple[float, ...] = (1.0,),
        accumulate: int = 1,
    ) -> Values:
        seen: Values = []
        settings: dict[str, Any] = {}
        if adam:
            settings |= {"optimizer": spy(torch.optim.Adam, seen)}
        if len(factors) > 1:
            first = {"lr": 0.1 * factors[0]}
            settings |= {"optimizer__param_groups": [("net.[01].*", first)], "lr": 0.1 * factors[1]}
        if accumulate > 1:
            settings |= {"kind": Accumulating, "every": accumulate}
        x, y = arrays(3 * accumulate)
        settings["max_epochs"] = steps // 3
        if stop_at is None:
            regressor(seen, OneCycle(policy), **settings).fit(x, y)
            return seen
        files = {f"f_{name}": self.path / name for name in ("params", "optimizer", "history")}
        settings["max_epochs"] = stop_at // 3
        regressor(seen, OneCycle(policy), **settings).fit(x, y).save_params(**files)
        settings["max_epochs"] = (steps - stop_at) // 3
        rest = regressor(seen, OneCycle(policy), **settings).initialize()
        rest.load_params(**files)
        rest.partial_fit(x, y)
        return seen

    def range_test(self, **settings: Any) -> tuple[oc.Curve, Any, Any]:
        torch.manual_seed(0)
        x, y = arrays()
        trained = regressor([], max_epochs=1).fit(x, y)
        before = fingerprint(trained.module_, [trained.optimizer_]), len(trained.history)
        curve = oc.range_test(Trial(trained, x, y), progress=False, **settings)
        return curve, before, (fingerprint(trained.module_, [trained.optimizer_]), len(trained.history))


def test_a_net_that_is_not_initialized_stays_so() -> None:
    torch.manual_seed(0)
    fresh, random = regressor([]), torch.get_rng_state().tolist()
    curve = oc.range_test(Trial(fresh, *arrays()), steps=20, progress=False)
    assert len(curve) >= 10
    assert not fresh.initialized_
    assert torch.get_rng_state().tolist() == random


def test_the_train_split_gives_the_validation_loss() -> None:
    split = regressor([], train_split=ValidSplit(4))
    curve = oc.range_test(Trial(split, *arrays()), steps=20, progress=False)
    assert curve.val_loss is not None
    assert oc.range_test(Trial(regressor([]), *arrays()), steps=20, progress=False).val_loss is None


def test_a_learning_rate_is_found() -> None:
    seen: Values = []
    split = regressor(seen, train_split=ValidSplit(4), batch_size=32)
    found = oc.find_lr(Trial(split, *arrays(200)), total_steps=400, budget=1, progress=False)
    assert found.rule == "pilots"
    assert 1e-3 < found.max_lr < 1


def test_callbacks_see_no_range_test_but_gradients_are_clipped() -> None:
    class Watch(Callback):
        calls: ClassVar[list[str]] = []

        def on_epoch_begin(self, net: Any, **_: Any) -> None:  # noqa: ARG002
            self.calls.append("epoch")

        def on_batch_end(self, net: Any, **_: Any) -> None:  # noqa: ARG002
            self.calls.append("batch")

        def on_grad_computed(self, net: Any, **_: Any) -> None:
            gradients = [p.grad.flatten() for p in net.module_.parameters()]
            norms.append(float(torch.linalg.vector_norm(torch.cat(gradients))))

    norms: list[float] = []
    net = regressor([], GradientNormClipping(0.01), Watch()).initialize()
    oc.range_test(Trial(net, *arrays()), start=1e-6, end=1e-3, steps=20, progress=False)
    assert not Watch.calls
    assert len(norms) == 20
    assert max(norms) == pytest.approx(0.01, rel=1e-3)


def test_a_net_that_is_fitted_anew_begins_the_policy_anew() -> None:
    seen: Values = []
    net = regressor(seen, OneCycle(oc.one_cycle(0.1, 16)), max_epochs=2)
    x, y = arrays()
    net.fit(x, y).fit(x, y)
    assert seen[:16] == seen[16:]


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(TypeError, match="policy must be a Policy"):
        regressor([], OneCycle(0.1)).fit(*arrays())  # type: ignore[arg-type]
