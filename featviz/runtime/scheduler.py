"""Whose step is next where several runs share a device."""

import threading
import time
import weakref
from heapq import heapify, heappop, heappush
from itertools import count


class Scheduler:
    """One step at a time, and to each run an equal share of the device's time, however long its steps are.

    Start-time fair queuing (Goyal, Vin, Cheng, 1996): of the runs that wait, the one is let in that has had the least.
    Whoever comes later, or has done something else meanwhile, is counted as having had what the one in turn had: nothing
    is owed for time in which it asked for nothing. A plain lock would let in whoever happens to be awake, which under load
    is often the one that has just left.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: list[tuple[float, int, threading.Lock]] = []  # A heap, by seconds had and then by arrival.
        self._arrivals = count()
        self._busy = False
        self._now = 0.0  # Seconds that the one in turn had had before.
        self._claims: weakref.WeakSet[Slot] = weakref.WeakSet()

    def slot(self) -> "Slot":
        """What a run takes its turns by, for as long as it holds on to it."""
        slot = Slot(self)
        self._claims.add(slot)
        return slot

    @property
    def runs(self) -> int:
        """How many have a claim."""
        return len(self._claims)

    def _enter(self, had: float) -> float:
        """Wait for a turn; the seconds that it starts from."""
        with self._guard:
            start = max(had, self._now)
            if not self._busy:
                self._busy, self._now = True, start
                return start
            gate = threading.Lock()
            gate.acquire()
            entry = (start, next(self._arrivals), gate)
            heappush(self._waiting, entry)
        try:
            gate.acquire()  # Whoever leaves opens it, and the device is never free in between.
        except BaseException:  # Ctrl-C while waiting.
            self._give_up(entry)
            raise
        return start

    def _leave(self) -> None:
        with self._guard:
            if self._waiting:
                self._now, _, gate = heappop(self._waiting)
                gate.release()
            else:
                self._busy = False

    def _give_up(self, entry: tuple[float, int, threading.Lock]) -> None:
        with self._guard:
            if waiting := entry in self._waiting:
                self._waiting.remove(entry)
                heapify(self._waiting)
        if not waiting:  # The turn had come already.
            self._leave()


class Slot:
    """One run's turns: `with claim:` is one of them. Any thread may take it, one at a time."""

    def __init__(self, turns: Scheduler):
        self._schedulers = turns
        self._had = 0.0

    def __enter__(self) -> None:
        self._start = self._schedulers._enter(self._had)
        self._since = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._had = self._start + time.monotonic() - self._since
        self._schedulers._leave()
