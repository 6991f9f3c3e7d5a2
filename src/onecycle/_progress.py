"""A live line in a terminal or a notebook: what runs, the present value and loss, the curve as it grows."""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from onecycle._jobs import Job
    from onecycle._search import State

Show = Callable[[int, float, Sequence[float]], None]
BARS = "▁▂▃▄▅▆▇█"
NOTEBOOK_SECONDS = 0.2  # between two updates of a cell


@contextmanager
def live(title: str, total: int, wanted: bool = True) -> Iterator[Show]:
    """Yield `show(done, value, losses)`, which draws in a notebook or on a terminal, if there is one."""
    if not (wanted and (sys.stderr.isatty() or in_notebook())):
        yield lambda *_: None
        return
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

    console = _console()
    with _display(console, line(0, math.nan, ()), transient=True) as update:
        yield lambda done, value, losses: update(line(done, value, losses))


@contextmanager
def board(wanted: bool = True) -> Iterator[Callable[[State], None]]:
    """Yield `show(state)`, which draws a search on standard error where that is a terminal."""
    if not (wanted and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    best: list[tuple[float, str]] = []
    begin = time.monotonic()

    def picture(state: State) -> Group:
        job, result = state.job, state.result
        settled = Table.grid(padding=(0, 2))
        for each in state.decisions:
            value = f"{each.value:.3g}" if isinstance(each.value, (int, float)) else str(each.value)
            settled.add_row(
                Text(each.what, style="bold"), Text(value, style="cyan"), Text(each.reason, style="dim")
            )
        head = Table.grid(padding=(0, 1))
        share = state.spent / state.budget
        left = (time.monotonic() - begin) * (1 - share) / share if 0 < share < 1 else 0.0
        head.add_row(
            Text(f"settling {state.stage.replace('_', ' ')}", style="bold"),
            ProgressBar(total=1.0, completed=min(share, 1.0), width=20),
            Text(f"{state.spent:.2f} of {state.budget:g} trainings, {state.done} runs, {clock(left)} left"),
        )
        tried = Table.grid(padding=(0, 1))
        curve = (result.history or result.curve or {}).get("loss", ())
        tried.add_row(
            Text(described(job)), Text(f"loss {result.loss:.4g}"), Text(sparkline(curve), style="cyan")
        )
        if job.kind == "run" and (not best or result.loss < best[0][0]):
            best[:] = [(result.loss, described(job))]
        rows: list[Table | Text] = [head, tried]
        if best:
            rows.append(Text(f"lowest so far: {best[0][1]}, loss {best[0][0]:.4g}", style="green"))
        return Group(*rows, settled)

    with _display(_console(), Text("looking at the task"), transient=False) as update:
        yield lambda state: update(picture(state))


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def _console() -> Console:
    from rich.console import Console

    if in_notebook():
        return Console(file=io.StringIO(), record=True, width=100, force_jupyter=False, force_terminal=False)
    return Console(stderr=True)


@contextmanager
def _display(
    console: Console, first: RenderableType, transient: bool
) -> Iterator[Callable[[RenderableType], None]]:
    """Yield what draws the present state in place of the one before it."""
    if not in_notebook():
        from rich.live import Live

        with Live(first, console=console, transient=transient, auto_refresh=False) as display:
            yield lambda picture: display.update(picture, refresh=True)
        return

    def bundle(picture: RenderableType) -> dict[str, str]:
        console.print(picture)
        text = console.export_text(clear=False)
        page = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
        return {"text/plain": text, "text/html": page}

    handle = sys.modules["IPython"].display.display(bundle(first), raw=True, display_id=True)
    latest, at = first, time.monotonic()

    def update(picture: RenderableType) -> None:
        nonlocal latest, at
        latest = picture
        # Each update is a message to the browser, and kept in the file.
        if time.monotonic() - at >= NOTEBOOK_SECONDS:
            at = time.monotonic()
            handle.update(bundle(picture), raw=True)

    try:
        yield update
    finally:
        handle.update({"text/plain": "", "text/html": ""} if transient else bundle(latest), raw=True)


def described(job: Job) -> str:
    """A job in a few words."""
    if job.kind == "sweep":
        return f"range test of {job.steps} updates"
    size = "" if job.batch_size is None else f", batch {job.batch_size}"
    decay = "" if job.weight_decay is None else f", decay {job.weight_decay:.2g}"
    return f"{job.steps} updates up to {job.max_lr:.2g}{size}{decay}, momentum {job.momentum}"


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


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
