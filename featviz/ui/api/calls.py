"""A call for each recipe: an endpoint that runs it and yields the output so far."""

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from html import escape
from typing import Any

import gradio as gr
from pydantic.fields import FieldInfo

from featviz import limits
from featviz.errors import InputError
from featviz.media.video import READ
from featviz.recipes.recipe import Recipe, choices
from featviz.recipes.table import RECIPES
from featviz.runtime.jobs import AT_ONCE, Update
from featviz.ui.api.endpoints import addresses
from featviz.ui.api.job_endpoints import file_of_update, picture_box, start_job
from featviz.ui.controls import label
from featviz.ui.masks import mention_stretching
from featviz.ui.serving.admission import Request, validate_request
from featviz.ui.serving.engine import Engine
from featviz.ui.serving.errors import error_sentences
from featviz.ui.serving.gradio_internals import Reader, endpoint, value

RUN_QUEUE = {"concurrency_id": "runs", "concurrency_limit": AT_ONCE}
"""Gradio's queue for runs. Those that have begun share the device; the scheduler decides which goes first."""

SHEET = "Several small versions of one run, with labels, on one picture."

VIDEO = "The same with a video in place of the first picture: each frame follows the one before, and the sound is kept."

OUTPUTS: dict[str, Callable[[], gr.components.Component]] = {
    "picture": lambda: gr.Image(label="Result", format="png", visible=False),
    "video": lambda: gr.Video(label="Result", visible=False),
    "numbers": lambda: gr.Label(label="Names", visible=False),
}
"""The output of a call, by what the recipe produces. The picture is lossless."""


RETURNS = {
    "picture": "The picture: previews during the run, then the final one as a PNG of full quality.",
    "video": "The video as an MP4, at the end of the run.",
    "numbers": "The names and their probabilities, most likely first.",
}


def publish_calls(components: Mapping[str, Mapping[str, gr.components.Component]], engine: Engine) -> None:
    """Add the endpoints, which are MCP tools too.

    `components`: name of a recipe → its controls and pictures by name, whose names and defaults the endpoint has. What is left out
    gets components that are not shown.
    """
    clip = gr.Video(label="Video", visible=False)
    for recipe in RECIPES.values():
        given, fields = components.get(recipe.name, {}), recipe.model_fields
        ordered = [
            given[name] if name in given else _value(name, fields[name]) if name in fields else picture_box(name)
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


def _value(name: str, field: FieldInfo) -> gr.components.Component:
    """Return a component for a field that the page shows nowhere."""
    return value(field.annotation, label(name), field.default, choices(field))


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
        reader, latest = Reader(), None
        async with aclosing(job.watch_async()) as updates:
            async for update in updates:
                if reader.seconds_away() > limits.SECONDS_UNATTENDED.value:
                    return
                if update.error and update.result and produces == "video":
                    yield await file_of_update(update)  # What there is of it, before the error.
                if update.final or update.latest is not latest:  # Other updates are about a wait or a part of a step.
                    latest = update.latest
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
        return dict(update.result.measures) if produces == "numbers" else await file_of_update(update)
    if update.latest is None or produces == "video":
        return None
    return dict(update.latest.measures) if produces == "numbers" else update.latest.picture


def api_function(
    recipe: type[Recipe],
    call: Callable[[Sequence[Any]], AsyncGenerator[Any, None]],
    name: str = "",
    meaning: str = "",
    produces: str = "",
) -> Callable[..., AsyncGenerator[Any, None]]:
    """Give `call` the signature and docstring of a recipe, which Gradio publishes. Returns an async generator function.

    `name`, `meaning` and `produces` default to those of the recipe.
    """

    async def endpoint(*values: Any) -> AsyncGenerator[Any, None]:
        async with aclosing(call(values)) as outputs:
            async for output in outputs:
                yield output

    parameters = [inspect.Parameter(role, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=str) for role in recipe.images] + [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=field.default, annotation=field.annotation)
        for name, field in recipe.model_fields.items()
    ]
    parameters += [
        inspect.Parameter(role, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=str | None)
        for role in recipe.optional_images
    ]
    endpoint.__name__ = endpoint.__qualname__ = name or recipe.name
    endpoint.__signature__ = inspect.Signature(parameters)
    endpoint.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    endpoint.__doc__ = "\n".join(
        [
            meaning or inspect.getdoc(recipe),
            "",
            "Args:",
            *(f"    {role}: {meaning}" for role, meaning in recipe.images.items()),
            *(f"    {name}: {field.description}" for name, field in recipe.model_fields.items()),
            *(f"    {role}: {meaning}" for role, meaning in recipe.optional_images.items()),
            "",
            "Returns:",
            f"    {RETURNS[produces or recipe.produces]}",
        ]
    )
    return endpoint
