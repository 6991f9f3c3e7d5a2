"""Where the copy of a state lies: on its device, in host memory or on disk."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

Place = Literal["device", "host", "disk"]
PLACES: tuple[Place, ...] = ("device", "host", "disk")
SMALL = 2**26  # bytes that there is always room for
PIECE = 2**18  # bytes that are on their way to a file or back at once
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class OnDisk:
    """Where a file holds the elements of a tensor."""

    disk: _Disk
    start: int
    shape: torch.Size
    dtype: torch.dtype

    def into(self, tensor: Tensor) -> None:
        """Read them into `tensor`, without another copy in between where it is contiguous."""
        here = tensor if tensor.is_contiguous() else self._empty()
        self.disk.file.seek(self.start)
        for piece in _pieces(here):
            read = bytearray(self.disk.file.read(len(piece)))
            if len(read) < len(piece):
                raise OSError("the copy of the state on disk cannot be read back")
            piece.copy_(torch.frombuffer(read, dtype=torch.uint8))
        if here is not tensor:
            tensor.copy_(here)

    def part(self, first: int, count: int) -> Tensor:
        """A new flat tensor of `count` of them."""
        part = torch.empty(count, dtype=self.dtype)
        replace(self, start=self.start + first * self.dtype.itemsize, shape=part.shape).into(part)
        return part

    def read(self) -> Tensor:
        """A new tensor of them."""
        tensor = self._empty()
        self.into(tensor)
        return tensor

    def _empty(self) -> Tensor:
        return torch.empty(self.shape, dtype=self.dtype)


Copy = Callable[[Tensor], Tensor | OnDisk]


def clone(tensor: Tensor) -> Tensor:
    """A copy on the same device."""
    return tensor.detach().clone()


def copier(tensors: Iterable[Tensor], place: Place | None) -> Copy:
    """What copies `tensors` to a place; None: to the one that `Trial` names."""
    if place is None:
        need: dict[torch.device, int] = {}
        for tensor in tensors:
            need[tensor.device] = need.get(tensor.device, 0) + tensor.nbytes
        size = sum(need.values())
        if need.get(_CPU, 0) > SMALL and _disk_has_room(size):
            with suppress(OSError):
                return _or_clone(_Disk())
        if all(_has_room(device, part) for device, part in need.items()):
            place = "device"
        else:
            place = "host" if _CPU not in need and _has_room(_CPU, size) else "disk"
    if place == "disk":
        return _Disk()
    return _to_host if place == "host" else clone


def _has_room(device: torch.device, size: int) -> bool:
    if size <= SMALL:
        return True
    free = free_memory(device)
    return free is None or size <= free / 2


def _disk_has_room(size: int) -> bool:
    """Whether temporary files lie on a disk, and not in memory, and it is left twice as much again."""
    try:
        folder = Path(tempfile.gettempdir()).resolve()
        return size <= shutil.disk_usage(folder).free / 3 and not _is_memory(folder)
    except OSError:  # no folder can be written to
        return False


def _is_memory(folder: Path) -> bool:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    kinds = {mount[1]: mount[2] for line in mounts if len(mount := line.split()) > 2}
    there = (kinds[name] for each in (folder, *folder.parents) if (name := str(each)) in kinds)
    return next(there, "") in ("tmpfs", "ramfs")


def _to_host(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if tensor.device == _CPU or not _is_plain(tensor):
        return tensor.clone()
    return torch.empty_like(tensor, device=_CPU, pin_memory=tensor.device.type == "cuda").copy_(tensor)


def _or_clone(disk: _Disk) -> Copy:
    """Copies to a disk that nobody has asked for, and in memory what it does not take."""

    def copied(tensor: Tensor) -> Tensor | OnDisk:
        try:
            return disk(tensor)
        except OSError:
            return clone(tensor)

    return copied


class _Disk:
    """Copies to a temporary file of its own, which goes with the last of them."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile(prefix="onecycle-")  # noqa: SIM115 - until none needs it
        weakref.finalize(self, self.file.close)

    def __call__(self, tensor: Tensor) -> Tensor | OnDisk:
        tensor = tensor.detach()
        if not (_is_plain(tensor) and tensor.numel()):
            return tensor.clone()
        copy = OnDisk(self, self.file.seek(0, 2), tensor.shape, tensor.dtype)
        for piece in _pieces(tensor.contiguous()):
            # A copy, as torch never again resizes what it has shown to NumPy.
            self.file.write(piece.to(_CPU, copy=True).numpy().data)
        return copy


def _is_plain(tensor: Tensor) -> bool:
    if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided or tensor.is_quantized:
        return False
    return 0 not in tensor.stride()  # an expanded one is less than it seems


def _pieces(tensor: Tensor) -> list[Tensor]:
    """The bytes of a contiguous tensor, by the piece."""
    flat = tensor.view(-1).view(torch.uint8)
    return [flat[start : start + PIECE] for start in range(0, len(flat), PIECE)]


def free_memory(device: torch.device = _CPU) -> int | None:
    """Bytes that this process can still come to hold on `device`, None where that is not known."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    available = sizes("/proc/meminfo").get("MemAvailable") if device == _CPU else None
    if available is None:
        return None
    group = Path("/sys/fs/cgroup")
    try:
        most = int((group / "memory.max").read_text(encoding="ascii"))
        available = min(available, most - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no group, or one without a limit
        pass
    return available


def sizes(path: str) -> dict[str, int]:
    """Bytes by name, of the lines `name: number kB` of a file of Linux; none where there is no such file."""
    try:
        lines = Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    fields = (line.replace(":", " ").split() for line in lines)
    return {f[0]: 1024 * int(f[1]) for f in fields if len(f) == 3 and f[2] == "kB"}
