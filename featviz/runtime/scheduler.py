"""Schedule the steps of runs that share a device."""

import threading
import time
import weakref
from heapq import heapify, heappop, heappush
from itertools import count


class Scheduler:
    """Admit one step at a time, and give each run an equal share of the device's time, however long its steps are.

    Start-time fair queuing (Goyal, Vin, Cheng, 1996): of the waiting steps, the one with the smallest start tag is next. Tags
    are in seconds. A step's start tag is the end of its run's previous step, but no less than the virtual time, which is the
    start tag of the step in service. A run that joins late thus starts at the current virtual time, so idle time earns no credit.

    A plain lock is not fair under load: it often goes to the thread that has just released it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[float, int, threading.Lock]] = []  # A heap, by start tag and then by arrival.
        self._arrivals = count()
        self._busy = False
        self._virtual_time = 0.0
        self._slots: weakref.WeakSet[Slot] = weakref.WeakSet()

    def slot(self) -> "Slot":
        """Register a run. It counts in `runs` for as long as its slot is referenced."""
        slot = Slot(self)
        self._slots.add(slot)
        return slot

    @property
    def runs(self) -> int:
        """The number of registered runs."""
        return len(self._slots)

    def acquire(self, finish_tag: float) -> float:
        """Wait for the device, as a run whose previous step ended at `finish_tag`. Return the start tag of the new step."""
        with self._lock:
            start_tag = max(finish_tag, self._virtual_time)
            if not self._busy:
                self._busy, self._virtual_time = True, start_tag
                return start_tag
            admitted = threading.Lock()
            admitted.acquire()
            entry = (start_tag, next(self._arrivals), admitted)
            heappush(self._waiting, entry)
        try:
            admitted.acquire()  # `release` opens it. The device stays busy in between.
        except BaseException:  # Ctrl-C while waiting.
            self._withdraw(entry)
            raise
        return start_tag

    def release(self) -> None:
        """Hand the device to the next waiting step, or mark it as free."""
        with self._lock:
            if self._waiting:
                self._virtual_time, _, admitted = heappop(self._waiting)
                admitted.release()
            else:
                self._busy = False

    def _withdraw(self, entry: tuple[float, int, threading.Lock]) -> None:
        with self._lock:
            if waiting := entry in self._waiting:
                self._waiting.remove(entry)
                heapify(self._waiting)
        if not waiting:  # It was admitted already.
            self.release()


class Slot:
    """A run's place in a scheduler. `with slot:` holds the device for one step. Any thread may enter it, one at a time."""

    def __init__(self, scheduler: Scheduler):
        self._scheduler = scheduler
        self._finish_tag = 0.0

    def __enter__(self) -> None:
        self._start_tag = self._scheduler.acquire(self._finish_tag)
        self._entered = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._finish_tag = self._start_tag + time.monotonic() - self._entered
        self._scheduler.release()
