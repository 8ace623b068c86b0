"""A run as the page and the API see it: validation before it starts, its status lines, and its result on disk."""

import base64
import errno
import io
import logging
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from html import escape, unescape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import gradio as gr
from gradio.data_classes import FileData
from gradio.processing_utils import save_base64_to_cache, save_file_to_cache, save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from featviz import limits
from featviz.errors import FeatvizError, ImageError, LimitError
from featviz.media.images import Header, Picture, open_header
from featviz.networks.hub import DownloadProgress
from featviz.recipes.recipe import Recipe
from featviz.runtime import jobs, lease
from featviz.runtime.clip import Clip, check_length, film_clip, open_clip, takes_video
from featviz.runtime.devices import Device, limitations
from featviz.runtime.estimate import Estimate, estimate, expected_run
from featviz.runtime.exploration import Explanation, Explored, explain_name, explore, switch_off
from featviz.runtime.game import peak_activations
from featviz.runtime.inspection import ChannelResponse, LayerInspection, gram_picture, inspect_layer, strongest_channels
from featviz.runtime.jobs import AT_ONCE, INTERNAL_ERROR, Jobs
from featviz.runtime.lesson import CorrelatedMaps, KernelResponse, correlated_maps, kernel_response
from featviz.runtime.memory import Parts, available_memory, open_reserved, single_run
from featviz.runtime.mirror import Mirror
from featviz.runtime.result_files import name_of
from featviz.runtime.sheet import try_out
from featviz.runtime.stream import Preview, open_pictures, prepare, remarks_on, sizes_of, stream
from featviz.ui import text
from featviz.ui.controls import full_reason, label
from featviz.ui.request_limits import PASS_LIMIT, RATE_LIMIT, visitor_address

Runner = Callable[..., Iterator[Preview]]
"""`featviz.stream`, or a stand-in for it."""

RUN_QUEUE = {"concurrency_id": "runs", "concurrency_limit": AT_ONCE}
"""Gradio's queue for runs. Those that have begun share the device; the scheduler decides which goes first."""

PAGE_EVENT = {"api_visibility": "private", "show_progress": "hidden", "show_progress_on": []}
"""Options of events that only the page uses. Progress is shown in the status line, so that nothing covers the preview.
`show_progress_on` is empty because Gradio otherwise updates every output of every event, which took most of the browser's time."""

TRY_OUT = partial(try_out, every=0.5)
"""Show each small picture as it is made."""

RUN_STEPS = partial(stream, every=0)

INSPECTIONS = (
    "inspect_layer",
    "strongest_channels",
    "gram_picture",
    "explore",
    "explain_name",
    "switch_off",
    "kernel_response",
    "correlated_maps",
    "peak_activations",
)
"""The functions of `Engine` that use the device once and return."""

LOSSLESS = 96
"""Longest side of the pictures that `data_url` holds without loss, in pixels."""

SHOWN_BY_BROWSERS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP")
"""Formats by Pillow's names. MPO is a JPEG file with several pictures."""

UNQUEUED = 4
"""The most runs at a time of all visitors together that do not go through the queue."""

_unqueued = threading.BoundedSemaphore(UNQUEUED)

DISK_FULL = "The server's disk is full. Please try again later."

logger = logging.getLogger(__name__)


@contextmanager
def error_sentences() -> Iterator[None]:
    """Turn every exception into a `gr.Error` with one sentence. Gradio renders the sentence as HTML, so it is escaped.

    Works as a decorator of functions too. Generators need `with_error_sentences`.
    """
    try:
        yield
    except gr.Error:
        raise
    except FeatvizError as error:
        if _disk_full(error):
            raise gr.Error(DISK_FULL, print_exception=False) from None
        raise gr.Error(escape(str(error), quote=False), print_exception=False) from None
    except Exception as error:
        if _disk_full(error):
            raise gr.Error(DISK_FULL, print_exception=False) from None
        logger.exception("A run failed.")
        raise gr.Error(INTERNAL_ERROR, print_exception=False) from None


def _disk_full(error: BaseException | None) -> bool:
    """Return whether an error or one of its causes is a full disk."""
    return error is not None and (getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or _disk_full(error.__cause__))


def explain(error: Exception) -> str:
    """Return the sentence for an error of a run, as plain text. An unexpected error is logged."""
    if isinstance(error, gr.Error):  # From `with_error_sentences`, or from what lends the device.
        return unescape(re.sub("<[^>]*>", "", error.message))
    return DISK_FULL if _disk_full(error) else jobs.explain(error)


def with_error_sentences(run: Runner) -> Runner:
    """Apply `error_sentences` to a generator. Goes inside `lend`, because ZeroGPU passes on `gr.Error` only."""

    @wraps(run)
    def wrapped(recipe: Recipe, *arguments: Any, **pictures: Picture) -> Iterator[Any]:
        with error_sentences():
            yield from run(recipe, *arguments, **pictures)

    return wrapped


def new_jobs() -> Jobs:
    """Return jobs whose results are PNG files in Gradio's cache."""
    return Jobs(lambda recipe, picture: in_cache(picture, name=name_of(recipe)), explain=explain)


@dataclass(frozen=True)
class Engine:
    """The functions of the library that the page calls. Tests replace them with faster ones."""

    run: Runner = stream
    try_out: Callable[..., Iterator[tuple[Recipe, Preview]]] = TRY_OUT
    estimate: Callable[[Recipe, Mapping[str, Header]], Estimate] = estimate
    inspect_layer: Callable[..., LayerInspection] = inspect_layer
    strongest_channels: Callable[..., tuple[ChannelResponse, ...]] = strongest_channels
    gram_picture: Callable[..., Image.Image] = gram_picture
    explore: Callable[..., Explored] = explore
    explain_name: Callable[..., Explanation] = explain_name
    switch_off: Callable[..., tuple[dict[str, float], tuple[int, ...]]] = switch_off
    kernel_response: Callable[..., KernelResponse] = kernel_response
    correlated_maps: Callable[..., CorrelatedMaps] = correlated_maps
    peak_activations: Callable[..., dict[str, list[float]]] = peak_activations
    in_process: bool = True
    """Whether runs live in this process. Only then can their settings be changed while they work."""
    expected_run: Callable[..., float] = expected_run
    """The seconds that a run is expected to take. Unlike `estimate`, it never measures first."""
    run_steps: Runner = RUN_STEPS
    """As `run`, with a preview of every step."""
    prepare: Callable[..., Iterator[DownloadProgress]] = prepare
    """Downloads and loads the network before a run. Never runs on a lent device, since it may take minutes."""
    limitations: Callable[[], list[str]] = limitations
    memory_left: Callable[[], float] = available_memory
    """Bytes that another run can have now."""
    follow: Runner = film_clip
    """Makes a video of a video. Takes the path of the result after the recipe."""
    mirror: Callable[[], Mirror] = Mirror
    """Makes the live mirror of a visitor."""
    jobs: Jobs = field(default_factory=new_jobs)

    @classmethod
    def on(cls, device: Device) -> "Engine":
        """The library on a device, each run within the time limit."""
        stills, clips = (partial(run, seconds=limits.RUN_SECONDS.value) for run in (stream, film_clip))
        functions = (
            stills,
            TRY_OUT,
            estimate,
            inspect_layer,
            strongest_channels,
            gram_picture,
            explore,
            explain_name,
            switch_off,
            kernel_response,
            correlated_maps,
            peak_activations,
        )
        return cls(
            *(partial(function, device=device) for function in functions),
            expected_run=partial(expected_run, device=device),
            run_steps=partial(stills, device=device, every=0),
            prepare=partial(prepare, device=device),
            limitations=partial(limitations, device),
            memory_left=partial(available_memory, device),
            follow=partial(clips, device=device),
            mirror=partial(Mirror, device=device),
        )

    def expected(self, request: "Request", *, sweep: bool = False) -> float:
        """Return the seconds that a run is expected to take. `sweep`: of its small variants."""
        recipe, pictures, clip = request
        count = clip.header.frames if clip and not sweep else 1
        return sum(
            self.expected_run(part, sizes_of(pictures), count=count) for part in (recipe.variants() if sweep else [recipe])
        )

    def with_device(self, lend: Callable[[Runner], Runner], *, zero_gpu: bool = False) -> "Engine":
        """The same engine with every use of the device wrapped by `lend`, and every error turned into a sentence.

        `zero_gpu`: whether `lend` runs its function in another process, which is ended after the seconds of its `lease`.
        """
        lent = partial(_lent_process, lend) if zero_gpu else lambda run, parts: lend(with_error_sentences(run))
        runs = {
            "run": lent(self.run, single_run),
            "run_steps": lent(self.run_steps, single_run),
            "follow": lent(self.follow, single_run),
            "try_out": lent(self.try_out, lambda recipe: recipe.variants()),
        }
        inspections = {name: self._prepared(lend(error_sentences()(getattr(self, name)))) for name in INSPECTIONS}
        mirror = _no_mirror if zero_gpu else self.mirror
        prepare = with_error_sentences(self.prepare)
        return replace(self, **runs, **inspections, prepare=prepare, mirror=mirror, in_process=not zero_gpu)

    def _prepared(self, inspection: Callable[..., Any]) -> Callable[..., Any]:
        """Load the network before an inspection, so that the lent device never waits for a download."""

        def wrapped(recipe: Recipe, *arguments: Any, **pictures: Image.Image) -> Any:
            for _ in with_error_sentences(self.prepare)(recipe, **pictures):
                pass
            return inspection(recipe, *arguments, **pictures)

        return wrapped


def _no_mirror() -> Mirror:
    """Refuse a mirror: a lease for each frame takes longer than the frame, and on the CPU its threads would not survive the forks."""
    raise LimitError(
        "The live mirror does not run on ZeroGPU, which lends its GPU for single runs; it runs on a Space with a CPU or GPU of its own, "
        "and on your own machine."
    )


def _lent_process(lend: Callable[[Runner], Runner], run: Runner, parts: Parts) -> Runner:
    """Wrap a run that `lend` executes in another process, within a lease. Errors become sentences in both processes."""
    return with_error_sentences(lease.borrow(lend(with_error_sentences(lease.within_lease(run))), parts))


def in_cache(picture: Image.Image, kind: str = "png", name: str = "image") -> str:
    """Save a picture in Gradio's cache, which is swept regularly, and return its path."""
    return save_pil_to_cache(picture, get_upload_folder(), name=name, format=kind)


def address(file: str) -> str:
    """Return the address of a file in Gradio's cache, relative to the page."""
    return f"gradio_api/file={quote(file)}"


def data_url(picture: Image.Image | None) -> str:
    """Return a picture as a data URL; "" for none. Small ones are lossless, so that a browser can compute with their pixels."""
    if picture is None:
        return ""
    kind = "png" if max(picture.size) <= LOSSLESS else "jpeg"
    file = io.BytesIO()
    picture.save(file, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def keep_file(path: Path) -> str:
    """Copy a file into Gradio's cache, and return its path there."""
    return save_file_to_cache(path, get_upload_folder())


def displayable(*sent: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Yield {path of an upload: what its box is to show instead}. Uploads that stay as they are have no entry.

    TIFF or HEIC, which browsers cannot show, becomes PNG. What is no picture becomes None, which empties the box.

    Raises:
        gr.Error: an upload is not a picture.
    """
    shown: dict[str, Any] = {}
    refusal = None
    for upload in filter(None, sent):
        file = file_of(upload)
        try:
            with open_header(file) as picture:
                known = picture.format in SHOWN_BY_BROWSERS
            if not known:
                made = in_cache(open_reserved(file))
                shown[file] = FileData(path=made, url=address(made)).model_dump()
        except LimitError:
            pass  # The run reports it.
        except ImageError as error:
            shown[file], refusal = None, error
    yield shown
    if refusal:
        raise gr.Error(escape(str(refusal), quote=False), print_exception=False)


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


def without_disabled(recipe: type[Recipe], sent: Sequence[Any]) -> list[Any]:
    """Reset the values of disabled controls and pictures to their defaults, and tell the visitor about each."""
    values = values_by_name(recipe, sent)
    refused = recipe.refused(values, [role for role in recipe.optional_images if values[role] is not None])
    for name, rule in refused.items():
        gr.Info(text.say("left_out", name=text.translated(label(name)), reason=full_reason(rule)))
        values[name] = recipe.model_fields[name].default if name in recipe.model_fields else None
    return list(values.values())


def values_by_name(recipe: type[Recipe], sent: Sequence[Any]) -> dict[str, Any]:
    """Name the inputs of a recipe, which come in this order: pictures, fields, optional pictures."""
    return dict(zip([*recipe.images, *recipe.model_fields, *recipe.optional_images], sent, strict=True))


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def count_run() -> None:
    """Count a run of the visitor.

    Raises:
        LimitError: the visitor has started too many.
    """
    if visitor := visitor_address():
        RATE_LIMIT.take(visitor)


@contextmanager
def unqueued_run() -> Iterator[None]:
    """Count a run of the visitor, and hold one of the places for runs that do not go through the queue.

    Raises:
        LimitError: the visitor has started too many, or all places are taken.
    """
    count_run()
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


def file_of(sent: Mapping[str, Any] | None) -> str | None:
    """Return the path of a file that the page or a program sent. The library checks its content later.

    Raises:
        ImageError: the file is inside the request as base64, and too large or damaged.
    """
    if sent is None:
        return None
    if (url := sent.get("url") or "").startswith("data:"):
        if len(url) * 3 / 4 > limits.MEGABYTES.value * 1e6:
            raise ImageError(
                f"The picture has {len(url) * 3 / 4e6:.0f} megabytes; at most {limits.MEGABYTES.value} are accepted."
            )
        try:
            return save_base64_to_cache(url, get_upload_folder())
        except (ValueError, IndexError):
            raise ImageError("The picture is damaged: it is not valid base64.") from None
    return sent["path"]
