"""The memory of this machine and of its devices: how much this process may ever use, and how much is free at the moment."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePath

import torch

from featviz.networks.network import zero_gpu

ZERO_GPU_MEMORY = 70e9
"""Bytes that a lent ZeroGPU has. The page's process must not ask it."""

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
    """Return what the control groups of this process leave."""
    return min((_free_in_group(group, *files) for group, files in _groups()), default=math.inf)


def _groups() -> Iterator[tuple[Path, list[str]]]:
    """Yield the control groups of this process and all above them, whose limits hold too, each with its files.

    In a container the path of its group may be that of the host, of which only the root is mounted: missing groups are skipped.
    """
    with suppress(OSError):
        for line in OWN_CGROUPS.read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            for controller in CGROUP_FILES.keys() & controllers.split(","):
                folder, *files = CGROUP_FILES[controller]
                group = PurePath(own.lstrip("/"))
                yield from ((CGROUPS / folder / path, files) for path in (group, *group.parents))


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


def total_memory(device: torch.device) -> float:
    """Return the bytes that this process could use on a device with nothing else running; `inf` if the system does not tell."""
    if device.type == "cuda":
        return ZERO_GPU_MEMORY if zero_gpu() else torch.cuda.get_device_properties(device).total_memory
    return min(_total_in_system(), _total_in_cgroup(), _total_address_space())


def _total_in_system() -> float:
    with suppress(AttributeError, OSError, ValueError):  # Windows has no `sysconf`.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return math.inf


def _total_in_cgroup() -> float:
    total = math.inf
    for group, (limit, *_) in _groups():
        with suppress(OSError, ValueError):  # As in `_free_in_group`.
            total = min(total, int((group / limit).read_text()))
    return total


def _total_address_space() -> float:
    with suppress(ImportError, OSError):  # As in `_free_address_space`.
        import resource

        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        return math.inf if limit == resource.RLIM_INFINITY else limit
    return math.inf
