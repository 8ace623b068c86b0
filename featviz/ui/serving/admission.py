"""Which runs may start: how many of each visitor, and with what. All errors are found before a device is used."""

import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from gradio.context import LocalContext
from gradio.utils import get_upload_folder
from PIL import Image

from featviz import limits
from featviz.errors import LimitError
from featviz.recipes.recipe import Recipe
from featviz.runtime.clip import Clip, check_length, open_clip, takes_video
from featviz.runtime.rate_limit import RateLimit
from featviz.runtime.stream import open_pictures, remarks_on
from featviz.ui.serving.errors import DISK_FULL, error_sentences
from featviz.ui.serving.files import file_of

RATE_LIMIT = RateLimit()

PASS_LIMIT = RateLimit("Each visitor can ask {limit} questions a minute; the next one can be asked in {wait} s.", times=10)
"""For single passes of a network, which take a tenth of a second."""

UNQUEUED = 4
"""The most runs outside the queue at one time, for all visitors together."""

_unqueued = threading.BoundedSemaphore(UNQUEUED)


class Request(NamedTuple):
    """A run that was asked for, checked."""

    recipe: Recipe
    pictures: dict[str, Image.Image]
    """The opened pictures by role; of a video its first frame."""
    clip: Clip | None = None
    """The video in place of the first picture."""


def validate_request(recipe: type[Recipe], sent: Sequence[Any]) -> Request:
    """Return the recipe and its opened pictures. Finds every error before a device is used.

    Raises:
        gr.Error: too many runs, a full disk, a value or a picture that is not accepted.
    """
    values = values_by_name(recipe, sent)
    fields = {name: values[name] for name in recipe.model_fields}
    with error_sentences():
        return admit(lambda: recipe(**fields), {role: values[role] for role in (*recipe.images, *recipe.optional_images)})


def admit(make: Callable[[], Recipe], sent: Mapping[str, Mapping[str, Any] | None]) -> Request:
    """Return the recipe that `make` returns and its opened pictures. `sent`: what a client has sent, by role; None for no picture.

    Raises:
        gr.Error: the disk is full.
        FeatvizError: too many runs, a value or a picture that is not accepted.
    """
    count_run()
    if shutil.disk_usage(_existing(Path(get_upload_folder()))).free < limits.DISK_MEGABYTES.value * 1e6:
        raise gr.Error(DISK_FULL, print_exception=False)
    recipe = make()
    files = {role: file_of(picture) for role, picture in sent.items() if picture is not None}
    if takes_video(recipe, files):
        clip = open_clip(recipe, files)
        check_length(clip.header)
        request = Request(recipe, clip.opened, clip)
        files.pop(clip.role)
    else:
        request = Request(recipe, open_pictures(recipe, files))
    for remark in remarks_on(files):
        gr.Info(escape(remark, quote=False))
    return request


def values_by_name(recipe: type[Recipe], sent: Sequence[Any]) -> dict[str, Any]:
    """Name the inputs of a recipe, which come in this order: pictures, fields, optional pictures."""
    return dict(zip([*recipe.images, *recipe.model_fields, *recipe.optional_images], sent, strict=True))


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def visitor_address() -> str | None:
    """Return the address of the visitor, with the addresses that proxies add. None outside a request.

    The header can be forged, so one visitor can count as many; the queue and the device scheduler limit them all the same.
    """
    request = LocalContext.request.get(None)
    if request is None or getattr(request, "client", None) is None:
        return None
    return f"{request.headers.get('x-forwarded-for', '')} {request.client.host}"


def count_run() -> None:
    """Count a run of the visitor.

    Raises:
        LimitError: the visitor has started too many.
    """
    if visitor := visitor_address():
        RATE_LIMIT.take(visitor)


@contextmanager
def unqueued_run() -> Iterator[None]:
    """Count a run of the visitor, and hold one of the places of `unqueued`. Raises LimitError also if the visitor has started too many."""
    count_run()
    with unqueued():
        yield


@contextmanager
def unqueued() -> Iterator[None]:
    """Hold one of the places for work that does not go through the queue.

    Raises:
        LimitError: all places are taken.
    """
    if not _unqueued.acquire(blocking=False):
        raise LimitError(
            f"{UNQUEUED} runs of Explore and Learn are under way, the most that the server takes; try again in a moment."
        )
    try:
        yield
    finally:
        _unqueued.release()


def count_pass() -> None:
    """Count a single pass of a network, or other work as short, of the visitor.

    Raises:
        LimitError: the visitor has asked for too many.
    """
    if visitor := visitor_address():
        PASS_LIMIT.take(visitor)
