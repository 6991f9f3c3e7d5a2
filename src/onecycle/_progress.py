"""A live line in the terminal: what runs, the present value and loss, and the curve as it grows."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

Show = Callable[[int, float, Sequence[float]], None]
BARS = "▁▂▃▄▅▆▇█"


@contextmanager
def live(title: str, total: int, wanted: bool = True) -> Iterator[Show]:
    """Yield `show(done, value, losses)`, which draws on standard error where that is a terminal."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def line(done: int, value: float, losses: Sequence[float]) -> Table:
        counts, at = f"{done}/{total}", f"at {value:.3g}"
        loss = f"loss {losses[-1]:.4g}" if losses else ""
        # The curve takes what the rest leaves of the line, and a narrow terminal has no bar.
        bar = min(20, max(console.width - 70, 0))
        left = console.width - len(title) - bar - len(counts) - len(at) - len(loss) - 6
        row = Table.grid(padding=(0, 1))
        row.add_row(
            Text(title, style="bold"),
            ProgressBar(total=total, completed=done, width=bar) if bar else "",
            Text(counts, style="dim"),
            Text(at),
            Text(loss),
            Text(sparkline(losses, max(left, 8)), style="cyan"),
        )
        return row

    console = Console(stderr=True)
    with Live(line(0, math.nan, ()), console=console, transient=True, auto_refresh=False) as display:
        yield lambda done, value, losses: display.update(line(done, value, losses), refresh=True)


def sparkline(losses: Sequence[float], width: int = 32) -> str:
    """The curve in one line of `width` characters, means of equal parts; a loss not finite is a gap."""
    if not losses:
        return ""
    width = min(width, 32, len(losses))
    edges = [len(losses) * i // width for i in range(width + 1)]
    means = [sum(losses[a:b]) / (b - a) for a, b in pairwise(edges)]
    finite = [mean for mean in means if math.isfinite(mean)]
    if not finite:
        return " " * width
    # A diverging tail would flatten all that matters: its bars are cut at the first part's height.
    low, high = min(finite), max(finite[: max(len(finite) // 2, 1)])
    span = (high - low) or 1.0
    return "".join(
        BARS[min(int((mean - low) / span * 7.999), 7)] if math.isfinite(mean) else " " for mean in means
    )
