"""Schedule the runs that share a device. Knows nothing of tensors; a simulation may call it with a clock of its own."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

NEW_SECONDS = 2.0
"""Device time for which a run without a preview goes before all others. A first step that takes longer waits like any other."""

MOST_PASSED = 3
"""Most seconds for which later runs may pass a run, for each second of its own work."""

POLL_SECONDS = 0.25
"""Seconds between two looks of a waiting run at whether it was stopped, and between two reports of what it waits for."""


class StoppedError(Exception):
    """Raised where a run waits or pauses after it was stopped. Does not leave `featviz.runtime`."""


@dataclass(frozen=True)
class Waiting:
    """What a run waits for."""

    ahead: int
    """Runs that go before it. 0: it is next, and waits until the run in service reaches a point where it can pause."""
    seconds: float
    """Work that these runs have left, in seconds of the device."""
    own: float = 0.0
    """Work that this run has left, in seconds of the device."""

    @property
    def until_done(self) -> float:
        """Seconds until the result, unless other runs come that go before this one."""
        return self.seconds + self.own


class Scheduler:
    """Admit one run at a time: first runs without a preview, then the run with the least remaining work.

    Shortest remaining processing time first (Schrage, 1968) gives the least mean time to a result, but long runs starve. So a
    run ages: for each second in which the device serves a later run while an earlier one waits, the earlier one is credited
    its equal share of the second, and at least a third (`MOST_PASSED`). Its own service pays the credit back. Runs are ordered
    by remaining work minus credit, and 0 where that is negative; ties go to the earlier run. Thus later runs pass a run for about
    as long as with equal shares, and for at most three times its own length. The first previews of others come on top.

    The run in service keeps the device until it leaves, so a run should ask now and then whether another goes before it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()  # Reentrant: garbage collection may end another run while this thread holds it.
        self._arrivals = count()
        self._slots: weakref.WeakSet[Slot] = weakref.WeakSet()
        self._waiting: dict[Slot, Callable[[], object]] = {}
        """Slot → what is called when it is admitted."""
        self._serving: Slot | None = None
        self._charged = 0.0
        """Until when the service of `_serving` has been charged, by the clock."""

    def slot(
        self,
        work: float = 0.0,
        *,
        new: bool = True,
        recurring: bool = False,
        background: bool = False,
        stopped: Callable[[], bool] | None = None,
        on_wait: Callable[[Waiting], object] | None = None,
    ) -> Slot:
        """Register a run. It counts in `runs` for as long as its slot is referenced.

        Args:
            work: seconds of the device that it is expected to take.
            new: whether it goes before all others until it has a preview.
            recurring: whether the slot is entered again and again, for work that is short and must not wait long.
            background: whether the work is that of the server and no run, so that runs do not report that they wait for it.
            stopped: whether the run is to end. Called often, in the run's thread.
            on_wait: called in the run's thread while it waits, four times a second.
        """
        with self._lock:
            slot = Slot(self, next(self._arrivals), work, new, recurring, background, stopped, on_wait)
            self._slots.add(slot)
        return slot

    @property
    def runs(self) -> int:
        """The number of registered runs."""
        return len(self._slots)

    def join(self, slot: Slot, admit: Callable[[], object]) -> None:
        """Call `admit` as soon as the slot has the device, which may be at once."""
        with self._lock:
            self._charge()
            self._waiting[slot] = admit
            self._serve_next()

    def leave(self, slot: Slot) -> None:
        """Hand the device to the next run, if the slot has it; withdraw the slot, if it waits."""
        with self._lock:
            self._charge()
            self._waiting.pop(slot, None)
            if self._serving is slot:
                self._serving = None
                self._serve_next()

    def outranked(self) -> bool:
        """Return whether a waiting run goes before the one in service."""
        if not self._waiting:  # Without the lock, since this is asked after every operation.
            return False
        with self._lock:
            self._charge()
            return self._serving is not None and any(slot.rank < self._serving.rank for slot in self._waiting)

    def held(self, slot: Slot) -> float:
        """Return the seconds for which a slot has had the device."""
        with self._lock:
            self._charge()
            return slot.served

    def waiting_for(self, slot: Slot) -> Waiting | None:
        """Return what a slot waits for; None if it waits for no run, but for work in the background."""
        with self._lock:
            self._charge()
            others = [other for other in self._slots if other.remaining > 0 or (other is self._serving and not other.background)]
            ahead = [other for other in others if other.rank < slot.rank]
            if not ahead and self._serving is not None and self._serving.background:
                return None
            return Waiting(len(ahead), sum(other.remaining for other in ahead), slot.remaining)

    def _serve_next(self) -> None:
        if self._serving is None and self._waiting:
            self._serving = min(self._waiting, key=lambda slot: slot.rank)
            self._charged = self._clock()
            self._waiting.pop(self._serving)()

    def _charge(self) -> None:
        """Bring service and credits up to now."""
        if self._serving is None:
            return
        now = self._clock()
        seconds, self._charged = now - self._charged, now
        self._serving.served += seconds
        recurring = [slot for slot in self._slots if slot.recurring and slot is not self._serving]
        for slot in recurring:
            slot.debt = max(0.0, slot.debt - seconds)
        if self._serving.recurring:
            runs = sum(not slot.recurring for slot in self._waiting)
            self._serving.debt += seconds * (len(recurring) + min(MOST_PASSED, runs))
            return
        self._serving.credit = max(0.0, self._serving.credit - seconds)
        for slot in self._waiting:
            if slot.arrival < self._serving.arrival:
                slot.credit += seconds / min(MOST_PASSED, len(self._waiting))


class Slot:
    """A run's place in a scheduler. `with slot:` holds the device. Any thread may enter it, one at a time.

    Entering and `pause` raise `StoppedError` if the run was stopped.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        arrival: int,
        work: float,
        new: bool = True,
        recurring: bool = False,
        background: bool = False,
        stopped: Callable[[], bool] | None = None,
        on_wait: Callable[[Waiting], object] | None = None,
    ):
        self.arrival, self.remaining = arrival, work
        self.served = self.credit = 0.0
        """Seconds of the device: those it has had until the last charge, and those it is owed."""
        self.new = new
        """Whether the run has no preview yet."""
        self.recurring, self.debt = recurring, 0.0
        """Whether it is entered again and again; then the seconds that others are to have before it goes first again."""
        self.background = background
        """Whether its work is that of the server and no run."""
        self._work = work
        self._scheduler, self._stopped, self._on_wait = scheduler, stopped, on_wait

    @property
    def rank(self) -> tuple[float, int]:
        """The order of service: the least goes first."""
        if self.recurring:
            return (math.inf if self.debt > 0 else -2.0, self.arrival)
        goes_first = self.new and self.served < NEW_SECONDS
        return (-1.0 if goes_first else max(0.0, self.remaining - self.credit), self.arrival)

    @property
    def held(self) -> float:
        """Seconds for which the run has had the device."""
        return self._scheduler.held(self)

    def progress(self, share: float) -> None:
        """Record that a share of the run's work is done and that it has a preview.

        Remaining work stays in terms of the expected work: measured times differ a little between equal runs, which would then
        pass each other again and again.
        """
        self.new, self.remaining = False, self._work * (1 - share)

    def pause(self) -> None:
        """Let a run that goes before this one have the device, if there is one, and wait for it again. Call it while holding."""
        if self._scheduler.outranked():
            self._scheduler.leave(self)
            self.__enter__()
        else:
            self._check_stopped()

    def __enter__(self) -> Slot:
        self._check_stopped()
        admitted = threading.Lock()
        admitted.acquire()
        self._scheduler.join(self, admitted.release)
        try:
            while not admitted.acquire(timeout=POLL_SECONDS):
                if self._on_wait and (waiting := self._scheduler.waiting_for(self)):
                    self._on_wait(waiting)
                self._check_stopped()
        except BaseException:  # StoppedError, or Ctrl-C.
            self._scheduler.leave(self)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._scheduler.leave(self)

    def _check_stopped(self) -> None:
        if self._stopped and self._stopped():
            raise StoppedError
