"""`onecycle suggest` and `onecycle schedule`: what needs no training."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onecycle._errors import Inconclusive
from onecycle.cli._session import FILE, F, Session, common, examples
from onecycle.cli._words import in_json, in_words

if TYPE_CHECKING:
    from onecycle._policy import Policy
    from onecycle._suggestion import Suggestion, Use


@click.command(
    epilog=examples(
        "suggest curve.csv",
        "suggest metrics.csv --plot curve.png",
        "suggest log.csv --lr eta --loss nll --rule valley",
        "suggest curve.json --use cyclical",
    )
)
@click.argument("file", type=FILE)
@click.option("--rule", help="A rule by name, such as valley; default: this library's own.")
@click.option("--use", type=click.Choice(["one_cycle", "cyclical", "constant"]), default="one_cycle",
              show_default=True, help="What the rate is for; only the default rule tells.")  # fmt: skip
@click.option("--lr", "value", metavar="COLUMN", help="Column of the rate, where it is not found by itself.")
@click.option("--loss", metavar="COLUMN", help="Column of the loss, where it is not found by itself.")
@click.option("--plot", type=FILE, help="Draw the curve with the suggestion into this file.")
@common
@click.pass_obj
def suggest(
    session: Session,
    file: Path,
    rule: str | None,
    use: Use,
    value: str | None,
    loss: str | None,
    plot: Path | None,
) -> None:
    """Read a curve from any tool: this library's JSON, a CSV log, or Hugging Face's trainer_state.json."""
    from onecycle._curve import Curve

    curve = Curve.from_csv(file, value=value, loss=loss) if value or loss else Curve.read(file)
    found: Suggestion | Inconclusive
    try:
        found = curve.suggest(rule, use=use)
    except Inconclusive as refusal:
        found = refusal
    if plot is not None:
        from onecycle.plot import plot_curve

        plot_curve(curve, plot, suggestion=found)
    if isinstance(found, Inconclusive):
        raise found
    document = {"status": "done", **in_json(found), "points": len(curve)}
    session.print(document, *in_words(found))


@click.group()
def schedule() -> None:
    """Show a policy as numbers or as a figure."""


def momentum_option(default: tuple[float, float] | None) -> Callable[[F], F]:
    """Range of the momentum, which both policies take."""
    return click.option("--momentum", type=(float, float), default=default, metavar="HIGH LOW",
                        show_default=default is not None, help="Range of the momentum.")  # fmt: skip


plot_option = click.option("--plot", type=FILE, help="Draw the policy into this file.")
csv_option = click.option(
    "--csv", "csv_file", type=FILE, help="Write the values of every step into this file."
)


@schedule.command(
    "one-cycle", epilog=examples("schedule one-cycle --max-lr 0.8 --total-steps 9310 --plot policy.png")
)
@click.option("--max-lr", type=float, required=True, help="Rate at the peak.")
@click.option("--total-steps", type=int, required=True, help="Updates in all.")
@click.option("--min-lr", type=float, help="Rate at both ends of the cycle; default: a tenth of the peak.")
@click.option("--final-lr", type=float, help="Rate of the last update.")
@click.option("--tail", type=float, default=0.1, show_default=True, help="Share of the last stretch.")
@click.option("--peak", type=float, default=0.5, show_default=True, help="Place of the peak in the cycle.")
@momentum_option((0.95, 0.85))
@click.option("--shape", type=click.Choice(["linear", "cosine"]), default="linear", show_default=True)
@click.option("--form", type=click.Choice(["paper", "logs", "to_zero"]), default="paper", show_default=True)
@plot_option
@csv_option
@common
@click.pass_obj
def one_cycle_command(
    session: Session, /, plot: Path | None, csv_file: Path | None, **arguments: Any
) -> None:
    """The 1cycle policy (Smith 2018, arXiv 1803.09820)."""
    from onecycle._policies import one_cycle

    policy = one_cycle(arguments.pop("max_lr"), arguments.pop("total_steps"), **arguments)
    _show(session, policy, policy.total_steps or 1, plot, csv_file)


@schedule.command("cyclical", epilog=examples("schedule cyclical --base-lr 0.1 --max-lr 0.8 --step-size 2000 "
                                              "--total-steps 8000"))  # fmt: skip
@click.option("--base-lr", type=float, required=True, help="Rate at the ends of each cycle.")
@click.option("--max-lr", type=float, required=True, help="Rate at the top of the first cycle.")
@click.option("--step-size", type=int, required=True, help="Updates from base to top.")
@click.option("--step-size-down", type=int, help="Updates from top to base; default: --step-size.")
@click.option("--mode", type=click.Choice(["triangular", "triangular2", "exp_range"]), default="triangular",
              show_default=True)  # fmt: skip
@click.option("--gamma", type=float, default=1.0, show_default=True, help="Factor a step of exp_range.")
@momentum_option(None)
@click.option("--total-steps", type=int, help="Updates in all; default: without end.")
@plot_option
@csv_option
@common
@click.pass_obj
def cyclical_command(session: Session, /, plot: Path | None, csv_file: Path | None, **arguments: Any) -> None:
    """Cyclical rates (Smith 2015, arXiv 1506.01186)."""
    from onecycle._policies import cyclical

    base, top, up = (arguments.pop(name) for name in ("base_lr", "max_lr", "step_size"))
    policy = cyclical(base, top, up, **arguments)
    two_cycles = 2 * (up + (arguments["step_size_down"] or up))
    _show(session, policy, policy.total_steps or two_cycles, plot, csv_file)


LISTED = 1_000_000  # steps


def _show(session: Session, policy: Policy, length: int, plot: Path | None, csv_file: Path | None) -> None:
    import numpy as np

    from onecycle._files import write_file

    if length > LISTED and csv_file is not None:
        raise click.UsageError(f"--csv has a line a step, and {length} are too many: {LISTED} at most")
    # No more than a sample, and the ends of pieces, of a schedule of any length.
    sample = np.linspace(0, length - 1, min(length, LISTED)).round()
    steps = np.unique([*sample, *(s for s in getattr(policy.lr, "steps", ()) if s < length)]).astype(int)
    values = policy(steps)
    if plot is not None:
        policy.plot(plot)
    if csv_file is not None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["step", *values])
        writer.writerows(zip(steps.tolist(), *(v.tolist() for v in values.values()), strict=True))
        write_file(csv_file, text.getvalue())
    marks = sorted(
        {0, int(np.argmax(values["lr"])), *(round(q * (len(steps) - 1)) for q in (0.25, 0.5, 0.75, 1))}
    )
    lines = ["".join(name.rjust(12) for name in ("step", *values))]
    lines += [
        "".join([str(steps[i]).rjust(12), *(f"{v[i]:.5g}".rjust(12) for v in values.values())]) for i in marks
    ]
    session.print({"status": "done", "policy": json.loads(policy.to_json())}, *lines)
