"""What SECURITY.md promises: nothing that is read is run, and nothing is sent."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import onecycle

SOURCE = Path(onecycle.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))

# Calls that can run what they read, by the names they are called by.
RUNNING = {
    *("pickle.load", "pickle.loads", "cPickle.load", "dill.load", "dill.loads", "joblib.load", "shelve.open"),
    *("cloudpickle.load", "cloudpickle.loads", "marshal.load", "marshal.loads", "torch.load", "yaml.load"),
    *("eval", "exec", "compile", "os.system", "pandas.read_pickle", "pd.read_pickle"),
}
# Why the one that is there runs nothing that a stranger wrote.
ALLOWED = {
    (
        "engines/local.py",
        "cloudpickle.loads",
    ): "what this process packed itself, through a pipe to its own worker",
}
PICKLES = {
    "pickle",
    "_pickle",
    "cPickle",
    "pickletools",
    "dill",
    "joblib",
    "cloudpickle",
    "shelve",
    "marshal",
}
NETWORK = {"socket", "ssl", "http", "urllib", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "urllib3"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_nothing_that_is_read_is_run() -> None:
    found = {(str(p.relative_to(SOURCE)), name) for p in FILES for name, _ in calls(p) if name in RUNNING}
    assert found == set(ALLOWED)
    keywords = [keyword.arg for path in FILES for _, call in calls(path) for keyword in call.keywords]
    assert "allow_pickle" not in keywords  # of numpy.load, which refuses pickles else
    assert "shell" not in keywords


def test_no_module_imports_what_reads_pickles() -> None:
    found = {(str(p.relative_to(SOURCE)), name) for p in FILES for name in imports(p) if name in PICKLES}
    assert found == {
        ("engines/local.py", "cloudpickle"),  # to pack a task, and to unpack it in the worker
        ("torch/_batch_size.py", "pickle"),  # for the name of an error
    }


def test_a_call_under_another_name_is_none() -> None:
    """`from pickle import loads` would hide a call from the test above."""
    names = {name.rpartition(".")[2] for name in RUNNING}
    modules = {name.rpartition(".")[0] for name in RUNNING if "." in name}
    hidden = [
        f"{path.name}: {ast.unparse(node)}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and node.module in modules
        and {n.name for n in node.names} & names
    ]
    assert hidden == []


def test_no_module_opens_the_network() -> None:
    found = [
        f"{path.name}: {name}"
        for path in FILES
        for name in imports(path)
        if name.partition(".")[0] in NETWORK
    ]
    assert found == []


def test_reading_loads_no_pickle_and_no_socket(tmp_path: Path) -> None:
    """A process that reads a curve and a recipe and suggests a rate has not even loaded them."""
    onecycle.Recipe(0.1).save(tmp_path / "recipe.toml")
    (tmp_path / "log.csv").write_text("lr,loss\n" + "".join(f"{n / 99},{3 - n / 99}\n" for n in range(1, 99)))
    program = (
        "import sys, numpy; before = set(sys.modules)\n"
        "import onecycle as oc\n"
        f"oc.Recipe.load({str(tmp_path / 'recipe.toml')!r})\n"
        f"curve = oc.Curve.read({str(tmp_path / 'log.csv')!r})\n"
        "try: curve.suggest()\n"
        "except oc.Inconclusive: pass\n"
        "print(sorted({'pickle', 'socket', 'ssl', 'http', 'marshal'} & (set(sys.modules) - before)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


@pytest.mark.parametrize("reference", ["digits", "package.module:function"])
def test_a_file_of_code_is_run_only_where_it_is_named(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python files that lie about, named like what is asked for, are no tasks."""
    from onecycle.tasks import resolve

    monkeypatch.chdir(tmp_path)
    for name in ("digits.py", "build.py", "recipe.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise RuntimeError('run')")
    if reference == "digits":
        assert resolve(reference).build.__module__ == "onecycle.tasks.digits"
    else:
        with pytest.raises(ValueError, match="No module named 'package'"):
            resolve(reference)
