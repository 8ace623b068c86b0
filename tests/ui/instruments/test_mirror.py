"""The live mirror of the page without a browser: what a browser may send, how many mirrors there are, and how they end."""

import base64
import io
import json
import threading
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import gradio as gr
import pytest
from PIL import Image

from featviz.errors import InputError, LimitError
from featviz.media.saving import NOTE
from featviz.recipes import metadata
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.table import RECIPES
from featviz.runtime.mirror import DREAM, Mirror
from featviz.runtime.result_files import BEFORE
from featviz.ui.instruments import mirror as page
from featviz.ui.instruments.mirror import IDLE_SECONDS, MOST, MirrorBox, Mirrors, read_frame
from featviz.ui.runs import Runs
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.gradio_internals import McpSessions
from featviz.ui.serving.request_limits import BodyLimit, NoFileProxy, QuietDisconnects


class Darkened:
    """A stand-in for the mirror: half as bright. It can be made to wait until it is ended."""

    seconds = 0.25

    def __init__(self, waits: bool = False):
        self.begun, self.ended = threading.Event(), threading.Event()
        self._waits = waits

    def show(self, frame: Image.Image, recipe: DeepDream) -> Image.Image | None:
        self.begun.set()
        if self._waits:
            assert self.ended.wait(timeout=60)
        if self.ended.is_set():
            return None
        picture = frame.point(lambda value: value // 2)
        picture.info[NOTE] = metadata.note(recipe, ["image"], whole=False)
        return picture

    def end(self) -> None:
        self.ended.set()


def jpeg(colour: str = "orange", size: tuple[int, int] = (64, 48)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "JPEG")
    return file.getvalue()


def as_address(content: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"


SENT = {"id": "one mirror", "frame": as_address(jpeg()), "layer": "efficientnet_lite0/block4", "strength": 2.5}


# What a browser may send


def test_layer_and_strength_are_those_of_the_browser():
    assert read_frame(SENT) == ("one mirror", DREAM.replace(layer="efficientnet_lite0/block4", strength=2.5), jpeg())


# The mirrors of a server


def test_a_visitor_sees_the_dream_and_keeps_it_with_its_recipe_beside_the_frame(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    mirrors = Mirrors(Darkened)
    name, recipe, frame = read_frame(SENT)
    runs = Runs(Engine())
    with pytest.raises(InputError, match="shows nothing yet"):
        mirrors.keep(name, runs, "")
    shown = mirrors.show(mirrors.find(name), recipe, frame)
    with Image.open(io.BytesIO(base64.b64decode(shown.partition(",")[2]))) as picture:
        assert picture.getpixel((30, 20)) == pytest.approx((127, 82, 0), abs=4)
    job = mirrors.keep(name, runs, "somebody")
    *_, last = job.watch()
    assert (last.state, runs.jobs.of("somebody")) == ("done", [job])
    file = Path(last.result.file())
    with Image.open(file) as kept, Image.open(file.with_name(BEFORE)) as before:
        assert metadata.restore(kept.info[NOTE], RECIPES).recipe == recipe == last.result.recipe
        assert before.getpixel((30, 20)) == pytest.approx((255, 165, 0), abs=6)
    mirrors.end(name)
    with pytest.raises(InputError, match="shows nothing yet"):
        mirrors.keep(name, runs, "")


def test_there_are_so_many_mirrors_and_those_that_were_left_make_room(monkeypatch):
    now = 100.0
    monkeypatch.setattr(page.time, "monotonic", lambda: now)
    mirrors = Mirrors(Darkened)
    for name in (None, 5, "short", "long" * 100):
        with pytest.raises(InputError, match="8 to 64 characters"):
            mirrors.find(name)
    visits = [mirrors.find(f"mirror {number}") for number in range(MOST)]
    assert mirrors.find("mirror 3") is visits[3]
    with pytest.raises(LimitError, match=f"{MOST} mirrors are running"):
        mirrors.find("one more")
    now += IDLE_SECONDS
    mirrors.find("mirror 3")
    now += 1
    mirrors.find("one more")
    assert [visit.mirror.ended.is_set() for visit in visits] == [number != 3 for number in range(MOST)]


def test_on_zero_gpu_a_sentence_says_that_there_is_no_mirror():
    assert isinstance(Engine().with_device(lambda run: run).mirror(), Mirror)
    mirrors = Mirrors(Engine().with_device(lambda run: run, zero_gpu=True).mirror)
    with pytest.raises(LimitError, match="does not run on ZeroGPU"):
        mirrors.find("one mirror")


# The requests of the page


@pytest.fixture
def ask(tidy_gradio, tmp_path, monkeypatch):
    """Serves the component alone; returns the mirror, a function that sends a request, and one that waits for its answer as well."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    mirror = Darkened(waits=True)
    with gr.Blocks(analytics_enabled=False) as demo:
        box = MirrorBox(lambda: mirror)
    middleware = [(kind, (), {}) for kind in (QuietDisconnects, BodyLimit, NoFileProxy, McpSessions)]
    _, address, _ = demo.launch(prevent_thread_lock=True, quiet=True, ssr_mode=False, app_kwargs={"middleware": middleware})

    def send(function: str, data: object) -> HTTPConnection:
        body = {"data": data, "component_id": box.html._id, "fn_name": function, "session_hash": "session"}
        connection = HTTPConnection(urlsplit(address).netloc, timeout=60)
        connection.request("POST", "/gradio_api/component_server/", json.dumps(body), {"Content-Type": "application/json"})
        return connection

    def post(function: str, data: object) -> object:
        with closing(send(function, data)) as connection, connection.getresponse() as answer:
            assert answer.status == 200
            return json.load(answer)

    yield mirror, send, post
    demo.close()


def test_a_frame_ends_with_its_connection_and_errors_are_sentences(ask):
    mirror, send, post = ask
    assert post("mirror_begin", SENT["id"]) == {}
    assert post("mirror_frame", SENT | {"strength": 0}) == {"error": "strength is 0; expected a number from 0.1 to 10."}
    connection = send("mirror_frame", SENT)
    assert mirror.begun.wait(timeout=60)
    connection.close()  # As when the page is closed.
    assert mirror.ended.wait(timeout=60)
    assert post("mirror_frame", SENT) == {"picture": "", "seconds": 0.25}
    assert post("mirror_end", SENT["id"]) is None
    assert post("mirror_frame", SENT | {"frame": as_address(b"nothing")})["error"].startswith("The frame")


def test_an_unexpected_error_is_logged_and_gets_a_general_sentence(ask, monkeypatch, caplog):
    monkeypatch.setattr(Mirrors, "find", lambda *_: 1 / 0)
    for function in ("mirror_begin", "mirror_frame"):
        assert "logged" in ask[-1](function, SENT)["error"]
    assert "ZeroDivisionError" in caplog.text
