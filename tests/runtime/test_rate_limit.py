"""The runs that each visitor starts within a minute."""

import pytest

from featviz import limits
from featviz.errors import LimitError
from featviz.runtime import rate_limit
from featviz.runtime.rate_limit import RateLimit

pytestmark = pytest.mark.trust


def test_a_visitor_s_runs_are_counted_for_a_minute(monkeypatch):
    now, rate = 1000.0, RateLimit()
    monkeypatch.setattr(rate_limit.time, "monotonic", lambda: now)
    monkeypatch.setenv(limits.RUNS_PER_MINUTE.variable, "3")
    for _ in range(3):
        rate.take("a")
    now += 20.5
    with pytest.raises(LimitError, match="Each visitor can start 3 runs a minute; the next one can start in 40 s"):
        rate.take("a")
    rate.take("b")
    now += 40
    rate.take("a")
    now += 1000
    rate.take("c")
    assert set(rate._starts) == {"c"}  # Whoever is gone is forgotten.


class CountedVisitor(str):
    """A visitor who counts how often one is looked up in a table."""

    looked_up = 0

    def __hash__(self) -> int:
        CountedVisitor.looked_up += 1
        return super().__hash__()

    __eq__ = str.__eq__


def test_counting_a_visitor_s_runs_costs_the_same_however_many_visitors_there_are(monkeypatch):
    now, rate = 1000.0, RateLimit()
    monkeypatch.setattr(rate_limit.time, "monotonic", lambda: now)

    def cost(visitors: list[str]) -> int:
        nonlocal now
        CountedVisitor.looked_up = 0
        for visitor in visitors:
            now += 0.01
            rate.take(visitor)
        return CountedVisitor.looked_up

    few, many = ([CountedVisitor(f"{name} {i}") for i in range(count)] for name, count in (("early", 10), ("late", 2000)))
    assert cost(few) <= 5 * len(few)
    assert cost(many) <= 5 * len(many)
    now += 100
    assert cost(few) <= 5 * (len(few) + len(many))  # All the others are forgotten, once.
    assert cost(few) <= 5 * len(few)
    assert set(rate._starts) == set(few)
