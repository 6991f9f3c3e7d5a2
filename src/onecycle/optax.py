"""JAX and Optax: schedules under the tracer, optimizers that follow a policy, and range tests."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, SupportsFloat

import numpy as np

from onecycle import _find, _range_test, _traced
from onecycle._batches import Batches, Place, Stream, samples
from onecycle._curve import Curve
from onecycle._moves import Part, share_moved
from onecycle._policy import Policy
from onecycle._schedules import Schedule
from onecycle._suggestion import Suggestion

try:
    import jax
    import jax.numpy as jnp
    import optax
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"onecycle.optax needs JAX and Optax ({error}): pip install 'onecycle[jax]'", name=error.name
    ) from error

__all__ = ["Trial", "find_lr", "optimizer", "range_test", "schedule"]

Update = Callable[..., tuple[Any, Any]]
HYPERS = ("lr", "momentum", "weight_decay")
# The states of optax.sgd, and of what may be wrapped around any optimizer.
_OF_SGD = {
    *("EmptyState", "TraceState", "ScaleByScheduleState", "MultiStepsState", "ApplyIfFiniteState"),
    *("InjectHyperparamsState", "InjectStatefulHyperparamsState", "WrappedScheduleState"),
    *("PartitionState", "MultiTransformState", "MaskedState", "MaskedNode"),
}


def schedule(schedule: Schedule) -> Callable[[Any], jax.Array]:
    """An Optax schedule with the values of `schedule`, for use under jit, vmap and scan.

    Args:
        schedule: one of a policy's, such as `policy.lr`. Any other callable, and a callable `mode` of a
            `Cycle`, must be written with jax.numpy.

    Returns:
        A function from the count of completed updates, a whole number or an array of them, to values
        rounded to JAX's default float. A `Cycle` whose length is no whole number of steps loses
        precision with the steps, as all float32 counts do.

    Raises:
        TypeError: `schedule` is no schedule, or cannot be traced; when called, the count is not whole.
    """
    _traced.check(schedule)

    def at(count: Any) -> jax.Array:
        step = jnp.asarray(count)
        if not jnp.issubdtype(step.dtype, jnp.integer):
            raise TypeError(f"count must be a whole number of updates, got {step.dtype}")
        return jnp.asarray(_traced.value(schedule, step, jnp, lambda whole: whole.astype(float)))

    try:
        jax.eval_shape(at, jnp.int32(0))
    except (jax.errors.JAXTypeError, ValueError, TypeError) as error:
        raise TypeError(
            f"schedule {schedule!r} cannot be traced: write its function with jax.numpy ({error})"
        ) from error
    return at


def optimizer(
    policy: Policy,
    factory: Callable[..., optax.GradientTransformation],
    *,
    lr_factor: float = 1.0,
    **fixed: Any,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer whose rate, momentum (or b1) and weight decay follow `policy`.

    It is `optax.inject_hyperparams(factory)` with the policy's schedules: the values used last are in
    `state.hyperparams`. The count of updates is in the state too, so that a run goes on where the
    state was saved, and `optax.MultiSteps` around it counts updates, not batches.

    Args:
        policy: what to follow; its momentum is not used where the optimizer has neither `momentum` nor `b1`.
        factory: such as `optax.sgd` or `optax.adamw`.
        lr_factor: share of the policy's rate, for a group of parameters under `optax.partition`.
        **fixed: the factory's other arguments, handed on as they are.

    Raises:
        TypeError: `factory` does not take what it is given.
        ValueError: the policy sets what `factory` does not have, or what is given as well.
    """
    parameters = inspect.signature(factory).parameters
    scheduled: dict[str, Callable[[Any], jax.Array]] = {}
    names = {
        "lr": "learning_rate",
        "momentum": "momentum" if "momentum" in parameters else "b1",
        "weight_decay": "weight_decay",
    }
    for hyper, name in names.items():
        values = getattr(policy, hyper)
        if values is None or (hyper == "momentum" and name not in parameters):
            continue
        if name not in parameters:
            raise ValueError(
                f"policy sets {hyper}, and factory {factory.__name__} has no {name}: "
                "use another, such as optax.adamw, or a policy without it"
            )
        if name in fixed:
            raise ValueError(f"{name} is given, and the policy sets it too: leave one of them out")
        follow = schedule(values)
        scheduled[name] = _times(lr_factor, follow) if hyper == "lr" and lr_factor != 1 else follow
    return optax.inject_hyperparams(factory, static_args=tuple(fixed))(**scheduled, **fixed)


def _times(factor: float, values: Callable[[Any], jax.Array]) -> Callable[[Any], jax.Array]:
    return lambda count: factor * values(count)


class _State(NamedTuple):
    state: Any
    hyper: dict[str, float]
    place: Place


class Trial:
    """JAX training as a pure function of its state, for `onecycle.range_test`, `find_lr` and `train`.

    Nothing needs to be put back, for nothing is changed: the trial works on states of its own, and hands
    copies to `update`, which may therefore donate its argument.

    Args:
        update: `(state, batch, lr) -> (state, loss)`, with the loss before the update; jit it. It gets
            those of lr, momentum and weight_decay that it names; one with a default may stay unset.
        state: a pytree of all that training changes: parameters, optimizer state, random keys.
        batches: an iterable that can be begun anew, such as a list, or a function that is given an int,
            another one at each epoch, and returns an iterable: the place to shuffle.
        evaluate: `state -> validation loss`, or None.
        weights: `state -> what of it is trained`; None: its `params`, or the first part of a tuple that has
            a state of Optax's behind it, or nothing.

    Raises:
        TypeError: `batches` is an iterator or no batches at all, or `update` names none of the three.
    """

    def __init__(
        self,
        update: Update,
        state: Any,
        batches: Batches,
        evaluate: Callable[[Any], SupportsFloat] | None = None,
        *,
        weights: Callable[[Any], Any] | None = None,
    ) -> None:
        parameters = inspect.signature(update).parameters
        self._takes = [name for name in HYPERS if name in parameters]
        if not self._takes:
            raise TypeError(f"update must take lr, as in update(state, batch, lr), got {list(parameters)}")
        defaults = {name: parameters[name].default for name in self._takes}
        self._defaults = {n: value for n, value in defaults.items() if value is not inspect.Parameter.empty}
        self._weights = _weights if weights is None else weights
        self._update = update
        self._batches = batches
        self._evaluate = evaluate
        self._stream = Stream(batches)
        self._hyper: dict[str, float] = {}
        self._checked: set[str] = set()
        self._state, self._shared = state, True
        self.size = 0

    @property
    def state(self) -> Any:
        """The present state, to keep after `onecycle.train`."""
        self._shared = True  # it is the caller's now as well: the next step takes a copy
        return self._state

    @property
    def steps_per_epoch(self) -> int | None:
        """Updates in one pass over `batches`, None where it has no length."""
        count = getattr(self._batches, "__len__", None)
        return None if count is None else count()

    def describe(self) -> dict[str, Any]:
        """What a curve's settings keep of it.

        The values that `update` is called with, steps in an epoch, and "SGD" as optimizer if Optax's states
        in `state` are those of its `sgd`, "other" if they are not. (`sign_sgd` has none that tells it apart.)
        """
        values = {name: value for name, value in (self._defaults | self._hyper).items() if _is_number(value)}
        kinds = set(_kinds(self._state))
        facts: dict[str, Any] = {"optimizer": "SGD" if kinds <= _OF_SGD else "other"} if kinds else {}
        return {**facts, **values, "steps_per_epoch": self.steps_per_epoch}

    def set(self, **hyper: float) -> None:
        """Set `lr`, `momentum` or `weight_decay`; what `update` does not name is left alone."""
        self._hyper.update((name, value) for name, value in hyper.items() if name in self._takes)

    def seed(self, seed: int) -> None:
        """Start the data anew in the order of `seed`; random keys in the state stay as they are."""
        self._stream.seed(seed)

    def step(self) -> jax.Array:
        """Train on one batch; the loss before the update, still on the device.

        Raises:
            ValueError: a hyper-parameter is not set, or `update` makes no use of it.
        """
        if unset := [name for name in self._takes if name not in self._hyper | self._defaults]:
            raise ValueError(f"update needs {', '.join(unset)}: set it, or give the argument a default")
        batch = next(self._stream)
        self.size = samples(jax.tree.leaves(batch))
        for name in self._hyper.keys() - self._checked:
            self._check(name, batch)
        state = jax.tree.map(_copy, self._state) if self._shared else self._state
        self._state, loss = self._update(state, batch, **self._hyper)
        self._shared = False
        return loss

    def evaluate(self) -> float | None:
        """Validation loss of the present state, None where there is none."""
        return None if self._evaluate is None else float(self._evaluate(self._state))

    def moved(self, state: _State) -> float:
        """How far the weights lie from those of `state`, as a share of their size there; NaN if not known.

        What has not moved counts nothing, nor does a leaf that began at zero. NaN where most of them did.
        """
        now, was = (
            [jnp.asarray(leaf) for leaf in jax.tree.leaves(self._weights(each)) if _is_inexact(leaf)]
            for each in (self._state, state.state)
        )
        if [leaf.shape for leaf in now] != [leaf.shape for leaf in was]:
            return math.nan
        return share_moved(_part(new, old) for new, old in zip(now, was, strict=True))

    def save(self) -> _State:
        """The present state by reference; arrays that are never written need no copy."""
        return _State(self.state, dict(self._hyper), self._stream.keep())

    def restore(self, state: _State) -> None:
        """Go back to where `save` was called."""
        self._state, self._shared = state.state, True
        self._hyper = dict(state.hyper)
        self._stream.put_back(state.place)

    def _check(self, name: str, batch: Any) -> None:
        """Refuse a jitted update whose outcome does not depend on `name`."""
        self._checked.add(name)
        if not hasattr(self._update, "lower"):
            return

        def outcome(value: Any) -> Any:
            return self._update(self._state, batch, **{**self._hyper, name: value})

        try:  # vmap refuses an outcome that depends on what it maps
            jax.eval_shape(jax.vmap(outcome, out_axes=None), jnp.zeros(1))
        except (ValueError, TypeError, NotImplementedError):
            return
        raise ValueError(
            f"update makes no use of {name}: an optimizer built with a schedule overrules what is written "
            "into its state; build it with optax.inject_hyperparams and a number"
        )


def range_test(
    update: Update,
    state: Any,
    batches: Batches,
    *,
    evaluate: Callable[[Any], SupportsFloat] | None = None,
    weights: Callable[[Any], Any] | None = None,
    start: float = 1e-7,
    end: float = 10.0,
    steps: int | None = None,
    repeats: int = 1,
    sweep: _range_test.Sweep = "exponential",
    hyper: _range_test.Hyper = "lr",
    seed: int = 0,
    progress: bool = True,
    batches_per_value: int = 1,
    evaluations: int = 20,
) -> Curve:
    """Sweep the learning rate (or momentum, or weight decay) that `update` takes and record the loss.

    Args:
        update, state, batches, evaluate, weights: see `Trial`.
        start, end, steps, repeats, sweep, hyper, seed, progress, batches_per_value, evaluations: see
            `onecycle.range_test`.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range, or `update` makes no use of `hyper`.
    """
    trial = Trial(update, state, batches, evaluate, weights=weights)
    if hyper in HYPERS and hyper not in trial._takes:
        raise ValueError(f"update takes no {hyper}: it must name what is swept")
    return _range_test.range_test(
        trial,
        start=start,
        end=end,
        steps=steps,
        repeats=repeats,
        sweep=sweep,
        hyper=hyper,
        seed=seed,
        progress=progress,
        batches_per_value=batches_per_value,
        evaluations=evaluations,
    )


def find_lr(
    update: Update,
    state: Any,
    batches: Batches,
    *,
    total_steps: int,
    evaluate: Callable[[Any], SupportsFloat] | None = None,
    weights: Callable[[Any], Any] | None = None,
    objective: _find.Objective | None = None,
    budget: float = 0.2,
    seed: int = 0,
    progress: bool = True,
) -> Suggestion:
    """Suggest the peak rate for a 1cycle run of `total_steps` updates: range test, then short pilots.

    Args:
        update, state, batches, evaluate, weights: see `Trial`.
        total_steps, objective, budget, seed, progress: see `onecycle.find_lr`.

    Raises:
        Inconclusive: the evidence does not tell; its `reason` says why.
        TypeError: an argument is of the wrong kind.
        ValueError: an argument is out of its range.
    """
    return _find.find_lr(
        Trial(update, state, batches, evaluate, weights=weights),
        total_steps=total_steps,
        objective=objective,
        budget=budget,
        seed=seed,
        progress=progress,
    )


def _kinds(state: Any) -> Iterator[str]:
    """The names of Optax's states in a pytree."""
    if type(state).__module__.partition(".")[0] == "optax":
        yield type(state).__name__
    if isinstance(state, Mapping):
        parts: Any = state.values()
    elif isinstance(state, (tuple, list)):
        parts = state
    else:  # of Flax's TrainState
        parts = [state.opt_state] if hasattr(state, "opt_state") else []
    for part in parts:
        yield from _kinds(part)


def _weights(state: Any) -> Any:
    if hasattr(state, "params"):
        return state.params
    if isinstance(state, Mapping):
        return state.get("params")
    behind = state[1:] if isinstance(state, (tuple, list)) else ()
    return state[0] if any(True for _ in _kinds(tuple(behind))) else None


def _part(now: Any, was: Any) -> Part:
    wide = jnp.promote_types(was.dtype, "float32")  # squares of fewer bits are too coarse
    way, size = jnp.abs(now.astype(wide) - was.astype(wide)), jnp.abs(was.astype(wide))
    square, of_moved = (float(jnp.sum(jnp.square(each))) for each in (way, jnp.where(way != 0, size, 0)))
    return Part(square, of_moved, was.size, bool(jnp.any(size)))


def _is_inexact(leaf: Any) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _copy(leaf: Any) -> Any:
    return leaf.copy() if isinstance(leaf, (jax.Array, np.ndarray)) else leaf
