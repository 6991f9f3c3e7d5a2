"""What holds for the package as a whole: what an import costs, the public names, the built wheel."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest

import onecycle

ROOT = Path(__file__).parent.parent
HEAVY = {
    "accelerate",
    "click",
    "ignite",
    "jax",
    "keras",
    "lightning",
    "matplotlib",
    "numpy",
    "rich",
    "sklearn",
    "skorch",
    "torch",
    "transformers",
}


def python(code: str) -> str:
    """Run code in a fresh interpreter; returns what it prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_brings_nothing_heavy() -> None:
    loaded = python("import sys, onecycle; print(*{name.partition('.')[0] for name in sys.modules})").split()
    assert "onecycle" in loaded
    assert not HEAVY & set(loaded)


def test_import_takes_under_a_tenth_of_a_second() -> None:
    code = "from time import process_time as now; start = now(); import onecycle; print(now() - start)"
    assert min(float(python(code)) for _ in range(5)) < 0.1


@pytest.mark.parametrize("name", onecycle.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(onecycle, name) is not None
    assert name in dir(onecycle)


def test_every_public_name_has_a_docstring() -> None:
    bare = [
        name for name in onecycle.__all__ if name != "__version__" and not getattr(onecycle, name).__doc__
    ]
    assert not bare


def test_a_name_is_imported_on_first_use() -> None:
    code = "import sys, onecycle; {}print('onecycle._errors' in sys.modules)"
    assert python(code.format("")) == "False\n"
    assert python(code.format("onecycle.Inconclusive; ")) == "True\n"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'onecycle' has no attribute 'one_cycel'$"):
        _ = onecycle.one_cycel


def test_version_is_that_of_the_installed_package() -> None:
    assert onecycle.__version__ == metadata.version("onecycle")


def test_wheel_ships_types_licence_and_nothing_else(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = ZipFile(wheel).namelist()
    assert "onecycle/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {
        "onecycle",
        f"onecycle-{onecycle.__version__}.dist-info",
    }
