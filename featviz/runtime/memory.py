"""The memory of each device: how much is free, and how much the runs under way have reserved."""

import ctypes
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from featviz.errors import LimitError
from featviz.networks.cache import load_untrained
from featviz.networks.network import zero_gpu
from featviz.recipes.recipe import Recipe, largest_size
from featviz.runtime.devices import Device, resolve
from featviz.runtime.estimate import gigabytes

CONTAINERS = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
)
"""Under /sys/fs/cgroup, for versions 2 and 1: the limit, the usage, and the entry of memory.stat that counts file cache which the
kernel drops when memory is needed."""


def free_memory(device: torch.device) -> float:
    """Bytes that this process can still allocate on a device; `inf` where the system does not say (not Linux)."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # PyTorch keeps freed blocks for its next tensors.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(0, min(_machine(), _container(), _process()))


def _machine() -> float:
    with suppress(OSError):
        return _kilobytes(Path("/proc/meminfo"), "MemAvailable")
    return math.inf


def _container() -> float:
    group = Path("/sys/fs/cgroup")
    for limit, usage, cache in CONTAINERS:
        with suppress(OSError, ValueError):  # No such version, or no limit ("max").
            stat = dict(line.split() for line in (group / usage).with_name("memory.stat").read_text().splitlines())
            return int((group / limit).read_text()) - int((group / usage).read_text()) + int(stat[cache])
    return math.inf


def _process() -> float:
    """What the limit of the address space (`ulimit -v`) leaves."""
    with suppress(ImportError, OSError):  # There is no `resource` on Windows.
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            return limit - _kilobytes(Path("/proc/self/status"), "VmSize")
    return math.inf


def _kilobytes(file: Path, entry: str) -> int:
    """An entry of a file of /proc, e.g. "VmSize:  1024 kB", in bytes."""
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(lines[entry].split()[0]) * 1024


def trim() -> None:
    """Return freed memory that the C library keeps to the system, where it is glibc."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class Ledger:
    """What the runs under way have reserved of a device's memory. Their sum never exceeds what is free without them.

    Args:
        free: returns the bytes that are free at the moment.
    """

    def __init__(self, free: Callable[[], float]):
        self._free = free
        # Reentrant: a generator that the garbage collector closes while this thread holds the lock releases its bytes here.
        self._lock = threading.RLock()
        self._reserved: dict[object, int] = {}
        """Whole bytes by run, so that nothing is left over when all runs have ended."""
        self._capacity: float = 0
        """Free memory without the runs under way."""

    def left(self) -> float:
        """Bytes that another run can reserve now."""
        with self._lock:
            free = self._free()
            # Runs under way only lower what is free. If it is higher than before them, another program has freed memory.
            self._capacity = max(self._capacity, free) if self._reserved else free
            # Both bounds hold: runs will take all that they reserved, and what is taken already cannot be given again.
            return min(free, self._capacity - sum(tuple(self._reserved.values())))

    @contextmanager
    def reserved(self, needed: int, refused: Callable[[float, bool], Exception]) -> Iterator[None]:
        """Reserve bytes for as long as this lasts. Otherwise raise `refused(left, later)`: the bytes that can be reserved now, and
        whether those needed can be once other runs have ended."""
        run = object()
        with self._lock:
            left = self.left()
            granted, later = needed <= left, needed <= self._capacity
            if granted:
                self._reserved[run] = needed
        if not granted:
            raise refused(left, later)
        try:
            yield
        finally:
            with self._lock:
                del self._reserved[run]
                if not self._reserved:
                    trim()


_ledgers: dict[torch.device, Ledger] = {}


def ledger(device: torch.device) -> Ledger:
    """The ledger of a device. All devices but CUDA cards share the machine's memory."""
    device = device if device.type == "cuda" else torch.device("cpu")
    return _ledgers.setdefault(device, Ledger(lambda: free_memory(device)))


def left(device: Device = "auto") -> float:
    """Bytes that another run can reserve now; `inf` where nothing is known: a lent GPU belongs to another process."""
    return math.inf if zero_gpu() else ledger(resolve(device)).left()


Parts = Callable[[Any], Sequence[Recipe]]
"""A recipe → the runs that are made of it, one after the other."""


Sizes = Mapping[str, tuple[int, int]]
"""A picture's role → its (width, height)."""

ALONE: Sizes = MappingProxyType({})


def alone(recipe: Recipe) -> Sequence[Recipe]:
    """Parts of a recipe that is run as it is."""
    return (recipe,)


def peak(recipe: Recipe, size: tuple[int, int] | None, device: torch.device, parts: Parts = alone, others: Sizes = ALONE) -> int:
    """Bytes that a run takes at its peak, beside networks and program.

    `size` is that of the first picture, None where the recipe needs none; `others` those of the other pictures by their roles,
    as (width, height).
    """
    heights_first = {role: other[::-1] for role, other in others.items()}
    demands = (
        part.demand(load_untrained(part.network_name, device), size and size[::-1], **heights_first) for part in parts(recipe)
    )
    return math.ceil(max((demand.bytes for demand in demands), default=0))


@contextmanager
def reserved(
    recipe: Recipe, size: tuple[int, int] | None, device: torch.device, parts: Parts = alone, others: Sizes = ALONE
) -> Iterator[None]:
    """Reserve the memory of a run for as long as this lasts. Takes what `peak` takes.

    Raises:
        LimitError: it does not fit, alone or beside the runs under way. The message has the largest size that fits.
    """
    if zero_gpu():  # The GPU is lent to one run only, and the page's process must not touch CUDA.
        yield
        return
    needed = peak(recipe, size, device, parts, others)

    def refused(left: float, later: bool) -> LimitError:
        largest = largest_size(recipe, lambda smaller: peak(smaller, size, device, parts, others) <= left)
        there = f"other runs leave {gigabytes(left)}" if later else f"{gigabytes(left)} are free"
        fitting = f"the largest size that fits is {largest}" if largest else "no size fits"
        retry = ", or try again when they have ended" if later else ""
        return LimitError(f"This run takes {gigabytes(needed)} of memory, and {there}; {fitting}{retry}.")

    with ledger(device).reserved(needed, refused):
        yield
