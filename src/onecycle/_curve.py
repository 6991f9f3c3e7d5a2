"""What a range test recorded, its smoothing, and its files."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from reprlib import repr as brief
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from onecycle._files import decode, encode, read_document, read_text, write_document, write_file
from onecycle._logs import SPARSE, read_log
from onecycle._schedules import Array as Floats
from onecycle._schedules import _number
from onecycle._smooth import smooth

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from onecycle._suggestion import Suggestion, Use

Ints = npt.NDArray[np.int64]
StrPath = str | os.PathLike[str]

_FORMAT, _VERSION = "onecycle.curve", 1


@dataclass(frozen=True, init=False, repr=False, eq=False)
class Curve:
    """A range test: the loss that a rising hyper-parameter met.

    The arrays are one-dimensional, of one length, read-only, and in the order of recording. Two curves
    are equal where all they hold is equal; NaN equals NaN.

    Args:
        value: the hyper-parameter used in each update; finite and at least 0.
        loss: the training loss before the update made at that value; may be NaN or infinite.
        step: index within the sweep; counted from 0 where left out.
        seed: which repeat; all 0 where left out.
        val_loss: the validation loss at that point, NaN where it was not measured.
        noise: the gradient noise at that point, NaN where it was not measured.
        hyper: what was swept: "lr", "momentum", ...
        sweep: "exponential" or "linear", the spacing of the values.
        settings: how the curve was made; anything that JSON can hold.
        moved: how far the weights lay, after the update, from where the sweep began, as a share of their
            size there (Euclidean norms); NaN where it was not measured.

    Raises:
        ValueError: lengths differ, an array is not one-dimensional, a value is negative or not finite.
        TypeError: the settings cannot be written as JSON.
    """

    value: Floats
    loss: Floats
    step: Ints
    seed: Ints
    val_loss: Floats | None
    noise: Floats | None
    hyper: str
    sweep: str
    settings: Mapping[str, Any]
    moved: Floats | None

    def __init__(
        self,
        value: npt.ArrayLike,
        loss: npt.ArrayLike,
        step: npt.ArrayLike | None = None,
        seed: npt.ArrayLike | None = None,
        val_loss: npt.ArrayLike | None = None,
        noise: npt.ArrayLike | None = None,
        hyper: str = "lr",
        sweep: str = "exponential",
        settings: Mapping[str, Any] = MappingProxyType({}),
        moved: npt.ArrayLike | None = None,
    ) -> None:
        values = _floats("value", value)
        n = len(values)
        bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if bad.size:
            raise ValueError(
                f"value[{bad[0]}] is {values[bad[0]]:g}; every {hyper} must be finite and at least 0: "
                "leave that point out"
            )
        if sweep not in ("exponential", "linear"):
            raise ValueError(f'sweep is {brief(sweep)}; use "exponential" or "linear"')
        content = {
            "value": values,
            "loss": _floats("loss", loss, n),
            "step": _sealed("step", np.arange(n), n) if step is None else _ints("step", step, n),
            "seed": _sealed("seed", np.zeros(n, np.int64), n) if seed is None else _ints("seed", seed, n),
            "val_loss": None if val_loss is None else _floats("val_loss", val_loss, n),
            "noise": None if noise is None else _floats("noise", noise, n),
            "hyper": hyper,
            "sweep": sweep,
            "settings": MappingProxyType(_jsonable(settings)),
            "moved": None if moved is None else _floats("moved", moved, n),
        }
        for name, part in content.items():
            object.__setattr__(self, name, part)

    @property
    def lr(self) -> Floats:
        """The learning rates, where these were swept.

        Raises:
            AttributeError: another hyper-parameter was swept.
        """
        if self.hyper != "lr":
            raise AttributeError(f"this curve swept {self.hyper}, not lr; its values are in curve.value")
        return self.value

    def __len__(self) -> int:
        return len(self.value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Curve):
            return NotImplemented
        return all(_same(getattr(self, name), getattr(other, name)) for name in _NAMES)

    __hash__ = None  # type: ignore[assignment]  # arrays and settings have no cheap hash

    def __repr__(self) -> str:
        span = f", {self.hyper} {self.value.min():.3g} to {self.value.max():.3g}" if len(self) else ""
        seeds = len(np.unique(self.seed))
        return f"Curve({len(self)} points{span}" + (f", {seeds} repeats)" if seeds > 1 else ")")

    def _repr_html_(self) -> str:
        from onecycle._views import curve_html

        return curve_html(self)

    def __reduce__(self) -> tuple[type[Curve], tuple[Any, ...]]:
        # Through the constructor, so that a copy from another process is read-only and checked, too.
        return Curve, tuple(dict(part) if name == "settings" else part for name, part in self._parts())

    def _parts(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in _NAMES)

    # Reading ----------------------------------------------------------------------------------------

    def smooth(self, width: float | None = None) -> tuple[Floats, Floats]:
        """The loss without its noise, centred: no lag, unlike a running average.

        All repeats are pooled, each up to its first non-finite loss, and outliers are taken out by a
        running median of five. What remains is fitted by local straight lines under a Gaussian kernel
        in log10 of the value. Losses beyond the start by more than the whole drop count as diverged and
        are held at that level, so that an explosion does not bleed into what came before it.

        The kernel's standard deviation is `width`, or three times the distance of neighbouring points
        of one repeat where that is more: a linear sweep is sparse at its low end.

        Args:
            width: in decades; 0.06, or a twentieth of the sweep if that is less, where left out.

        Returns:
            Values, rising, and smoothed losses, both of shape (grid,); empty without a usable point.
        """
        if width is not None and not _number("width", width) > 0:
            raise ValueError(f"width must be > 0 decades, such as 0.06, got {width}")
        smoothed = smooth(self, width)
        return smoothed.value, smoothed.loss

    def suggest(self, rule: str | None = None, *, use: Use = "one_cycle") -> Suggestion:
        """Read a value off the curve.

        Args:
            rule: a name in `onecycle._suggest.RULES`, other tools' rules included; None: the default, which
                takes the median of what each of several repeats says.
            use: what the rate is for: the peak of 1cycle, the maximum of a cyclical policy (with its base
                as `base_lr`), or a constant rate. Only the default rule tells them apart.

        Raises:
            Inconclusive: the curve does not tell; the reason says what it lacks.
            ValueError: no rule of that name, no such use, or one that the rule does not know.
        """
        from onecycle._suggest import suggest

        return suggest(self, rule, use)

    def plot(self, path: StrPath | None = None, *, ax: Axes | None = None) -> Axes:
        """Draw loss over value with the suggestion, or with the reason why there is none.

        Args:
            path: where to save the figure as well; the suffix gives the format.
            ax: axes to draw into; a figure of its own where left out.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from onecycle.plot import plot_curve

        return plot_curve(self, path, ax=ax)

    # Files ------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Strict JSON; "NaN", "Infinity" and "-Infinity" are strings in it."""
        parts = {
            name: part.tolist() if isinstance(part, np.ndarray) else part for name, part in self._parts()
        }
        return write_document(_FORMAT, _VERSION, parts)

    @classmethod
    def from_json(cls, text: str, *, source: str = "the JSON text") -> Curve:
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else, or damaged; in one line that starts with `source`.
        """
        parts = read_document(text, _FORMAT, _VERSION, _TYPES, source)
        try:
            return cls(**parts)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{source}: {error}") from None

    def save(self, path: StrPath) -> None:
        """Write JSON, whole or not at all."""
        write_file(path, self.to_json())

    @classmethod
    def load(cls, path: StrPath) -> Curve:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: the file is something else, or damaged.
        """
        return cls.from_json(read_text(path), source=str(path))

    def to_csv(self, path: StrPath) -> None:
        """Write a table: the swept hyper-parameter, loss, step, seed, and what else was measured."""
        table = {self.hyper: self.value, "loss": self.loss, "step": self.step, "seed": self.seed}
        measured = {name: part for name in SPARSE if (part := getattr(self, name)) is not None}
        blank = [
            ["" if number != number else repr(number) for number in part.tolist()]
            for part in measured.values()
        ]
        columns = [[repr(number) for number in part.tolist()] for part in table.values()] + blank
        lines = [",".join([*table, *measured])]
        lines += [",".join(cells) for cells in zip(*columns, strict=True)]
        write_file(path, "\n".join(lines) + "\n")

    @classmethod
    def from_csv(
        cls,
        path: StrPath,
        value: str | None = None,
        loss: str | None = None,
        val_loss: str | None = None,
        step: str | None = None,
        hyper: str = "lr",
    ) -> Curve:
        """Read a log of any tool: comma, semicolon, tab or spaces, trainer_state.json, JSON lines.

        Columns are found by their usual names, whatever their case and separators: lr, learning rate,
        train/learning_rate, lr-AdamW/pg1 (Lightning's monitor), lrs (fastai); loss, train_loss, loss/train,
        "run - loss" (Weights & Biases); val_loss, test_loss, eval/loss; step, iteration, epoch. Lines that
        start with # are comments, the last one before the numbers may be the header. Rows that hold only
        one of rate and loss are joined by their step. Rows without rate or loss are dropped; a rate of NaN
        is none.

        Args:
            path: the file.
            value: the column of the swept hyper-parameter.
            loss: the column of the training loss.
            val_loss: the column of the validation loss.
            step: the column that counts updates.
            hyper: what was swept.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no column for rate or loss; the message lists the columns there are.
        """
        return cls._from_log(
            read_text(path),
            str(path),
            hyper,
            {"value": value, "loss": loss, "val_loss": val_loss, "step": step},
        )

    @classmethod
    def read(cls, path: StrPath) -> Curve:
        """Read a curve from any file, by its content: our JSON, or a log as `from_csv` takes it.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no curve in it.
        """
        text = read_text(path)
        if f'"{_FORMAT}"' in text:
            return cls.from_json(text, source=str(path))
        return cls._from_log(text, str(path), "lr", {})

    @classmethod
    def _from_log(cls, text: str, source: str, hyper: str, names: Mapping[str, str | None]) -> Curve:
        roles = dict.fromkeys(("value", "loss", "step", "seed", *SPARSE))
        parts: dict[str, Any] = read_log(text, source, hyper, roles | dict(names))
        try:
            return cls(**parts, hyper=hyper, sweep=_sweep(np.array(parts["value"])))
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None


_NAMES = [field.name for field in fields(Curve)]
_TYPES: Mapping[str, Any] = {
    **dict.fromkeys(("value", "loss", "step", "seed"), list),
    **dict.fromkeys(SPARSE, (list, type(None))),
    **dict.fromkeys(("hyper", "sweep"), str),
    "settings": dict,
}


def _floats(name: str, data: npt.ArrayLike, n: int | None = None) -> Floats:
    try:
        array = np.array(data, dtype=np.float64)
    except OverflowError:
        raise ValueError(
            f"{name} holds a number that is too large for a float, got {brief(data)}: leave that point out"
        ) from None
    except (TypeError, ValueError):
        array = np.array(math.nan)
    if array.ndim == 0:
        raise ValueError(f"{name} must be a sequence of numbers, not {brief(data)}")
    return _sealed(name, array, n)


def _ints(name: str, data: npt.ArrayLike, n: int) -> Ints:
    if isinstance(data, np.ndarray) and data.dtype == np.int64:
        return _sealed(name, data.copy(), n)
    numbers = _floats(name, data, n)
    if not (np.isfinite(numbers) & (numbers == np.floor(numbers))).all():
        raise ValueError(f"{name} must hold whole numbers, not {brief(data)}")
    beyond = numbers[np.abs(numbers) >= 2.0**63]
    if beyond.size:
        raise ValueError(f"{name} must hold whole numbers below 2**63, not {beyond[0]:g}")
    return _sealed(name, np.array(data, dtype=np.int64), n)


def _sealed(name: str, array: npt.NDArray[Any], n: int | None) -> npt.NDArray[Any]:
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, not {array.ndim}: give one number per point")
    if n is not None and len(array) != n:
        raise ValueError(f"{name} has {len(array)} points, value has {n}: give one number per point")
    array.flags.writeable = False
    return array


def _jsonable(settings: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(settings, Mapping):
        raise TypeError(f"settings must be a dict, got {brief(settings)}")
    try:
        copy: dict[str, Any] = decode(json.loads(json.dumps(encode(settings), allow_nan=False)))
    except TypeError as error:
        raise TypeError(f"settings must be what JSON can hold: {error}") from None
    except RecursionError:
        raise ValueError("settings are nested too deep for JSON") from None
    return copy


def _same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=True)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return bool(encode(a) == encode(b))
    return a is b or (type(a) is type(b) and bool(a == b))


def _sweep(value: Floats) -> str:
    # Whichever axis makes the sweep the straighter line.
    index = np.flatnonzero((value > 0) & np.isfinite(value))
    spaced = value[index]
    return "linear" if _straightness(index, spaced) > _straightness(index, np.log(spaced)) else "exponential"


def _straightness(x: npt.NDArray[Any], y: Floats) -> float:
    if len(x) < 3 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
