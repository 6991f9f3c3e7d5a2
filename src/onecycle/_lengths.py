"""What runs of two lengths say: whether the model over- or underfits, and what a longer one would gain."""

from __future__ import annotations

import math

from onecycle._jobs import Result

CLEAR = 0.1  # share of the validation loss by which it and training loss differ, or rises, to be named


def fit(result: Result) -> str:
    """Over- or underfitting in words, from training and validation loss (arXiv 1803.09820, section 3).

    Empty where there is no validation loss to compare with.
    """
    val, train = result.val_loss, result.train_loss
    points = (result.history or {}).get("val") or []
    if val is None or not math.isfinite(train) or not points:
        return ""
    step, least = min(points, key=lambda point: point[1])
    size = CLEAR * abs(val)
    if val - least > size:
        return (
            f"the validation loss was least at update {step + 1:.0f}, {least:.4g}, and rose to {val:.4g}: "
            "the model overfits; regularise more, or train for less long"
        )
    if val - train > size:
        return (
            f"the training loss ended at {train:.4g}, below the validation loss of {val:.4g}, which did not "
            "rise: it begins to overfit"
        )
    return (
        f"the training loss, {train:.4g}, is no lower than the validation loss, {val:.4g}: it underfits; a "
        "longer training or a larger model has more to gain than more regularisation"
    )


def outlook(short: tuple[float, float], long: tuple[float, float], full: float) -> tuple[float, str] | None:
    """The loss expected of `full` steps by a power law through two runs, and what twice as long would gain.

    Args:
        short: steps and final loss of the shorter run.
        long: of the longer.
        full: steps of the whole training.

    Returns:
        The expected loss and a sentence; None where the losses follow no falling power law.
    """
    (a, loss_a), (b, loss_b) = short, long
    if not (0 < loss_b < loss_a < math.inf and 0 < a < b):
        return None
    power = math.log(loss_a / loss_b) / math.log(b / a)
    expected = loss_b * (full / b) ** -power
    gain = 1 - 2**-power
    return expected, (
        f"by the power law through both, the whole training would end near {expected:.3g} at best, and one "
        f"twice as long {gain:.0%} lower"
    )
