"""The memory of each device: how much is free, and how much the active runs have reserved."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import torch
from PIL import Image

from featviz.errors import LimitError
from featviz.media.images import Picture, open_picture
from featviz.networks.network import zero_gpu
from featviz.optimise.tiles import release_free_memory
from featviz.recipes.recipe import Recipe, largest_size
from featviz.runtime.devices import Device, resolve
from featviz.runtime.estimate import Sizes, demand, gigabytes

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
"""The folder of all control groups, and the file with those of this process."""

CGROUP_FILES = {
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""Controller in `OWN_CGROUPS` ("" for version 2, "memory" for version 1) → the folder of its groups, the files with a group's
limit and usage, and the entry of memory.stat for file cache that the kernel drops when memory is needed."""


def free_memory(device: torch.device) -> float:
    """Return the bytes that this process can still allocate on a device; `inf` where the system does not tell (not Linux)."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # PyTorch keeps freed blocks for its next tensors.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(0, min(_free_in_system(), _free_in_cgroup(), _free_address_space()))


def _free_in_system() -> float:
    with suppress(OSError, KeyError):
        return _kilobytes(Path("/proc/meminfo"), "MemAvailable")
    return math.inf


def _free_in_cgroup() -> float:
    """Return what the control groups of this process leave. A group's limit also holds for all groups below it.

    In a container the path of its group may be that of the host, of which only the root is mounted: missing groups are skipped.
    """
    free: float = math.inf
    with suppress(OSError):
        for line in OWN_CGROUPS.read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            for controller in CGROUP_FILES.keys() & controllers.split(","):
                folder, *files = CGROUP_FILES[controller]
                group = PurePath(own.lstrip("/"))
                free = min(free, *(_free_in_group(CGROUPS / folder / path, *files) for path in (group, *group.parents)))
    return free


def _free_in_group(group: Path, limit: str, usage: str, cache: str) -> float:
    with suppress(OSError, ValueError, KeyError):  # No such group, or no limit ("max").
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int((group / limit).read_text()) - int((group / usage).read_text()) + int(stat[cache])
    return math.inf


def _free_address_space() -> float:
    """Return what the limit of the address space (`ulimit -v`) leaves."""
    with suppress(ImportError, OSError):  # Windows has no `resource`.
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit != resource.RLIM_INFINITY:
            return limit - _kilobytes(Path("/proc/self/status"), "VmSize")
    return math.inf


def _kilobytes(file: Path, entry: str) -> int:
    """Return an entry of a file of /proc, e.g. "VmSize:  1024 kB", in bytes."""
    lines = dict(line.split(":", 1) for line in file.read_text().splitlines())
    return int(lines[entry].split()[0]) * 1024


class Ledger:
    """The reservations of active runs on a device. Their sum never exceeds the memory that is free without these runs.

    Args:
        free: returns the bytes that are free at the moment.
    """

    def __init__(self, free: Callable[[], float]):
        self._free = free
        # Reentrant: the garbage collector may close a run's generator, which releases its bytes, while this thread holds the lock.
        self._lock = threading.RLock()
        self._reserved: dict[object, int] = {}
        """Run → bytes. Integers, so that sums are exact and nothing remains when all runs have ended."""
        self._capacity: float = 0
        """Free memory without the active runs."""

    def available(self) -> float:
        """Return the bytes that another run can reserve now."""
        with self._lock:
            free = self._free()
            # Active runs only lower free memory. If it is higher than before they started, another program has freed some.
            self._capacity = max(self._capacity, free) if self._reserved else free
            # Runs may still allocate all that they have reserved; and what is allocated already is not free.
            return min(free, self._capacity - sum(tuple(self._reserved.values())))

    @contextmanager
    def reserve(self, needed: int, refusal: Callable[[float, bool], Exception]) -> Iterator[None]:
        """Reserve bytes for the duration of the context.

        Raises:
            The exception that `refusal(available, fits_later)` returns, if fewer bytes are available. `fits_later`: whether the
            needed bytes are available once the active runs have ended.
        """
        run = object()
        with self._lock:
            available = self.available()
            granted, fits_later = needed <= available, needed <= self._capacity
            if granted:
                self._reserved[run] = needed
        if not granted:
            raise refusal(available, fits_later)
        try:
            yield
        finally:
            with self._lock:
                del self._reserved[run]
                if not self._reserved:
                    release_free_memory()


_ledgers: dict[torch.device, Ledger] = {}


def ledger(device: torch.device) -> Ledger:
    """Return the ledger of a device. All devices but CUDA cards share the memory of the machine."""
    device = device if device.type == "cuda" else torch.device("cpu")
    return _ledgers.setdefault(device, Ledger(lambda: free_memory(device)))


def available_memory(device: Device = "auto") -> float:
    """Return the bytes that another run can reserve now; `inf` where this is unknown, as on ZeroGPU."""
    return math.inf if zero_gpu() else ledger(resolve(device)).available()


LARGE_DECODING = 64e6
"""Bytes of decoding a picture from which on they are reserved. Smaller pictures are decoded at once, and take less in all."""

_decoding = threading.Lock()
"""Held while a large picture is decoded: one at a time, so that pictures sent together take no more memory than the largest."""


def open_reserved(picture: Picture | None, role: str = "picture", longest: int | None = None) -> Image.Image:
    """Return `open_picture(picture, role, longest)`, with the memory of decoding reserved while it lasts.

    Raises:
        ImageError: as for `open_picture`.
        LimitError: too little memory is free.
    """
    return open_picture(picture, role, longest, reserve=partial(reserve_decoding, role))


@contextmanager
def reserve_decoding(role: str, needed: int) -> Iterator[None]:
    """Reserve the memory of decoding a picture for the duration of the context, if it is large. Raises as `open_reserved`."""
    if needed < LARGE_DECODING or zero_gpu():  # A fork for a ZeroGPU would inherit the lock as it is at that moment.
        yield
        return

    def refusal(available: float, fits_later: bool) -> LimitError:
        free = f"other runs leave {gigabytes(available)}" if fits_later else f"{gigabytes(available)} are free"
        retry = ", or try again when they have ended" if fits_later else ""
        return LimitError(f"Opening the {role} takes {gigabytes(needed)} of memory, and {free}; choose a smaller one{retry}.")

    with _decoding, ledger(torch.device("cpu")).reserve(needed, refusal):
        try:
            yield
        finally:
            release_free_memory()


Parts = Callable[[Any], Sequence[Recipe]]
"""Maps a recipe to the runs that it is executed as, one after the other."""


def single_run(recipe: Recipe) -> Sequence[Recipe]:
    """The parts of a recipe that is executed as it is."""
    return (recipe,)


def peak_memory(recipe: Recipe, device: torch.device, sizes: Sizes, parts: Parts = single_run) -> int:
    """Return the peak memory of a run in bytes, beyond networks and program, for pictures of these sizes."""
    return math.ceil(max((demand(part, device, sizes).bytes for part in parts(recipe)), default=0))


@contextmanager
def reserve(recipe: Recipe, device: torch.device, sizes: Sizes, parts: Parts = single_run) -> Iterator[None]:
    """Reserve the peak memory of a run for the duration of the context.

    Raises:
        LimitError: it does not fit, alone or beside the active runs. The message has the largest size that fits.
    """
    if zero_gpu():  # The GPU serves one run at a time, and the page's process must not touch CUDA.
        yield
        return
    needed = peak_memory(recipe, device, sizes, parts)

    def refusal(available: float, fits_later: bool) -> LimitError:
        largest = largest_size(recipe, lambda smaller: peak_memory(smaller, device, sizes, parts) <= available)
        free = f"other runs leave {gigabytes(available)}" if fits_later else f"{gigabytes(available)} are free"
        fitting = f"the largest size that fits is {largest}" if largest else "no size fits"
        retry = ", or try again when they have ended" if fits_later else ""
        return LimitError(f"This run takes {gigabytes(needed)} of memory, and {free}; {fitting}{retry}.")

    with ledger(device).reserve(needed, refusal):
        yield
