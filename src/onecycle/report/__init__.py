"""One self-contained HTML file that says what a run found, and why."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["write"]


def write(folder: str | os.PathLike[str], path: str | os.PathLike[str] | None = None) -> Path:
    """Write the report of a folder that `demo`, `find`, `tune` or `train` filled by --out.

    The file asks for nothing outside itself, and shows its figures without JavaScript, too. Files that
    are missing are left out; files that cannot be read are named in it.

    Args:
        folder: holds run.json, and whatever else the run has kept.
        path: where to write; `report.html` in the folder where left out.

    Returns:
        The path that was written.

    Raises:
        FileNotFoundError: there is no run.json in the folder.
        ValueError: run.json is something else, or damaged.
    """
    from onecycle._files import write_file
    from onecycle.report._page import page
    from onecycle.report._read import read

    run = read(Path(folder))
    target = Path(folder) / "report.html" if path is None else Path(path)
    write_file(target, page(run))
    return target
