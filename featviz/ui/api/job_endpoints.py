"""The endpoints `start`, `job`, `stop`, `gradient` and `film`: for runs that outlive a call."""

import asyncio
import inspect
import time
from collections.abc import Iterator
from contextlib import aclosing, suppress
from functools import partial
from typing import Any

import gradio as gr

from featviz.errors import InputError
from featviz.recipes.recipe import Recipe
from featviz.runtime.jobs import Job, Update
from featviz.runtime.result_files import film_of, name_of
from featviz.runtime.sheet import on_one_sheet
from featviz.runtime.stream import Preview
from featviz.ui.api.endpoints import named_recipe
from featviz.ui.controls import label
from featviz.ui.runs import recording
from featviz.ui.serving.admission import Request, admit, count_pass
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.errors import error_sentences
from featviz.ui.serving.files import in_cache
from featviz.ui.serving.gradio_internals import endpoint, value

LONGEST_WAIT = 50
"""Seconds for which `job` waits at most. MCP clients usually give up after 60."""


def publish_jobs(engine: Engine) -> None:
    """Add the endpoints."""
    jobs = JobEndpoints(engine)
    roles = [*inspect.signature(jobs.start).parameters][2:]  # Inputs go to the parameters by position.
    endpoint(
        jobs.start, [value(str, "Recipe"), value(dict, "Fields"), *map(picture_box, roles)], [value(dict, "State")],
        api_name="start", concurrency_limit=None,
    )  # fmt: skip
    asked, file = [value(str, "Id"), value(float, "Wait", 0)], gr.File(label="File", visible=False)
    endpoint(jobs.job, asked, [value(dict, "State"), file], api_name="job", queue=False)
    endpoint(jobs.stop, asked[:1], [value(dict, "State")], api_name="stop", queue=False)
    endpoint(jobs.gradient, asked[:1], [gr.File(label="Gradient", visible=False)], api_name="gradient", queue=False)
    endpoint(jobs.film, asked[:1], [gr.File(label="Film", visible=False)], api_name="film", concurrency_limit=1)


class JobEndpoints:
    """The functions of the endpoints. Their names, annotations and docstrings are published."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def start(
        self,
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
        sent = {
            "image": image, "content": content, "style": style, "guide": guide, "mask": mask, "style2": style2, "style3": style3,
            "style4": style4, "start": start, "regions": regions, "style_regions": style_regions,
        }  # fmt: skip
        with error_sentences():
            request = admit(lambda: named_recipe(recipe, fields), sent)
            return _state(job := start_job(self._engine, request, keep_steps=True), job.now)

    async def job(self, id: str, wait: float = 0) -> tuple[dict, str | None]:  # noqa: A002
        """Return the state of a run and the file of its latest picture, or of its result once it has ended.

        Args:
            id: What `start` returned.
            wait: Seconds to wait for the end of the run, at most 50.

        Returns:
            {"id", "state", "stage", "step", "steps", "work", "seconds_left", "measures", "error"}, where the state is 'waiting',
            'running', 'done', 'stopped' or 'failed', and 'work' is the share that is done; and the file, if there is one.
        """
        with error_sentences():
            found = self._engine.jobs.find(id)
            if not 0 <= wait <= LONGEST_WAIT:
                raise InputError(f"wait is {wait:g}; expected 0 to {LONGEST_WAIT}.")
        update = await _wait(found, wait)
        return _state(found, update), await file_of_update(update)

    def stop(self, id: str) -> dict:  # noqa: A002
        """Stop a run. Its latest picture is the result.

        Args:
            id: What `start` returned.

        Returns:
            The state of the run, as `job` returns it.
        """
        with error_sentences():
            found = self._engine.jobs.find(id)
            found.stop()
            return _state(found, found.now)

    def film(self, id: str) -> str:  # noqa: A002
        """Return a film of how the picture of an ended run came about: 6 s, whatever the number of steps.

        Args:
            id: What `start` returned.

        Returns:
            The video file.
        """
        with error_sentences():
            result = self._engine.jobs.find(id).result
            if result is None:
                raise InputError("This run has no result yet; a film shows a run that has ended.")
            return film_of(result.file())

    def gradient(self, id: str) -> str:  # noqa: A002
        """Return the gradient image of the latest step of a run of 'deepdream' with 'show_gradient': grey where nothing changes.

        Args:
            id: What `start` returned.

        Returns:
            The picture, a PNG.
        """
        with error_sentences():
            count_pass()
            now = self._engine.jobs.find(id).now
            if now.latest and now.latest.gradient:
                return in_cache(now.latest.gradient)
            if now.result and (file := now.result.gradient_file()):
                return file
            raise InputError("This run has no gradient image; 'deepdream' has one after its first step, with show_gradient.")


def start_job(engine: Engine, request: Request, *, sweep: bool = False, keep_steps: bool = False, **options: Any) -> Job:
    """Start a job: download the network, and run the recipe on its pictures or its video, or its small variants for a `sweep`.

    `keep_steps`: whether the steps of a picture are kept for `film`. `options` go to `Engine.start`.
    """
    run, write = engine.run, None
    if sweep:
        run = partial(_sheet, engine)
    elif request.clip or request.recipe.produces == "video" or keep_steps:
        run, write = recording(engine, request, partial(in_cache, name=name_of(request.recipe)))
    return engine.start(request, run, sweep=sweep, write=write, interruptible=engine.in_process, **options)


def _sheet(engine: Engine, recipe: Recipe, **given: Any) -> Iterator[Preview]:
    return on_one_sheet(recipe, engine.try_out(recipe, **given))


async def file_of_update(update: Update) -> str | None:
    """Return the file of the picture so far, or of the result."""
    with error_sentences():
        if update.result:
            return await asyncio.to_thread(update.result.file)
        return update.latest and await asyncio.to_thread(in_cache, update.latest.picture)


def picture_box(role: str) -> gr.Image:
    """Return a component for a picture that the page shows nowhere."""
    return gr.Image(label=label(role), type="filepath", image_mode=None, visible=False)


async def _wait(job: Job, seconds: float) -> Update:
    """Attach to a job until it ends, but no longer than so many seconds, and return its newest update."""
    end = time.monotonic() + seconds
    async with aclosing(job.watch_async()) as updates:
        update = await anext(updates)
        with suppress(asyncio.TimeoutError):
            while not update.final:
                update = await asyncio.wait_for(anext(updates), timeout=end - time.monotonic())
    return update


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
