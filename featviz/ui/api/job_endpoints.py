"""The endpoints that run recipes: a call for each recipe, and `start`, `job`, `stop`, `gradient` and `film` for runs that outlive a call."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from html import escape
from typing import Any

import gradio as gr
from pydantic.fields import FieldInfo

from featviz import limits
from featviz.errors import InputError
from featviz.media.video import READ
from featviz.networks.hub import DownloadProgress
from featviz.recipes import metadata
from featviz.recipes.recipe import Recipe, choices
from featviz.recipes.table import RECIPES
from featviz.runtime.jobs import AT_ONCE, Job, Update
from featviz.runtime.result_files import film_of, name_of
from featviz.runtime.sheet import on_one_sheet
from featviz.runtime.stream import Preview
from featviz.ui.api.endpoints import addresses
from featviz.ui.controls import api_function, label
from featviz.ui.masks import mention_stretching
from featviz.ui.runs import recording
from featviz.ui.serving.admission import Request, admit, count_pass, validate_request
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.errors import error_sentences
from featviz.ui.serving.files import in_cache
from featviz.ui.serving.gradio_internals import Reader, endpoint, value

RUN_QUEUE = {"concurrency_id": "runs", "concurrency_limit": AT_ONCE}
"""Gradio's queue for runs. Those that have begun share the device; the scheduler decides which goes first."""

SHEET = "Several small versions of one run, with labels, on one picture."

VIDEO = "The same with a video in place of the first picture: each frame follows the one before, and the sound is kept."

LONGEST_WAIT = 50
"""Seconds for which `job` waits at most. MCP clients usually give up after 60."""

Work = Callable[..., Generator[Preview | DownloadProgress, None, None]]

OUTPUTS: dict[str, Callable[[], gr.components.Component]] = {
    "picture": lambda: gr.Image(label="Result", format="png", visible=False),
    "video": lambda: gr.Video(label="Result", visible=False),
    "numbers": lambda: gr.Label(label="Names", visible=False),
}
"""The output of a call, by what the recipe produces. The picture is lossless."""


def publish_runs(components: Mapping[str, Mapping[str, gr.components.Component]], engine: Engine) -> None:
    """Add the endpoints, which are MCP tools too.

    `components`: name of a recipe → its controls and pictures by name, whose names and defaults the endpoint has. What is left out
    gets components that are not shown.
    """
    clip = gr.Video(label="Video", visible=False)
    for recipe in RECIPES.values():
        given, fields = components.get(recipe.name, {}), recipe.model_fields
        ordered = [
            given[name] if name in given else _value(name, fields[name]) if name in fields else _picture(name)
            for name in (*recipe.images, *fields, *recipe.optional_images)
        ]
        for address in addresses(recipe.name):
            call = api_function(recipe, _call(recipe, engine, recipe.produces), address["api_name"])
            endpoint(call, ordered, [OUTPUTS[recipe.produces]()], **address, **RUN_QUEUE)
        if recipe.sweep_fields:
            name = f"{recipe.name}_sheet"
            call = api_function(recipe, _call(recipe, engine, "picture", sweep=True), name, SHEET)
            endpoint(call, ordered, [OUTPUTS["picture"]()], api_name=name, **RUN_QUEUE)
        if recipe.follows_video:
            name = f"{recipe.name}_video"
            call = api_function(recipe, _call(recipe, engine, "video"), name, VIDEO, "video")
            endpoint(call, [clip, *ordered[1:]], [OUTPUTS["video"]()], api_name=name, **RUN_QUEUE)
    _publish_jobs(engine)


def _value(name: str, field: FieldInfo) -> gr.components.Component:
    """Return a component for a field that the page shows nowhere."""
    return value(field.annotation, label(name), field.default, choices(field))


def _picture(role: str) -> gr.Image:
    return gr.Image(label=label(role), type="filepath", image_mode=None, visible=False)


def start_job(engine: Engine, request: Request, *, sweep: bool = False, keep_steps: bool = False, **options: Any) -> Job:
    """Start a job: download the network, and run the recipe on its pictures or its video, or its small variants for a `sweep`.

    `keep_steps`: whether the steps of a picture are kept for `film`. `options` go to `Jobs.start`, whose errors this raises.
    """
    recipe, pictures, _ = request
    work, write = engine.run, None
    if sweep:
        work = partial(_sheet, engine)
    elif request.clip or recipe.produces == "video" or keep_steps:
        work, write = recording(engine, request, partial(in_cache, name=name_of(recipe)))

    def run(recipe: Recipe, **given: Any) -> Generator[Preview | DownloadProgress, None, None]:
        yield from engine.prepare(recipe, **pictures)
        yield from work(recipe, **given)

    options = {"interruptible": engine.in_process, "expected": engine.expected(request, sweep=sweep), **options}
    return engine.jobs.start(recipe, pictures, run=run, write=write, **options)


def _sheet(engine: Engine, recipe: Recipe, **given: Any) -> Iterator[Preview]:
    return on_one_sheet(recipe, engine.try_out(recipe, **given))


def _call(
    recipe: type[Recipe], engine: Engine, produces: str, *, sweep: bool = False
) -> Callable[[Sequence[Any]], AsyncGenerator[Any, None]]:
    """Return a function that runs a recipe on what a client has sent and yields the output so far.

    `produces`: a key of `OUTPUTS`.
    """

    async def call(sent: Sequence[Any]) -> AsyncGenerator[Any, None]:
        request = await asyncio.to_thread(validate_request, recipe, sent)
        mention_stretching(request.pictures)
        with error_sentences():
            if recipe.follows_video and not sweep:
                check_kind(request, produces)
            job = await asyncio.to_thread(start_job, engine, request, sweep=sweep, unattended=0)
        reader = Reader()
        async with aclosing(job.watch_async()) as updates:
            async for update in updates:
                if reader.seconds_away() > limits.SECONDS_UNATTENDED.value:
                    return
                if update.error and update.result and produces == "video":
                    yield await _file(update)  # What there is of it, before the error.
                if update.latest or update.final:
                    yield await _output(produces, update)

    return call


def check_kind(request: Request, produces: str) -> None:
    """Raise InputError if a picture is made of a video, or a video of a picture."""
    name = request.recipe.name
    if request.clip and produces == "picture":
        raise InputError(f"'{name}' takes a picture; for a video there is '{name}_video'.")
    if produces == "video" and not request.clip:
        raise InputError(f"'{name}_video' takes a video in place of the first picture: {', '.join(READ)}.")


async def _output(produces: str, update: Update) -> Any:
    """Return the output of a call for an update of its job; None where there is none yet, as for a video.

    Raises:
        gr.Error: the run has failed.
    """
    if update.error:
        raise gr.Error(escape(update.error, quote=False), print_exception=False)
    if update.result:
        return dict(update.result.measures) if produces == "numbers" else await _file(update)
    if update.latest is None or produces == "video":
        return None
    return dict(update.latest.measures) if produces == "numbers" else update.latest.picture


async def _file(update: Update) -> str | None:
    """Return the file of the picture so far, or of the result."""
    with error_sentences():
        if update.result:
            return await asyncio.to_thread(update.result.file)
        return update.latest and await asyncio.to_thread(in_cache, update.latest.picture)


def _publish_jobs(engine: Engine) -> None:
    """Add `start`, `job`, `stop`, `gradient` and `film`."""
    roles = list(dict.fromkeys(role for recipe in RECIPES.values() for role in (*recipe.images, *recipe.optional_images)))

    def start(
        recipe: str,
        fields: dict,
        image: str | None = None,
        content: str | None = None,
        style: str | None = None,
        guide: str | None = None,
        mask: str | None = None,
        style2: str | None = None,
        style3: str | None = None,
        style4: str | None = None,
        start: str | None = None,
        regions: str | None = None,
        style_regions: str | None = None,
    ) -> dict:
        """Start a run and return at once. Ask for its progress and its result with `job`, at least once a minute.

        Args:
            recipe: Name of the recipe, e.g. 'deepdream'.
            fields: Its parameters by their names; those left out keep their defaults.
            image: The picture, for every recipe but 'style_transfer', 'reconstruct_style' and 'feature_visualization'. For 'deepdream'
                it may be a video; the result is then one too.
            content: The picture whose objects 'style_transfer' keeps; it may be a video.
            style: The picture whose style 'style_transfer' and 'reconstruct_style' take.
            guide: For 'deepdream': a picture whose features it shall grow.
            mask: Where the run has an effect: white for here, black for not here.
            style2: For 'style_transfer': a second style.
            style3: For 'style_transfer': a third style.
            style4: For 'style_transfer': a fourth style.
            start: For 'style_transfer': a result to go on from.
            regions: For 'style_transfer': the content's regions, as areas of plain colours.
            style_regions: For 'style_transfer': the first style's regions, each for the content's region of the same colour.

        Returns:
            The id of the run, and its state as `job` returns it.
        """
        given = (image, content, style, guide, mask, style2, style3, style4, start, regions, style_regions)
        sent = dict(zip(roles, given, strict=True))
        with error_sentences():
            request = admit(lambda: _recipe_of(recipe, fields), sent)
            return _state(job := start_job(engine, request, keep_steps=True), job.now)

    async def job(id: str, wait: float = 0) -> tuple[dict, str | None]:  # noqa: A002
        """Return the state of a run and the file of its latest picture, or of its result once it has ended.

        Args:
            id: What `start` returned.
            wait: Seconds to wait for the end of the run, at most 50.

        Returns:
            {"id", "state", "stage", "step", "steps", "work", "seconds_left", "measures", "error"}, where the state is 'waiting',
            'running', 'done', 'stopped' or 'failed', and 'work' is the share that is done; and the file, if there is one.
        """
        with error_sentences():
            found = engine.jobs.find(id)
            if not 0 <= wait <= LONGEST_WAIT:
                raise InputError(f"wait is {wait:g}; expected 0 to {LONGEST_WAIT}.")
        update = await _wait(found, wait)
        return _state(found, update), await _file(update)

    def stop(id: str) -> dict:  # noqa: A002
        """Stop a run. Its latest picture is the result.

        Args:
            id: What `start` returned.

        Returns:
            The state of the run, as `job` returns it.
        """
        with error_sentences():
            found = engine.jobs.find(id)
            found.stop()
            return _state(found, found.now)

    def film(id: str) -> str:  # noqa: A002
        """Return a film of how the picture of an ended run came about: 6 s, whatever the number of steps.

        Args:
            id: What `start` returned.

        Returns:
            The video file.
        """
        with error_sentences():
            result = engine.jobs.find(id).result
            if result is None:
                raise InputError("This run has no result yet; a film shows a run that has ended.")
            return film_of(result.file())

    def gradient(id: str) -> str:  # noqa: A002
        """Return the gradient image of the latest step of a run of 'deepdream' with 'show_gradient': grey where nothing changes.

        Args:
            id: What `start` returned.

        Returns:
            The picture, a PNG.
        """
        with error_sentences():
            count_pass()
            now = engine.jobs.find(id).now
            if now.latest and now.latest.gradient:
                return in_cache(now.latest.gradient)
            if now.result and (file := now.result.gradient_file()):
                return file
            raise InputError("This run has no gradient image; 'deepdream' has one after its first step, with show_gradient.")

    endpoint(
        start, [value(str, "Recipe"), value(dict, "Fields"), *map(_picture, roles)], [value(dict, "State")],
        api_name="start", concurrency_limit=None,
    )  # fmt: skip
    asked, file = [value(str, "Id"), value(float, "Wait", 0)], gr.File(label="File", visible=False)
    endpoint(job, asked, [value(dict, "State"), file], api_name="job", queue=False)
    endpoint(stop, asked[:1], [value(dict, "State")], api_name="stop", queue=False)
    endpoint(gradient, asked[:1], [gr.File(label="Gradient", visible=False)], api_name="gradient", queue=False)
    endpoint(film, asked[:1], [gr.File(label="Film", visible=False)], api_name="film", concurrency_limit=1)


async def _wait(job: Job, seconds: float) -> Update:
    """Attach to a job until it ends, but no longer than so many seconds, and return its newest update."""
    end = time.monotonic() + seconds
    async with aclosing(job.watch_async()) as updates:
        update = await anext(updates)
        with suppress(asyncio.TimeoutError):
            while not update.final:
                update = await asyncio.wait_for(anext(updates), timeout=end - time.monotonic())
    return update


def _recipe_of(name: str, fields: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a name and of fields. Raises InputError as `metadata.from_json`, and for a field that cannot be used."""
    restored = metadata.from_json({"recipe": name, "fields": fields}, RECIPES)
    if restored.remarks:
        raise InputError(restored.remarks[0])
    return restored.recipe


def _state(job: Job, update: Update) -> dict[str, Any]:
    """Describe a job for programs."""
    state = {"id": job.id, "state": update.state, "error": update.error}
    if update.download:
        state |= {"stage": str(update.download)}
    if reached := update.latest or update.result:
        state |= {"step": reached.step, "steps": reached.steps, "measures": dict(reached.measures)}
    if update.latest:
        state |= {"stage": update.latest.stage, "work": update.latest.work, "seconds_left": update.latest.seconds_left}
    return state
