from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onecycle._anchors import anchors
from onecycle._curve import Curve
from onecycle._errors import Inconclusive
from onecycle._policies import one_cycle
from onecycle._suggestion import Suggestion

pytest.importorskip("matplotlib")

from matplotlib.figure import Figure

from onecycle.plot import plot_curve

X = np.geomspace(1e-6, 10, 200)
LOSS = 2.3 - 2 / (1 + (0.01 / X) ** 2) + (X / 2) ** 6


def labels(ax: Any) -> Any:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_what_the_rate_is_for_is_in_the_legend() -> None:
    cycle, constant = Curve(X, LOSS).suggest(use="cyclical"), Curve(X, LOSS).suggest(use="constant")
    ax: Any = plot_curve(Curve(X, LOSS), suggestion=cycle)
    assert f"base_lr {cycle.base_lr:.3g}" in labels(ax)
    base = next(line for line in ax.get_lines() if str(line.get_label()).startswith("base_lr"))
    assert list(base.get_xdata()) == [cycle.base_lr] * 2
    assert f"lr {constant.value:.3g}" in labels(plot_curve(Curve(X, LOSS), suggestion=constant))


def test_a_curve_with_everything() -> None:
    curve = Curve(X, LOSS, val_loss=np.where(np.arange(200) % 10, math.nan, LOSS + 0.1))
    suggestion, seen = curve.suggest(), anchors(curve)
    ax: Any = curve.plot()
    assert labels(ax) == [
        "loss per step",
        "validation loss",
        "smoothed loss",
        f"diverged from {seen.divergence:.3g}",
        f"max_lr {suggestion.value:.3g}",
        f"{suggestion.low:.3g} to {suggestion.high:.3g}",
    ]
    points, validation, smoothed, line = ax.get_lines()
    assert points.get_ydata().tolist() == LOSS.tolist()
    assert len(validation.get_xdata()) == 20
    assert np.array_equal(smoothed.get_ydata(), curve.smooth()[1])
    assert list(line.get_xdata()) == [suggestion.value] * 2
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("learning rate", "loss", "")
    assert ax.get_xscale() == "log"
    assert ax.get_xlim() == (pytest.approx(1e-6), pytest.approx(10))
    diverged, interval = ax.patches
    assert diverged.get_extents().width > 0
    assert left(interval) == pytest.approx(suggestion.low)
    assert left(diverged) == pytest.approx(seen.divergence)
    # The tail, up to 15626, leaves the picture: the fall fills it.
    low, high = ax.get_ylim()
    assert low == pytest.approx(seen.best - 0.15 * (seen.start - seen.best), abs=0.05)
    assert high == pytest.approx(seen.start + 0.3 * (seen.start - seen.best), abs=0.05)


def left(patch: Any) -> float:
    """Left end of a span, a polygon in older releases of matplotlib and a rectangle in newer ones."""
    return float(patch.get_path().get_extents(patch.get_patch_transform()).x0)


def test_a_refusal_is_written_into_the_picture() -> None:
    ax = plot_curve(Curve(X, 1 + X), title="Rising")
    (text,) = ax.texts
    assert text.get_text() == "No suggestion: the loss only rises, from 1 to 10.9: start the sweep lower"
    assert labels(ax) == ["loss per step", "smoothed loss"]
    assert ax.get_title() == "Rising"
    low, high = ax.get_ylim()
    assert low < 1
    assert 8 < high < 12
    given = plot_curve(Curve(X, LOSS), suggestion=Inconclusive("not this one"))
    assert given.texts[0].get_text() == "No suggestion: not this one"


def test_a_suggestion_of_ones_own_is_marked_as_it_is() -> None:
    ax = plot_curve(Curve(X, LOSS), suggestion=Suggestion(0.1, 0.1, 0.1, "mine", "so"))
    assert labels(ax)[-1] == "max_lr 0.1"
    assert len(ax.patches) == 1


def test_divergence_past_the_last_finite_point() -> None:
    loss = np.where(X > 0.5, math.nan, LOSS)
    ax = Curve(X[X < 0.6], loss[X < 0.6]).plot()
    last = X[X < 0.6][-1]
    assert ax.get_xlim()[1] >= last
    ends: Any = Curve(
        X[X < 0.6], np.r_[loss[X < 0.5], [math.nan] * int(((X >= 0.5) & (X < 0.6)).sum())]
    ).plot()
    assert left(ends.patches[0]) > 0.49
    only = Curve(X[: np.argmax(X > 0.5) + 1], loss[: np.argmax(X > 0.5) + 1]).plot()
    assert only.get_xlim()[1] == pytest.approx(1.1 * X[np.argmax(X > 0.5)])


def test_momentum_has_a_linear_axis() -> None:
    momentum = np.linspace(0.7, 0.99, 100)
    ax: Any = Curve(momentum, (momentum - 0.9) ** 2, hyper="momentum").plot()
    assert ax.get_xscale() == "linear"
    assert ax.get_xlabel() == "momentum"
    assert "momentum 0.9" in labels(ax)[-1]
    assert ax.get_xlim() == (pytest.approx(0.7), pytest.approx(0.99))


@pytest.mark.parametrize(
    "curve",
    [
        Curve([], []), Curve([0], [1]), Curve([0.1], [1]), Curve([0.1, 0.2], [math.nan, math.inf]),
        Curve(X, np.zeros(200)), Curve(X, np.full(200, 5.0)), Curve([0, *X], [9, *LOSS]),
    ],
)  # fmt: skip
def test_every_curve_can_be_drawn(curve: Any, tmp_path: Path) -> None:
    curve.plot(tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_files_and_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # other packages load it
    ax = Figure().subplots()
    assert Curve(X, LOSS).plot(tmp_path / "c.svg", ax=ax) is ax
    assert b"<svg" in (tmp_path / "c.svg").read_bytes()
    Curve(X, LOSS).plot(tmp_path / "plain")
    assert (tmp_path / "plain").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="Format 'abc' is not supported"):
        Curve(X, LOSS).plot(tmp_path / "c.abc")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"figures need matplotlib: pip install 'onecycle\[plot\]'"):
        Curve(X, LOSS).plot()


def test_the_global_state_of_pyplot_stays_out_of_it() -> None:
    code = (
        "import sys, onecycle; onecycle.Curve([1e-3, 1e-2], [1.0, 2.0]).plot(); "
        "print('matplotlib.pyplot' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"


def test_losses_too_large_for_arithmetic_are_left_out() -> None:
    x = np.geomspace(1e-6, 10, 100)
    for loss in (np.full(100, 1.7e308), 1.7e308 * (-1.0) ** np.arange(100), np.where(x > 1, 1.7e308, 1.0)):
        Curve(x, loss).plot()  # and no warning


def test_a_policy_of_one_step_is_a_dot() -> None:
    ax = one_cycle(0.1, 1).plot()
    assert [line.get_marker() for line in ax.get_lines()] == ["o"]
    assert [line.get_marker() for line in one_cycle(0.1, 2).plot().get_lines()] != ["o"]
