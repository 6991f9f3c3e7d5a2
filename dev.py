"""Set up the development environment and run what a developer runs; see `python3 dev.py --help`.

Needs Python 3.10 or newer with its venv module, and nothing else: everything is installed into
.venv, at the releases that requirements.lock names, and installed again only when they change.
"""

import argparse
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

if sys.version_info < (3, 10):  # noqa: UP036 - people with an older Python are told so here
    sys.exit(f"dev.py: needs Python 3.10 or newer, and this is {sys.version.split()[0]}")

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
ACTIVATE = r".venv\Scripts\activate" if os.name == "nt" else "source .venv/bin/activate"
STAMP = VENV / "dev-stamp"
LOCK = ROOT / "requirements.lock"
EXTRAS = {  # each kind holds all that the one before it has
    "demo": "demo",
    "dev": "demo,ignite,lightning,optuna,skorch,workers",  # the frameworks that are light
    "frameworks": "demo,frameworks",
}
# Oldest to newest; "": the newest release that there is for that Python.
MATRIX = (("3.10", "2.4.1"), ("3.11", "2.6.0"), ("3.12", "2.8.0"), ("3.13", "2.13.0"), ("3.14", ""))
THEIRS = (  # warnings that a release of torch gives for what it does itself
    *("-W", "ignore:The epoch parameter in"),  # SequentialLR of older ones
    *("-W", "ignore:Guards may run slower on Python 3.13.0"),  # compile, on that release
)
TESTED = ("tests", "--ignore=tests/frameworks", "--ignore=tests/benchmarks", "--ignore=tests/test_docs.py")
ADVISORIES = "pypi.org"  # where pip-audit asks
COVERED = ("--cov-report=term-missing:skip-covered", "--cov-fail-under=95")
BILL = ("--pyproject", "pyproject.toml", "--output-file", "dist/sbom.json")
INPUTS = ("dev.py", "pyproject.toml", "requirements.lock", "src/onecycle/__init__.py")


def main() -> int:
    """Run one command of this file; returns its exit status."""
    parser = argparse.ArgumentParser(prog="dev.py", description="Each command sets .venv up first.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in {
        "setup": "set up .venv with all that the other commands need",
        "demo": "run `onecycle demo`, with its options",
        "test": "run every check; with arguments, pytest alone, with these",
        "frameworks": "run the tests of all frameworks (Lightning, Keras, JAX, …), installed first",
        "lock": "renew requirements.lock",
        "audit": "look the locked releases up for known weaknesses",
        "matrix": "run the core's and torch's tests on every Python, with the oldest torch to the newest",
    }.items():
        commands.add_parser(name, help=text, add_help=False)
    arguments, rest = parser.parse_known_args()
    os.chdir(ROOT)
    if arguments.command == "demo":
        setup("demo")
        status = call("onecycle", "demo", *rest)
        if shutil.which("onecycle") is None:
            say(f"the command onecycle is in .venv: {ACTIVATE}")
        return status
    if arguments.command == "matrix":
        return matrix(rest)
    setup("frameworks" if arguments.command == "frameworks" else "dev")
    if arguments.command == "test":
        return test(rest)
    if arguments.command == "frameworks":
        return test(["tests/frameworks", "tests/test_ray.py", "tests/test_docs.py", *rest])
    if arguments.command == "lock":
        return lock()
    if arguments.command == "audit":
        return audit()
    return 0


def setup(kind: str) -> None:
    """Make .venv hold the package with the demo's extras, then the developer's tools, then all frameworks."""
    digest = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in INPUTS)).hexdigest()
    stamp = STAMP.read_text() if STAMP.exists() and PYTHON.exists() else ""
    kinds = list(EXTRAS)
    if stamp in [f"{there} {digest}" for there in kinds[kinds.index(kind) :]]:
        return
    if not PYTHON.exists() or call(PYTHON, "-m", "pip", "--version", stdout=subprocess.DEVNULL):
        say("creating .venv")
        if subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], capture_output=True).returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            fail("this Python cannot create .venv; on Debian and Ubuntu: apt install python3-venv")
    say("installing into .venv; the first time this takes some minutes")
    STAMP.unlink(missing_ok=True)
    pip = (PYTHON, "-m", "pip", "install", "-qq", "--no-input", "--disable-pip-version-check")
    groups = () if kind == "demo" else ("--group", "dev")
    if call(*pip, "pip>=25.1") or call(*pip, "-c", LOCK, "-e", f".[{EXTRAS[kind]}]", *groups):
        fail("the installation failed; pip's message above says why")
    STAMP.write_text(f"{kind} {digest}")


def test(rest: list[str]) -> int:
    """Run every check, also past one that fails; with arguments, pytest alone, with these."""
    # One thread: with more, a small model's training can be many times slower on a busy machine.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if rest:
        return call(PYTHON, "-m", "pytest", *rest)
    checks = {
        "ruff check": ("ruff", "check", "."),
        "ruff format": ("ruff", "format", "--check", "."),
        "mypy": ("mypy",),
        "spelling": ("codespell",),
        "bill of materials": ("cyclonedx-py", "requirements", LOCK.name, *BILL),
        "docs": ("sphinx-build", "-W", "--keep-going", "-q", "-E", "-b", "html", "docs", "docs/_build"),
        # Drawn values are the same each time here: what new ones find says nothing of a change.
        "pytest": ("pytest", "--hypothesis-profile=ci", "--cov", *COVERED),
    }
    (ROOT / "dist").mkdir(exist_ok=True)
    failed = []
    for name, command in checks.items():
        say(name)
        if call(*command):
            failed.append(name)
    say(
        "known weaknesses, which fail `dev.py audit` alone: what is newly known says nothing of a change here"
    )
    audit()
    if failed:
        fail(f"failed: {', '.join(failed)}")
    return 0


def lock() -> int:
    """Renew requirements.lock: the newest releases for every extra, group, platform and Python >= 3.10."""
    if call(PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "uv"):
        fail("uv could not be installed; pip's message above says why")
    what = ("pyproject.toml", "--all-extras", "--group", "dev", "--universal", "--python-version", "3.10")
    how = ("--upgrade", "--no-emit-index-url", "--custom-compile-command", "python3 dev.py lock", "--quiet")
    return call("uv", "pip", "compile", *what, *how, "--output-file", LOCK.name)


def audit() -> int:
    """Look the locked releases up for known weaknesses (pip-audit), where there is a network to do so."""
    try:
        socket.create_connection((ADVISORIES, 443), timeout=3).close()
    except OSError:
        say(f"{ADVISORIES} cannot be reached: known weaknesses were not looked up")
        return 0
    what = ("--requirement", LOCK.name, "--no-deps", "--disable-pip", "--progress-spinner=off", "--timeout=5")
    return call("pip-audit", *what)


def matrix(rest: list[str]) -> int:
    """The tests in one environment for each pair of `MATRIX`; with arguments, pytest with these.

    Environments are made by uv in .matrix, of the Pythons that are installed or that uv can fetch; one that
    cannot be made is told, and counts as failed.
    """
    uv = shutil.which("uv")
    if uv is None:
        fail("matrix needs uv: pip install uv")
    results = {}
    for python, torch in MATRIX:
        name = f"Python {python}, torch {torch or 'current'}"
        say(name)
        folder = ROOT / ".matrix" / f"{python}-{torch or 'current'}"
        there = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
        packages = (f"torch{torch and f'=={torch}'}", "cloudpickle", "hatchling", "hypothesis", "pytest")
        install = (
            uv,
            "pip",
            "install",
            "-q",
            "--no-config",
            "--python",
            there,
            "-e",
            ".[demo,optuna]",
            *packages,
        )
        if run(uv, "venv", "-q", "--clear", "--python", python, folder) or run(*install):
            results[name] = "could not be set up"
            continue
        failed = run(there, "-m", "pytest", "-p", "no:cacheprovider", *THEIRS, *(rest or TESTED))
        results[name] = "failed" if failed else "passed"
    print("\n".join(f"{name}: {result}" for name, result in results.items()))
    return int(any(result != "passed" for result in results.values()))


def run(*command: str | Path) -> int:
    """Run a program by its path; returns its exit status."""
    sys.stdout.flush()
    return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode


def call(program: str | Path, *arguments: str | Path, stdout: int | None = None) -> int:
    """Run a program, one of .venv where it is given by name; returns its exit status."""
    sys.stdout.flush()
    path = BIN / program if isinstance(program, str) else program
    return subprocess.run([path, *arguments], stdout=stdout).returncode


def say(text: str) -> None:
    """Print one line on standard error."""
    print(f"dev.py: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    """Stop with one line on standard error."""
    raise SystemExit(f"dev.py: {text}")


if __name__ == "__main__":
    sys.exit(main())
