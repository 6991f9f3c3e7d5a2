"""What was measured, as Markdown."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from benchmarks.reliability import files
from benchmarks.reliability.others import PARTS
from benchmarks.reliability.problem import DISKS


def report() -> str:
    """Every part that was measured; what was not is said.

    Raises:
        FileNotFoundError: nothing was measured yet.
    """
    writers = {"faults": _faults, "others": _others, "restore": _restore, "fuzz": _fuzz, "soak": _soak}
    found = {part: files.read(part) for part in writers}
    if not any(found.values()):
        raise FileNotFoundError(f"no results in {files.RESULTS}: measure first, see --help")
    return "\n\n".join(
        write(found[part]) if found[part] else f"{part}: not measured yet" for part, write in writers.items()
    )


def made_by(rows: dict[str, Any]) -> str:
    """The versions and the hardware of some rows, and the commits where they are known."""
    commits: dict[str, set[str]] = defaultdict(set)
    for row in rows.values():
        made = dict(row["made_with"])
        commit = made.pop("commit", None)
        commits[", ".join(f"{k} {v}" for k, v in sorted(made.items()))] |= {commit} if commit else set()
    makers = [f"{made}{', at ' * bool(at)}{', '.join(sorted(at))}" for made, at in sorted(commits.items())]
    return "Made with " + "; and ".join(makers) + "."


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


COLUMNS = {  # of the table of faults, and whether they run in the user's own process
    **dict.fromkeys(("range test", "find_lr"), True),
    **dict.fromkeys(("find", "train", "tune"), False),
}
ABSENT = {  # why a fault is not had in a column, by whether that runs in the user's own process
    True: {
        **dict.fromkeys(("kill", "terminate", "kill at any moment"), "a"),
        **dict.fromkeys((*DISKS, "file size limit", "read-only directory", "full file system"), "b"),
    },
    False: {"interrupt at any moment": "c"},
}
WHY = {
    "a": "ends the process that the model lives in, and no file is begun",
    "b": "writes no file",
    "c": "a command is interrupted at a line instead, and killed at any moment",
    "d": "runs in one process: `tune` alone has engines",
}
ENGINES = ("engine's worker that is killed", "Ray node that dies")


def _faults(rows: dict[str, Any]) -> str:
    kinds = list(dict.fromkeys(name.partition(": ")[2] for name in rows))
    columns = list(dict.fromkeys([*COLUMNS, *(name.partition(": ")[0] for name in rows)]))
    counts = {name: row["injected"] for name, row in rows.items()}

    def cell(kind: str, column: str) -> Any:
        absent = "d" if kind in ENGINES and column != "tune" else ABSENT[COLUMNS.get(column, True)].get(kind)
        return counts.get(f"{column}: {kind}", absent or "not measured yet")

    table = [[kind, *(cell(kind, column) for column in columns)] for kind in kinds]
    sums = [sum(n for name, n in counts.items() if name.startswith(f"{column}: ")) for column in columns]
    lost = [f"{name}, {what}" for name, row in rows.items() for what in row["lost"]]
    used = sorted({value for row in table for value in row if value in WHY})
    return "\n\n".join(
        [
            "## Faults",
            _table(["fault", *columns], [*table, ["**all**", *sums]]),
            "\n".join(f"- {letter}: {WHY[letter]}" for letter in used),
            "\n- ".join([f"{sum(sums)} faults injected, {len(lost)} of them with a loss", *lost]),
            made_by(rows),
        ]
    )


def _others(rows: dict[str, Any]) -> str:
    table = [
        [f"{tool} {row['release']}", row["injected"], *(row[part] for part in PARTS), row["all"],
         ", ".join(row["without a fault"]) or "nothing"]
        for tool, row in rows.items()
    ]  # fmt: skip
    head = ["finder", "faults", *PARTS, "all of it", "changed also without a fault"]
    return "\n\n".join(["## The same faults in other tools", _table(head, table), made_by(rows)])


def _restore(rows: dict[str, Any]) -> str:
    row = rows["all"]
    lines = [f"{len(row['same'])} combinations of optimizer, net and loader are put back bit for bit"]
    lines[0] += f", {len(row['other'])} are not, {len(row['failed'])} did not train at all."
    lines += [f"- {name}: {what}" for name, what in {**row["other"], **row["failed"]}.items()]
    packages = ", ".join(f"{name} {release}" for name, release in row["releases"].items())
    return "\n\n".join(["## Restorations", "\n".join(lines), f"Packages: {packages}.", made_by(rows)])


def _fuzz(rows: dict[str, Any]) -> str:
    targets: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, row in rows.items():
        targets[name.rpartition(", seed ")[0]].append(row)
    table = [
        [
            name,
            sum(row["inputs"] for row in group),
            sum(row["read"] for row in group),
            sum(len(row["escapes"]) for row in group),
            f"{max(row['slowest'] for row in group):.2f} s",
            f"{max(row['memory'] for row in group) / 2**20:.0f} MB",
        ]
        for name, group in targets.items()
    ]
    escapes = [f"- {name}: {kind}" for name, row in rows.items() for kind in row["escapes"]]
    total = f"{sum(row[1] for row in table)} inputs, {len(escapes)} escapes"
    head = ["reader", "inputs", "that it read", "escapes", "slowest", "most memory more"]
    return "\n\n".join(["## Hostile files", _table(head, table), "\n".join([total, *escapes]), made_by(rows)])


def _soak(rows: dict[str, Any]) -> str:
    lines = []
    for name, row in rows.items():
        what = ", ".join(f"{key} {value}" for key, value in row.items() if key != "made_with")
        lines.append(f"- {name}: {what}")
    return "\n\n".join(["## Long runs", "\n".join(lines), made_by(rows)])
