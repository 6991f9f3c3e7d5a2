"""A live display in a terminal or a notebook: how far it is, what runs, its curve, the best so far."""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from onecycle._jobs import Job, Result
    from onecycle._runs import State

BARS = "▁▂▃▄▅▆▇█"
NOTEBOOK_SECONDS = 0.2  # between two updates of a cell, each a message to the browser and kept in the file
TERMINAL_SECONDS = 0.05


class Show(Protocol):
    """Draws a run: updates done, the present value, the losses so far, and the best of it in words."""

    def __call__(self, done: int, value: float, losses: Sequence[float], best: str = "") -> None: ...


@dataclass
class _Run:
    """One run on the screen: two lines."""

    title: str
    total: int
    start: int
    begin: float
    done: int = 0
    value: float = math.nan
    losses: Sequence[float] = ()
    best: str = ""

    def rows(self, width: int, now: float) -> list[Text]:
        from rich.text import Text

        share = (self.done - self.start) / max(self.total - self.start, 1)
        told = f"{self.done}/{self.total}"
        first = _head(self.title, told, self.done / self.total, share, now - self.begin, width)
        if not self.losses:
            return [first]
        finite = [loss for loss in self.losses if math.isfinite(loss)]
        best = self.best or (f"least {min(finite):.4g}" if finite else "")
        words = f"loss {self.losses[-1]:.4g} at {self.value:.3g}   "
        second = Text.assemble(
            (sparkline(self.losses, max(width - len(words) - len(best) - 2, 8)), "cyan"),
            "  ",
            words,
            (best, "green"),
        )
        return [first, second]


@dataclass
class Board:
    """A search on the screen: what of its budget is spent, what it tried last, its best, what is settled.

    Attributes:
        title: what is being done.
        budget: in updates, or in trainings; 0: none.
        spent: of the budget.
        told: the same in words; empty: updates are counted, those of the present run too.
        tried: the last run in words, its loss and its curve; empty where runs show themselves.
        best: the best run so far in words.
        settled: what, its value and its reason.
    """

    title: str
    budget: float = 0.0
    spent: float = 0.0
    told: str = ""
    tried: tuple[str, ...] = ()
    best: str = ""
    settled: list[tuple[str, str, str]] = field(default_factory=list)
    screen: _Screen | None = None
    begin: float = field(default_factory=time.monotonic)

    def rows(self, width: int, now: float) -> list[Text]:
        from rich.text import Text

        running = self.screen.run if self.screen is not None else None
        rows = [Text(self.title, style="bold")]
        if self.budget:
            run = running if not self.told else None
            spent = min(self.spent + (run.done if run else 0), self.budget)
            told = self.told or f"{spent:g} of {self.budget:g} updates"
            share = spent / self.budget
            rows = [_head(self.title, told, share, share, now - self.begin, width)]
        if self.tried and running is None:
            words, loss, curve = self.tried
            rows.append(_cut(Text.assemble("last: ", words, "  ", loss, "  ", (curve, "cyan")), width))
        if self.best:
            rows.append(_cut(Text(f"best so far: {self.best}", style="green"), width))
        wide = [max((len(row[i]) for row in self.settled), default=0) + 2 for i in (0, 1)]
        for what, value, reason in self.settled:
            line = Text.assemble(
                (what.ljust(wide[0]), "bold"), (value.ljust(wide[1]), "cyan"), (reason, "dim")
            )
            rows.append(_cut(line, width))
        return rows

    def update(self, **values: object) -> None:
        """Set attributes, and draw."""
        for name, value in values.items():
            setattr(self, name, value)
        if self.screen is not None:
            self.screen.refresh()


class _Screen:
    """The one display of this process: a search, where there is one, and what runs at present."""

    def __init__(self, width: int, draw: Callable[[RenderableType], None], seconds: float) -> None:
        self.board: Board | None = None
        self.run: _Run | None = None
        self._width, self._draw, self._seconds = width, draw, seconds
        self._at = -math.inf

    def refresh(self) -> None:
        from rich.console import Group

        now = time.monotonic()
        if now - self._at < self._seconds:
            return
        self._at = now
        parts = (self.board, self.run)
        self._draw(Group(*(row for part in parts if part for row in part.rows(self._width, now))))


_screen: _Screen | None = None


def watched() -> bool:
    """Whether a search is shown in this process, so that its runs show themselves in it."""
    return _screen is not None


@contextmanager
def live(title: str, total: int, wanted: bool = True, start: int = 0) -> Iterator[Show]:
    """Yield `show(done, value, losses)`, which draws a run in a notebook or on a terminal, if any."""
    with _opened(wanted) as screen:
        if screen is None:
            yield lambda *_, **__: None
            return
        run = screen.run = _Run(title, total, start, time.monotonic(), start)

        def show(done: int, value: float, losses: Sequence[float], best: str = "") -> None:
            run.done, run.value, run.losses, run.best = done, value, losses, best
            screen.refresh()

        screen.refresh()
        try:
            yield show
        finally:
            screen.run = None


@contextmanager
def searching(title: str, wanted: bool = True) -> Iterator[Board]:
    """Yield a board, which is drawn in a notebook or on a terminal, if there is one, with each run in it."""
    board = Board(title)
    with _opened(wanted) as screen:
        if screen is not None:
            screen.board, board.screen = board, screen
            screen.refresh()
        yield board


@contextmanager
def board(wanted: bool = True) -> Iterator[Callable[[State], None]]:
    """Yield `show(state)`, which draws a search by `tune`."""
    with searching("looking at the task", wanted) as board:
        lowest = math.inf

        def show(state: State) -> None:
            nonlocal lowest
            job, result = state.job, state.result
            if job.kind == "run" and result.loss < lowest:
                lowest = result.loss
                board.best = f"{described(job)}, loss {lowest:.4g}"
            curve = (result.history or result.curve or {}).get("loss", ())
            board.update(
                title=f"settling {state.stage.replace('_', ' ')}",
                spent=state.spent,
                budget=state.budget,
                told=f"{state.spent:.2f} of {state.budget:g} trainings, {state.done} runs",
                tried=(described(job), outcome(result), sparkline(curve, 24)),
                settled=[(each.what, short(each.value), each.reason) for each in state.decisions],
            )

        yield show


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


@contextmanager
def _opened(wanted: bool) -> Iterator[_Screen | None]:
    """The screen that is open already, or a new one, which leaves nothing behind; None without a place."""
    global _screen
    if not wanted or not (sys.stderr.isatty() or in_notebook()):
        yield None
    elif _screen is not None:
        yield _screen
    else:
        with _notebook() if in_notebook() else _terminal() as _screen:
            try:
                yield _screen
            finally:
                _screen = None


@contextmanager
def _terminal() -> Iterator[_Screen]:
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    with Live(console=console, transient=True, auto_refresh=False) as display:
        yield _Screen(console.width, lambda picture: display.update(picture, refresh=True), TERMINAL_SECONDS)


@contextmanager
def _notebook() -> Iterator[_Screen]:
    from rich.console import Console

    console = Console(file=io.StringIO(), record=True, width=100, force_jupyter=False, force_terminal=False)

    def bundle(picture: RenderableType) -> dict[str, str]:
        console.print(picture)
        text = console.export_text(clear=False)
        page = console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
        return {"text/plain": text, "text/html": page}

    empty = {"text/plain": "", "text/html": ""}
    handle = sys.modules["IPython"].display.display(empty, raw=True, display_id=True)
    try:
        yield _Screen(
            console.width, lambda picture: handle.update(bundle(picture), raw=True), NOTEBOOK_SECONDS
        )
    finally:
        handle.update(empty, raw=True)


def _head(title: str, told: str, full: float, share: float, elapsed: float, width: int) -> Text:
    """Title, bar and what is done, with the time that is left of a `share` that took `elapsed` seconds."""
    from rich.text import Text

    left = f", {clock(elapsed * (1 - share) / share)} left" if 0 < share < 1 else ""
    bar = min(20, max(width - len(title) - len(told) - len(left) - 2, 0))
    done = round(bar * min(max(full, 0.0), 1.0))
    line = Text.assemble(
        (title, "bold"), " ", ("━" * done, "cyan"), ("╌" * (bar - done), "dim"), " ", told, left
    )
    return _cut(line, width)


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    return line


def described(job: Job) -> str:
    """A job in a few words."""
    if job.kind == "sweep":
        return f"range test of {job.steps} updates"
    size = "" if job.batch_size is None else f", batch {job.batch_size}"
    decay = "" if job.weight_decay is None else f", decay {job.weight_decay:.2g}"
    return f"{job.steps} updates up to {job.max_lr:.2g}{size}{decay}, momentum {short(job.momentum)}"


def outcome(result: Result) -> str:
    """What came of a job in a few words."""
    if result.error is not None:
        return f"failed: {result.error}"
    return "diverged" if result.diverged else f"loss {result.loss:.4g}"


def short(value: object) -> str:
    """A setting's value in a few characters."""
    if isinstance(value, (list, tuple)):
        return " to ".join(short(part) for part in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def sparkline(losses: Sequence[float], width: int = 32) -> str:
    """The curve in one line of `width` characters, means of equal parts; a loss not finite is a gap.

    Over more than a decade its bars are logarithmic.
    """
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
    scale = math.log if low > 0 and high > 10 * low else float
    span = (scale(high) - scale(low)) or 1.0

    def bar(mean: float) -> str:
        return BARS[min(int((scale(mean) - scale(low)) / span * 7.999), 7)] if math.isfinite(mean) else " "

    return "".join(map(bar, means))
