"""The machine's memory, and who may take it: many small runs side by side, and as many large ones as it holds."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from featviz.errors import LimitError
from featviz.machine import gigabytes


def free_memory() -> float:
    """Bytes that this process may still take: what the machine has left, or the container, whichever is less."""
    meminfo, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if not meminfo.exists():
        return float("inf")  # Not Linux: nothing to go by, so nobody is held back.
    lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
    free = float(lines["MemAvailable"].split()[0]) * 1024
    with suppress(OSError, ValueError):  # No container, or one without a limit ("max").
        free = min(free, float((group / "memory.max").read_text()) - float((group / "memory.current").read_text()))
    return free


class Memory:
    """What the runs under way have been promised. One that is alone gets what it asks for: its visitor was told before."""

    def __init__(self, free: Callable[[], float] = free_memory):
        self._free = free
        self._lock = threading.Lock()
        self._all = self._promised = 0.0

    @contextmanager
    def promised(self, needed: float) -> Iterator[None]:
        """Bytes for as long as a run lasts.

        Raises:
            LimitError: there are not as many beside what other runs may take.
        """
        with self._lock:
            if not self._promised:
                self._all = self._free()
            elif self._promised + needed > self._all:
                raise LimitError(
                    f"This run may take {gigabytes(needed)} of memory, and other visitors' runs leave "
                    f"{gigabytes(self._all - self._promised)}; please choose a smaller size, or try again in a while."
                )
            self._promised += needed
        try:
            yield
        finally:
            with self._lock:
                self._promised -= needed


MEMORY = Memory()
"""Of this process."""
