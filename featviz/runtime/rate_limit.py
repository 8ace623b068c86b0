"""A limit on what each visitor starts within a minute."""

import math
import threading
import time
from collections import OrderedDict, deque

from featviz import limits
from featviz.errors import LimitError

MINUTE = 60.0

RUNS = "Each visitor can start {limit} runs a minute; the next one can start in {wait} s."


class RateLimit:
    """Limit what each visitor starts within a minute. Constant time for each start, for any number of visitors."""

    def __init__(self, sentence: str = RUNS, times: int = 1) -> None:
        """
        Args:
            sentence: the refusal, with `{limit}` and `{wait}`, in seconds.
            times: how many times `FEATVIZ_RUNS_PER_MINUTE` is the limit.
        """
        self._sentence, self._times = sentence, times
        self._starts: OrderedDict[str, deque[float]] = OrderedDict()
        """Times of the latest starts by visitor; visitors in the order of their latest start, oldest first."""
        self._lock = threading.Lock()

    def take(self, visitor: str) -> None:
        """Record a start.

        Raises:
            LimitError: the visitor has started as many as the limit.
        """
        now, limit = time.monotonic(), self._times * limits.RUNS_PER_MINUTE.value
        with self._lock:
            while self._starts and next(iter(self._starts.values()))[-1] <= now - MINUTE:
                self._starts.popitem(last=False)  # Each start is removed once: constant time on average.
            starts = self._starts.setdefault(visitor, deque(maxlen=limit))
            if len(starts) == limit and starts[0] > now - MINUTE:
                wait = math.ceil(starts[0] + MINUTE - now)
                raise LimitError(self._sentence.format(limit=limit, wait=wait))
            starts.append(now)
            self._starts.move_to_end(visitor)
