"""Copies between a device and the host that do not stop the device.

`Tensor.item()`, `if tensor:` and an upload from ordinary memory all wait until the device has done everything that it was given.
Inside a step it then has nothing left to do, so a step uploads its constants once (`constant`) and reads what it decides by one
step later (`Read`).
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=256)
def constant(values: tuple, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return a tensor of nested tuples of numbers, uploaded once for each device and type. It must not be changed in place."""
    return torch.tensor(values, dtype=dtype, device=device)


class Read:
    """A copy of tensors on its way to the CPU. The device goes on meanwhile."""

    def __init__(self, tensors: Sequence[Tensor]):
        # From CUDA without waiting, into pinned memory. Without an event to wait for, as on MPS, the copy has to be complete here.
        self._copies = [tensor.detach().to("cpu", non_blocking=tensor.device.type != "mps") for tensor in tensors]
        self._done: torch.cuda.Event | None = None
        if tensors[0].is_cuda:
            self._done = torch.cuda.Event()
            self._done.record(torch.cuda.current_stream(tensors[0].device))

    def wait(self) -> list[Tensor]:
        """Wait until the copies are complete, and return them."""
        if self._done is not None:
            self._done.synchronize()
        return self._copies
