from __future__ import annotations

import gc
import multiprocessing
import pickle
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch import distributed

from onecycle._arguments import as_rate, as_share, as_whole
from onecycle._batch_size import START, BatchSizes, Fast, Fits, Run, doubled, kind_of, knee, largest, together
from onecycle._errors import for_want_of_memory
from onecycle.tasks import Task, as_task
from onecycle.torch._noise import noise_scale
from onecycle.torch._room import free_memory, sizes
from onecycle.torch._trial import Trial

STEPS = 2  # updates that a size must survive: in the second the optimizer's state is there
MOST = 2**16  # samples in a batch, where the data have no end
SECONDS = 0.25  # that the speed of a size is measured for, twice
GROWS = 1.05  # times the speed two doublings before: less than that is no growth

Outcome = tuple[int | None, int | None, str | None]  # samples in an update, bytes at the peak, error
Train = Callable[[int], Outcome]


def batch_size(
    build: Callable[..., Any] | Task,
    *,
    start: int = START,
    most: int | None = None,
    limit: int | None = None,
    margin: float = 0.1,
    warm: int = 0,
    lr: float | None = None,
    seed: int = 0,
) -> BatchSizes:
    """Ask which batch size fits into memory, which is fast, and which is useful, each for itself.

    Fits: see `largest_batch`. Fast: samples per second at sizes doubled from `start` up to there, up to two
    doublings past where it stops to grow. Useful: the gradient noise scale, see `noise_scale`, of the trial
    that `build` gives by default, or of batches of `start` where those leave it too few. What they say
    together is the size that reaches a given loss soonest. A caller that has the training's rate gives `lr`
    and `warm`, some hundreds of updates: the noise scale of an untrained net is too low.

    Args:
        build: `build(seed, batch_size=…) -> onecycle.torch.Trial`, or a task; called anew for each size.
        start, most, limit, margin: see `largest_batch`.
        warm, lr: see `noise_scale`.
        seed: what trials are built with.

    Raises:
        MemoryError: nothing fits, a batch of one included.
        TypeError, ValueError: an argument is out of its range, or `build` does not do what it should; the
            message says which.
    """
    task, warm = as_task(build), as_whole("warm", warm, least=0)
    lr = None if lr is None else as_rate("lr", lr)
    fits = largest_batch(build, start=start, most=most, limit=limit, margin=margin, seed=seed)
    samples = sum(STEPS * each.size for each in fits.tried if each.fits)
    fast, taken = _fast(task, seed, doubled(min(start, fits.size), fits.size))
    trial = _build(task, seed, None)
    if (trial.steps_per_epoch or 32) < 32 or trial.size > fits.size:
        trial = _build(task, seed, min(start, fits.size))
    useful = noise_scale(trial, warm=warm, lr=lr, seed=seed)
    samples += taken + useful.samples + warm * trial.size
    return together(fits, fast, useful, kind_of(trial.describe()["optimizer"]), samples)


def largest_batch(
    build: Callable[..., Any] | Task,
    *,
    start: int = START,
    most: int | None = None,
    limit: int | None = None,
    margin: float = 0.1,
    seed: int = 0,
) -> Fits:
    """Find the largest batch that trains within the memory there is, by training at growing sizes.

    Each size is a fresh trial that makes two updates. On the CPU it does so in a process of its own, which
    may not take more than the limit (as Linux enforces it; elsewhere the peak is read afterwards), so that
    neither an error nor a kill for want of memory reaches this one. On an accelerator it is here, and what
    it cannot allocate is survived.

    Args:
        build: `build(seed, batch_size=…) -> onecycle.torch.Trial`, or a task. Where processes are not
            forked (macOS, Windows, a machine with CUDA), it must be importable in another one.
        start: the first size, doubled while it fits, halved while not.
        most: the largest size to try; None: an eighth of an epoch, or 2**16 where that has no end.
        limit: bytes that training may take in all; None: what is free now, or the device's memory.
        margin: share of the limit that is to be left free.
        seed: what trials are built with.

    Raises:
        MemoryError: nothing fits, a batch of one included.
        ValueError: an argument is out of its range, or `build` fails, or ignores its `batch_size`.
    """
    if distributed.is_available() and distributed.is_initialized():
        raise ValueError(
            "batch sizes are tried on one process, and this is one of several: try before init_process_group"
        )
    task, start, margin = as_task(build), as_whole("start", start), as_share("margin", margin)
    limit, most = (
        None if value is None else as_whole(name, value) for name, value in (("limit", limit), ("most", most))
    )
    seed = as_whole("seed", seed, least=0)
    trial = _build(task, seed, start)
    device = trial._device
    if most is None:
        epoch = trial.steps_per_epoch
        most = MOST if epoch is None else max(epoch * trial._accumulate * start // 8, start)
    del trial
    limit = limit or _most_memory(device)
    train = _elsewhere(task, seed, limit) if device.type == "cpu" else _here(task, seed, device)
    return largest(_Runs(train, limit, margin), start, most, limit, margin)


def _build(task: Task, seed: int, size: int | None) -> Trial:
    trial: object = task.trial(seed, batch_size=size)
    if not isinstance(trial, Trial):
        raise TypeError(
            f"task {task.name} must return an onecycle.torch.Trial for this, got {type(trial).__name__}"
        )
    return trial


class _Runs:
    """What `largest` asks: a run that fits leaves the margin free, and was of the size that was asked for."""

    def __init__(self, train: Train, limit: int | None, margin: float) -> None:
        self.train = train
        self.most = None if limit is None else (1 - margin) * limit
        self.ratio: float | None = None  # samples in an update for each one asked for

    def __call__(self, size: int) -> Run:
        samples, memory, error = self.train(size)
        if samples is None:
            return Run(size, False, memory, error)
        self.ratio = self.ratio or samples / size
        if samples != self.ratio * size:
            raise ValueError(
                f"build must use its batch_size: asked for {size}, its trial trained on {samples} samples an "
                f"update, where {self.ratio * size:g} were expected"
            )
        if self.most is not None and memory is not None and memory > self.most:
            return Run(size, False, memory, "it ran, but left less than the margin free")
        return Run(size, True, memory)


def _train(task: Task, seed: int, size: int) -> Outcome:
    """Samples in an update and the last error, of which one for want of memory is no error here."""
    try:
        trial = _build(task, seed, size)
        for _ in range(STEPS):
            float(trial.step())
    except Exception as error:
        if not for_want_of_memory(error):
            raise
        return None, None, f"{type(error).__name__}: {error}".partition("\n")[0]
    return trial.size, None, None


def _here(task: Task, seed: int, device: torch.device) -> Train:
    """Training on an accelerator, in this process."""

    def train(size: int) -> Outcome:
        gc.collect()  # what an earlier run held on to
        if device.type != "cuda":
            return _train(task, seed, size)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        samples, _, error = _train(task, seed, size)
        return samples, torch.cuda.max_memory_reserved(device), error

    return train


def _elsewhere(task: Task, seed: int, limit: int | None) -> Train:
    """Training on the CPU, each size in a process of its own that may not take more than `limit` bytes."""
    # A fork needs no import and knows any function, but none after autograd's threads for a GPU began.
    fork = sys.platform == "linux" and not torch.cuda.is_available()
    context: Any = multiprocessing.get_context("fork" if fork else "spawn")

    def train(size: int) -> Outcome:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(sender, task, seed, size, limit))
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)  # of threads: see _child
                process.start()
            sender.close()  # here, so that the child's end is noticed
            outcome = receiver.recv()
        except EOFError:
            process.join()
            outcome = _ended(size, process.exitcode)
        except (AttributeError, TypeError, pickle.PicklingError) as unsent:  # from a spawn alone
            raise ValueError(
                f"build cannot be sent to a process of its own ({unsent}): make it a function of a module"
            ) from unsent
        finally:
            if process.pid is not None:
                process.kill()
                process.join()
            receiver.close()
        if isinstance(outcome, str):
            raise ValueError(f"a batch of {size} did not train: {outcome}")
        samples, memory, error = outcome
        return samples, memory, error

    return train


def _ended(size: int, code: int) -> Outcome:
    """What it means that a process ended before it answered."""
    if code < 0:
        return None, None, f"its process was ended by {signal.Signals(-code).name}"
    raise RuntimeError(
        f"the process that trains batches of {size} ended with status {code}: build must be importable "
        "there, and what a program does stand below if __name__ == '__main__'"
    )


def _child(sender: Connection, task: Task, seed: int, size: int, limit: int | None) -> None:
    """Train and send what came out; a string is the message of an error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    torch.set_num_threads(1)  # those of the parent did not come along
    try:
        if limit is not None:
            _confine(limit)
        samples, _, error = _train(task, seed, size)
        sender.send((samples, _peak(), error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent raises it
        sender.send(f"{type(error).__name__}: {error}")


def _confine(limit: int) -> None:
    """Let this process take `limit` bytes in all; what would be more fails."""
    status = sizes("/proc/self/status")
    if "VmData" not in status:
        return
    import resource

    more = limit - status["VmRSS"]
    if more <= 0:
        raise ValueError(
            f"limit must be above the {status['VmRSS']} bytes that are taken before training, got {limit}"
        )
    resource.setrlimit(resource.RLIMIT_DATA, (status["VmData"] + more, resource.RLIM_INFINITY))


def _peak() -> int | None:
    """Bytes that this process held at most."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _most_memory(device: torch.device) -> int | None:
    """Bytes that this process may come to hold on `device`, None where that is not known."""
    free = free_memory(device)
    if free is None:
        return None
    if device.type == "cuda":
        return free + torch.cuda.memory_allocated(device)
    return free + sizes("/proc/self/status").get("VmRSS", 0)


def _fast(task: Task, seed: int, sizes: Sequence[int]) -> tuple[Fast, int]:
    """The speed at growing sizes, up to where it stops to grow, and the samples that it took to know."""
    speeds: dict[int, float] = {}
    samples = 0
    for size in sizes:
        speeds[size], taken = _speed(task, seed, size)
        samples += taken
        last = list(speeds.values())[-3:]
        if len(last) == 3 and max(last[1:]) < GROWS * last[0]:
            break
    for size in reversed(speeds):  # again, for what else the machine had to do the first time
        speed, taken = _speed(task, seed, size)
        speeds[size] = max(speed, speeds[size])
        samples += taken
    return knee(speeds.items()), samples


def _speed(task: Task, seed: int, size: int) -> tuple[float, int]:
    """Samples per second, and the samples that it took to know."""
    trial = _build(task, seed, size)
    times: list[float] = []
    while len(times) < 5 or (sum(times) < SECONDS and len(times) < 50):
        begin = time.perf_counter()
        float(trial.step())
        times.append(time.perf_counter() - begin)
    quick = sorted(times[2:])  # the first two allocate
    return trial.size / quick[len(quick) // 4], trial.size * len(times)
