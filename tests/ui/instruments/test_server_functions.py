"""What the scripts of the page call: each call is counted for its visitor, and every error is a sentence."""

import gradio as gr
import pytest

from featviz import limits
from featviz.errors import InputError
from featviz.runtime.rate_limit import RateLimit
from featviz.ui.api.job_endpoints import publish_runs
from featviz.ui.instruments.atlas import AtlasBox
from featviz.ui.instruments.lesson import Lesson
from featviz.ui.instruments.server_functions import answered
from featviz.ui.serving import admission
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.request_limits import Blocks


@pytest.fixture
def two_passes(monkeypatch):
    """A visitor who may ask for two passes a minute."""
    monkeypatch.setenv(limits.RUNS_PER_MINUTE.variable, "1")
    monkeypatch.setattr(admission, "PASS_LIMIT", RateLimit(times=2))
    monkeypatch.setattr(admission, "visitor_address", lambda: "somebody")


def test_an_error_is_the_answer_as_a_sentence(caplog):
    def refuse(sent):
        raise InputError("1 < 2")

    assert answered(refuse)({}) == {"error": "1 < 2"}
    assert answered(refuse)("text") == {"error": "The request is not an object."}
    assert caplog.records == []


@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        ({"step": ["kernel"], "value": 0}, "There is no such step"),
        ({"step": "pixel", "value": 0}, "There is no such step"),
        ({"step": "kernel", "value": 1.0}, "has the values 0 to 63"),
        ({"step": "kernel", "value": [1]}, "has the values 0 to 63"),
        ({"step": "kernel", "value": 64}, "has the values 0 to 63"),
        ({"step": "kernel"}, "has the values 0 to 63"),
    ],
)
def test_a_step_of_the_lesson_or_a_value_that_does_not_exist_is_refused(caplog, sent, sentence):
    assert sentence in Lesson(Engine()).html.lesson_step(sent)["error"]
    assert caplog.records == []


def test_a_search_for_channels_counts_as_a_pass(two_passes):
    search = AtlasBox().html.find_channels
    assert len(search({"text": "block4"})["found"]) == 40
    assert search({"text": 93})["found"]
    assert set(search({"text": "block4"})) == {"error"}


def test_asking_for_a_gradient_counts_as_a_pass(two_passes):
    with Blocks(analytics_enabled=False) as demo:
        publish_runs({}, Engine())
    (gradient,) = (event.fn for event in demo.fns.values() if event.api_name == "gradient")
    for _ in range(2):
        with pytest.raises(gr.Error, match="There is no such run"):
            gradient("x")
    with pytest.raises(gr.Error, match="a minute"):
        gradient("x")
