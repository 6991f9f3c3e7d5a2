"""The policies of the papers: 1cycle and cyclical rates, also as other libraries' arguments name them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, SupportsFloat, SupportsIndex

from onecycle._arguments import as_rate, as_real, as_share, as_whole, check_functions
from onecycle._policy import Policy
from onecycle._schedules import Cycle, Mode, Piecewise, Schedule, Shape, constant

Momentum = tuple[SupportsFloat, SupportsFloat] | SupportsFloat | None
Form = Literal["paper", "logs", "to_zero"]


class _OneCycle:
    """The 1cycle policy: one cycle of the learning rate, momentum the other way, then a last stretch.

    Smith 2018 (arXiv 1803.09820), section 4.1, and Smith & Topin 2017 (arXiv 1708.07120). Step 0 has
    `min_lr`, the peak step has exactly `max_lr`, and the last update, step `total_steps - 1`, exactly
    `final_lr`, which holds from there on. Where `tail` leaves no whole step for the last stretch,
    form "paper" ends on `min_lr` instead. In two steps the first has `max_lr`; one step has the last
    rate only.

    Args:
        max_lr: learning rate at the peak, > 0; a `Suggestion` does.
        total_steps: optimizer updates in all, >= 1.
        min_lr: rate at the start and at the end of the cycle; None: `max_lr / 10`.
        final_lr: rate of the last update; None: `min_lr / 100`, under "logs" `min_lr / 1000`.
        tail: share of `total_steps` for the last stretch, in [0, 1).
        peak: where in the cycle (tail excluded) the maximum lies, in [0, 1].
        momentum: (high, low), cycled against the rate; or one constant; or None: left alone.
        shape: "linear" or "cosine", for every piece.
        form: "paper": up, back down to `min_lr`, then straight to `final_lr`. "logs": as Smith's own
            runs did: up, down to 0, then constant at `final_lr`. "to_zero": up, then straight to
            `final_lr` with no last stretch; `tail` is not used.

    Returns:
        A `Policy` of lr and, unless None, momentum.

    Raises:
        ValueError: an argument is out of its range; the message names it.
    """

    def __call__(
        self,
        max_lr: SupportsFloat,
        total_steps: SupportsIndex,
        *,
        min_lr: SupportsFloat | None = None,
        final_lr: SupportsFloat | None = None,
        tail: float = 0.1,
        peak: float = 0.5,
        momentum: Momentum = (0.95, 0.85),
        shape: Literal["linear", "cosine"] = "linear",
        form: Form = "paper",
    ) -> Policy:
        steps = as_whole("total_steps", total_steps)
        top = as_rate("max_lr", max_lr)
        low = top / 10 if min_lr is None else as_real("min_lr", min_lr)
        if not 0 <= low <= top:
            raise ValueError(f"min_lr must lie between 0 and max_lr = {top:g}, got {low:g}")
        end = low / (1000 if form == "logs" else 100) if final_lr is None else as_real("final_lr", final_lr)
        if not 0 <= end <= top:
            raise ValueError(f"final_lr must lie between 0 and max_lr = {top:g}, got {end:g}")
        tail, peak = as_share("tail", tail), as_share("peak", peak)
        if tail == 1:
            raise ValueError("tail must be < 1, got 1: it leaves no step for the cycle")
        if shape not in ("linear", "cosine"):
            raise ValueError(f"shape must be 'linear' or 'cosine', got {shape!r}")
        if form not in ("paper", "logs", "to_zero"):
            raise ValueError(f"form must be 'paper', 'logs' or 'to_zero', got {form!r}")

        last = steps - 1
        stretch = 0 if form == "to_zero" else min(round(tail * steps), last)
        cycle = steps - stretch if stretch else last
        up = min(round(peak * cycle), max(cycle - 1, 0))
        knots = [(0, low), (up, top)]
        if stretch and form == "logs":
            knots += [(cycle, 0.0), (cycle, end)]
        elif stretch:
            knots += [(cycle, low), (last, end)]
        else:
            knots += [(last, low if form == "paper" else end)]
        return Policy(
            steps,
            Piecewise.through(knots, shape),
            _counter_cycle(momentum, up, cycle, shape),
        )

    def from_torch(
        self,
        max_lr: SupportsFloat,
        total_steps: SupportsIndex | None = None,
        epochs: SupportsIndex | None = None,
        steps_per_epoch: SupportsIndex | None = None,
        pct_start: float = 0.3,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> Policy:
        """The policy with the values of `torch.optim.lr_scheduler.OneCycleLR` for the same arguments.

        It differs where that class fails: no division by zero where `pct_start * total_steps` is 1 or
        `pct_start` is 1, a start at the peak where there is no warm-up, and no rebound past the end.

        Raises:
            ValueError: an argument is out of its range; `three_phase` with `pct_start` above 0.5, which
                leaves no room for the last phase.
        """
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ValueError("total_steps must be given, or both epochs and steps_per_epoch")
            total_steps = as_whole("epochs", epochs) * as_whole("steps_per_epoch", steps_per_epoch)
        steps, top = as_whole("total_steps", total_steps), as_rate("max_lr", max_lr)
        pct_start = as_share("pct_start", pct_start)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
        if three_phase and pct_start > 0.5:
            raise ValueError(
                f"pct_start must be <= 0.5 with three_phase, got {pct_start!r}: "
                "two phases of that share leave no room for the last one"
            )
        low = _below(top, "div_factor", div_factor)
        end = _below(low, "final_div_factor", final_div_factor)
        high, base = as_real("max_momentum", max_momentum), as_real("base_momentum", base_momentum)
        last = steps - 1
        up = max(pct_start * steps - 1, 0)
        # (step, rate, momentum) at the end of each phase
        phases: list[tuple[float, float, float]] = [(0, low, high)]
        if up >= last:
            phases += [(last, top, base)]
        elif three_phase:
            phases += [(up, top, base), (max(2 * pct_start * steps - 2, up), low, high), (last, end, high)]
        else:
            phases += [(up, top, base), (last, end, high)]
        shape: Shape = "cosine" if anneal_strategy == "cos" else "linear"
        return Policy(
            steps,
            Piecewise.through(((step, rate) for step, rate, _ in phases), shape),
            Piecewise.through(((step, m) for step, _, m in phases), shape) if cycle_momentum else None,
        )

    def from_fastai(
        self,
        lr_max: SupportsFloat,
        total_steps: SupportsIndex,
        div: float = 25.0,
        div_final: float = 1e5,
        pct_start: float = 0.25,
        moms: tuple[float, float, float] | None = (0.95, 0.85, 0.95),
    ) -> Policy:
        """The policy with the values of fastai's `Learner.fit_one_cycle` for the same arguments.

        The final rate is `lr_max / div_final` (not the start over it, as in torch), reached one step
        after the last update, as there.

        Raises:
            ValueError: an argument is out of its range.
        """
        steps, top = as_whole("total_steps", total_steps), as_rate("lr_max", lr_max)
        pct_start = as_share("pct_start", pct_start)
        if moms is not None and not (isinstance(moms, (tuple, list)) and len(moms) == 3):
            raise ValueError(f"moms must be (start, middle, end) or None, got {moms!r}")
        peak = pct_start * steps
        start, end = _below(top, "div", div), _below(top, "div_final", div_final)
        momentum = None
        if moms is not None:
            first, middle, last = (as_real("moms", m) for m in moms)
            momentum = Piecewise.through([(0, first), (peak, middle), (steps, last)], "cosine")
        return Policy(steps, Piecewise.through([(0, start), (peak, top), (steps, end)], "cosine"), momentum)


class _Cyclical:
    """Cyclical learning rates: triangular, triangular2, exp_range, or an amplitude of one's own.

    Smith 2015 (arXiv 1506.01186), section 3.

    Args:
        base_lr: rate at the start and end of each cycle, >= 0.
        max_lr: rate at the top of the first cycle, >= `base_lr`.
        step_size: optimizer updates from base to top; the paper advises 2 to 10 epochs' worth.
        mode: "triangular": each cycle alike; "triangular2": half the height each cycle; "exp_range":
            the height falls by `gamma` each step; or a callable from the cycle's number (from 1) to
            the height's factor.
        gamma: factor a step for "exp_range", in (0, 1].
        step_size_down: updates from top to base; None: `step_size`.
        momentum: (high, low), cycled against the rate with the same amplitude; or one constant; or
            None: left alone.
        total_steps: optimizer updates in all, the value of the last one held after; None: without end.

    Returns:
        A `Policy` of lr and, unless None, momentum.

    Raises:
        ValueError: an argument is out of its range; the message names it.
    """

    def __call__(
        self,
        base_lr: SupportsFloat,
        max_lr: SupportsFloat,
        step_size: SupportsIndex,
        *,
        mode: Mode | Callable[[float], float] = "triangular",
        gamma: float = 1.0,
        step_size_down: SupportsIndex | None = None,
        momentum: Momentum = None,
        total_steps: SupportsIndex | None = None,
    ) -> Policy:
        up = as_whole("step_size", step_size)
        down = up if step_size_down is None else as_whole("step_size_down", step_size_down)
        steps = None if total_steps is None else as_whole("total_steps", total_steps)
        return self._policy(base_lr, max_lr, up, down, mode, gamma, "cycle", momentum, steps)

    def from_torch(
        self,
        base_lr: SupportsFloat,
        max_lr: SupportsFloat,
        step_size_up: SupportsIndex | SupportsFloat = 2000,
        step_size_down: SupportsIndex | SupportsFloat | None = None,
        mode: Mode = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: Literal["cycle", "iterations"] = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float = 0.8,
        max_momentum: float = 0.9,
    ) -> Policy:
        """The policy with the values of `torch.optim.lr_scheduler.CyclicLR` for the same arguments.

        The step sizes may be no whole numbers, as there. A `gamma` above 1 is refused: without an end,
        the rate would overflow.

        Raises:
            TypeError: `scale_fn` is no function.
            ValueError: an argument is out of its range.
        """
        up = _steps("step_size_up", step_size_up)
        down = up if step_size_down is None else _steps("step_size_down", step_size_down)
        if scale_mode not in ("cycle", "iterations"):
            raise ValueError(f"scale_mode must be 'cycle' or 'iterations', got {scale_mode!r}")
        per: Literal["cycle", "step"] = "cycle" if scale_mode == "cycle" else "step"
        check_functions(scale_fn=scale_fn)
        momentum = None
        if cycle_momentum:
            high, low = as_real("max_momentum", max_momentum), as_real("base_momentum", base_momentum)
            momentum = high, low
            if not 0 <= low <= high < 1:
                raise ValueError(
                    f"momentum must be 0 <= base_momentum <= max_momentum < 1, got {base_momentum!r} "
                    f"and {max_momentum!r}"
                )
        wave = mode if scale_fn is None else scale_fn
        return self._policy(base_lr, max_lr, up, down, wave, gamma, per, momentum, None)

    def _policy(
        self,
        base_lr: SupportsFloat,
        max_lr: SupportsFloat,
        up: float,
        down: float,
        mode: Mode | Callable[[float], float],
        gamma: float,
        per: Literal["cycle", "step"],
        momentum: Momentum,
        steps: int | None,
    ) -> Policy:
        base, top = as_real("base_lr", base_lr), as_rate("max_lr", max_lr)
        if not 0 <= base <= top:
            raise ValueError(f"base_lr must lie between 0 and max_lr = {top:g}, got {base:g}")
        last = None if steps is None else steps - 1
        pair = _momentum(momentum)
        return Policy(
            steps,
            Cycle(base, top, up, down, mode, gamma, per, last),
            None if pair is None else Cycle(*pair, up, down, mode, gamma, per, last),
        )


one_cycle = _OneCycle()
cyclical = _Cyclical()


def _counter_cycle(momentum: Momentum, up: int, end: int, shape: Shape) -> Schedule | None:
    """Momentum from high to low at step `up` and back at step `end`, or constant, or None."""
    pair = _momentum(momentum)
    if pair is None:
        return None
    high, low = pair
    if low == high:
        return constant(high)
    return Piecewise.through([(0, high), (up, low), (end, high)], shape)


def _momentum(momentum: Momentum) -> tuple[float, float] | None:
    if momentum is None:
        return None
    if isinstance(momentum, (tuple, list)):
        if len(momentum) != 2:
            raise ValueError(f"momentum must be (high, low), one constant or None, got {momentum!r}")
        high, low = (as_real("momentum", m) for m in momentum)
    else:
        high = low = as_real("momentum", momentum)
    if not 0 <= low <= high < 1:
        raise ValueError(f"momentum must be (high, low) with 0 <= low <= high < 1, got {momentum!r}")
    return high, low


def _below(rate: float, name: str, divisor: SupportsFloat) -> float:
    divided = rate / as_rate(name, divisor)
    if not math.isfinite(divided):
        raise ValueError(
            f"{name} must be large enough that a rate of {rate:g} over it is finite, got {divisor!r}"
        )
    return divided


def _steps(name: str, value: SupportsIndex | SupportsFloat) -> float:
    """A number of steps > 0, whole or not."""
    if isinstance(value, SupportsFloat) and not isinstance(value, SupportsIndex):
        return as_rate(name, value)
    return as_whole(name, value)
