from __future__ import annotations


class Inconclusive(Exception):  # noqa: N818 - an answer, not an error
    """The evidence does not tell: an honest refusal, raised in place of a guess.

    Args:
        reason: one sentence that says what the curve or the pilots lacked, and the way out.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
