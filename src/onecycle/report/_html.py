"""Figures and tables as HTML."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape

from onecycle._charts import Chart


def figure(chart: Chart, scales: str = "") -> str:
    """A chart with its title and legend, and the data for the page's script.

    Args:
        chart: what to draw.
        scales: the axes, of "xy", that can be switched between linear and logarithmic.
    """
    data = chart.data() | {"scales": scales}
    # As text in a page, "<" alone could end the block.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return (
        f'<figure class="chart"><figcaption>{escape(chart.title)}</figcaption>'
        f'<div class="plot">{chart.svg()}</div>{chart.legend()}'
        f'<script type="application/json">{text}</script></figure>'
    )


def table_of(
    head: Iterable[str], rows: Iterable[Sequence[str]], name: str, kinds: str, sort: bool = False
) -> str:
    """Cells are HTML. A column's kind: "r" names the row, "n" number, "w" unbroken text, "t" text."""
    top = "".join(f'<th scope="col" class="{k}">{cell}</th>' for k, cell in zip(kinds, head, strict=False))
    lines = "".join(
        "<tr>"
        + "".join(
            f'<th scope="row" class="r">{cell}</th>'
            if i == 0 and k == "r"
            else f'<td class="{k}">{cell}</td>'
            for i, (k, cell) in enumerate(zip(kinds, row, strict=False))
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="table" tabindex="0" role="group" aria-label="{escape(name)}">'
        f"<table{' data-sort' if sort else ''}><thead><tr>{top}</tr></thead>"
        f"<tbody>{lines}</tbody></table></div>"
    )
