"""The devices of this machine: names, probes and schedulers."""

import re
import time
from functools import cache
from typing import Any

import torch
from torch.nn import functional

from featviz.errors import InputError, nearest
from featviz.media import video
from featviz.networks.network import zero_gpu
from featviz.runtime.scheduler import Scheduler, Slot

Device = str
"""`auto`, `cpu`, `cuda` (the CUDA card with the fewest runs), `cuda:1` (one card, by its index) or `mps` (Apple's GPU)."""

NAMES = ("auto", "cpu", "cuda", "cuda:0", "mps")
"""Accepted names of devices; any index may follow `cuda:`."""

TITLES = {"cuda": "CUDA card", "mps": "Apple GPU"}


def find_devices(device: Device) -> list[torch.device]:
    """Return the usable devices of that name. `auto` stands for the CUDA cards, else Apple's GPU, else the CPU.

    Raises:
        InputError: the name is unknown, or this machine has no such device, or the device cannot be used.
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
    named = [candidate for candidate in present if device in (kind, str(candidate))]
    if not named:
        raise InputError(f"There is no '{device}' here; there are {', '.join(map(str, present))}.")
    if not (usable := _usable(named)):
        raise InputError(f"The {TITLES[kind]} here cannot be used ({failure_reason(named[0])}); 'cpu' and 'auto' work.")
    return usable


def unusable_gpu(device: Device) -> str:
    """Return a sentence that says why `auto` leaves out a GPU of this machine; "" where it leaves out none."""
    for gpu in (*_present("cuda"), *_present("mps")) if device == "auto" else ():
        if reason := failure_reason(gpu):
            return f"The {TITLES[gpu.type]} {gpu} cannot be used ({reason}), so runs take {', '.join(map(str, find_devices(device)))}."
    return ""


def _present(kind: str) -> list[torch.device]:
    """Return the GPUs of a kind that PyTorch sees, usable or not."""
    if kind == "cuda" and torch.cuda.is_available():
        return [torch.device("cuda", index) for index in range(max(1, torch.cuda.device_count()))]
    return [torch.device("mps")] if kind == "mps" and torch.backends.mps.is_available() else []


def _usable(gpus: list[torch.device]) -> list[torch.device]:
    return [gpu for gpu in gpus if not failure_reason(gpu)]


def failure_reason(gpu: torch.device) -> str:
    """Return why a GPU cannot be used, "" if it can. PyTorch also lists cards that it has no kernels for, or whose driver is too old.

    Each GPU is tried once per process. On ZeroGPU it is not: the page's process must not touch CUDA.
    """
    return "" if zero_gpu() else _try_gpu(gpu)


@cache
def _try_gpu(gpu: torch.device) -> str:
    """Compute a convolution and its gradient; return the first line of the error that they raise, "" for none."""
    try:
        image = torch.ones(1, 1, 4, 4, device=gpu, requires_grad=True)
        functional.conv2d(image, torch.ones(1, 1, 3, 3, device=gpu)).sum().backward()
        torch.isfinite(image.detach()).all().item()  # Waits for the device, whose errors arrive late.
    except torch.OutOfMemoryError:
        return ""  # Other programs fill its memory at the moment; a run reports that itself.
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch was built without support for it.
        return str(error).strip().partition("\n")[0].rstrip(".")[:120]
    return ""


_schedulers: dict[torch.device, Scheduler] = {}
"""One for each device, which runs one step at a time."""


def scheduler(device: torch.device) -> Scheduler:
    """Return the scheduler of a device. `setdefault` is atomic, so threads that call this at the same time get the same one."""
    return _schedulers.setdefault(device, Scheduler())


def resolve(device: Device) -> torch.device:
    """Return the device of that name for the next run: of several cards, the one with the fewest runs.

    Raises:
        InputError: as for `find_devices`.
    """
    chosen = min(find_devices(device), key=lambda candidate: scheduler(candidate).runs)
    if chosen.type == "cuda":
        _set_arithmetic()
    return chosen


def _set_arithmetic() -> None:
    """Set how CUDA cards round, for the whole process; PyTorch has no narrower switch.

    Convolutions of networks in float32 may round their factors to TF32, which has 10 bits of mantissa: gradients in bfloat16, with
    7, are accurate enough already. Matrix products, which are statistics and their roots, stay float32. Products of bfloat16 are
    summed in float32.
    """
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def limitations(device: Device = "auto") -> list[str]:
    """Return what is slow or unavailable on this machine, one sentence each."""
    from featviz.networks import hub  # Imported late, since its dependencies load slowly.

    slow = "" if zero_gpu() or resolve(device).type != "cpu" else "There is no GPU, so a run takes from seconds to minutes."
    return list(filter(None, (unusable_gpu(device), slow, hub.limitation(), video.limitation())))


def slot(device: torch.device, work: float = 0.0, **options: Any) -> Slot:
    """Register a run with the scheduler of a device, and return its slot. Arguments are those of `Scheduler.slot`."""
    return scheduler(device).slot(work, **options)


def storage_device(device: Device) -> torch.device:
    """Return the device that keeps networks between runs. On ZeroGPU it is the CPU."""
    return torch.device("cpu") if zero_gpu() else resolve(device)


def clock(device: torch.device) -> float:
    """Return seconds whose differences tell how long the calling thread has kept a device busy.

    On a CPU this is the thread's own processor time, which excludes other programs and threads.
    """
    return time.thread_time() if device.type == "cpu" else time.monotonic()
