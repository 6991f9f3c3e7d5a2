"""What `tune` decided, stage by stage, and the trials that each decision rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from onecycle._numbers import number
from onecycle.report import _trials
from onecycle.report._html import figure, table_of
from onecycle.report._read import STAGES, Run, Trial
from onecycle.report._words import counted, span, value_of


def decisions_of(run: Run) -> list[Mapping[str, Any]]:
    """Decisions as the recipe tells them."""
    found = run.recipe.evidence.get("decisions") if run.recipe is not None else None
    return [d for d in found if isinstance(d, Mapping)] if isinstance(found, list) else []


def stages(run: Run) -> dict[str, str]:
    """Sections by title: one for each stage but the rate's, and one that lists all trials."""
    sections = {
        _trials.VARIED[stage][2]: body
        for stage in STAGES
        if stage != "rate" and (body := of_stage(run, stage))
    }
    if run.trials:
        sections["All trials"] = _all_trials(run.trials)
    return sections


def of_stage(run: Run, stage: str) -> str:
    """A stage's decision in words, and charts of its trials; empty where it had none to show."""
    what = {"rate": "max_lr", "search": "max_lr", "length": "total_steps"}.get(stage, stage)
    if stage == "check" and not any(t.job.stage == "length" for t in run.trials):
        what = "total_steps"
    decision: Mapping[str, Any] = next((d for d in reversed(decisions_of(run)) if d.get("what") == what), {})
    # A decision counts runs of other stages too, where they fit.
    named = decision.get("trials") if stage != "search" else None
    meant = set(map(str, named)) if isinstance(named, list) else set()
    mine = [t for t in run.trials if t.job.stage == stage or t.name in meant]
    alone = len(mine) == 1 and mine[0].sweep and run.curves  # shown as the range test already
    if alone or not any(t.job.stage == stage for t in mine):
        return ""
    told = stage != "search" and not all(t.sweep for t in mine)
    words = str(decision.get("reason") or "") if told else ""
    words = f"{words[:1].upper()}{words[1:].rstrip('.')}. " if words else ""
    diverged = sum(not math.isfinite(t.loss) for t in mine)
    counts = counted(len(mine), "trial") + (f", {diverged} diverged" if diverged else "")
    if stage == "check":
        ends = (f"{number(t.loss)} after {value_of(t.job.steps)} updates" for t in mine)
        counts += f": loss {', '.join(ends)}"
    seen = stage == "rate" and run.curves and sum(t.sweep for t in mine) == 1
    figures = (
        (_trials.outcomes(mine, stage, decision), ""),
        (None if seen else _trials.sweeps(mine, stage), "xy"),
        (_trials.courses(mine, stage), "y"),
    )
    return f"<p>{escape(words + counts)}.</p>" + "".join(
        figure(chart, scales) for chart, scales in figures if chart is not None
    )


def _all_trials(trials: Sequence[Trial]) -> str:
    rows = []
    for t in trials:
        best = value_of(t.job.max_lr) if not t.sweep else span(t.job.start, t.job.end)
        rows.append(
            [
                escape(t.job.stage.replace("_", " ")),
                "sweep" if t.sweep else "run",
                best,
                value_of(t.job.momentum),
                *(value_of(getattr(t.job, name)) for name in ("weight_decay", "batch_size", "steps", "seed")),
                number(t.loss, 4) if math.isfinite(t.loss) else "diverged",
                number(t.result.seconds),
            ]
        )
    head = [
        "Stage",
        "Kind",
        "Rate",
        "Momentum",
        "Weight decay",
        "Batch",
        "Updates",
        "Seed",
        "Loss",
        "Seconds",
    ]
    table = table_of(head, rows, "All trials", "rrnnnnnnnn", sort=True)
    return f"<details><summary>{counted(len(trials), 'trial')}</summary>{table}</details>"
