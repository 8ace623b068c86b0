"""What runs have taken on this machine, compared with what was predicted."""

from collections import defaultdict, deque
from collections.abc import Hashable
from statistics import median

KEPT = 5
"""Runs of each kind that count: the latest."""


class Corrections:
    """By what to multiply the predicted seconds of a kind of run: the median of actual over predicted in the latest runs.

    A median, so that one run that something else slowed down changes nothing.
    """

    def __init__(self) -> None:
        self._ratios: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=KEPT))

    def record(self, kind: Hashable, predicted: float, seconds: float) -> None:
        """Note how long a run, or a part of it, took."""
        self._ratios[kind].append(seconds / predicted)

    def of(self, kind: Hashable, typical: float = 1.0) -> float:
        """The correction of a kind of run; `typical` until there has been one."""
        return median(self._ratios[kind]) if kind in self._ratios else typical
