"""Schedules: pure functions from step to value, in closed form."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from numbers import Integral, Real
from reprlib import repr as brief
from typing import Any, ClassVar, Literal, Protocol, overload

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Shape = Literal["linear", "cosine", "exponential"]
Mode = Literal["triangular", "triangular2", "exp_range"]
SHAPES: tuple[Shape, ...] = ("linear", "cosine", "exponential")
MODES: tuple[Mode, ...] = ("triangular", "triangular2", "exp_range")
_EXACT = 2**53  # below it NumPy's floats hold whole numbers as Python's own do


class Schedule(Protocol):
    """Any callable from step (0-based count of completed optimizer updates) to value."""

    @overload
    def __call__(self, step: float) -> float: ...
    @overload
    def __call__(self, step: npt.NDArray[Any]) -> Array: ...


class ClosedForm(ABC):
    """What `Piecewise` and `Cycle` share: evaluation at one step or many, and JSON."""

    kind: ClassVar[str]

    @overload
    def __call__(self, step: float) -> float: ...
    @overload
    def __call__(self, step: npt.NDArray[Any]) -> Array: ...
    def __call__(self, step: Any) -> Any:
        """Value at `step` >= 0, an int, a float, or an array of any shape."""
        if isinstance(step, (int, float)):
            if 0 <= step < math.inf:
                return self._one(step)
            unfit: Any = step
        else:
            try:
                steps = np.asarray(step, dtype=np.float64)
            except (TypeError, ValueError, OverflowError):  # the last: as large as only Python's int is
                raise _no_step(" ".join(brief(step).split())) from None
            outside = steps[~((steps >= 0) & (steps < math.inf))]
            if not outside.size:
                return self._many(steps) if steps.ndim else self._one(float(steps))
            unfit = outside[0]
        raise _no_step(unfit)

    @abstractmethod
    def _one(self, step: float) -> float: ...

    @abstractmethod
    def _many(self, steps: Array) -> Array: ...

    def _series(self, first: int, count: int) -> list[float]:
        """Values at `count` steps from `first` on, to the last bit those of as many calls."""
        return [self._one(step) for step in range(first, first + count)]

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description that `from_dict` turns back into an equal schedule."""

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Piecewise | Cycle:
        """Schedule described by `data`, the inverse of `to_dict`.

        Raises:
            ValueError: where `data` describes no schedule; the message names the field.
        """
        if not isinstance(data, Mapping):
            raise ValueError(f"a schedule is described by a JSON object, got {brief(data)}")
        kinds: dict[str, type[Piecewise] | type[Cycle]] = {c.kind: c for c in (Piecewise, Cycle)}
        fields = dict(data)
        kind = fields.pop("kind", None)
        if not isinstance(kind, str) or kind not in kinds:
            raise ValueError(f"schedule kind must be one of {', '.join(kinds)}, got {brief(kind)}")
        try:
            return kinds[kind](**fields)
        except TypeError as error:
            reason = " ".join(str(error).split())[:200]  # it names the field, whatever that may hold
            raise ValueError(f"this is no {kind} schedule: {reason}") from error

    def to_json(self) -> str:
        """One JSON document that `from_json` turns back into an equal schedule."""
        return json.dumps(self.to_dict())

    @staticmethod
    def from_json(text: str) -> Piecewise | Cycle:
        """Schedule written by `to_json`.

        Raises:
            ValueError: `text` is no schedule; the message names what is wrong with it.
        """
        return ClosedForm.from_dict(read_json(text))


@dataclass(frozen=True)
class Piecewise(ClosedForm):
    """Values at given steps, joined by straight, cosine or exponential pieces; both ends hold.

    Two equal steps make a jump; at the jump itself the later value counts.

    Args:
        steps: n steps >= 0 in order.
        values: n finite values, one at each step.
        shapes: the shapes of the n - 1 pieces: `"linear"`, `"cosine"` (half a cosine wave, flat at
            both ends) or `"exponential"` (straight in the logarithm).
    """

    steps: tuple[float, ...]
    values: tuple[float, ...]
    shapes: tuple[Shape, ...] = ()
    kind: ClassVar[str] = "piecewise"
    _pieces: ClassVar[tuple[tuple[float, float, float, float, Shape], ...]]  # set on each instance

    @staticmethod
    def through(knots: Iterable[tuple[float, float]], shape: Shape = "linear") -> Piecewise:
        """Schedule through `knots` of (step, value), every piece of one `shape`."""
        pairs = tuple(knots)
        return Piecewise(
            tuple(step for step, _ in pairs), tuple(value for _, value in pairs), (shape,) * (len(pairs) - 1)
        )

    def __post_init__(self) -> None:
        for name in ("steps", "values", "shapes"):
            if not isinstance(given := getattr(self, name), Iterable) or isinstance(given, (str, bytes)):
                raise ValueError(f"{name} must be a sequence, got {brief(given)}")
        steps = tuple(_number("each of steps", step) for step in self.steps)
        values = tuple(_number("each of values", value) for value in self.values)
        shapes = tuple(self.shapes)
        if not steps or len(values) != len(steps):
            raise ValueError(
                f"steps and values must be of one length >= 1, got {len(steps)} and {len(values)}"
            )
        if steps[0] < 0:
            raise ValueError(f"steps must be >= 0, got {steps[0]}")
        for step, later in pairwise(steps):
            if later < step:
                raise ValueError(f"steps must be in order, got {later} after {step}")
        pieces = len(steps) - 1
        if len(shapes) != pieces or any(shape not in SHAPES for shape in shapes):
            raise ValueError(
                f"shapes must be one of {', '.join(SHAPES)} for each of {pieces} pieces between steps, "
                f"got {brief(self.shapes)}"
            )
        for shape, (value, later) in zip(shapes, pairwise(values), strict=True):
            if shape == "exponential" and not (value > 0 and later > 0):
                raise ValueError(f"values of an exponential piece must be > 0, got {value} and {later}")
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "shapes", shapes)
        # (start, length, from, to, shape) by the count of knots up to a step; before and after them: level.
        inner = zip(pairwise(steps), pairwise(values), shapes, strict=True)
        between = [(start, end - start, a, b, shape) for (start, end), (a, b), shape in inner]
        first, last = ((0, 1, value, value, "linear") for value in (values[0], values[-1]))
        object.__setattr__(self, "_pieces", (first, *between, last))

    def _one(self, step: float) -> float:
        if step >= self.steps[-1]:
            return float(self.values[-1])  # also where the step is too large for a float
        start, length, a, b, shape = self._pieces[bisect_right(self.steps, step)]
        part = (step - start) / length
        return float(a + (b - a) * part if shape == "linear" else _between(a, b, part, shape))

    def _many(self, steps: Array) -> Array:
        after = np.searchsorted(self.steps, steps, side="right")
        out = np.full(steps.shape, self.values[-1], np.float64)
        out[after == 0] = self.values[0]
        for i, shape in enumerate(self.shapes, start=1):
            inside = after == i
            if inside.any():
                part = (steps[inside] - self.steps[i - 1]) / (self.steps[i] - self.steps[i - 1])
                out[inside] = _between(self.values[i - 1], self.values[i], part, shape)
        return out

    def _series(self, first: int, count: int) -> list[float]:
        """Values at `count` steps from `first` on, to the last bit those of as many calls."""
        end = first + count
        if end > _EXACT or not all(abs(number) < _EXACT for number in (*self.steps, *self.values)):
            return super()._series(first, count)
        out: list[float] = []
        while (at := first + len(out)) < end:
            if at >= self.steps[-1]:
                return out + [float(self.values[-1])] * (end - at)
            place = bisect_right(self.steps, at)
            until = min(end, math.ceil(self.steps[place]))
            start, length, a, b, shape = self._pieces[place]
            if shape == "linear":
                out += (a + (b - a) * ((np.arange(at, until) - start) / length)).tolist()
            elif shape == "cosine":
                rise, fall = _cosine_stretch(at, until, start, length)
                out += (a * fall + b * rise).tolist()
            else:
                out += [self._one(step) for step in range(at, until)]
        return out

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description that `from_dict` turns back into an equal schedule."""
        return {
            "kind": self.kind,
            "steps": list(self.steps),
            "values": list(self.values),
            "shapes": list(self.shapes),
        }


@dataclass(frozen=True)
class Cycle(ClosedForm):
    """A triangle wave from `start` to `peak` and back, its height scaled from cycle to cycle.

    Smith 2015 (arXiv 1506.01186), section 3: triangular keeps the height, triangular2 halves it each
    cycle, exp_range multiplies it by gamma at each step.

    Args:
        start: value at the beginning and end of each cycle.
        peak: value at the top of the first cycle under triangular; may be below `start`.
        up: steps from start to peak, > 0.
        down: steps from peak to start, > 0.
        mode: `"triangular"`, `"triangular2"`, `"exp_range"`, or a callable that gives the height's
            factor: of the cycle's number, from 1 (`per="cycle"`), or of the step (`per="step"`).
        gamma: factor a step for exp_range, in (0, 1].
        per: what a callable `mode` is given.
        last: the step from which on the value holds; None: it cycles without end.
    """

    start: float
    peak: float
    up: float
    down: float
    mode: Mode | Callable[[float], float] = "triangular"
    gamma: float = 1.0
    per: Literal["cycle", "step"] = "cycle"
    last: float | None = None
    kind: ClassVar[str] = "cycle"

    def __post_init__(self) -> None:
        for name in ("start", "peak", "up", "down", "gamma"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        for name in ("up", "down"):
            if (steps := getattr(self, name)) <= 0:
                raise ValueError(f"{name} must be a number of steps > 0, got {steps}")
        if not callable(self.mode) and self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)} or a callable, got {brief(self.mode)}")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must lie in (0, 1], got {self.gamma}")
        if self.per not in ("cycle", "step"):
            raise ValueError(f"per must be 'cycle' or 'step', got {brief(self.per)}")
        if self.last is not None:
            object.__setattr__(self, "last", _number("last", self.last))
            if self.last < 0:
                raise ValueError(f"last must be a step >= 0 or None, got {self.last}")

    def _one(self, step: float) -> float:
        if self.last is not None:
            step = min(step, self.last)
        if step > sys.float_info.max:
            raise _no_step(brief(step))
        cycle, inside = divmod(step, self.up + self.down)
        height = inside / self.up if inside <= self.up else (self.up + self.down - inside) / self.down
        return float(self.start + (self.peak - self.start) * height * self._scale(step, cycle + 1))

    def _many(self, steps: Array) -> Array:
        if self.last is not None:
            steps = np.minimum(steps, self.last)
        cycle, inside = np.divmod(steps, self.up + self.down)
        height = np.where(inside <= self.up, inside / self.up, (self.up + self.down - inside) / self.down)
        scale = np.vectorize(self._scale, otypes=[np.float64]) if callable(self.mode) else self._scale
        out: Array = self.start + (self.peak - self.start) * height * scale(steps, cycle + 1)
        return out

    def _series(self, first: int, count: int) -> list[float]:
        """Values at `count` steps from `first` on, to the last bit those of as many calls."""
        numbers = (first + count, self.start, self.peak, self.up, self.down, self.last or 0)
        if self.mode == "triangular" and all(abs(number) < _EXACT for number in numbers):
            values: list[float] = self._many(np.arange(first, first + count, dtype=np.float64)).tolist()
            return values
        return super()._series(first, count)

    def _scale(self, step: Any, cycle: Any) -> Any:
        if callable(self.mode):
            return self.mode(step if self.per == "step" else int(cycle))
        if self.mode == "triangular2":
            return 2.0 ** (1.0 - cycle)
        if self.mode == "exp_range":
            return self.gamma**step
        return 1.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready description that `from_dict` turns back into an equal schedule.

        Raises:
            ValueError: where `mode` is a callable, which JSON cannot hold.
        """
        if callable(self.mode):
            raise ValueError(
                f"mode {self.mode!r} is a callable, which JSON cannot hold: "
                f"use one of {', '.join(MODES)}, or keep the arguments and build the schedule anew"
            )
        return {"kind": self.kind, **dataclasses.asdict(self)}


def constant(value: float) -> Piecewise:
    """The same `value` at every step."""
    return Piecewise((0,), (value,))


def linear(start: float, end: float, steps: float) -> Piecewise:
    """Straight from `start` at step 0 to `end` at step `steps`, held after it.

    The sweep of a range test in both of Smith's papers (arXiv 1506.01186, section 3.3).
    """
    return _stretch(start, end, steps, "linear")


def cosine(start: float, end: float, steps: float) -> Piecewise:
    """Half a cosine wave from `start` at step 0 to `end` at step `steps`, held after it."""
    return _stretch(start, end, steps, "cosine")


def exponential(start: float, end: float, steps: float) -> Piecewise:
    """By the same factor each step from `start` at step 0 to `end` at step `steps`, held after it."""
    return _stretch(start, end, steps, "exponential")


def _stretch(start: float, end: float, steps: float, shape: Shape) -> Piecewise:
    """One piece of a `shape`; its errors name the argument that is wrong."""
    first, last, length = _number("start", start), _number("end", end), _number("steps", steps)
    if length < 0:
        raise ValueError(f"steps must be >= 0, got {steps}")
    if shape == "exponential" and not (first > 0 and last > 0):
        raise ValueError(f"start and end of an exponential must be > 0, got {start} and {end}")
    return Piecewise((0, length), (first, last), (shape,))


def _no_step(step: object) -> ValueError:
    return ValueError(f"step must be finite and >= 0, got {step}: it counts completed optimizer updates")


def read_json(text: str) -> Any:
    """What the JSON document `text` holds.

    Raises:
        ValueError: it is no JSON, or JSON nested too deep to read.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is no JSON: {error}") from error


def _between(a: float, b: float, part: Any, shape: Shape) -> Any:
    """From `a` at part 0 to `b` at part 1."""
    if shape == "cosine":
        rise, fall = _cosine_shares(part)
        return a * fall + b * rise
    if shape == "exponential":
        a, b = float(a), float(b)
        ratio = b / a
        # Where the ratio overflows or loses digits, the logarithms do not.
        return a * ratio**part if 1e-300 < ratio < 1e300 else a ** (1 - part) * b**part
    return a + (b - a) * part


def _cosine_shares(part: Any) -> tuple[Any, Any]:
    """How much of a cosine piece's end and of its start there is: sin²(π/2 part), and what is left.

    Squares rather than (1 + cos) / 2: no cancellation where one end is tiny. By their series, not by sines:
    sums and products are the same bits one by one, in arrays, and on every machine.
    """
    if isinstance(part, np.ndarray):
        less = _sine_square(np.minimum(part, 1 - part))
        early = part < 0.5
        return np.where(early, less, 1 - less), np.where(early, 1 - less, less)
    if part < 0.5:
        less = _sine_square(part)
        return less, 1 - less
    less = _sine_square(1 - part)
    return 1 - less, less


def _sine_square(x: Any) -> Any:
    """sin²(πx/2) for x in [0, 1/2]: the sum over k >= 1 of -(-1)^k π^2k x^2k / 2(2k)!, to 1.5 ulp."""
    # fmt: off
    u = x * x
    return u * (
        2.4674011002723395 - u * (2.0293560632083842 - u * (0.6676313844272947 - u * (0.1176653151794466
        - u * (0.01290344569500703 - u * (0.0009647871547019616 - u * (5.231905246242285e-05
        - u * (2.1515347935164736e-06 - u * (6.939476231106886e-08 - u * 1.8023653987312506e-09))))))))
    )
    # fmt: on


@lru_cache(maxsize=1)  # rate and momentum have their pieces in common
def _cosine_stretch(first: int, end: int, start: float, length: float) -> tuple[Array, Array]:
    return _cosine_shares((np.arange(first, end) - start) / length)


def _number(name: str, value: object) -> float:
    """`value`, a finite number of any library, as Python's own int or float."""
    if not isinstance(value, bool) and isinstance(value, Real):
        number = int(value) if isinstance(value, Integral) else float(value)
        if abs(number) <= sys.float_info.max:
            return number
    raise ValueError(f"{name} must be a finite number, got {brief(value)}")
