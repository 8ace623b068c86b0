"""How long runs take on this machine: the speed of each network, and how runs compared with what was predicted."""

import math
from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import accumulate

RUNS_KEPT = 5
"""The number of latest runs of each kind that count."""

DEFAULT_WEIGHT = 0.25
"""The weight of the default factor in the median. A run with as much work in a pass as the run to predict has the weight 1."""


@dataclass(frozen=True)
class Speed:
    """The speed of a network on a device. The time of a pass is the time of its operations plus the time of its fixed work."""

    flops: float
    """Floating point operations a second."""
    fixed_work: float
    """`Cost.fixed_work` a second; `inf` if a small pass takes no longer than its operations alone."""

    @classmethod
    def fit(cls, *passes: tuple[float, float, float]) -> "Speed":
        """Return the speed at which a small and a large pass take the seconds that were measured.

        Args:
            passes: the small one and the large one, each as (operations, fixed work, seconds). The fixed work is the same.
        """
        (few, fixed, least), (many, _, most) = passes
        seconds_per_flop = (most - least) / (many - few)
        if not 0 < seconds_per_flop <= most / many:  # Noise: the small one took too long, or too short.
            return cls(many / most, math.inf)
        return cls(1 / seconds_per_flop, fixed / (most - many * seconds_per_flop))

    def seconds(self, flops: float, fixed_work: float) -> float:
        """Return the seconds of so many operations and so much fixed work."""
        return flops / self.flops + fixed_work / self.fixed_work


class Corrections:
    """Factors for predicted seconds: the median of actual over predicted seconds in the latest runs of each kind.

    The median ignores a single run that was slowed down by something else. It is weighted: a run with k times, or
    1/k of, the work in a pass of the run to predict has the weight 1/k. Small passes spend their time on other things.
    """

    def __init__(self) -> None:
        self._runs: dict[Hashable, deque[tuple[float, float]]] = defaultdict(lambda: deque(maxlen=RUNS_KEPT))
        """Kind → (work in a pass, actual over predicted seconds) of each run."""

    def record(self, kind: Hashable, work: float, predicted: float, actual: float) -> None:
        """Record the predicted and the actual seconds of a run, or of a part of one. `work`: in a pass, in any unit.

        A run without work, of a network without weights, predicts nothing and is left out.
        """
        if predicted > 0:
            self._runs[kind].append((work, actual / predicted))

    def factor(self, kind: Hashable, work: float, default: float = 1.0) -> float:
        """Return the correction for a run that does so much work in a pass; `default` before the first run of its kind."""
        runs = tuple(self._runs[kind]) if kind in self._runs else ()
        weighted = [(ratio, min(work, done) / max(work, done)) for done, ratio in runs]
        return _weighted_median([*weighted, (default, DEFAULT_WEIGHT)])


def _weighted_median(weighted: list[tuple[float, float]]) -> float:
    """Return the value at which half of the weight is reached. `weighted` has (value, weight)."""
    values, weights = zip(*sorted(weighted), strict=True)
    half = sum(weights) / 2
    return next(value for value, reached in zip(values, accumulate(weights), strict=True) if reached >= half)
