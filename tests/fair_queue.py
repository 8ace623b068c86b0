"""A scheduler of equal shares, step by step: what `Scheduler` is compared with."""

from collections.abc import Callable
from itertools import count
from typing import Any

from featviz.runtime.scheduler import Scheduler, Slot


class FairQueue(Scheduler):
    """Start-time fair queuing (Goyal, Vin, Cheng, 1996): of the waiting steps, the one with the smallest start tag is next.

    A step's start tag is the end of its run's previous step, but no less than the virtual time, the start tag of the step in
    service. A step is never interrupted.
    """

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._joins = count()
        self._virtual_time = 0.0

    def slot(self, work: float = 0.0, **options: Any) -> "FairSlot":
        return FairSlot(self, next(self._arrivals), work, **options)

    def join(self, slot: Slot, admit: Callable[[], object]) -> None:
        slot.start, slot.order, slot.between_steps = max(slot.finish, self._virtual_time), next(self._joins), False
        super().join(slot, admit)

    def leave(self, slot: Slot) -> None:
        if self._serving is slot:
            slot.finish = slot.start + self.held(slot) - slot.counted
            slot.counted = slot.served
        super().leave(slot)

    def outranked(self) -> bool:
        return self._serving.between_steps

    def _serve_next(self) -> None:
        super()._serve_next()
        if self._serving is not None:
            self._virtual_time = self._serving.start


class FairSlot(Slot):
    """A run's place in a `FairQueue`."""

    start = finish = counted = 0.0
    """Tags of the latest step, and the seconds of the device until then."""
    order = 0
    between_steps = False

    @property
    def rank(self) -> tuple[float, int]:
        return self.start, self.order

    def progress(self, share: float) -> None:
        super().progress(share)
        self.between_steps = True
