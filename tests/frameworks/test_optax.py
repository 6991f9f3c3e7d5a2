"""JAX and Optax: the policies' values in jitted training, range tests of pure updates, and traps."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import onecycle as oc

pytest.importorskip("optax", reason="Optax is not installed: pip install 'onecycle[jax]'")

import jax
import jax.numpy as jnp
import optax
from conformance import Conformance, Values

from onecycle.optax import Trial, find_lr, optimizer, range_test, schedule

STEPS = 24


# A tiny real problem: four weights fitted to noisy lines ----------------------------------------------


def problem(count: int = 12) -> list[tuple[Any, Any]]:
    random = np.random.default_rng(0)
    x = random.normal(size=(count, 8, 4)).astype(np.float32)
    y = x @ np.array([1.0, -2.0, 3.0, 0.5], np.float32) + 0.1 * random.normal(size=(count, 8))
    return [(a, b.astype(np.float32)) for a, b in zip(x, y, strict=True)]


def shuffled(seed: int) -> list[Any]:
    batches = problem()
    return [batches[i] for i in np.random.default_rng(seed).permutation(len(batches))]


def global_random() -> Any:
    return np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002 - what loaders use


def loss_of(params: Any, batch: Any) -> Any:
    x, y = batch
    return jnp.mean((x[:, :2] @ params["a"] + x[:, 2:] @ params["b"] - y) ** 2)


def begin(tx: Any) -> Any:
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    return params, tx.init(params)


SGD = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1, momentum=0.9)


def update(state: Any, batch: Any, lr: Any, momentum: Any = 0.9) -> Any:
    params, opt_state = state
    loss, gradient = jax.value_and_grad(loss_of)(params, batch)
    opt_state = optax.tree.set(opt_state, learning_rate=lr, momentum=momentum)
    step, opt_state = SGD.update(gradient, opt_state, params)
    return (optax.apply_updates(params, step), opt_state), loss


UPDATE = jax.jit(update)


class Recorder:
    """An optimizer factory that records what its own update is given."""

    def __init__(self) -> None:
        self.log: list[dict[str, float]] = []

    def sgd(self, learning_rate: Any, momentum: Any) -> optax.GradientTransformation:
        return self._recorded(optax.sgd(learning_rate, momentum), learning_rate, momentum)

    def adam(self, learning_rate: Any, b1: Any) -> optax.GradientTransformation:
        return self._recorded(optax.adam(learning_rate, b1), learning_rate, b1)

    def _recorded(self, inner: Any, lr: Any, momentum: Any) -> optax.GradientTransformation:
        def note(lr: Any, momentum: Any) -> None:
            self.log.append({"lr": float(lr), "momentum": float(momentum)})

        def update(*arguments: Any) -> Any:
            jax.debug.callback(note, lr, momentum, ordered=True)
            return inner.update(*arguments)

        return optax.GradientTransformation(inner.init, update)


class TestConformance(Conformance):
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
        factors: tuple[float, ...] = (1.0,),
        accumulate: int = 1,
    ) -> Values:
        recorder = Recorder()
        factory = recorder.adam if adam else recorder.sgd
        groups = {
            name: optimizer(policy, factory, lr_factor=factor)
            for name, factor in zip("ab", factors, strict=False)
        }
        tx: Any = optax.partition(groups, {"a": "a", "b": "b"}) if len(factors) > 1 else groups["a"]
        if accumulate > 1:
            tx = optax.MultiSteps(tx, accumulate)
        batches = problem()

        @jax.jit
        def train_step(state: Any, batch: Any) -> Any:
            params, opt_state = state
            step, opt_state = tx.update(jax.grad(loss_of)(params, batch), opt_state, params)
            return optax.apply_updates(params, step), opt_state

        state = begin(tx)
        for i in range(steps * accumulate):
            if stop_at is not None and i == stop_at * accumulate:
                np.savez(self.folder / "state.npz", *jax.tree.leaves(state))
                with np.load(self.folder / "state.npz") as file:
                    state = jax.tree.unflatten(jax.tree.structure(begin(tx)), map(jnp.asarray, file.values()))
            state = train_step(state, batches[i % len(batches)])
        jax.effects_barrier()
        count = len(factors)
        updates = [recorder.log[i : i + count] for i in range(0, len(recorder.log), count)]
        return updates[accumulate - 1 :: accumulate]  # MultiSteps works out the others and discards them

    def range_test(self, **settings: Any) -> tuple[oc.Curve, Any, Any]:
        state = begin(SGD)

        def fingerprint() -> Any:
            return (
                [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(state)],
                global_random(),
            )

        before = fingerprint()
        curve = range_test(UPDATE, state, shuffled, progress=False, **settings)
        return curve, before, fingerprint()


# Schedules under the tracer -------------------------------------------------------------------------

POLICIES = {
    "paper": oc.one_cycle(0.8, 9310),
    "logs": oc.one_cycle(0.8, 500, form="logs"),
    "to_zero": oc.one_cycle(0.8, 500, form="to_zero", shape="cosine", peak=0.0),
    "one step": oc.one_cycle(0.8, 1),
    "two steps": oc.one_cycle(0.8, 2),
    "torch": oc.one_cycle.from_torch(1.0, 333, three_phase=True, anneal_strategy="cos"),
    "fastai": oc.one_cycle.from_fastai(1.0, 333),
    "triangular": oc.cyclical(0.08, 0.8, 200, momentum=(0.9, 0.8)),
    "triangular2": oc.cyclical(0.0, 0.8, 70, step_size_down=30, mode="triangular2"),
    "exp_range": oc.cyclical(0.08, 0.8, 200, mode="exp_range", gamma=0.9994, total_steps=3000),
}
EIGHTHS = (0.125).__mul__  # a piece far shorter than a step is finer than float32's fractions of one
NUMBERS = st.floats(1e-6, 1e3)


def close(traced: Any, exact: Any, scale: float = 0.0) -> None:
    assert np.asarray(traced) == pytest.approx(np.asarray(exact), rel=2e-6, abs=2e-6 * scale)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_has_the_same_values_under_jit_and_vmap_past_its_end_too(name: str) -> None:
    policy = POLICIES[name]
    counts = np.arange(11_000)
    for ours in (policy.lr, policy.momentum):
        if ours is not None:
            close(jax.jit(jax.vmap(schedule(ours)))(counts), ours(counts), 0.001)


def test_a_scan_sees_each_step_s_value() -> None:
    ours = oc.one_cycle(0.8, 50).lr
    _, values = jax.lax.scan(lambda count, _: (count + 1, schedule(ours)(count)), jnp.int32(0), None, 60)
    close(values, ours(np.arange(60)))


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(
        st.one_of(st.integers(0, 10**9), st.integers(0, 10**6).map(EIGHTHS)), min_size=1, max_size=5
    ).map(sorted),
    values=st.lists(NUMBERS, min_size=5, max_size=5),
    shapes=st.lists(st.sampled_from(["linear", "cosine", "exponential"]), min_size=4, max_size=4),
    extra=st.integers(0, 2 * 10**9),
)
def test_every_piecewise_schedule_is_the_same_to_float32(
    steps: list[float], values: list[float], shapes: list[Any], extra: int
) -> None:
    ours = oc.Piecewise(tuple(steps), tuple(values[: len(steps)]), tuple(shapes[: len(steps) - 1]))
    near = [max(math.floor(step) + shift, 0) for step in steps for shift in (-1, 0, 1)]
    counts = np.array([0, extra, *near])
    exact = ours(counts)
    traced = np.asarray(schedule(ours)(counts))
    assert traced == pytest.approx(exact, rel=1e-5, abs=1e-5 * max(values))


@settings(max_examples=40, deadline=None)
@given(
    start=NUMBERS,
    peak=NUMBERS,
    up=st.integers(1, 10**5),
    down=st.integers(1, 10**5),
    mode=st.sampled_from(["triangular", "triangular2", "exp_range"]),
    gamma=st.floats(0.999, 1),
    last=st.none() | st.integers(0, 10**6),
    count=st.integers(0, 2 * 10**9),
)
def test_every_cycle_is_the_same_to_float32(count: int, start: float, peak: float, **cycle: Any) -> None:
    ours = oc.Cycle(start, peak, **cycle)
    close(schedule(ours)(np.int32(count)), ours(count), max(start, peak))


def test_a_callable_mode_is_traced() -> None:
    ours = oc.cyclical(0.0, 1.0, 5, mode=lambda cycle: 1 / cycle).lr
    close(jax.jit(jax.vmap(schedule(ours)))(np.arange(40)), ours(np.arange(40)), 1.0)


def test_what_cannot_be_traced_is_refused_when_it_is_given() -> None:
    with pytest.raises(TypeError, match=r"cannot be traced: write its function with jax\.numpy"):
        schedule(lambda step: math.sin(step))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"pass policy\.lr"):
        schedule(oc.one_cycle(0.1, 10))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="count must be a whole number of updates, got float32"):
        schedule(oc.constant(0.1))(0.5)


def test_optax_s_own_vectors() -> None:
    """Optax `_schedule_test.py` OneCycleTest: linear, T 10, peak 1000; cosine, T 5; values past the end."""
    linear = oc.Piecewise.through([(0, 100), (3, 1000), (7, 100), (10, 1)])
    expected: list[float] = [100, 400, 700, 1000, 775, 550, 325, 100, 67, 34, 1, 1]
    close(jax.vmap(schedule(linear))(np.arange(12)), expected)
    own = optax.linear_onecycle_schedule(10, 1000, 0.3, 0.7, 10, 100)
    close([own(i) for i in range(12)], expected)
    cosine = oc.Piecewise.through([(0, 100), (2, 1000), (5, 1)], "cosine")
    expected = [100, 550, 1000, 750.25, 250.75, 1, 1]
    close(jax.vmap(schedule(cosine))(np.arange(7)), expected)
    own = optax.cosine_onecycle_schedule(5, 1000, 0.4, 10, 100)
    close([own(i) for i in range(7)], expected)


def test_a_piece_without_length_is_a_jump_to_the_later_value() -> None:
    """Optax PiecewiseInterpolateTest.test_zero_interval_size."""
    jump = oc.Piecewise.through([(0, 1.0), (5, 2.0), (5, 7.0), (9, 8.0)])
    close(jax.vmap(schedule(jump))(np.array([0, 4, 5, 9, 10])), [1, 1.8, 7, 8, 8])


def test_a_count_near_the_end_of_int32_is_still_exact() -> None:
    """Optax CosineDecayTest, giant ints: a float32 cannot tell these steps apart."""
    ours = oc.Piecewise.through([(2**31 - 11, 0.0), (2**31 - 1, 10.0)])
    close(jax.vmap(schedule(ours))(np.arange(2**31 - 11, 2**31 - 1)), np.arange(10.0))


# Traps of Optax's own way -----------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")  # optax 0.2.5
def test_a_short_run_warms_up_where_optax_s_starts_at_the_peak() -> None:
    own = optax.cosine_onecycle_schedule(3, 1.0, pct_start=0.19), optax.linear_onecycle_schedule(5, 1.0, 0.1)
    for start in (float(values(0)) for values in own):
        assert start == 1.0 or math.isnan(start)  # older releases
    for steps in (3, 5):
        close(schedule(oc.one_cycle(1.0, steps).lr)(0), 0.1)


def test_momentum_follows_where_optax_takes_no_function() -> None:
    policy = oc.one_cycle(0.1, 10)
    with pytest.raises(TypeError):
        begin_and_step(optax.sgd(0.1, momentum=schedule(policy.momentum)))  # type: ignore[arg-type]
    _, state = begin_and_step(optimizer(policy, optax.sgd, nesterov=True))
    close(state.hyperparams["momentum"], 0.95)


def begin_and_step(tx: Any) -> Any:
    params, state = begin(tx)
    return tx.update(jax.grad(loss_of)(params, problem()[0]), state, params)


def test_an_update_whose_injected_schedule_overrules_the_rate_is_refused() -> None:
    tx = optax.inject_hyperparams(optax.sgd)(learning_rate=lambda count: 0.1 / (1 + count))

    @jax.jit
    def overruled(state: Any, batch: Any, lr: Any) -> Any:
        params, opt_state = state
        loss, gradient = jax.value_and_grad(loss_of)(params, batch)
        opt_state.hyperparams["learning_rate"] = lr
        step, opt_state = tx.update(gradient, opt_state, params)
        return (optax.apply_updates(params, step), opt_state), loss

    with pytest.raises(ValueError, match="update makes no use of lr: an optimizer built with a schedule"):
        range_test(overruled, begin(tx), problem(), progress=False)


# Optimizers that follow a policy ------------------------------------------------------------------------


def test_weight_decay_follows_and_what_is_given_is_handed_on() -> None:
    policy = oc.Policy(10, lr=oc.constant(0.1), weight_decay=oc.linear(0.1, 0.2, 1))
    tx = optimizer(policy, optax.adamw, mask=lambda params: jax.tree.map(lambda _: False, params))
    _, state = begin_and_step(tx)
    close(state.hyperparams["weight_decay"], 0.1)


def test_what_the_factory_has_not_is_left_alone_or_refused() -> None:
    _, state = begin_and_step(optimizer(oc.one_cycle(0.1, 10), optax.adagrad))
    assert "momentum" not in state.hyperparams
    decay = oc.Policy(10, lr=oc.constant(0.1), weight_decay=oc.constant(0.1))
    with pytest.raises(ValueError, match="sets weight_decay, and factory sgd has no weight_decay"):
        optimizer(decay, optax.sgd)
    with pytest.raises(ValueError, match="momentum is given, and the policy sets it too"):
        optimizer(oc.one_cycle(0.1, 10), optax.sgd, momentum=0.9)


# Trials -----------------------------------------------------------------------------------------------


def test_a_donating_update_leaves_the_caller_s_state_and_every_saved_one() -> None:
    state = begin(SGD)
    donating = jax.jit(update, donate_argnums=0)
    trial = Trial(donating, state, problem())
    assert isinstance(trial, oc.Trial)
    trial.set(lr=0.1)
    saved = trial.save()
    first = [float(trial.step()) for _ in range(15)]
    for _ in range(2):
        trial.restore(saved)
        assert [float(trial.step()) for _ in range(15)] == first
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_training_with_a_policy_keeps_the_state() -> None:
    trial = Trial(UPDATE, begin(SGD), shuffled, evaluate=lambda state: loss_of(state[0], problem()[0]))
    history = oc.train(trial, oc.one_cycle(0.1, 60), progress=False)
    assert history.rows[-1]["loss"] < history.rows[0]["loss"] / 50
    assert history.last("val_loss") == pytest.approx(float(loss_of(trial.state[0], problem()[0])))
    assert (trial.size, trial.steps_per_epoch) == (8, None)
    assert Trial(UPDATE, begin(SGD), problem()).steps_per_epoch == 12


def test_restoring_in_mid_epoch_goes_on_with_the_same_batches_though_they_are_shuffled_globally() -> None:
    class Loader:
        def __iter__(self) -> Any:
            order = np.random.permutation(12)  # noqa: NPY002 - loaders do
            return iter([problem()[i] for i in order])

    trial = Trial(UPDATE, begin(SGD), Loader())
    trial.set(lr=0.01)
    trial.seed(3)
    losses = [float(trial.step()) for _ in range(5)]
    saved = trial.save()
    rest = [float(trial.step()) for _ in range(20)]
    trial.restore(saved)
    assert [float(trial.step()) for _ in range(20)] == rest
    trial.seed(3)
    assert float(trial.step()) != losses[0]  # the weights are not the seed's business


def test_an_interrupted_range_test_leaves_the_generators() -> None:
    def fails(state: Any, batch: Any, lr: Any) -> Any:
        np.random.rand()  # noqa: NPY002 - what must be put back
        if float(lr) > 1e-3:
            raise RuntimeError("out of memory")
        return UPDATE(state, batch, lr)

    before = global_random()
    with pytest.raises(RuntimeError, match="out of memory"):
        range_test(fails, begin(SGD), problem(), progress=False)
    assert global_random() == before


def test_repeats_differ_by_the_order_of_the_data() -> None:
    curve = range_test(UPDATE, begin(SGD), shuffled, start=1e-4, steps=20, repeats=2, progress=False)
    one, two = (curve.loss[curve.seed == seed] for seed in (0, 1))
    assert one[0] != two[0]


def test_a_momentum_sweep_sets_momentum() -> None:
    curve = range_test(
        lambda state, batch, momentum: UPDATE(state, batch, 0.01, momentum),
        begin(SGD), problem(), hyper="momentum", start=0.5, end=0.99, steps=20, progress=False,
    )  # fmt: skip
    assert curve.hyper == "momentum"
    with pytest.raises(ValueError, match="update takes no weight_decay: it must name what is swept"):
        range_test(UPDATE, begin(SGD), problem(), hyper="weight_decay", progress=False)


@pytest.mark.parametrize(
    ("tx", "kind"),
    [
        (optax.sgd(0.1), "SGD"),
        (optax.sgd(optax.constant_schedule(0.1), momentum=0.9, nesterov=True), "SGD"),
        (
            optax.chain(optax.clip_by_global_norm(1.0), optax.add_decayed_weights(1e-4), optax.sgd(0.1, 0.9)),
            "SGD",
        ),
        (optax.MultiSteps(optax.sgd(0.1), 2), "SGD"),
        (SGD, "SGD"),
        (optimizer(oc.one_cycle(0.1, 100), optax.sgd), "SGD"),
        (optax.multi_transform({"a": optax.sgd(0.1), "b": optax.sgd(0.2)}, {"a": "a", "b": "b"}), "SGD"),
        (optax.multi_transform({"a": optax.sgd(0.1), "b": optax.adam(0.2)}, {"a": "a", "b": "b"}), "other"),
        (optax.adamw(1e-3), "other"),
        (optax.inject_hyperparams(optax.adam)(1e-3), "other"),
        (optax.rmsprop(1e-3, momentum=0.9), "other"),
        (optax.lion(1e-3), "other"),
        (optax.adafactor(1e-3), "other"),
    ],
)
def test_the_optimizer_is_told_by_its_state(tx: Any, kind: str) -> None:
    assert Trial(UPDATE, begin(tx), problem()).describe()["optimizer"] == kind
    in_a_dict = dict(zip(("params", "opt_state"), begin(tx), strict=True))
    assert Trial(UPDATE, in_a_dict, problem()).describe()["optimizer"] == kind


def test_a_curve_says_what_the_update_was_called_with() -> None:
    curve = range_test(UPDATE, begin(SGD), problem(), steps=20, progress=False)
    assert curve.settings["trial"] == {"optimizer": "SGD", "momentum": 0.9, "steps_per_epoch": 12}
    by_hand = range_test(
        lambda w, _, lr: (w - lr, jnp.sum(w)), jnp.ones(2), shuffled, steps=20, progress=False
    )
    assert by_hand.settings["trial"] == {"steps_per_epoch": None}


class State(NamedTuple):
    step: int
    params: Any


HALF, ONE = {"a": 0.5 * jnp.ones(3), "n": jnp.arange(3)}, {"a": jnp.ones(3), "n": jnp.zeros(3, int)}


@pytest.mark.parametrize(
    ("was", "now", "weights", "moved"),
    [
        ((ONE, optax.sgd(0.1).init(ONE)), (HALF, optax.sgd(0.1).init(ONE)), None, 0.5),
        ({"params": ONE, "key": 3}, {"params": HALF, "key": 4}, None, 0.5),
        (State(0, ONE), State(9, HALF), None, 0.5),
        ([9.0, ONE], [1.0, HALF], lambda state: state[1], 0.5),
        ((ONE, 3.0), (HALF, 1.0), None, None),
        ({"w": ONE}, {"w": HALF}, None, None),
        (jnp.zeros(2), jnp.ones(2), lambda state: state, None),
        ([jnp.ones(9), jnp.zeros(3)], [0.5 * jnp.ones(9), jnp.ones(3)], lambda state: state, 0.5),
        ([jnp.ones(9)], [jnp.ones(9).at[:2].set(0.5)], lambda state: state, 0.5),
    ],
    ids=[
        *("tuple", "dict", "TrainState", "told", "no state behind", "no name", "no size"),
        *("one began at zero", "most has not moved"),
    ],
)
def test_how_far_the_weights_moved(was: Any, now: Any, weights: Any, moved: float | None) -> None:
    trial = Trial(lambda _, __, lr: (now, lr), was, problem(), weights=weights)
    saved = trial.save()
    trial.set(lr=0.1)
    trial.step()
    assert (math.isnan(trial.moved(saved)) and moved is None) or trial.moved(saved) == pytest.approx(moved)
    trial.restore(saved)
    assert moved is None or trial.moved(saved) == 0


def test_a_range_test_measures_how_far_the_weights_moved() -> None:
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    curve = range_test(UPDATE, (params, SGD.init(params)), problem(), steps=30, end=0.1, progress=False)
    assert curve.moved is not None
    assert (np.diff(curve.moved[[9, 19, 29]]) > 0).all()
    hidden = range_test(
        UPDATE,
        (params, SGD.init(params)),
        problem(),
        weights=lambda _: None,
        steps=30,
        end=0.1,
        progress=False,
    )
    assert hidden.moved is None
    assert hidden.loss.tolist() == curve.loss.tolist()


def test_find_lr_finds_a_rate_that_trains() -> None:
    suggestion = find_lr(UPDATE, begin(SGD), shuffled, total_steps=1500, progress=False)
    assert suggestion.rule == "pilots"
    trial = Trial(UPDATE, begin(SGD), shuffled)
    history = oc.train(trial, oc.one_cycle(suggestion, 300), progress=False)
    assert history.rows[-1]["loss"] < 0.05


def test_arguments_that_cannot_work_are_refused_with_the_way_out() -> None:
    state = begin(SGD)
    with pytest.raises(TypeError, match="batches must be an iterable that can be begun anew"):
        Trial(UPDATE, state, iter(problem()))
    with pytest.raises(TypeError, match=r"update must take lr, as in update\(state, batch, lr\)"):
        Trial(lambda state, _: (state, 0.0), state, problem())
    with pytest.raises(ValueError, match="update needs lr: set it, or give the argument a default"):
        Trial(UPDATE, state, problem()).step()
    trial = Trial(UPDATE, state, [])
    trial.set(lr=0.1)
    with pytest.raises(ValueError, match="batches gave no batch: it is empty"):
        trial.step()


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_example_reads_digits() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    example = Path(__file__).parents[2] / "examples/jax_digits.py"
    last = python(example.read_text(encoding="utf-8")).splitlines()[-1]
    assert float(last.split()[-1].rstrip("%")) > 95, last


def test_nothing_of_torch_is_imported() -> None:
    code = (
        "import sys, onecycle as oc, onecycle.optax as o\n"
        "trial = o.Trial(lambda state, batch, lr: (state, lr), 0.0, [1])\n"
        "oc.range_test(trial, progress=False)\n"
        "print('torch' in sys.modules)"
    )
    assert python(code) == "False\n"
