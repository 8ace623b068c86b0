"""A short version of `make soak`: the same visitors for a few seconds."""

import pytest

from scripts import soak
from scripts.visitor import serving

pytestmark = pytest.mark.trust

SECONDS = 8


def test_visitors_of_every_kind_are_answered_or_refused_politely(record_property):
    with serving(FEATVIZ_RUNS_PER_MINUTE="100") as server:
        figures = soak.soak(server, SECONDS, visitors=4, settle=2)
    assert figures["wrong"] == 0, figures["what was wrong"]
    assert figures["tracebacks in the log"] == 0
    assert figures["answered"] > 0
    record_property("requests in a short soak", figures["requests"])
    record_property("of which went wrong", figures["wrong"])
