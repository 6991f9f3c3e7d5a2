"""What searches over the rate reach for their cost: random search and Optuna's TPE, beside this library.

Nothing is trained: a run at any rate ends where the oracle's grid says, interpolated in the logarithm of
the rate for the run's seed. A search of n runs takes the rate of its best run, whose regret is the mean over
seeds, as for any other.
"""

from __future__ import annotations

import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.regret import files, find
from benchmarks.regret.files import RESULTS
from benchmarks.regret.measure import DIVERGED, Floats, Oracle
from benchmarks.regret.rules import DEFAULT, Case, judge, load, named, searched
from benchmarks.regret.tasks import Split, select

LOW, HIGH = -5.0, 1.0  # of the logarithm of the rate, drawn evenly; every task of dev has its best in it
RUNS = 20
REPEATS = {"random search": 500, "Optuna TPE": 30}
BUDGETS = (1, 5, 20)


def ended(oracle: Oracle, log_rate: float, seed: int) -> float:
    """Where a run ends, by the grid; one that diverged at ten times the best."""
    worst = oracle.best + np.log(DIVERGED) if oracle.signed else DIVERGED * oracle.best
    losses = np.where(oracle.diverged[:, seed], worst, np.minimum(oracle.losses[:, seed], worst))
    return float(np.interp(log_rate, np.log10(oracle.rates), losses))


def random_search(oracle: Oracle, repeat: int) -> list[tuple[float, float]]:
    """(logarithm of the rate, loss) of each run."""
    rng = np.random.default_rng(repeat)
    rates, seeds = rng.uniform(LOW, HIGH, RUNS), rng.integers(0, oracle.losses.shape[1], RUNS)
    return [(rate, ended(oracle, rate, seed)) for rate, seed in zip(rates, seeds, strict=True)]


def tpe(oracle: Oracle, repeat: int) -> list[tuple[float, float]]:
    """Likewise, with Optuna's default sampler."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    rng = np.random.default_rng(repeat)
    runs = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=repeat))
        for _ in range(RUNS):
            trial = study.ask()
            rate = trial.suggest_float("log_rate", LOW, HIGH)
            loss = ended(oracle, rate, int(rng.integers(0, oracle.losses.shape[1])))
            study.tell(trial, loss)
            runs.append((rate, loss))
    return runs


SEARCHES: Mapping[str, Callable[[Oracle, int], list[tuple[float, float]]]] = {
    "random search": random_search,
    "Optuna TPE": tpe,
}


def regrets(oracle: Oracle, runs: Sequence[tuple[float, float]]) -> Floats:
    """Regret of the best rate so far, after each run."""
    best = np.minimum.accumulate([loss for _, loss in runs])
    at = [int(np.flatnonzero([loss for _, loss in runs] == least)[0]) for least in best]
    return oracle.regrets([10 ** runs[i][0] for i in at])


def report(split: Split = "dev", *, results: Path = RESULTS, figure: Path | None = None) -> str:
    """Simulate, write JSON and the figure, and return a table."""
    cases = [case for case in (load(task, results=results) for task in select(split=split)) if case]
    curves = {
        name: {
            case.task.name: np.mean(
                [regrets(case.oracle, search(case.oracle, repeat)) for repeat in range(REPEATS[name])], axis=0
            )
            for case in cases
        }
        for name, search in SEARCHES.items()
    }
    ours = _ours(cases, results)
    files.write(
        results / f"search-{split}.json",
        {
            "format": "onecycle.regret.search",
            "version": 1,
            "split": split,
            "made_with": [],
            "ours": {name: {"runs": runs, "regret": regret} for name, (runs, regret) in ours.items()},
            "rows": [
                {"search": name, "task": task, "regret": files.short(list(values), 4)}
                for name, by_task in curves.items()
                for task, values in by_task.items()
            ],
        },
    )
    means = {name: np.mean(list(by_task.values()), axis=0) for name, by_task in curves.items()}
    _draw(means, ours, figure or results / f"search-{split}.png")
    return _table(means, ours)


def _ours(cases: Sequence[Case], results: Path) -> dict[str, tuple[float, float]]:
    """Full runs in all, the final training included, and mean regret."""
    found: dict[str, tuple[float, float]] = {}
    readings = {
        "usual rate": [(1.0, case.oracle.regret(case.task.usual_lr)) for case in cases],
        "range test": [
            (1 + reading.cost, reading.regret) for case in cases for reading in judge(named(DEFAULT), case)
        ],
        f"find_lr({find.BUDGET:g})": [
            (1 + reading.cost, reading.regret)
            for case in cases
            for reading in searched(case, find.BUDGET, results)
        ],
    }
    for name, pairs in readings.items():
        if pairs:
            found[name] = (
                statistics.fmean(runs for runs, _ in pairs),
                statistics.fmean(regret for _, regret in pairs),
            )
    return found


def _table(means: Mapping[str, Floats], ours: Mapping[str, tuple[float, float]]) -> str:
    lines = [f"{'mean regret after':22}" + "".join(f"{n:>7} runs" for n in BUDGETS)]
    lines += [f"{name:22}" + "".join(f"{mean[n - 1]:12.3f}" for n in BUDGETS) for name, mean in means.items()]
    for name, (runs, regret) in ours.items():
        as_good = {
            search: next((f"{n}" for n, value in enumerate(mean, 1) if value <= regret), f"over {RUNS}")
            for search, mean in means.items()
        }
        needs = ", ".join(f"{search} needs {n} runs" for search, n in as_good.items())
        lines.append(f"{name:22}{regret:.3f} after {runs:.2f} runs; as good: {needs}")
    return "\n".join(lines)


def _draw(means: Mapping[str, Floats], ours: Mapping[str, tuple[float, float]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for (name, mean), style in zip(means.items(), ("-", "--"), strict=False):
        ax.loglog(range(1, RUNS + 1), mean, style, color="#1f4e79", label=name)
    for (name, (runs, regret)), marker in zip(ours.items(), "xos", strict=False):
        ax.loglog([runs], [regret], marker, color="#c46210", markersize=9, label=name)
    ax.set_xlabel("training runs in all, the final one included")
    ax.set_ylabel("regret of the final validation loss, mean over tasks")
    ax.grid(alpha=0.2, which="both")
    ax.legend()
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
    temporary.replace(path)
