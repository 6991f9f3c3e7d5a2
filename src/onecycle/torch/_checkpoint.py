"""A trial's state as one safetensors file: tensors by number, the rest as JSON in its header."""

from __future__ import annotations

import json
import math
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from onecycle.torch._state import Kept, Simple, Tree

if TYPE_CHECKING:
    from onecycle.torch._trial import Trial

FORMAT, VERSION = "onecycle.checkpoint", 1


def write(path: str | Path, state: Tree, note: Mapping[str, Any]) -> None:
    """Write `state` and a JSON-like `note` to `path`, whole or not at all."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    document = {"format": FORMAT, "version": VERSION, "note": dict(note), "state": _pack(state, tensors)}
    header = json.dumps(document, allow_nan=False)
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, {"onecycle": header})
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: str | Path, trial: Trial) -> dict[str, Any]:
    """Restore `trial` from `path`; returns the note that was written with it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, or of another model or optimizer.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    try:
        with safe_open(path, "pt") as file:
            document = json.loads((file.metadata() or {})["onecycle"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no checkpoint of onecycle: {error}") from error
    if document.get("version") != VERSION:
        raise ValueError(f"{path} is of version {document.get('version')!r}: upgrade onecycle to read it")
    try:
        trial.restore(_unpack(document["state"], tensors))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is the state of another model, optimizer or loader: {error}") from error
    return dict(document["note"])


_SKIP = object()


def _pack(tree: Tree, tensors: dict[str, Tensor]) -> Any:
    """`tree` as JSON; what a file cannot hold, such as a function, is left out of its dict."""
    if isinstance(tree, (Kept, Tensor)):
        content = tree.content if isinstance(tree, Kept) else tree
        name = str(len(tensors))
        tensors[name] = content.contiguous()
        return {"tensor": name, "kept": isinstance(tree, Kept), "device": str(content.device)}
    if isinstance(tree, float) and not math.isfinite(tree):
        return {"float": str(tree)}
    if isinstance(tree, np.ndarray):
        return {"array": tree.tolist(), "dtype": str(tree.dtype)}
    if isinstance(tree, dict):
        packed = ([key, _pack(value, tensors)] for key, value in tree.items())
        return {"dict": [item for item in packed if item[1] is not _SKIP]}
    if isinstance(tree, (tuple, deque)):
        return {type(tree).__name__: [_pack(item, tensors) for item in tree]}
    if isinstance(tree, list):
        return [_pack(item, tensors) for item in tree]
    return tree if isinstance(tree, Simple) and not isinstance(tree, complex) else _SKIP


def _unpack(data: Any, tensors: dict[str, Tensor]) -> Tree:
    if isinstance(data, list):
        return [_unpack(item, tensors) for item in data]
    if not isinstance(data, dict):
        return data
    if "tensor" in data:
        content = tensors[data["tensor"]]
        return Kept(content, device=data["device"]) if data["kept"] else content
    if "float" in data:
        return float(data["float"])
    if "array" in data:
        return np.array(data["array"], dtype=data["dtype"])
    if "dict" in data:
        return {key: _unpack(value, tensors) for key, value in data["dict"]}
    (kind, items) = next(iter(data.items()))
    return {"tuple": tuple, "deque": deque}[kind](_unpack(item, tensors) for item in items)
