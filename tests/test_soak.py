"""A short version of `make soak`: the same visitors for a few seconds. And many at once, where memory is short."""

import resource
from concurrent.futures import ThreadPoolExecutor

import hostile
import pytest

from featviz.runtime.jobs import INTERNAL_ERROR
from scripts import soak
from scripts.visitor import QUICK, Answer, Visitor, serving

pytestmark = pytest.mark.trust

SECONDS = 3

LITE = "efficientnet_lite0"

MIXED = (
    ("deepdream", ["image"], QUICK),
    ("deepdream", ["image"], {"layer": "vgg19/relu4_4", "size": 4096, "octaves": 1, "steps": 1}),
    ("style_transfer", ["content", "style"], {"network": LITE, "size": 96, "steps": 2, "scales": 1}),
    ("style_transfer", ["content", "style"], {"network": "vgg19", "size": 4096, "steps": 1, "scales": 1}),
    ("activation_maps", ["image"], {"layer": f"{LITE}/block4", "size": 96, "count": 4}),
    ("activation_maps", ["image"], {"layer": "vgg19/relu1_1", "size": 1024, "count": 64}),
    ("classification", ["image"], {"size": 224}),
    ("feature_visualization", [], {"layer": f"{LITE}/block9", "size": 512, "pictures": 6, "steps": 1}),
)
"""Recipe, pictures, fields; every second one is too large for what the server may take."""


@pytest.mark.whole
def test_visitors_of_every_kind_are_answered_or_refused_politely(record_property):
    with serving(FEATVIZ_RUNS_PER_MINUTE="100") as server:
        figures = soak.soak(server, SECONDS, visitors=4, settle=1)
    assert figures["wrong"] == 0, figures["examples of wrong"]
    assert figures["tracebacks in the log"] == 0
    assert figures["answered"] > 0
    record_property("requests in a short soak", figures["requests"])
    record_property("of which went wrong", figures["wrong"])


@pytest.mark.whole
def test_sixteen_visitors_of_a_server_with_two_gigabytes_get_a_result_or_a_sentence(record_property):
    """The limit is one of data: of address space torch's libraries alone map several times more than they use."""
    photo = hostile.written(hostile.gradient((640, 480)), "png")

    def visit(number: int) -> Answer:
        recipe, roles, fields = MIXED[number % len(MIXED)]
        visitor = Visitor(server.address, f"192.0.2.{number}")
        return visitor.run(recipe, **{role: visitor.upload("photo.png", photo) for role in roles}, **fields)

    with serving(FEATVIZ_RUNS_PER_MINUTE="100") as server:
        resource.prlimit(server.process.pid, resource.RLIMIT_DATA, (2 * 10**9, 2 * 10**9))
        with ThreadPoolExecutor(16) as visitors:
            answers = list(visitors.map(visit, range(16)))
        assert server.process.poll() is None
        log = server.log.read_text(encoding="utf-8")
    assert "Traceback" not in log, log
    refused = [answer.sentence for answer in answers if answer.event != "complete"]
    assert all(sentence.endswith(".") and len(sentence) < 300 and sentence != INTERNAL_ERROR for sentence in refused), set(
        refused
    )
    assert len(answers) - len(refused) >= 8
    record_property("visitors of a server short of memory", len(answers))
