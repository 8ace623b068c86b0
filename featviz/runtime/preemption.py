"""Let other runs have the device in the middle of a step."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

PAUSE_SECONDS = 0.01
"""Least seconds between two pauses."""


class PauseBetweenOperations(TorchDispatchMode):
    """A context that calls `pause` between the operations of the current thread, also of a backward pass on the CPU.

    `pause` may wait while another thread uses the device, and what it raises ends the step. Results do not depend on it: the
    operations and their order stay the same, and gradient mode, autocast and dispatch modes belong to the thread that waits.

    Takes a few microseconds for each operation, so it is meant for long steps. On a GPU, `pause` is not called in a backward
    pass: that runs in a thread which serves all runs, and which must not wait.
    """

    def __init__(self, pause: Callable[[], object]) -> None:
        super().__init__()
        self._pause, self._thread, self._due = pause, threading.get_ident(), 0.0

    def __torch_dispatch__(
        self, func: Callable, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        if time.monotonic() >= self._due and threading.get_ident() == self._thread:
            self._pause()
            self._due = time.monotonic() + PAUSE_SECONDS
        return results
