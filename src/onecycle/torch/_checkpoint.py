"""A trial's state as one safetensors file: tensors by number, the rest as JSON in its header."""

from __future__ import annotations

import base64
import json
import math
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from onecycle._files import write_by
from onecycle.torch._state import LEFT_OUT, Kept, Tree

FORMAT, VERSION = "onecycle.checkpoint", 1


def write(path: str | Path, state: Tree, device: torch.device, note: Mapping[str, Any]) -> None:
    """Write `state`, of a trial on `device`, and a JSON-like `note` to `path`, whole or not at all."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    packed = _pack(state, tensors, device)
    document = {"format": FORMAT, "version": VERSION, "note": dict(note), "state": packed}
    header = json.dumps(document, allow_nan=False)
    try:
        write_by(lambda temporary: save_file(tensors, temporary, {"onecycle": header}), path)
    except SafetensorError as error:  # which it raises for a full disk, too
        raise OSError(f"{path} cannot be written: {in_one_line(error)}") from error


def read(path: str | Path, device: torch.device) -> tuple[Tree, dict[str, Any]]:
    """State that `write` wrote, for a trial on `device`, and its note.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint, or of a later version.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    try:
        with safe_open(path, "pt") as file:
            document = json.loads((file.metadata() or {}).get("onecycle", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, RecursionError, ValueError) as error:
        raise ValueError(
            f"{path} is no checkpoint of onecycle, or a damaged one: {in_one_line(error)}"
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{path} is no checkpoint of onecycle, but another program's safetensors file")
    if document.get("version") != VERSION:
        raise ValueError(f"{path} is of version {document.get('version')!r}: upgrade onecycle to read it")
    try:
        return _unpack(document["state"], tensors, device), dict(document["note"])
    except Exception as error:  # whatever damage may do to it
        raise ValueError(f"{path} is a damaged checkpoint: {in_one_line(error)}") from error


def in_one_line(error: BaseException) -> str:
    """What an error of another library says, cut short, and its kind where that may say little."""
    text = " ".join(str(error).split())[:200]
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


_NOT_HELD = {"left out": None}


def _pack(tree: Tree, tensors: dict[str, Tensor], device: torch.device) -> Any:
    """`tree` as JSON; what a file cannot hold, such as a function, and a list around it, is left out."""
    if isinstance(tree, Kept):
        place = tree.content.device if isinstance(tree.content, Tensor) else device
        content = _pack(tree.content, tensors, device)
        if content == _NOT_HELD:
            return _NOT_HELD
        return {"kept": content, "device": None if place == device else str(place)}
    if isinstance(tree, nn.Parameter):
        return _NOT_HELD
    if isinstance(tree, Tensor):
        name, dense = str(len(tensors)), tree.layout == torch.strided
        tensors[name] = (tree if dense else tree.to_dense()).contiguous()
        return {"tensor": name, "sparse": None if dense else tree.sparse_dim()}
    if isinstance(tree, (np.ndarray, np.generic)) and not tree.dtype.hasobject:
        data = base64.b64encode(tree.tobytes()).decode()
        return {
            "scalar" if np.isscalar(tree) else "array": data,
            "dtype": tree.dtype.str,
            "shape": tree.shape,
        }
    if isinstance(tree, float) and not math.isfinite(tree):
        return {"float": str(tree)}
    if isinstance(tree, complex):
        return {"complex": str(tree)}
    if isinstance(tree, dict):
        return {"dict": [[key, _pack(item, tensors, device)] for key, item in tree.items() if _is_key(key)]}
    if isinstance(tree, (list, tuple, deque)) and not hasattr(tree, "_fields"):
        items = [_pack(item, tensors, device) for item in tree]
        if _NOT_HELD in items:
            return _NOT_HELD
        if isinstance(tree, deque):
            return {"deque": items, "maxlen": tree.maxlen}
        return {"tuple": items} if isinstance(tree, tuple) else items
    return tree if isinstance(tree, (bool, int, float, str, type(None))) else _NOT_HELD


def _is_key(key: object) -> bool:
    return isinstance(key, (bool, int, float, str, type(None)))


def _unpack(data: Any, tensors: dict[str, Tensor], device: torch.device) -> Tree:
    def unpacked(items: list[Any]) -> Iterator[Any]:
        return (_unpack(item, tensors, device) for item in items)

    match data:
        case list():
            return list(unpacked(data))
        case {"kept": content, "device": place}:
            return Kept(_unpack(content, tensors, device), device=place or device)
        case {"tensor": name, "sparse": dims}:
            return tensors[name] if dims is None else tensors[name].to_sparse(dims)
        case {"array": text, "dtype": dtype, "shape": shape}:
            return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)
        case {"scalar": text, "dtype": dtype}:
            return np.frombuffer(base64.b64decode(text), dtype)[0]
        case {"float": text}:
            return float(text)
        case {"complex": text}:
            return complex(text)
        case {"dict": items}:
            return {key: _unpack(item, tensors, device) for key, item in items}
        case {"deque": items, "maxlen": most}:
            return deque(unpacked(items), most)
        case {"tuple": items}:
            return tuple(unpacked(items))
        case {"left out": _}:
            return LEFT_OUT
    return data


def check_same(state: Tree, ours: Tree) -> None:
    """Raise ValueError where `state`, read from a file, is not of the kind of `ours`."""
    if surplus := ours["parameters"].keys() ^ state["parameters"].keys():
        raise ValueError(f"only one of the two has a parameter {min(surplus)!r}")
    for name, kept in ours["parameters"].items():
        here, there = kept["data"].content, state["parameters"][name]["data"].content
        if (here.shape, here.dtype) != (there.shape, there.dtype):
            raise ValueError(
                f"its {name} is {there.dtype} of shape {tuple(there.shape)}, "
                f"not {here.dtype} of shape {tuple(here.shape)}"
            )
    for there, here in zip(_describe(state), _describe(ours), strict=True):
        if there != here:
            raise ValueError(f"it has {there}, not {here}")


def _describe(state: Tree) -> Iterator[str]:
    """What the parts of a state must agree on with those of the trial it is restored to."""
    kinds = (f"{tree['class']} of {len(tree.get('groups', ()))} param groups" for tree in state["optimizers"])
    yield " and ".join(kinds)
    yield f"{len(state['modules'])} modules"
    yield f"{len(state['scalers'])} loss scalers"
    sources = state["data"]["now"]
    yield f"a loader of {len(sources['counters'])} parts"
    yield f"{len(sources['random']['own'])} random generators"
