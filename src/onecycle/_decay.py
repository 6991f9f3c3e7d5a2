"""The time scale of weight decay, and how many trainings long it is where the decay costs little, or much.

In 1/(lr wd) updates the decay makes 1/e of a weight (Wang and Aitchison 2024). Where that is much longer than
the training, the decay is hardly felt; where it is shorter, the last updates alone are left in the weights.
"""

from __future__ import annotations

from onecycle._default_rule import HEAVY_BALL

LASTS = 4  # trainings: in as many, it costs a net without normalisation nothing
FELT = 2  # trainings: in fewer, it may cost any net much


def forgets_in(max_lr: float, decay: float, optimizer: str) -> float:
    """Updates after which the decay has made 1/e of a weight, at the mean of 1cycle's rates."""
    mean = 0.55 * max_lr / (1 - 0.9 if optimizer in HEAVY_BALL else 1)
    return 1 / (mean * decay)
