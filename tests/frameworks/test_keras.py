"""Keras 3: the policies' values inside its optimizers, exact range tests, and traps, on torch and on JAX.

The file runs under the back end that KERAS_BACKEND names, torch otherwise, and its last test runs it
once more under JAX.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onecycle as oc

BACKEND = os.environ.setdefault("KERAS_BACKEND", "torch")
pytest.importorskip("keras", reason="Keras is not installed: pip install 'onecycle[keras]'")
pytest.importorskip(BACKEND, reason=f"the back end {BACKEND} is not installed")

import keras  # noqa: E402 - its back end is chosen above
from conformance import Conformance, Values  # noqa: E402
from keras import ops  # noqa: E402

from onecycle.keras import PolicyCallback, Schedule, Trial, find_lr, range_test  # noqa: E402

# Keras reads tensors of torch by way of a protocol that NumPy 2 has changed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)
TORCH = BACKEND == "torch"
on_torch = pytest.mark.skipif(not TORCH, reason="the JAX back end compiles momentum in")
on_jax = pytest.mark.skipif(TORCH, reason="the torch back end reads momentum at each step")


# A tiny real problem: which of three inputs is greatest -------------------------------------------------

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(256, 6)).astype(np.float32)
Y = X[:, :3].argmax(axis=1).astype(np.int32)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def model(optimizer: Any = None, dropout: float = 0.2, **compiled: Any) -> Any:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, "relu"), keras.layers.BatchNormalization(), keras.layers.Dropout(dropout)]
    net = keras.Sequential([keras.Input((6,)), *layers, keras.layers.Dense(3)])
    net.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), LOSS, **compiled)
    return net


def fit(net: Any, **settings: Any) -> Any:
    return net.fit(X, Y, **{"batch_size": 32, "shuffle": False, "verbose": 0, **settings})


def values_of(variables: Any) -> list[Any]:
    return [ops.convert_to_numpy(variable.value).tolist() for variable in variables]


def fingerprint(net: Any) -> Any:
    """Weights, seeds, metrics and optimizer variables, plain attributes, and the global generators."""
    found = [
        values_of([*net.variables, *net.metrics_variables, *net.optimizer.variables]),
        {name: getattr(net.optimizer, name, None) for name in ("momentum", "beta_1", "weight_decay")},
        random.getstate(),
        np.random.get_state(legacy=False)["state"]["key"].tolist(),  # noqa: NPY002 - Keras uses it
    ]
    if TORCH:
        import torch

        gradients = [None if p.grad is None else p.grad.tolist() for p in net.parameters()]
        found += [torch.get_rng_state().tolist(), gradients, [m.training for m in net.modules()]]
    return found


LOG: list[dict[str, float]] = []


def note(kept: Any, lr: Any, momentum: Any) -> None:
    if kept:
        LOG.append({"lr": float(lr), "momentum": float(momentum)})


class Recorded:
    """Records what the optimizer's own update is given."""

    def _backend_update_step(self: Any, gradients: Any, variables: Any, learning_rate: Any) -> None:
        every = self.gradient_accumulation_steps or 1
        kept = (self._iterations + 1) % every == 0
        momentum = self.momentum if hasattr(self, "momentum") else self.beta_1
        if TORCH:
            note(kept, learning_rate, momentum)
        else:
            import jax

            jax.debug.callback(note, ops.convert_to_tensor(kept), learning_rate, momentum, ordered=True)
        super()._backend_update_step(gradients, variables, learning_rate)  # type: ignore[misc]


@keras.saving.register_keras_serializable("onecycle_tests")
class RecordedSGD(Recorded, keras.optimizers.SGD):
    pass


@keras.saving.register_keras_serializable("onecycle_tests")
class RecordedAdam(Recorded, keras.optimizers.Adam):
    pass


class TestConformance(Conformance):
    sets_momentum = TORCH
    has_groups = False

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def used(
        self,
        policy: oc.Policy,
        steps: int,
        *,
        adam: bool = False,
        stop_at: int | None = None,
        factors: tuple[float, ...] = (1.0,),  # noqa: ARG002 - Keras has no groups
        accumulate: int = 1,
    ) -> Values:
        LOG.clear()
        rate = Schedule(policy.lr, accumulate)
        extra = {"gradient_accumulation_steps": accumulate if accumulate > 1 else None}
        net = model(RecordedAdam(rate, **extra) if adam else RecordedSGD(rate, momentum=0.9, **extra))
        callbacks = [PolicyCallback(policy)] if TORCH else []
        first = (stop_at or steps) * accumulate
        data = np.concatenate([X] * 12), np.concatenate([Y] * 12)
        net.fit(*data, batch_size=32, steps_per_epoch=first, verbose=0, callbacks=callbacks)
        if stop_at is not None:
            net.save(self.folder / "model.keras")
            net = keras.models.load_model(self.folder / "model.keras")
            callbacks = [PolicyCallback(policy)] if TORCH else []
            net.fit(*data, batch_size=32, steps_per_epoch=steps - stop_at, verbose=0, callbacks=callbacks)
        if not TORCH:
            import jax

            jax.effects_barrier()
        return [[dict(values)] for values in LOG]

    def range_test(self, **settings: Any) -> tuple[oc.Curve, Any, Any]:
        net = model()
        fit(net)  # so that there is an optimizer state, and metrics, to put back
        before = fingerprint(net)
        curve = range_test(net, X, Y, progress=False, **settings)
        return curve, before, fingerprint(net)


# Schedules ------------------------------------------------------------------------------------------

POLICIES = {
    "paper": oc.one_cycle(0.8, 60),
    "logs": oc.one_cycle(0.8, 60, form="logs"),
    "cosine": oc.one_cycle(0.8, 60, shape="cosine", form="to_zero"),
    "triangular2": oc.cyclical(0.08, 0.8, 10, mode="triangular2"),
    "exp_range": oc.cyclical(0.08, 0.8, 10, mode="exp_range", gamma=0.99, total_steps=55),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_schedule_has_the_policy_s_values_past_the_end_too(name: str) -> None:
    ours = POLICIES[name].lr
    steps = np.arange(80)
    traced = ops.convert_to_numpy(Schedule(ours)(ops.convert_to_tensor(steps)))
    assert traced.dtype == np.float32
    assert traced == pytest.approx(ours(steps), rel=1e-6)


def test_a_schedule_survives_a_round_trip_through_its_config() -> None:
    """Keras `learning_rate_schedule_test.py`: config round trips."""
    ours = Schedule(oc.one_cycle(0.8, 60).lr, accumulate=2)
    schedules = keras.optimizers.schedules
    assert schedules.deserialize(schedules.serialize(ours)) == ours
    assert hash(Schedule.from_config(ours.get_config())) == hash(ours)
    assert float(ours(31)) == pytest.approx(oc.one_cycle(0.8, 60).lr(15))


def test_what_is_no_schedule_is_refused() -> None:
    with pytest.raises(TypeError, match=r"got the policy: pass policy\.lr"):
        Schedule(oc.one_cycle(0.1, 10))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="schedule must be one of onecycle's own"):
        Schedule(lambda _: 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="accumulate must be a number of batches >= 1, got 0"):
        Schedule(oc.constant(0.1), accumulate=0)
    own = oc.cyclical(0.1, 1.0, 5, mode=lambda cycle: 1 / cycle).lr
    with pytest.raises(ValueError, match="is a callable, which JSON cannot hold"):
        Schedule(own).get_config()


# The callback -----------------------------------------------------------------------------------------


def scheduled(policy: oc.Policy, **optimizer: Any) -> Any:
    return keras.optimizers.SGD(Schedule(policy.lr), **{"momentum": 0.9, **optimizer})


@on_jax
@pytest.mark.parametrize("name", ["momentum", "weight_decay"])
def test_on_jax_a_change_in_training_has_truly_no_effect(name: str) -> None:
    class Change(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            if batch == 3:
                setattr(self.model.optimizer, name, 0.5)

    with_change, without = (model(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.01)) for _ in "ab")
    fit(with_change, callbacks=[Change()])
    fit(without)
    assert values_of(with_change.variables) == values_of(without.variables)


@on_jax
def test_on_jax_momentum_is_refused_and_each_way_out_works() -> None:
    policy = oc.one_cycle(0.1, 8)
    with pytest.raises(ValueError, match="momentum cannot change while this model trains: the jax back end"):
        fit(model(scheduled(policy)), callbacks=[PolicyCallback(policy)])
    fit(model(scheduled(policy)), callbacks=[PolicyCallback(oc.one_cycle(0.1, 8, momentum=None))])
    LOG.clear()
    net = model(RecordedSGD(Schedule(policy.lr), momentum=0.9), jit_compile=False)
    fit(net, callbacks=[PolicyCallback(policy)])
    assert [row["momentum"] for row in LOG] == pytest.approx([policy(i)["momentum"] for i in range(8)])


@on_torch
def test_on_torch_weight_decay_follows_too() -> None:
    policy = oc.Policy(8, lr=oc.constant(0.1), weight_decay=oc.linear(0.0, 0.07, 7))
    net = model(scheduled(policy, weight_decay=0.5))
    fit(net, callbacks=[PolicyCallback(policy)])
    assert net.optimizer.weight_decay == pytest.approx(0.07)


def test_a_rate_that_does_not_follow_the_policy_is_refused() -> None:
    policy = oc.one_cycle(0.1, 8)
    for net in (model(), model(scheduled(oc.one_cycle(0.2, 8)))):
        with pytest.raises(ValueError, match=r"learning_rate=onecycle\.keras\.Schedule\(policy\.lr\)$"):
            fit(net, callbacks=[PolicyCallback(policy)])
    with pytest.raises(ValueError, match=r"Schedule\(policy\.lr, accumulate=2\)"):
        fit(model(scheduled(policy, gradient_accumulation_steps=2)), callbacks=[PolicyCallback(policy)])


@on_torch
def test_an_optimizer_built_without_momentum_is_refused() -> None:
    policy = oc.one_cycle(0.1, 8)
    with pytest.raises(ValueError, match="built with momentum=0 and has no place to keep one"):
        fit(model(scheduled(policy, momentum=0.0)), callbacks=[PolicyCallback(policy)])


# Range tests ------------------------------------------------------------------------------------------


def test_the_loss_is_the_batch_s_own_where_fit_reports_a_running_mean() -> None:
    class Logged(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.losses = [*getattr(self, "losses", []), float(logs["loss"])]

    # Without dropout: under torch, Keras takes its masks from a generator that the loader of `fit` uses too.
    logged, own = Logged(), model(dropout=0.0)
    fit(model(dropout=0.0), callbacks=[logged])
    trial = Trial(own, [(X[i : i + 32], Y[i : i + 32]) for i in range(0, 256, 32)])
    losses = [trial.step() for _ in range(8)]
    means = [np.mean(losses[: i + 1]) for i in range(8)]
    assert logged.losses == pytest.approx(means, rel=1e-5)
    assert logged.losses[1:] != pytest.approx(losses[1:], rel=1e-2)


def test_training_after_a_range_test_is_what_it_would_have_been() -> None:
    plain, tested = model(), model(metrics=["accuracy"])
    state = np.random.get_state()  # noqa: NPY002 - `model` seeds it, and the second call begins from there
    keras.utils.set_random_seed(7)
    fit(plain, shuffle=True)
    expected = values_of(plain.variables)
    keras.utils.set_random_seed(7)
    range_test(tested, X, Y, validation_data=(X, Y), start=1e-3, steps=30, progress=False)
    fit(tested, shuffle=True)
    assert values_of(tested.variables) == expected
    np.random.set_state(state)  # noqa: NPY002


class Fails(keras.layers.Layer):
    """Raises at its n-th batch, from within the running step."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 12

    def call(self, inputs: Any) -> Any:
        if TORCH:
            self._count(inputs)
        else:
            import jax

            jax.debug.callback(self._count, inputs)
        return inputs

    def _count(self, _: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("out of memory")


def test_how_far_the_weights_moved_is_a_share_of_their_size() -> None:
    net = model()
    trial = Trial(net, X, Y)
    state = trial.save()
    assert trial.moved(state) == 0
    for weight in net.trainable_variables:
        weight.assign(ops.multiply(weight.value, 1.5))
    for weight in net.non_trainable_variables:
        if weight.dtype == "float32":
            weight.assign(ops.add(weight.value, 7))
    assert trial.moved(state) == pytest.approx(0.5, rel=1e-5)
    curve = range_test(net, X, Y, steps=20, progress=False)
    assert curve.settings["trial"]["steps_per_epoch"] == 8
    assert curve.moved is not None
    assert np.isfinite(curve.moved[[9, 19]]).all()


def test_a_range_test_that_fails_midway_leaves_the_model_as_it_was() -> None:
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3), Fails()])
    net.compile(keras.optimizers.Adam(0.1), LOSS)
    net.layers[-1].left = 12
    net.optimizer.build(net.trainable_variables)
    before = fingerprint(net)
    with pytest.raises(Exception, match="out of memory"):
        range_test(net, X, Y, progress=False)
    assert fingerprint(net) == before
    net.layers[-1].left = -1
    fit(net)
    assert int(net.optimizer.iterations) == 8


@on_torch
def test_a_momentum_sweep_works_where_momentum_is_read() -> None:
    net = model()
    curve = range_test(net, X, Y, hyper="momentum", start=0.5, end=0.99, steps=20, progress=False)
    assert (curve.hyper, net.optimizer.momentum) == ("momentum", 0.9)


@on_jax
def test_a_momentum_sweep_is_refused_where_it_would_be_flat() -> None:
    with pytest.raises(ValueError, match="momentum cannot be swept: the jax back end compiles the value in"):
        range_test(model(), X, Y, hyper="momentum", start=0.5, end=0.99, progress=False)


def test_a_model_whose_rate_is_a_schedule_is_refused_with_the_way_out() -> None:
    net = model(keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)))
    with pytest.raises(TypeError, match="not settable"):
        net.optimizer.learning_rate = 0.2
    with pytest.raises(ValueError, match="cannot be set, since it is a schedule: compile it with a number"):
        range_test(net, X, Y, progress=False)


class Dataset(keras.utils.PyDataset):
    """Batches by number, without an end of its own."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> Any:
        return X[32 * i : 32 * i + 32], Y[32 * i : 32 * i + 32], np.ones(32, np.float32)


def test_batches_come_in_many_forms() -> None:
    batches = [(X[i : i + 32], Y[i : i + 32]) for i in range(0, 256, 32)]
    assert Trial(model(), X, Y).steps_per_epoch == 8
    for data in (batches, Dataset(), lambda _: batches):
        curve = range_test(
            model(), data, start=1e-3, end=0.1, steps=10, validation_data=Dataset(), progress=False
        )
        assert np.isfinite(curve.loss).all()
        assert curve.val_loss is not None
        assert curve.settings["batch_size"] == 32


def test_a_data_loader_of_torch_serves_every_back_end() -> None:
    data = pytest.importorskip("torch.utils.data")
    import torch

    loader = data.DataLoader(
        data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), batch_size=32, shuffle=True
    )
    net = model()
    net.optimizer.build(net.trainable_variables)
    before = fingerprint(net)
    curve = range_test(net, loader, start=1e-3, end=0.1, steps=10, progress=False)
    assert np.isfinite(curve.loss).all()
    assert fingerprint(net) == before  # under torch, its generator, which shuffles, too


def test_an_accumulated_update_is_one_step() -> None:
    net = model(keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=4))
    trial = Trial(net, X, Y)
    trial.step()
    assert int(net.optimizer.iterations) == 1
    assert (trial.size, trial.steps_per_epoch) == (128, 2)


def test_find_lr_finds_a_rate_that_trains() -> None:
    suggestion = find_lr(model(), X, Y, total_steps=1500, progress=False)
    assert suggestion.rule == "pilots"
    trial = Trial(model(), X, Y, validation_data=(X, Y))
    history = oc.train(trial, oc.one_cycle(suggestion, 200), progress=False)
    assert history.rows[-1]["val_loss"] < 0.3
    assert isinstance(trial, oc.Trial)


def test_repeats_differ_by_data_and_dropout() -> None:
    curve = range_test(model(), X, Y, start=1e-4, steps=10, repeats=2, progress=False)
    one, two = (curve.loss[curve.seed == seed] for seed in (0, 1))
    assert one[0] != two[0]
    assert curve.settings["trial"]["optimizer"] == "SGD"
    assert curve.settings["trial"]["momentum"] == 0.9


def test_arguments_that_cannot_work_are_refused_with_the_way_out() -> None:
    with pytest.raises(TypeError, match=r"model must be a keras\.Model, got int"):
        Trial(3, X, Y)
    with pytest.raises(ValueError, match="model must be compiled with an optimizer and a loss"):
        Trial(keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]), X, Y)
    unbuilt = keras.Sequential([keras.layers.Dense(3)])
    unbuilt.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="model has no weights yet: give it an Input"):
        Trial(unbuilt, X, Y)
    with pytest.raises(ValueError, match=r"x and y must be arrays of one length, got \[10, 256\]"):
        Trial(model(), X, Y[:10])
    with pytest.raises(ValueError, match="batch_size must lie between 1 and the 256 samples, got 0"):
        Trial(model(), X, Y, batch_size=0)
    with pytest.raises(TypeError, match="batches must be an iterable that can be begun anew"):
        Trial(model(), iter([(X, Y)]))


# Both back ends ---------------------------------------------------------------------------------------


def python(code: str, backend: str) -> str:
    environment = {**os.environ, "KERAS_BACKEND": backend}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_example_reads_digits() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    example = Path(__file__).parents[2] / "examples/keras_digits.py"
    last = python(example.read_text(encoding="utf-8"), BACKEND).splitlines()[-1]
    assert float(last.split()[-1].rstrip("%")) > 95, last


def test_the_other_framework_is_not_imported() -> None:
    other = "jax" if TORCH else "torch"
    code = (
        "import sys, keras, numpy as np\n"
        f"before = {other!r} in sys.modules\n"  # Keras itself may look for it
        "import onecycle.keras as o\n"
        "net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]); net.compile('sgd', 'mse')\n"
        "o.range_test(net, np.ones((32, 2)), np.ones((32, 1)), steps=10, progress=False)\n"
        f"print(before or {other!r} not in sys.modules)"
    )
    assert python(code, BACKEND) == "True\n"


@on_torch
def test_all_of_this_under_jax(tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="JAX is not installed: pip install 'onecycle[jax]'")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            # The tests train one net many times: compiled once, it is taken from here.
            "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        },
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
