"""The figures of the science page and the README: `python docs/figures.py`, from the root, in a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

import onecycle as oc
from onecycle.plot import new_axes, save
from onecycle.tasks.digits import build
from onecycle.torch import noise_scale

IMAGES = Path(__file__).parent / "images"
STEPS = 110  # five epochs of the digits
RAMP = ("#9db7f0", "#7094e8", "#2c55c2", "#1d3b8c")


def axes(xlabel: str, ylabel: str) -> Axes:
    """Empty axes with names."""
    ax = new_axes()
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.2)
    return ax


def range_test() -> None:
    """The digits' range test, with its suggestion."""
    curve = oc.range_test(build(seed=0), seed=0)
    curve.plot(IMAGES / "range-test.png")
    print(f"range test: {curve.suggest()}")


def plateau() -> None:
    """Updates that gradient descent needs to leave a saddle, by its rate: constant, and in a triangle."""
    rates = np.geomspace(1e-3, 0.5, 30)

    def leave(rate: float, cyclic: bool) -> int:
        # Of (x**2 - y**2 + y**4 / 2) / 2, from beside the saddle at 0; its minima are at y = 1 and -1.
        policy = oc.cyclical(rate / 10, rate, 10) if cyclic else None
        y, step = 1e-6, 0
        while abs(y) < 0.5:
            lr = rate if policy is None else policy(step)["lr"]
            y += lr * (y - y**3)
            step += 1
        return step

    ax = axes("greatest learning rate", "updates until it is halfway to a minimum")
    for name, cyclic, style in (("constant", False, "-"), ("triangular, from a tenth", True, "--")):
        ax.loglog(rates, [leave(float(rate), cyclic) for rate in rates], style, label=name, color=RAMP[2])
    ax.legend()
    save(ax, IMAGES / "science-saddle.png")
    print("saddle:", {rate: (leave(rate, False), leave(rate, True)) for rate in (0.001, 0.01, 0.1)})


def decay() -> None:
    """Range tests of the digits at several weight decays."""
    ax = axes("learning rate", "loss, smoothed")
    for tone, value in zip(RAMP, (0.0, 5e-3, 5e-2, 5e-1), strict=True):
        curve = oc.range_test(build(seed=0, weight_decay=value), seed=0, repeats=3)
        ax.semilogx(*curve.smooth(), color=tone, label=f"weight decay {value:g}")
        smooth = curve.smooth()
        print(f"decay {value:g}: least {smooth[1].min():.3f} at {smooth[0][smooth[1].argmin()]:.3f}")
    ax.set_ylim(0, 4)
    ax.legend()
    save(ax, IMAGES / "science-decay.png")


def momentum() -> None:
    """Validation loss of whole runs by peak rate: momentum cycled, held, and none."""
    ax = axes("peak learning rate", "validation loss after five epochs, mean of three seeds")
    rates = np.geomspace(2e-3, 0.5, 8)
    looks: dict[str, tuple[Any, str, str]] = {
        "0.95 to 0.85 and back": ((0.95, 0.85), RAMP[3], "-"),
        "0.9": (0.9, RAMP[1], "-"),
        "none": (0.0, "#7b8494", "--"),
    }
    for name, (value, tone, style) in looks.items():
        means = []
        for rate in rates:
            runs = [oc.train(build(seed), oc.one_cycle(rate, STEPS, momentum=value)) for seed in range(3)]
            means.append(np.mean([run.last("val_loss") for run in runs]))
        ax.loglog(rates, means, style, marker="o", color=tone, label=f"momentum {name}")
        print(f"momentum {name}: least {min(means):.4f} at {rates[int(np.argmin(means))]:.3f}")
    ax.legend()
    save(ax, IMAGES / "science-momentum.png")


def noise() -> None:
    """The digits' gradient noise scale as training goes on, with its interval."""
    updates = (1, 3, 10, 30, 100, 300, 1000)
    found = [noise_scale(build(seed=0, batch_size=16), warm=warm, lr=0.01) for warm in updates]
    known = [(x, each) for x, each in zip(updates, found, strict=True) if each.tells]
    ax = axes("updates before the measurement", "noise scale, samples")
    x, y = [x for x, _ in known], np.array([each.value for _, each in known])
    ends = np.array([(each.value - each.low, each.high - each.value) for _, each in known]).T
    ax.errorbar(x, y, yerr=ends, color=RAMP[2], marker="o", capsize=4)
    ax.set_xscale("log")
    ax.set_yscale("log")
    save(ax, IMAGES / "science-noise.png")
    for warm, each in zip(updates, found, strict=True):
        print(f"noise scale after {warm} updates: {each.value:.0f} ({each.low:.0f} to {each.high:.0f})")


if __name__ == "__main__":
    range_test()
    oc.one_cycle(0.8, 9310).plot(IMAGES / "science-1cycle.png")
    plateau()
    decay()
    momentum()
    noise()
