"""The page: verdict first, then the evidence, then what to do with it."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from onecycle import __version__
from onecycle._anchors import anchors
from onecycle._charts import Chart, Series
from onecycle._numbers import NONE, number
from onecycle._suggestion import Suggestion
from onecycle._views import curve_chart, policy_charts, reading
from onecycle.report._html import figure, table_of
from onecycle.report._read import Run, Trial, numeric
from onecycle.report._stages import decisions_of, of_stage, stages
from onecycle.report._training import RUNS, training
from onecycle.report._trials import chosen
from onecycle.report._use import snippets
from onecycle.report._verdict import pilots_of, plan, verdict
from onecycle.report._words import counted, name_of, span, value_of


def page(run: Run) -> str:
    """The whole HTML document."""
    parts = {
        "Recipe": _recipe(run),
        "Learning rate": _learning_rate(run),
        "Pilots": _pilots(run),
        **stages(run),
        "Schedule": _schedule(run),
        "Training": training(run),
        "Cost": _cost(run),
        "Use it": _use(run),
        "Settings": _settings(run),
    }
    there = {name: body for name, body in parts.items() if body}
    anchors_ = {name: name.lower().replace(" ", "-").replace(",", "") for name in there}
    links = "".join(f'<li><a href="#{anchors_[name]}">{escape(name)}</a></li>' for name in there)
    sections = "".join(
        f'<section id="{anchors_[name]}" aria-labelledby="{anchors_[name]}-h">'
        f'<h2 id="{anchors_[name]}-h">{escape(name)}</h2>{body}</section>'
        for name, body in there.items()
    )
    task, command = _task(run), str(run.info.get("command"))
    style, script = _asset("report.css"), _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # Nothing from outside, and no script but this one, whatever the files hold.
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(task)} · onecycle {escape(command)}</title>"
        f"<style>{style}</style></head><body>"
        f'<header><p class="kind">onecycle {escape(command)}</p><h1>{escape(task)}</h1>'
        f"{verdict(run)}</header>"
        f'<nav aria-label="Contents"><ul>{links}</ul></nav><main>{sections}</main>'
        f"<footer>Written by onecycle {__version__} from the files in this folder. "
        "It holds all that it shows.</footer>"
        f"<script>{script}</script></body></html>\n"
    )


def _asset(name: str) -> str:
    return files("onecycle.report").joinpath(name).read_text(encoding="utf-8")


def _task(run: Run) -> str:
    return str(run.fact("task") or (run.recipe and run.recipe.evidence.get("task")) or run.path.name)


# Sections -----------------------------------------------------------------------------------------------


def _recipe(run: Run) -> str:
    recipe = plan(run)
    if recipe is None:
        return ""
    facts = [("Peak learning rate", number(recipe.max_lr), "")]
    if recipe.interval is not None:
        facts[0] = (*facts[0][:2], f"{number(recipe.interval[0])} to {number(recipe.interval[1])}")
    if recipe.momentum is None:
        facts.append(("Momentum", NONE, "left as it is"))
    elif isinstance(recipe.momentum, (int, float)):
        facts.append(("Momentum", number(float(recipe.momentum)), "constant"))
    else:
        high, low = recipe.momentum
        facts.append(("Momentum", f"{number(high)} → {number(low)}", "and back"))
    if recipe.weight_decay is not None:
        facts.append(("Weight decay", number(recipe.weight_decay), ""))
    if recipe.batch_size is not None:
        facts.append(("Batch size", number(recipe.batch_size), "samples"))
    if recipe.total_steps is not None:
        facts.append(("Length", number(recipe.total_steps), "updates"))
    tiles = "".join(
        f"<div><dt>{name}</dt><dd>{value}{f'<small>{note}</small>' if note else ''}</dd></div>"
        for name, value, note in facts
    )
    decisions = decisions_of(run)
    if not decisions:
        return f'<dl class="facts">{tiles}</dl>'
    rows = [
        [
            escape(name_of(str(d.get("what")))),
            value_of(d.get("value")),
            span(d.get("low"), d.get("high")),
            escape(str(d.get("reason") or "")),
            str(len(trials) if isinstance(trials := d.get("trials"), list) else 0),
        ]
        for d in decisions
    ]
    table = table_of(["Decision", "Value", "Interval", "Reason", "Trials"], rows, "Decisions", "rnwtn")
    return f'<dl class="facts">{tiles}</dl>{table}'


def _learning_rate(run: Run) -> str:
    parts = []
    for name, curve in run.curves.items():
        found = reading(curve)
        best = run.recipe
        title = "Range test" if len(run.curves) == 1 else f"Range test {name}"
        parts.append(figure(curve_chart(curve, found, title), "xy"))
        if isinstance(found, Suggestion):
            words = f"<strong>{number(found.value)}</strong>: {escape(found.reason)}."
        else:
            words = f"No suggestion: {escape(found.reason)}."
        parts.append(f"<p>{words}</p>")
        if best is not None and isinstance(found, Suggestion) and best.evidence.get("rule") == "pilots":
            parts.append(f"<p>{escape(str(best.evidence.get('reason', '')))}.</p>")
        seen = anchors(curve)
        rows = [
            [label, number(at), number(loss)]
            for label, at, loss in (
                ("Where the fall sets in", seen.onset, None),
                ("Falls fastest", seen.steepest, None),
                ("Least loss", seen.minimum, seen.best),
                ("Has diverged", seen.divergence, None),
            )
            if at is not None
        ]
        if rows:
            parts.append(table_of(["On the smoothed curve", "Rate", "Loss"], rows, "Anchors", "rnn"))
    if len(run.curves) > 1:
        parts.insert(0, figure(_overlay(run), "xy"))
    return "".join(parts) + of_stage(run, "rate")


def _overlay(run: Run) -> Chart:
    series = [
        Series(name, *curve.smooth(), tone=f"ramp{i % 5}", role="smooth")
        for i, (name, curve) in enumerate(run.curves.items())
    ]
    words = "Smoothed loss over the swept value, of the range tests " + ", ".join(run.curves) + "."
    return Chart("All range tests", words, "value", "loss", series, xlog=True)


def _pilots(run: Run) -> str:
    pilots = sorted(pilots_of(run), key=lambda p: numeric(p.get("max_lr")) or 0)
    points = [(numeric(p.get("max_lr")), numeric(p.get("loss"))) for p in pilots]
    good = [(x, y) for x, y in points if x is not None and y is not None and math.isfinite(y)]
    if not pilots:
        return ""
    rows = [
        [
            value_of(p.get("max_lr")),
            value_of(p.get("steps")),
            number(loss, 4) if math.isfinite(loss) else "diverged",
        ]
        for p in pilots
        if (loss := numeric(p.get("loss"))) is not None
    ]
    table = table_of(["Peak rate", "Updates", "Loss at the end"], rows, "Pilots", "nnn")
    if len(good) < 2:
        return table
    listed = "; ".join(f"{number(x)}: {number(y)}" for x, y in good)
    xs, ys = [x for x, _ in good], [y for _, y in good]
    marks, bands = chosen(
        {"value": run.recipe.max_lr, "low": (run.recipe.interval or (None,))[0],
         "high": (run.recipe.interval or (None,))[-1]} if run.recipe else None, None
    )  # fmt: skip
    chart = Chart(
        "Short 1cycle runs", f"Loss of {len(pilots)} pilots over their peak rate. {listed}.",
        "peak learning rate", "loss", [Series("pilots", xs, ys, "both")], bands, marks, xlog=True, height=240,
    )  # fmt: skip
    return figure(chart) + table


def _schedule(run: Run) -> str:
    recipe = plan(run)
    if recipe is None or recipe.total_steps is None:
        return ""
    charts = policy_charts(recipe.policy())
    return f'<div class="pair">{"".join(figure(chart) for chart in charts)}</div>'


def _cost(run: Run) -> str:
    if run.trials:
        rows = []
        for stage in dict.fromkeys(t.job.stage for t in run.trials):
            mine = [t for t in run.trials if t.job.stage == stage]
            rows.append([escape(stage.replace("_", " ")), *_sums(mine)])
        rows.append(["<strong>All</strong>", *_sums(run.trials)])
        table = table_of(["Stage", "Trials", "Updates", "Samples", "Seconds"], rows, "Cost", "rnnnn")
        cost = numeric(run.recipe.evidence.get("cost")) if run.recipe is not None else None
        return (
            f"<p>In all {number(cost)} full runs' worth of training.</p>" if cost is not None else ""
        ) + table
    cost, length = numeric(run.info.get("cost")), numeric(run.fact("total_steps"))
    if cost is not None and length and math.isfinite(cost) and math.isfinite(length):
        return (
            f"<p>The search took {counted(int(cost), 'update')}, {cost / length:.0%} of the "
            f"{counted(int(length), 'update')} that the training takes.</p>"
        )
    lengths = [("range test", len(curve)) for curve in run.curves.values()]
    lengths += [(RUNS[file], len(history.rows)) for file, history in run.histories.items()]
    if not lengths:
        return ""
    rows = [[name, number(count)] for name, count in lengths]
    return table_of(["Part", "Updates"], rows, "Cost", "rn")


def _sums(trials: Sequence[Trial]) -> list[str]:
    updates = sum(t.job.steps for t in trials)
    samples = sum(t.result.samples for t in trials)
    seconds = sum(t.result.seconds for t in trials)
    return [number(len(trials)), f"{updates:,}", f"{samples:,}", f"{seconds:,.1f}"]


def _use(run: Run) -> str:
    recipe = plan(run)
    if recipe is None:
        return ""
    facts = next((c.settings.get("trial") for c in run.curves.values()), None)
    optimizer = str(facts.get("optimizer")) if isinstance(facts, Mapping) else "SGD"
    blocks = "".join(
        f'<details name="use"{" open" if i == 0 else ""}><summary>{name}</summary>'
        f'<div class="code"><pre tabindex="0"><code>{escape(code)}</code></pre></div></details>'
        for i, (name, code) in enumerate(snippets(recipe, optimizer).items())
    )
    line = ""
    if run.recipe is not None:
        task = _task(run)
        line = (
            "<p>On the command line, with the task that it was found for:</p>"
            f'<div class="code"><pre tabindex="0"><code>onecycle train {escape(_quoted(task))} --recipe '
            f"{escape(_quoted(str(run.path / 'recipe.toml')))}</code></pre></div>"
        )
    return blocks + line


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def _settings(run: Run) -> str:
    versions = run.info.get("versions")
    rows = [[escape(_label(k)), escape(_plain(v))] for k, v in run.settings.items()]
    rows += [["Status", escape(str(run.info.get("status")))]]
    if isinstance(versions, Mapping):
        rows += [[escape(str(k)), escape(_plain(v))] for k, v in versions.items()]
    body = table_of(["Setting", "Value"], rows, "Settings and versions", "rt")
    kept = Counter(p.parent.name for p in sorted(run.path.glob("*/*")))
    names = [p.name for p in sorted(run.path.iterdir()) if p.is_file() and p.name != "report.html"]
    names += [f"{folder}/ ({counted(n, 'file')})" for folder, n in kept.items()]
    body += f"<p>Files: {escape(', '.join(names))}.</p>"
    if run.problems:
        items = "".join(f"<li>{escape(line)}</li>" for line in run.problems)
        body += f'<div class="note"><p>Left out, because it could not be read:</p><ul>{items}</ul></div>'
    return body


def _label(name: str) -> str:
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
