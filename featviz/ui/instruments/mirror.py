"""The live mirror on the page: one component. The browser sends the frames of its camera one after the other (`mirror.js`)."""

import asyncio
import base64
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio
import gradio as gr
from PIL import Image

from featviz.errors import InputError, LimitError
from featviz.networks.table import FASTEST
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.recipe import bounds, choices, increment
from featviz.runtime.jobs import Job
from featviz.runtime.memory import open_reserved
from featviz.runtime.mirror import DREAM, Mirror
from featviz.ui.runs import Runs
from featviz.ui.serving.admission import count_run
from featviz.ui.serving.errors import explain
from featviz.ui.serving.files import encoded, in_cache

MOST = 16
"""The most mirrors of a server. With more, each would show less than a frame a second on two cores."""

IDLE_SECONDS = 10.0
"""A mirror without a frame for this long has been left."""

POLL_SECONDS = 0.25
"""Seconds between two looks at whether the browser still waits for its frame."""

FRAME_BYTES = 1_000_000
"""The largest frame that a browser may send. Its own have about 20 kilobytes."""


@dataclass
class _Visit:
    """The mirror of a page."""

    mirror: Mirror
    used: float = field(default_factory=time.monotonic)
    """By `time.monotonic`, when its latest frame came."""
    latest: tuple[Image.Image, Image.Image] | None = None
    """The latest frame, and the dream on it with its recipe."""
    recipe: DeepDream = DREAM


class Mirrors:
    """The mirrors of a server, each under an id that its page has chosen. Thread-safe."""

    def __init__(self, make: Callable[[], Mirror]):
        self._make = make
        self._visits: dict[str, _Visit] = {}
        self._lock = threading.Lock()

    def find(self, name: Any) -> _Visit:
        """Return the mirror of a page; a new one for a new id.

        Raises:
            InputError: the id is none.
            LimitError: there are too many mirrors, or the visitor has started too many runs, or this server has none.
        """
        if not (isinstance(name, str) and 8 <= len(name) <= 64):
            raise InputError("A mirror has an id of 8 to 64 characters.")
        now = time.monotonic()
        with self._lock:
            for other in [other for other, visit in self._visits.items() if now - visit.used > IDLE_SECONDS]:
                self._visits.pop(other).mirror.end()
            if name not in self._visits:
                count_run()
                if len(self._visits) >= MOST:
                    raise LimitError(f"{MOST} mirrors are running, the most that the server takes; please try again later.")
                self._visits[name] = _Visit(self._make())
            self._visits[name].used = now
            return self._visits[name]

    def show(self, visit: _Visit, recipe: DeepDream, frame: bytes) -> str:
        """Return the dream on a frame as the address of a JPEG that holds it; "" for a frame that is dropped.

        Raises:
            ImageError: the frame is no picture.
            Also what `Mirror.show` raises.
        """
        picture = open_reserved(frame, "frame", recipe.size)
        dream = visit.mirror.show(picture, recipe)
        if dream is None:
            return ""
        visit.latest, visit.recipe = (picture, dream), recipe
        return encoded(dream, "jpeg", quality=88)

    def end(self, name: Any) -> None:
        """End the mirror of a page, if there is one."""
        with self._lock:
            visit = self._visits.pop(str(name), None)
        if visit:
            visit.mirror.end()

    def keep(self, name: str, runs: Runs, owner: str) -> Job:
        """Start a run whose result is what a mirror shows.

        Raises:
            InputError: it shows nothing yet, or no longer.
        """
        with self._lock:
            visit = self._visits.get(name)
        if visit is None or visit.latest is None:
            raise InputError("The mirror shows nothing yet; start it, and keep a picture while it runs.")
        frame, dream = visit.latest
        return runs.keep(visit.recipe, dream, in_cache(frame), owner)


class MirrorBox:
    """The component. Its `select` event has the id of the mirror whose picture is to be kept."""

    def __init__(self, make: Callable[[], Mirror]):
        self.mirrors = mirrors = Mirrors(make)
        threads = anyio.CapacityLimiter(2 * MOST)  # While a frame of a mirror is computed, one other may wait.

        async def mirror_begin(name: Any) -> dict[str, str]:
            """Begin a mirror, before the browser asks for the camera. Return {}, or {"error": why the mirror cannot begin}."""
            try:
                mirrors.find(name)
                return {}
            except Exception as error:
                return {"error": explain(error)}

        async def mirror_frame(sent: Any, request: gr.Request) -> dict[str, str | float]:
            """Return the dream on a frame and the seconds it took, or {"error": why the mirror ends}."""
            try:
                name, recipe, frame = read_frame(sent)
                visit = mirrors.find(name)
                work = anyio.to_thread.run_sync(partial(mirrors.show, visit, recipe, frame), limiter=threads)
                picture = await _while_connected(work, request, visit.mirror.end)
                return {"picture": picture, "seconds": visit.mirror.seconds}
            except Exception as error:
                return {"error": explain(error)}

        async def mirror_end(name: Any) -> None:
            mirrors.end(name)

        script = f'featviz.mirror(element, server, id => trigger("select", {{index: 0, value: id}}), {json.dumps(settings())});'
        self.html = gr.HTML(js_on_load=script, server_functions=[mirror_begin, mirror_frame, mirror_end], elem_id="mirror")


async def _while_connected(work: Any, request: gr.Request, end: Callable[[], None]) -> Any:
    """Wait for the work of a request, and call `end` as soon as its client has left."""
    task = asyncio.ensure_future(work)
    while not (await asyncio.wait([task], timeout=POLL_SECONDS))[0]:
        if await request.is_disconnected():
            end()
    return await task


def settings() -> dict[str, Any]:
    """Return what the browser needs to know: the layers, and the strengths that are accepted."""
    fields = DeepDream.model_fields
    layers = [choice for choice in choices(fields["layer"]) if choice.startswith(f"{FASTEST}/")]
    low, high = bounds(fields["strength"])
    strength = {"min": low, "max": high, "step": increment(fields["strength"]), "value": DREAM.strength}
    return {"layers": layers, "layer": DREAM.layer, "strength": strength, "size": DREAM.size}


def read_frame(sent: Any) -> tuple[Any, DeepDream, bytes]:
    """Return the id of the mirror, the recipe and the file of the frame that a browser has sent.

    Raises:
        InputError: something is missing, or the frame is too large.
        FieldError: the layer or the strength is not accepted.
    """
    values = sent if isinstance(sent, Mapping) else {}
    frame = values.get("frame")
    if not (isinstance(frame, str) and frame.startswith("data:image/jpeg;base64,")):
        raise InputError("The mirror takes a frame as JPEG in base64.")
    if len(frame) > FRAME_BYTES:
        raise InputError(f"A frame has {len(frame) / 1e6:.1f} megabytes; at most {FRAME_BYTES / 1e6:.0f} is accepted.")
    recipe = DREAM.replace(**{name: values[name] for name in ("layer", "strength") if name in values})
    try:
        return values.get("id"), recipe, base64.b64decode(frame.partition(",")[2], validate=True)
    except ValueError:
        raise InputError("The frame is damaged: it is not valid base64.") from None
