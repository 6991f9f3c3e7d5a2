from __future__ import annotations

import io
import math
import sys

import pytest

from onecycle import _progress
from onecycle._progress import live, sparkline


def test_a_sparkline_is_the_curve_in_one_line() -> None:
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1]) == "█▇▆▅▄▃▂▁"[:8]
    assert sparkline([1, 1, 1]) == "▁▁▁"
    assert sparkline([]) == ""
    assert sparkline([math.nan, math.inf]) == "  "


def test_a_sparkline_takes_means_over_equal_parts() -> None:
    assert sparkline([1.0] * 50 + [0.0] * 50, width=4) == "██▁▁"
    assert sparkline([100.0, 10.0, 1.0]) == "█▄▁"  # over more than a decade, logarithmic
    assert len(sparkline(list(range(1000)))) == 32


def test_a_loss_not_finite_is_a_gap_and_a_high_tail_is_cut() -> None:
    assert sparkline([1.0, math.nan, 0.0, 99.0]) == "█ ▁█"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_draws_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(_progress, "TERMINAL_SECONDS", 0)
    with live("range test of lr", 100) as show:
        show(10, 0.0123, [3.0, 2.0, 1.0])
    text = terminal.getvalue()
    for part in ("range test of lr", "10/100", "at 0.0123", "loss 1", "█▄▁"):
        assert part in text


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_the_curve_fits_into_the_line(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(_progress, "TERMINAL_SECONDS", 0)
    with live("range test of lr", 100) as show:
        show(60, 0.0123, [float(60 - i) for i in range(60)])
    text = terminal.getvalue()
    assert "…" not in text
    assert "▁" in text


@pytest.mark.parametrize("wanted", [True, False])
def test_it_is_silent_where_there_is_no_terminal_or_no_wish(
    monkeypatch: pytest.MonkeyPatch, wanted: bool
) -> None:
    silent = io.StringIO() if wanted else Terminal()
    monkeypatch.setattr(sys, "stderr", silent)
    with live("anything", 5, wanted) as show:
        show(1, 0.1, [1.0])
    assert silent.getvalue() == ""
