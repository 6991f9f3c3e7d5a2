from __future__ import annotations

import errno


class Inconclusive(Exception):  # noqa: N818 - an answer, not an error
    """The evidence does not tell: an honest refusal, raised in place of a guess.

    Args:
        reason: one sentence that says what the curve or the pilots lacked, and the way out.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


# What libraries say that raise a plain RuntimeError: torch's CPU allocator, CUDA's, oneDNN, cuBLAS.
_SAID = ("out of memory", "can't allocate memory", "Cannot allocate memory", "bad_alloc", "ALLOC_FAILED")


def for_want_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that there is no memory left."""
    if error is None:
        return False
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    names = {kind.__name__ for kind in type(error).__mro__}  # by name: the core imports no framework
    said = isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)
    return said or bool(names & {"MemoryError", "OutOfMemoryError"}) or for_want_of_memory(error.__cause__)
