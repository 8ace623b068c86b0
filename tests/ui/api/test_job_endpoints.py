"""Runs of clients: they end with their clients, and `start`, `job` and `stop` serve those that want to leave meanwhile.

The runs are stand-ins that note each step in a file, in a server of their own.
"""

import asyncio
import base64
import inspect
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import av
import clips
import gradio as gr
import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client
from PIL import Image
from standins import outputs

from featviz import recipe_of
from featviz.media.sheets import GAP, LABEL
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.presets import FOLDER
from featviz.recipes.recipe import Recipe
from featviz.recipes.table import RECIPES
from featviz.runtime.stream import Part, Preview
from featviz.ui.api.calls import publish_calls
from featviz.ui.api.job_endpoints import publish_jobs
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.gradio_internals import Blocks
from scripts.visitor import serving

PATIENCE = 20.0

SERVE = '''
import pathlib, sys, time
from featviz import ui
from featviz.media.saving import NOTE
from featviz.recipes import metadata
from featviz.runtime.stream import Preview

log = pathlib.Path(sys.argv[1])


def run(recipe, stopped, on_wait, on_part, **pictures):
    """Note each step in a file that is named after the seed. A seed of 30 or more is the seconds of a step but the first."""
    picture = next(iter(pictures.values()))
    for step in range(1, recipe.steps + 1):
        with (log / str(recipe.seed)).open("a") as file:
            file.write("x")
        time.sleep(recipe.seed if recipe.seed >= 30 and step > 1 else 0.2)
        shown = picture.point(lambda value: value // 2)
        shown.info[NOTE] = metadata.note(recipe, pictures)
        yield Preview(step, recipe.steps, "octave 1 of 1", step / recipe.steps, 1.0, 0.0, shown)


engine = ui.Engine(run, prepare=lambda recipe, **pictures: iter(()))
ui.launch(ui.build(engine), server_name="127.0.0.1", server_port=int(sys.argv[2]))
'''


@dataclass(frozen=True)
class Server:
    """A server whose runs note their steps."""

    address: str
    log: Path

    def steps(self, seed: int) -> int:
        """The steps that runs with this seed have begun."""
        path = self.log / str(seed)
        return path.stat().st_size if path.exists() else 0

    @property
    def mcp(self) -> str:
        return f"{self.address}gradio_api/mcp/"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    steps = tmp_path_factory.mktemp("steps")
    with serving(("-c", SERVE, str(steps)), kill=True, FEATVIZ_SECONDS_UNATTENDED="4") as server:
        yield Server(server.address, steps)
        log = server.log.read_text(encoding="utf-8")
    assert "Traceback" not in log, log


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_ends(server: Server, seed: int) -> None:
    """The client has gone: soon no step begins any more, before the run's hundredth. A step lasts 0.2 s."""
    begun, before = server.steps(seed), -1
    while begun != before:
        time.sleep(0.6)
        begun, before = server.steps(seed), begun
    assert begun < 100


CAT = str(FOLDER / "cat.jpg")


@pytest.fixture(scope="module")
def picture() -> str:
    return "data:image/jpeg;base64," + base64.b64encode((FOLDER / "cat.jpg").read_bytes()).decode()


@asynccontextmanager
async def session(server: Server, **options: object) -> AsyncIterator[tuple[ClientSession, Callable[[], str | None]]]:
    async with (
        streamable_http_client(server.mcp) as (read, write, session_id),
        ClientSession(read, write, **options) as opened,
    ):
        await opened.initialize()
        yield opened, session_id


async def reached(server: Server, seed: int, steps: int) -> None:
    for _ in range(round(PATIENCE / 0.01)):
        if server.steps(seed) >= steps:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{server.steps(seed)} steps")


def test_an_mcp_call_that_times_out_ends_with_its_connection(own, picture):
    async def call() -> None:
        async with session(own, read_timeout_seconds=timedelta(seconds=1)) as (client, _):
            await client.call_tool("deepdream", {"image": picture, "steps": 100, "seed": 1})

    with pytest.raises(Exception, match=r"Timed out while waiting|unhandled errors in a TaskGroup"):
        asyncio.run(call())
    assert_ends(own, 1)


def test_an_mcp_client_cancels_its_own_call_and_no_other_and_closing_its_session_ends_all_its_calls(own, picture):
    async def call() -> None:
        async with session(own) as (one, _), session(own) as (other, session_id):
            calls = [
                asyncio.create_task(client.call_tool("deepdream", {"image": picture, "steps": 100, "seed": seed}))
                for client, seed in ((one, 2), (other, 3), (other, 4))
            ]
            for seed in (2, 3, 4):
                await reached(own, seed, 2)
            cancelled = types.CancelledNotification(params=types.CancelledNotificationParams(requestId=one._request_id - 1))
            await one.send_notification(types.ClientNotification(cancelled))
            await asyncio.to_thread(assert_ends, own, 2)
            assert own.steps(3) > own.steps(2)  # Its call has the same number.
            await reached(own, 3, own.steps(3) + 3)
            async with httpx.AsyncClient() as http:
                closed = await http.delete(own.mcp, headers={"mcp-session-id": session_id()})
            assert closed.status_code == 204
            await asyncio.to_thread(assert_ends, own, 3)
            await asyncio.to_thread(assert_ends, own, 4)
            for task in calls:
                task.cancel()

    asyncio.run(call())


@pytest.fixture(scope="module")
def client(own) -> Client:
    return Client(own.address, verbose=False, analytics_enabled=False)


def test_cancelling_returns_at_once_in_the_middle_of_a_long_step(own, client):
    """The client's own patience is 5 s."""
    job = client.submit(image=handle_file(CAT), steps=100, seed=30, api_name="/deepdream")
    until(lambda: own.steps(30) == 2)
    job.cancel()
    assert client.predict(image=handle_file(CAT), steps=1, seed=5, api_name="/deepdream")  # The next visitor is served.


def test_a_call_ends_with_its_connection(own, client):
    file = client.predict(image=handle_file(CAT), steps=1, seed=6, api_name="/deepdream")
    body = {"image": {"path": upload(own, file), "meta": {"_type": "gradio.FileData"}}, "steps": 100, "seed": 7}
    event = httpx.post(f"{own.address}gradio_api/call/v2/deepdream", json=body).json()["event_id"]
    with httpx.stream("GET", f"{own.address}gradio_api/call/v2/deepdream/{event}", timeout=20) as answer:
        assert next(answer.iter_lines()) == "event: generating"
    assert_ends(own, 7)


def upload(server: Server, file: str) -> str:
    with Path(file).open("rb") as opened:
        return httpx.post(f"{server.address}gradio_api/upload", files={"files": opened}).json()[0]


def test_runs_that_nobody_asks_for_end_after_a_while(own, client, picture):
    """Here after four seconds, of the 20 that all steps take. A call that is never listened to, and a run whose client never asks again."""
    body = {"image": {"url": picture, "meta": {"_type": "gradio.FileData"}}, "steps": 100, "seed": 8}
    assert httpx.post(f"{own.address}gradio_api/call/v2/deepdream", json=body).json()["event_id"]
    started = client.predict("deepdream", {"steps": 100, "seed": 9}, image=handle_file(CAT), api_name="/start")
    until(lambda: own.steps(8) > 0 and own.steps(9) > 0)
    assert_ends(own, 8)
    assert_ends(own, 9)
    state, file = client.predict(started["id"], api_name="/job")
    assert (state["state"], state["error"]) == ("stopped", "The run ended early because nobody was watching it.")
    assert recipe_of(file) == DeepDream(steps=100, seed=9)


# Start and ask


def test_a_run_is_started_asked_for_and_stopped(own, client):
    started = client.predict("deepdream", {"steps": 100, "seed": 10}, image=handle_file(CAT), api_name="/start")
    assert started["state"] in ("waiting", "running")
    until(lambda: own.steps(10) >= 2)  # The first one has been shown.
    state, preview = client.predict(started["id"], 0.5, api_name="/job")
    assert (state["id"], state["state"], state["stage"], state["steps"]) == (started["id"], "running", "octave 1 of 1", 100)
    assert 0 < state["step"] < 100
    assert recipe_of(preview) == DeepDream(steps=100, seed=10)
    assert client.predict(started["id"], api_name="/stop")["state"] == "stopped"
    state, file = client.predict(started["id"], 50, api_name="/job")
    assert (state["state"], state["error"]) == ("stopped", "")
    with Image.open(file) as picture:
        assert picture.format == "PNG"
    assert_ends(own, 10)
    film = client.predict(started["id"], api_name="/film")
    with av.open(film) as opened, Image.open(file) as picture:
        frames = [frame.to_ndarray(format="rgb24") for frame in opened.decode(video=0)]
        assert len(frames) == 144
        assert abs(frames[-1].mean() - np.asarray(picture.convert("RGB")).mean()) < 3
    assert recipe_of(film) == DeepDream(steps=100, seed=10)


def test_an_assistant_starts_a_run_and_asks_until_it_is_done(own, picture):
    async def ask() -> tuple[dict, list]:
        async with session(own) as (client, _):
            arguments = {"recipe": "deepdream", "fields": {"steps": 8, "seed": 11}, "image": picture}
            answer = await client.call_tool("start", arguments)
            assert not answer.isError, answer.content
            started = json.loads(answer.content[0].text)
            answer = await client.call_tool("job", {"id": started["id"], "wait": 20})
            assert not answer.isError
            return json.loads(answer.content[0].text), answer.content[1:]

    state, contents = asyncio.run(ask())
    assert (state["state"], state["step"]) == ("done", 8)
    assert [content.type for content in contents] == ["image", "text"]
    assert contents[1].text.startswith("Image URL: http")


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("start", ("dream", {}), "There is no recipe 'dream'"),
        ("start", ("deepdream", {"steps": 0}), "steps"),
        ("start", ("feature_visualization", {}, handle_file(CAT)), "takes no picture 'image'"),
        ("job", ("x", 51), "There is no such run: the server was restarted since, or the run ended over 2 h ago"),
        ("stop", ("x",), "There is no such run"),
        ("film", ("x",), "There is no such run"),
        ("gradient", ("x",), "There is no such run"),
    ],
)
def test_what_cannot_be_started_or_found_is_answered_in_a_sentence(client, name, arguments, sentence):
    with pytest.raises(AppError, match=sentence):
        client.predict(*arguments, api_name=f"/{name}")


# In this process


@pytest.fixture
def cache(tidy_gradio, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


@pytest.fixture
def photo(tmp_path, cache) -> dict[str, str]:
    Image.new("RGB", (64, 48), (200, 100, 50)).save(tmp_path / "photo.png")
    return {"path": str(tmp_path / "photo.png")}


def greying(recipe: Recipe, **pictures: Image.Image) -> Iterator[Preview]:
    """Four steps, each of them a frame of the video if it is one."""
    for step, value in enumerate((200, 150, 100, 50), start=1):
        picture = Image.new("RGB", (64, 48), (value, value, value))
        yield Preview(step, 4, "", step / 4, 0.0, 0.0, picture, is_video_frame=True, measures={"cat": step / 4})


def published(engine: Engine) -> dict[str, Callable]:
    """The functions of all endpoints by name."""
    with Blocks(analytics_enabled=False) as demo:
        publish_calls({}, engine.with_device(lambda run: run))
        publish_jobs(engine.with_device(lambda run: run))
    return {event.api_name: event.fn for event in demo.fns.values()}


def called(name: str, *pictures: object, engine: Engine | None = None, **fields: object) -> list:
    """What the endpoint of a recipe yields."""
    recipe = RECIPES[name.removesuffix("_sheet").removesuffix("_video")]
    endpoint = published(engine or Engine(greying))[name]
    values = {name: field.default for name, field in recipe.model_fields.items()} | fields
    optional = [*pictures[len(recipe.images) :], *[None] * len(recipe.optional_images)][: len(recipe.optional_images)]
    return outputs(endpoint(*pictures[: len(recipe.images)], *values.values(), *optional))


def test_start_takes_the_pictures_of_every_recipe_by_their_names(photo):
    start = published(Engine(greying))["start"]
    roles = {role for recipe in RECIPES.values() for role in (*recipe.images, *recipe.optional_images)}
    assert {*inspect.signature(start).parameters} == {"recipe", "fields", *roles}
    assert start("style_transfer", {}, content=photo, style=photo, style2=photo)["state"] in ("waiting", "running", "done")


def test_a_call_yields_no_picture_twice(photo):
    """A long step has parts, which only the page shows."""

    def with_parts(recipe: Recipe, on_part: Callable, **pictures: Image.Image) -> Iterator[Preview]:
        for preview in greying(recipe):
            yield preview
            for number in (1, 2):
                on_part(Part(number, 2, 0.0, None))
                time.sleep(0.02)

    *previews, _ = called("style_transfer", photo, photo, engine=Engine(with_parts))
    greys = [preview.getpixel((0, 0)) for preview in previews]
    assert greys == sorted(set(greys), reverse=True)


SMALL = {"layer": "efficientnet_lite0/block2", "size": 64, "octaves": 1, "steps": 1}


def test_a_call_with_a_video_yields_a_video_with_its_times_and_sound(tmp_path, photo):
    source = clips.clip(tmp_path / "clip.mp4")
    *before, file = called("deepdream_video", {"path": str(source)}, **SMALL)
    assert not any(before)
    assert clips.times(file) == clips.TIMES
    assert clips.packets(file)
    assert recipe_of(file) == DeepDream(**SMALL)
    assert cut_short(clips.damaged(source, tmp_path / "damaged.mp4", 3)) == clips.TIMES[:3]
    with pytest.raises(gr.Error, match="'deepdream' takes a picture; for a video there is 'deepdream_video'"):
        called("deepdream", {"path": str(source)}, **SMALL)
    with pytest.raises(gr.Error, match=r"'deepdream_video' takes a video in place of the first picture: \.mp4, "):
        called("deepdream_video", photo, **SMALL)


def cut_short(source: Path) -> list:
    """The times of the video that a call yields before its error."""
    values = {name: field.default for name, field in DeepDream.model_fields.items()} | SMALL
    files = []

    async def call() -> None:
        run = published(Engine(greying))["deepdream_video"]
        async for file in run({"path": str(source)}, *values.values(), None, None):
            files.append(file)

    with pytest.raises(gr.Error, match=r"The result ends there, after 0\.5 s\."):
        asyncio.run(call())
    return clips.times(files[-1])


def test_a_job_makes_a_video_of_a_video(tmp_path, cache):
    source = clips.clip(tmp_path / "clip.mp4", count=2)
    endpoints = published(Engine(greying))
    started = endpoints["start"]("deepdream", SMALL, image={"path": str(source)})
    state, file = asyncio.run(endpoints["job"](started["id"], PATIENCE))
    assert (state["state"], state["error"]) == ("done", "")
    assert clips.times(file) == clips.TIMES[:2]


def test_a_sheet_is_one_picture(photo):
    def try_out(recipe: Recipe, **pictures: Image.Image) -> Iterator[tuple[Recipe, Preview]]:
        yield from ((variant, preview) for variant in recipe.variants()[:2] for preview in greying(variant))

    file = called("deepdream_sheet", photo, engine=Engine(greying, try_out))[-1]
    with Image.open(file) as picture:
        assert picture.size == (200 + GAP + 200, LABEL + 150)
    assert recipe_of(file) == DeepDream()
