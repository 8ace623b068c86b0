"""The devices of this machine, by the names that people give them, and whether they can be used."""

import re
import time
from collections import defaultdict
from functools import cache

import torch
from torch.nn import functional

from featviz.errors import InputError, nearest
from featviz.media import video
from featviz.networks.network import zero_gpu
from featviz.runtime.scheduler import Scheduler, Slot

Device = str
"""`auto`, `cpu`, `cuda` (whichever CUDA card has the fewest runs), `cuda:1` (one card, by its index) or `mps` (Apple's GPU)."""

NAMES = ("auto", "cpu", "cuda", "cuda:0", "mps")
"""What a device may be called; any index may follow `cuda:`."""

TITLES = {"cuda": "CUDA card", "mps": "Apple GPU"}


def find_devices(device: Device) -> list[torch.device]:
    """The usable devices of that name; `auto` stands for the CUDA cards, else Apple's GPU, else the CPU.

    Raises:
        InputError: there is no such device here, or it cannot be used.
    """
    if device not in NAMES and not re.fullmatch(r"cuda:\d+", device):
        raise InputError(f"There is no device '{device}'; {nearest(device, NAMES)}")
    if device == "auto":
        return next(filter(None, map(_usable, map(_present, ("cuda", "mps")))), [torch.device("cpu")])
    if device == "cpu":
        return [torch.device("cpu")]
    kind = device.partition(":")[0]
    present = _present(kind)
    if not present:
        raise InputError(f"There is no {TITLES[kind]} here; 'cpu' and 'auto' work.")
    asked = [where for where in present if device in (kind, str(where))]
    if not asked:
        raise InputError(f"There is no '{device}' here; there are {', '.join(map(str, present))}.")
    if not (usable := _usable(asked)):
        raise InputError(f"The {TITLES[kind]} here cannot be used ({failure(asked[0])}); 'cpu' and 'auto' work.")
    return usable


def unused(device: Device) -> str:
    """Why `auto` leaves out a GPU of this machine, in a sentence; "" where it does not."""
    for where in (*_present("cuda"), *_present("mps")) if device == "auto" else ():
        if reason := failure(where):
            return f"The {TITLES[where.type]} {where} cannot be used ({reason}), so runs take {', '.join(map(str, find_devices(device)))}."
    return ""


def _present(kind: str) -> list[torch.device]:
    """The GPUs of a kind that PyTorch sees, usable or not."""
    if kind == "cuda" and torch.cuda.is_available():
        return [torch.device("cuda", index) for index in range(max(1, torch.cuda.device_count()))]
    return [torch.device("mps")] if kind == "mps" and torch.backends.mps.is_available() else []


def _usable(devices: list[torch.device]) -> list[torch.device]:
    return [where for where in devices if not failure(where)]


def failure(where: torch.device) -> str:
    """Why a GPU cannot be used, "" if it can. Tried once per process by a convolution and its gradient.

    PyTorch sees cards for which it has no kernels, or whose driver is too old. A GPU that is lent is not touched.
    """
    return "" if zero_gpu() else _tried(where)


@cache
def _tried(where: torch.device) -> str:
    try:
        image = torch.ones(1, 1, 4, 4, device=where, requires_grad=True)
        functional.conv2d(image, torch.ones(1, 1, 3, 3, device=where)).sum().backward()
        torch.isfinite(image.detach()).all().item()  # Waits for the device, whose errors come late.
    except torch.OutOfMemoryError:
        return ""  # Others use it at the moment; a run says so.
    except (RuntimeError, AssertionError) as error:  # An AssertionError where PyTorch was built without it.
        return str(error).strip().partition("\n")[0].rstrip(".")[:120]
    return ""


_schedulers: dict[torch.device, Scheduler] = defaultdict(Scheduler)
"""One step at a time on each device."""


def resolve(device: Device) -> torch.device:
    """The device of that name that a run had better take: of several cards, the one with the fewest. Raises as `places` does."""
    return min(find_devices(device), key=lambda where: _schedulers[where].runs)


def limitations(device: Device = "auto") -> list[str]:
    """What is slow or off here, in a sentence each."""
    from featviz.networks import hub  # Here, since what it imports takes its time.

    slow = "" if zero_gpu() or resolve(device).type != "cpu" else "There is no GPU, so a run takes from seconds to minutes."
    return list(filter(None, (unused(device), slow, hub.limitation(), video.limitation())))


def slot(where: torch.device) -> Slot:
    """What a run takes its turns on a device by."""
    return _schedulers[where].slot()


def storage_device(device: Device) -> torch.device:
    """Where networks stay between two runs."""
    return torch.device("cpu") if zero_gpu() else resolve(device)


def clock(where: torch.device) -> float:
    """Seconds, of which a difference says how long the calling thread has kept a device busy.

    On a CPU its own processor time: what other programs and threads take of the processor is left out.
    """
    return time.thread_time() if where.type == "cpu" else time.monotonic()
