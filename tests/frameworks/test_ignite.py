"""Ignite: the conformance scenarios with its engines, and what its own finder gets wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from conformance import Conformance, Values
from torch import nn
from torch_loops import fingerprint, loader, net, optimizer

import onecycle as oc

pytest.importorskip("ignite", reason="Ignite is not installed: pip install 'onecycle[ignite]'")

from ignite.engine import Engine, Events, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver

from onecycle.ignite import Trial, attach


class TestIgnite(Conformance):
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
        for part in [end for end in (stop_at, steps) if end is not None]:
            model = net()
            updater = optimizer(model, seen, factors, adam)
            trainer = create_supervised_trainer(
                model, updater, nn.functional.mse_loss, gradient_accumulation_steps=accumulate
            )
            scheduler = attach(trainer, updater, policy)
            kept = {"trainer": trainer, "model": model, "optimizer": updater, "scheduler": scheduler}
            if part == steps and stop_at is not None:
                (file,) = self.path.glob("*.pt")
                Checkpoint.load_objects(kept, checkpoint=torch.load(file, weights_only=True))
            # Engines resume at epochs; one of this length holds as many updates as are asked for.
            length = accumulate * (3 if stop_at is not None else steps)
            trainer.add_event_handler(
                Events.COMPLETED, Checkpoint(kept, DiskSaver(self.path, require_empty=False))
            )
            trainer.run(loader(), max_epochs=accumulate * part // length, epoch_length=length)
        return seen

    def range_test(self, **settings: Any) -> tuple[oc.Curve, Any, Any]:
        torch.manual_seed(0)
        model = net()
        updater = optimizer(model, [])
        trainer = create_supervised_trainer(model, updater, nn.functional.mse_loss)
        trainer.run(loader(), max_epochs=1)
        before = fingerprint(model, [updater]), dict(vars(trainer.state))
        trial = Trial(trainer, model, updater, loader(shuffle=True))
        curve = oc.range_test(trial, progress=False, **settings)
        return curve, before, (fingerprint(model, [updater]), dict(vars(trainer.state)))


def trial(accumulate: int = 1) -> tuple[Trial, Engine, Values]:
    seen: Values = []
    model = net()
    updater = optimizer(model, seen)
    trainer = create_supervised_trainer(
        model, updater, nn.functional.mse_loss, gradient_accumulation_steps=accumulate
    )
    return Trial(trainer, model, updater, loader()), trainer, seen


def test_each_loss_is_recorded_with_the_rate_that_was_used() -> None:
    measured, _, seen = trial()
    curve = oc.range_test(measured, start=1e-5, end=1e-2, steps=30, progress=False)
    assert [step[0]["lr"] for step in seen] == pytest.approx(curve.value.tolist())
    assert curve.value[[0, -1]].tolist() == pytest.approx([1e-5, 1e-2])


def test_a_point_is_an_update_under_accumulation() -> None:
    measured, trainer, seen = trial(accumulate=3)
    curve = oc.range_test(measured, start=1e-5, end=1e-2, steps=30, progress=False)
    assert len(curve) == len(seen) == 30
    assert trainer.state.iteration == 0


def test_handlers_see_nothing_of_a_range_test() -> None:
    measured, trainer, _ = trial()
    called: list[int] = []
    for event in Events:
        trainer.add_event_handler(event, lambda *_: called.append(1))
    oc.range_test(measured, steps=30, progress=False)
    assert not called


def test_the_loss_scaler_is_put_back() -> None:
    model = net()
    updater = optimizer(model, [])
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)

    def update(engine: Engine, batch: Any) -> dict[str, Any]:  # noqa: ARG001
        updater.zero_grad()
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(updater)
        scaler.update()
        return {"loss": loss.item()}

    measured = Trial(
        Engine(update), model, updater, loader(), loss=lambda output: output["loss"], scaler=scaler
    )
    curve = oc.range_test(measured, start=1e-5, end=1e-2, steps=10, progress=False)
    assert len(curve) == 10
    assert scaler.get_scale() == 2.0**127


def test_a_loss_scaler_that_only_the_argument_names_is_put_back() -> None:
    model = net()
    updater = optimizer(model, [])
    scalers = {"one": torch.amp.GradScaler("cpu", init_scale=2.0**127)}
    measured = Trial(Engine(lambda *_: 0.0), model, updater, loader(), scaler=scalers["one"])
    scalers["one"].scale(torch.zeros(()))  # makes the scale
    state = measured.save()
    scalers["one"].update(1.0)
    measured.restore(state)
    assert scalers["one"].get_scale() == 2.0**127


def test_an_error_in_the_sweep_leaves_all_as_it_was() -> None:
    model = net()
    updater = optimizer(model, [])
    inner = create_supervised_trainer(model, updater, nn.functional.mse_loss)

    def update(engine: Engine, batch: Any) -> Any:
        if engine.state.iteration == 7:
            raise ArithmeticError
        return inner._process_function(engine, batch)

    before = fingerprint(model, [updater])
    trainer = Engine(update)
    with pytest.raises(ArithmeticError):
        oc.range_test(Trial(trainer, model, updater, loader()), steps=30, progress=False)
    assert fingerprint(model, [updater]) == before
    assert trainer.state.iteration == 0
