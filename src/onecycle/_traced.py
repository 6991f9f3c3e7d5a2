"""The closed forms once more, for array libraries that trace a step rather than run it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from onecycle._policy import Policy
from onecycle._schedules import Cycle, Piecewise

LAST = 2**31 - 1  # the greatest step of a 32-bit counter


def check(schedule: object) -> None:
    """Refuse what is no schedule.

    Raises:
        TypeError: it is a policy, None, or not callable; the message says what to pass.
    """
    if isinstance(schedule, Policy):
        raise TypeError("schedule must be one of the policy's schedules, got the policy: pass policy.lr")
    if not callable(schedule):
        raise TypeError(f"schedule must be a callable from step to value, got {schedule!r}")


def value(schedule: Any, step: Any, lib: Any, real: Callable[[Any], Any]) -> Any:
    """Value of `schedule` at a whole `step` >= 0, a traced scalar or array of `lib`.

    Rounded like the library's reals, also at steps that these could not count: differences of steps are
    taken in whole numbers, and powers by way of logarithms that Python has worked out.

    Args:
        schedule: a closed form; any other callable is called with `step`.
        step: of a whole-number type.
        lib: has `where`, `cos`, `sin`, `exp`, `minimum` and `floor_divide`: jax.numpy, or keras.ops.
        real: turns whole numbers of `lib` into reals.
    """
    if isinstance(schedule, Piecewise):
        return _piecewise(schedule, step, lib, real)
    if isinstance(schedule, Cycle):
        return _cycle(schedule, step, lib, real)
    return schedule(step)


def _piecewise(schedule: Piecewise, step: Any, lib: Any, real: Callable[[Any], Any]) -> Any:
    def since(knot: float) -> Any:
        whole = min(math.floor(knot), LAST)
        return real(step - whole) - (knot - math.floor(knot))

    passed = [since(knot) for knot in schedule.steps]
    out = passed[0] * 0 + schedule.values[0]
    for i, shape in enumerate(schedule.shapes):
        length = schedule.steps[i + 1] - schedule.steps[i]
        if not length:
            continue
        a, b = schedule.values[i : i + 2]
        part, rest = passed[i] / length, -passed[i + 1] / length
        if shape == "cosine":
            here = a * lib.sin(rest * (math.pi / 2)) ** 2 + b * lib.sin(part * (math.pi / 2)) ** 2
        elif shape == "exponential":
            here = a * lib.exp(part * (math.log(b) - math.log(a)))
        else:
            here = a * rest + b * part
        out = lib.where(passed[i] >= 0, here, out)
    return lib.where(passed[-1] >= 0, schedule.values[-1], out)


def _cycle(schedule: Cycle, step: Any, lib: Any, real: Callable[[Any], Any]) -> Any:
    up, down, period = schedule.up, schedule.down, schedule.up + schedule.down
    if schedule.last is not None and schedule.last < LAST:
        step = lib.minimum(step, schedule.last)
    cycle = lib.floor_divide(step, int(period) if period == int(period) else period)
    inside = real(step - cycle * period)
    height = lib.where(inside <= up, inside / up, (period - inside) / down)
    if callable(schedule.mode):
        height = height * schedule.mode(step if schedule.per == "step" else cycle + 1)
    elif schedule.mode == "triangular2":
        height = height * lib.exp(real(cycle) * -math.log(2))
    elif schedule.mode == "exp_range":
        height = height * lib.exp(real(step) * math.log(schedule.gamma))
    return schedule.start + (schedule.peak - schedule.start) * height
