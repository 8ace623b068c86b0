"""How long runs take on this machine, compared with what was predicted."""

from collections import defaultdict, deque
from collections.abc import Hashable
from statistics import median

RUNS_KEPT = 5
"""The number of latest runs of each kind that count."""


class Corrections:
    """Factors for predicted seconds: the median of actual over predicted seconds in the latest runs of each kind.

    The median ignores a single run that was slowed down by something else.
    """

    def __init__(self) -> None:
        self._ratios: dict[Hashable, deque[float]] = defaultdict(lambda: deque(maxlen=RUNS_KEPT))

    def record(self, kind: Hashable, predicted: float, actual: float) -> None:
        """Record the predicted and the actual seconds of a run, or of a part of one."""
        self._ratios[kind].append(actual / predicted)

    def factor(self, kind: Hashable, default: float = 1.0) -> float:
        """Return the correction of a kind of run; `default` before its first run."""
        return median(self._ratios[kind]) if kind in self._ratios else default
