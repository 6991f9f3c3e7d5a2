"""Where a framework is not installed, the error says which extra to install."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    "name",
    ["accelerate", "ignite", "keras", "lightning", "optax", "optuna", "skorch", "transformers"],
)
def test_the_error_names_the_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"optax": "jax"}.get(name, name)
    for loaded in [each for each in sys.modules if each.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"onecycle.{name}", raising=False)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'onecycle\[{extra}\]'"):
        import_module(f"onecycle.{name}")
