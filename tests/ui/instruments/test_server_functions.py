"""What the scripts of the page call: each call is counted for its visitor, and every error is a sentence."""

import random

import gradio as gr
import pytest

from featviz import limits
from featviz.errors import InputError
from featviz.recipes import presets
from featviz.runtime import atlas
from featviz.runtime.game import Round
from featviz.runtime.rate_limit import RateLimit
from featviz.ui.api.job_endpoints import publish_jobs
from featviz.ui.instruments import game
from featviz.ui.instruments.atlas import AtlasBox
from featviz.ui.instruments.game import Game
from featviz.ui.instruments.lesson import Lesson
from featviz.ui.instruments.server_functions import answered
from featviz.ui.runs import enlarged
from featviz.ui.serving import admission
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.files import data_url
from featviz.ui.serving.gradio_internals import Blocks


@pytest.fixture
def two_passes(monkeypatch):
    """A visitor who may ask for two passes a minute."""
    monkeypatch.setenv(limits.RUNS_PER_MINUTE.variable, "1")
    monkeypatch.setattr(admission, "PASS_LIMIT", RateLimit("{limit} questions a minute; {wait} s", times=2))
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


def activations_of(calls: list):
    """A stand-in for `peak_activations` that records the pictures of each call."""

    def peak_activations(recipe, layers, others=(), *, image):
        calls.append((image, *others))
        return [
            {layer: [random.Random(f"{file}{layer}{channel}").random() for channel in range(320)] for layer in layers}
            for file in calls[-1]
        ]

    return peak_activations


def test_a_game_computes_all_pictures_at_once_and_counts_the_fixed_rounds(caplog):
    calls: list = []
    played = Game(Engine(peak_activations=activations_of(calls))).html
    begun = played.game_rounds({"seed": 0})
    played.game_rounds({"seed": 0})
    assert [len(call) for call in calls] == [8]
    answers = [0 if first > second else 1 for first, second in (it["activations"] for it in begun["rounds"])]
    assert begun["fixed"]
    assert played.game_answers({"chosen": None}) == {"optimised": (0, 0), "natural": (0, 0)}
    with caplog.at_level("INFO"):
        counted = played.game_answers({"variant": 1, "chosen": [*answers[:4], *(1 - it for it in answers[4:])]})
    assert counted == {"optimised": (2, 5), "natural": (2, 5)}
    assert "'natural': [(1, 1), (0, 0), (1, 1)" in caplog.text
    for sent, sentence in (
        ({"variant": 1, "chosen": [0] * 9}, "10 times 0 or 1"),
        ({"variant": 1, "chosen": [2] * 10}, "10 times 0 or 1"),
        ({"variant": 1, "chosen": "0000000000"}, "10 times 0 or 1"),
        ({"variant": 2, "chosen": answers}, "neither 0 nor 1"),
        ({"chosen": answers}, "neither 0 nor 1"),
    ):
        assert sentence in played.game_answers(sent)["error"]
    assert played.game_answers({}) == counted

    own = presets.FOLDER / "cat.jpg"
    for _ in range(2):
        assert not played.game_rounds({"seed": 0, "picture": {"path": str(own)}})["fixed"]
    assert calls[1:] == [(str(own),)] * 2  # The picture of a visitor is not kept.


def test_what_is_shown_of_a_channel_is_never_cut_from_a_picture_of_its_round():
    round_ = Round("efficientnet_lite0/block9", 7, (0, 1), (0.5, 0.2))
    strongest, second, *_ = atlas.patches(round_.layer).channels[7]
    shown = [game._shown(round_, "natural", [str(file), "other"]) for file in (presets.FOLDER / "cat.jpg", strongest.file)]
    assert [it["kind"] for it in shown] == ["natural", "natural"]
    expected = [data_url(enlarged(patch.picture())) for patch in (strongest, second)]
    assert [it["thumbnail"] for it in shown] == expected
    assert game._shown(round_, "optimised", ["a", "b"])["kind"] == "optimised"


def test_a_search_for_channels_counts_as_a_pass(two_passes):
    search = AtlasBox().html.find_channels
    assert len(search({"text": "block4"})["found"]) == 40
    assert search({"text": 93})["found"]
    assert set(search({"text": "block4"})) == {"error"}


def test_asking_for_a_gradient_counts_as_a_pass(two_passes):
    with Blocks(analytics_enabled=False) as demo:
        publish_jobs(Engine())
    (gradient,) = (event.fn for event in demo.fns.values() if event.api_name == "gradient")
    for _ in range(2):
        with pytest.raises(gr.Error, match="There is no such run"):
            gradient("x")
    with pytest.raises(gr.Error, match="a minute"):
        gradient("x")
