"""Tasks: ways to build a fresh trial from a seed, a batch size and a weight decay."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from onecycle._trial import Trial, reseed

EPOCHS = 10  # of a task that does not say

BUILT_IN = {
    "digits": "scikit-learn's 1,797 handwritten digits, a small convolutional net, SGD",
    "cifar10-resnet56": "CIFAR-10, ResNet-56 (He et al. 2015), SGD",
    "cifar10-resnet20": "CIFAR-10, ResNet-20 (He et al. 2015), SGD",
    "cifar10-3layer": "CIFAR-10, the 3-layer net of Smith 2018, SGD",
    "cifar10-wide": "CIFAR-10, the wide ResNet-32 of Smith 2018, SGD",
    "cifar10-quick": "CIFAR-10, the nine-layer residual net of Page 2018, SGD",
}
_FUNCTIONS = {"digits": "digits:build", "cifar10-3layer": "cifar10:three_layer"}  # else the name's two parts


@dataclass(frozen=True)
class Task:
    """A builder of trials and how it is called.

    Args:
        name: as the user gave it.
        build: `build(seed, batch_size=…, weight_decay=…) -> Trial`.
        epochs: length of training where the user names none.
    """

    name: str
    build: Callable[..., Any]
    epochs: int = EPOCHS

    def trial(self, seed: int, **settings: Any) -> Trial:
        """A fresh trial, all its random generators seeded; settings that are None are left to the task.

        Raises:
            ValueError: the builder fails or gives no trial; the message says which.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        try:
            trial = self.build(seed=seed, **given)
        except SystemExit as error:
            raise ValueError(f"task {self.name} called sys.exit({error.code!r})") from error
        except Exception as error:
            raise ValueError(f"task {self.name} raised {type(error).__name__}: {error}") from error
        if not isinstance(trial, Trial):
            raise ValueError(
                f"task {self.name} must return a trial, such as onecycle.torch.Trial, "
                f"got {type(trial).__name__}"
            )
        reseed(trial, seed)
        return trial

    def having(self, options: Mapping[str, Any]) -> Task:
        """The same task with further arguments of its builder fixed."""
        return replace(self, build=partial(self.build, **options)) if options else self

    def default(self, name: str) -> Any:
        """The builder's own default of one of its arguments, None where it has none."""
        parameter = inspect.signature(self.build).parameters.get(name)
        return None if parameter is None or parameter.default is parameter.empty else parameter.default


def as_task(build: Callable[..., Any] | Task) -> Task:
    """The task of a builder; a task is given back as it is.

    Raises:
        TypeError: `build` is neither.
    """
    if isinstance(build, Task):
        return build
    if not callable(build):
        raise TypeError(f"build must be a function or a task, got {type(build).__name__}")
    return Task(getattr(build, "__name__", "build"), build)


def resolve(reference: str) -> Task:
    """The task that a built-in name, `path.py`, `path.py:function` or `package.module:function` means.

    A file is run as Python code. Without a function's name, `build` is taken. The function may have an
    attribute `epochs`, the length of training where the user names none.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: nothing of that name, or the file or module raises; the message says what there is.
    """
    if reference in BUILT_IN:
        own, _, name = _FUNCTIONS.get(reference, reference.replace("-", ":")).partition(":")
        return _task(reference, importlib.import_module(f"onecycle.tasks.{own}"), name)
    place, colon, function = reference.rpartition(":")
    if not colon or function.endswith(".py"):
        place, function = reference, "build"
    try:
        if place.endswith(".py"):
            module = _from_file(Path(place))
        elif colon:
            if "" not in sys.path:
                sys.path.insert(0, "")
            module = importlib.import_module(place)
        else:
            raise ValueError(
                f"task {reference!r} is not known: use one of {', '.join(BUILT_IN)}, path.py, "
                "path.py:function or package.module:function"
            )
    except (FileNotFoundError, ValueError):
        raise
    except SystemExit as error:
        raise ValueError(
            f"task {reference} called sys.exit({error.code!r}) on import: put that below "
            "if __name__ == '__main__'"
        ) from error
    except Exception as error:
        raise ValueError(f"task {reference} raised {type(error).__name__} on import: {error}") from error
    return _task(reference, module, function)


def _task(name: str, module: Any, function: str) -> Task:
    build = getattr(module, function, None)
    if not callable(build):
        there = [n for n, v in vars(module).items() if inspect.isfunction(v) and not n.startswith("_")]
        raise ValueError(
            f"task {name} has no function {function!r}; its functions: {', '.join(there) or 'none'}"
        )
    return Task(name, build, getattr(build, "epochs", EPOCHS))


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"task file {path} does not exist")
    name = f"onecycle_task_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that the file's classes can be pickled for loader workers
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    return module
