"""A run as the surfaces see it: what is checked before it starts, what is kept of it, and what people read meanwhile."""

import errno
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial, wraps
from html import escape
from pathlib import Path
from threading import Lock
from typing import Any

import gradio as gr
from gradio.processing_utils import save_base64_to_cache, save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from featviz import limits
from featviz.errors import FeatvizError, ImageError
from featviz.media.images import open_header, open_picture
from featviz.networks.hub import DownloadProgress
from featviz.recipes.recipe import Recipe
from featviz.runtime.devices import Device, limitations
from featviz.runtime.estimate import Estimate, estimate
from featviz.runtime.inspection import ChannelResponse, LayerInspection, gram_picture, inspect_layer, strongest_channels
from featviz.runtime.memory import available_memory
from featviz.runtime.sheet import try_out
from featviz.runtime.stream import Preview, open_pictures, prepare, remarks_on, stream
from featviz.ui.controls import label
from featviz.ui.request_limits import RATE, visitor
from featviz.ui.shutdown import RUNS

Runner = Callable[..., Iterator[Preview]]
"""`featviz.stream`, or what stands in for it."""

RUNS_AT_ONCE = {"concurrency_id": "runs", "concurrency_limit": 16}
"""They take turns on the device step by step, so nobody waits for a whole run of someone else."""

BEHIND_THE_PAGE = {"api_visibility": "private", "show_progress": "hidden", "show_progress_on": []}
"""Events of the page alone. Nothing may cover the preview: a line of its own says how far a run is. On no component: Gradio
tells each one that could show progress, of all events, how far every event is, which took most of the browser's time."""

TRY_OUT = partial(try_out, every=0.5)
"""Every small picture is shown while it comes."""

SORRY = "Something went wrong on our side, and it has been noted. Please try again, or try another picture."

SHOWN_BY_BROWSERS = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "BMP")
"""Formats by Pillow's names; MPO is a JPEG with more pictures behind it."""

DISK_FULL = "The server's disk is full; please try again in a while."

logger = logging.getLogger(__name__)


@contextmanager
def sentences() -> Iterator[None]:
    """Turn whatever goes wrong into the one sentence a visitor reads. Gradio renders it as HTML, hence the escape."""
    try:
        yield
    except gr.Error:
        raise
    except FeatvizError as error:
        if _disk_full(error.__cause__):
            raise gr.Error(DISK_FULL, print_exception=False) from None
        raise gr.Error(escape(str(error), quote=False), print_exception=False) from None
    except Exception as error:
        if _disk_full(error):
            raise gr.Error(DISK_FULL, print_exception=False) from None
        logger.exception("A run failed.")
        raise gr.Error(SORRY, print_exception=False) from None


def _disk_full(error: BaseException | None) -> bool:
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def polite(run: Runner) -> Runner:
    """`run`, failing in sentences. Inside a lent GPU, since ZeroGPU lets no other exception through unharmed."""

    @wraps(run)
    def polite_run(recipe: Recipe, **pictures: Image.Image) -> Iterator[Any]:
        with sentences():
            yield from run(recipe, **pictures)

    return polite_run


def attended(run: Runner) -> Runner:
    """`run`, told when the server leaves. Outside of what is lent, since a signal arrives in this process."""

    @wraps(run)
    def attended_run(recipe: Recipe, **pictures: Image.Image) -> Iterator[Any]:
        with RUNS.one() as go_on, closing(run(recipe, **pictures)) as previews:
            go_on()
            for preview in previews:
                yield preview
                go_on()

    return attended_run


def polite_look(inspect_layer: Callable[..., Any]) -> Callable[..., Any]:
    """The same for what answers at once."""

    @wraps(inspect_layer)
    def politely(*asked: Any, **pictures: Image.Image) -> Any:
        with sentences():
            return inspect_layer(*asked, **pictures)

    return politely


@dataclass(frozen=True)
class Engine:
    """What the page asks of the library; tests put something quicker in its place."""

    run: Runner = stream
    try_out: Callable[..., Iterator[tuple[Recipe, Preview]]] = TRY_OUT
    estimate: Callable[[Recipe, tuple[int, int]], Estimate] = estimate
    inspect_layer: Callable[..., LayerInspection] = inspect_layer
    strongest_channels: Callable[..., tuple[ChannelResponse, ...]] = strongest_channels
    gram_picture: Callable[..., Image.Image] = gram_picture
    within_reach: bool = True
    """Whether runs live in this process, so that something can be told to them while they go on."""
    prepare: Callable[..., Iterator[DownloadProgress]] = prepare
    """Comes before a run and before trying out, and never on a device that is borrowed: it may take minutes."""
    limitations: Callable[[], list[str]] = limitations
    memory_left: Callable[[], float] = available_memory
    """Bytes that another run can have now."""

    @classmethod
    def on(cls, device: Device) -> "Engine":
        granted = partial(stream, seconds=limits.RUN_SECONDS.value)
        asked = (granted, TRY_OUT, estimate, inspect_layer, strongest_channels, gram_picture)
        return cls(
            *(partial(ask, device=device) for ask in asked),
            prepare=partial(prepare, device=device),
            limitations=partial(limitations, device),
            memory_left=partial(available_memory, device),
        )

    def lent(self, lend: Callable[[Runner], Runner], *, zero_gpu: bool = False) -> "Engine":
        """The same, on a device that is borrowed for each run; `apart` in a process of its own."""
        runs = {name: attended(lend(polite(getattr(self, name)))) for name in ("run", "try_out")}
        looks = {
            name: self._ready_for(lend(polite_look(getattr(self, name))))
            for name in ("inspect_layer", "strongest_channels", "gram_picture")
        }
        return replace(self, **runs, **looks, prepare=polite(self.prepare), within_reach=not zero_gpu)

    def _ready_for(self, inspect_layer: Callable[..., Any]) -> Callable[..., Any]:
        """What answers at once, after what it needs is there: where it is borrowed from, nothing may be waited for."""

        def looked(recipe: Recipe, *asked: Any, **pictures: Image.Image) -> Any:
            for _ in polite(self.prepare)(recipe, **pictures):
                pass
            return inspect_layer(recipe, *asked, **pictures)

        return looked


def in_cache(picture: Image.Image, kind: str = "png", name: str = "image") -> str:
    """The file of a picture in Gradio's cache, which is emptied regularly."""
    return save_pil_to_cache(picture, get_upload_folder(), name=name, format=kind)


def deleted() -> gr.Error:
    """What a visitor reads who asks for a result whose file is gone."""
    return gr.Error(f"This result was deleted from the server after {limits.HOURS_KEPT.value} h; please run it again.")


def showable(sent: Mapping[str, Any] | None) -> Any:
    """A PNG of an uploaded picture that browsers cannot show, such as a TIFF or HEIC; of any other, no change."""
    try:
        file = file_of(sent)
        with open_header(file) as picture:
            if picture.format in SHOWN_BY_BROWSERS:
                return gr.skip()
        return in_cache(open_picture(file))
    except ImageError:
        return gr.skip()  # It is said when a run is asked for.


class Shot:
    """The latest picture of a run, as a session keeps it: a file in Gradio's cache, and what is said of it.

    The picture itself is held until `file` is called, which the page does when the run ends for any reason.
    """

    def __init__(self, recipe: Recipe, preview: Preview, source: str | None = None):
        """`source`: the file of the picture that it was made of, shown beside it."""
        self.recipe, self.source = recipe, source
        self.size, self.measures, self.outcome = preview.picture.size, preview.measures, outcome(preview)
        self._picture: Image.Image | None = preview.picture
        self._file = self._before = ""
        self._lock = Lock()

    @property
    def exists(self) -> bool:
        """Whether the result has not been deleted yet."""
        return self._picture is not None or Path(self._file).is_file()

    def file(self) -> str:
        """The result's file. The first call writes it, and drops the picture.

        Raises:
            gr.Error: it cannot be written, and the picture is still held; or it has been deleted.
        """
        with self._lock:
            if self._picture is not None:
                with sentences():
                    self._file = self.write(self._picture)
                self._picture = None
        if not self.exists:
            raise deleted()
        return self._file

    def write(self, picture: Image.Image) -> str:
        """The file of a picture: a PNG of full quality."""
        return in_cache(picture, name=f"featviz_{self.recipe.name}")

    def shown(self) -> tuple[str, str] | str:
        """What is shown when the run is over: the file of the source at the size of the result, if any, and the result's file."""
        result = self.file()
        if self.source is None:
            return result
        with self._lock:
            if not Path(self._before).is_file():
                if not Path(self.source).is_file():
                    raise deleted()
                with sentences():
                    self._before = in_cache(open_picture(self.source).resize(self.size, Image.Resampling.LANCZOS))
        return self._before, result


@dataclass
class Turn:
    """Whose turn it is on a visitor's page. A run that is stopped or replaced works on until its step ends, and a double
    click starts two; only the last one started shows anything."""

    number: int = 0
    busy: bool = False
    wanted: Recipe | None = None
    """What the controls have been set to since the run began."""

    def take(self) -> int:
        self.number, self.busy, self.wanted = self.number + 1, True, None
        return self.number

    def rest(self) -> None:
        """Nobody's turn any more."""
        self.number, self.busy = self.number + 1, False


def checked(recipe: type[Recipe], sent: Sequence[Any]) -> tuple[Recipe, dict[str, Image.Image]]:
    """The recipe and its opened pictures out of what was sent: all that can be wrong is found before a GPU is asked for."""
    with sentences():
        if who := visitor():
            RATE.take(who)
        if shutil.disk_usage(_existing(Path(get_upload_folder()))).free < limits.DISK_MEGABYTES.value * 1e6:
            raise gr.Error(DISK_FULL, print_exception=False)
        named = dict(zip([*recipe.images, *recipe.model_fields, *recipe.extras], sent, strict=True))
        chosen = recipe(**{name: named[name] for name in recipe.model_fields})
        files = {role: file_of(named[role]) for role in (*recipe.images, *recipe.extras)}
        opened = open_pictures(chosen, files)
        for remark in remarks_on(files):
            gr.Info(escape(remark, quote=False))
        return chosen, opened


def without_disabled(recipe: type[Recipe], sent: Sequence[Any]) -> list[Any]:
    """What a page sends, without what its disabled controls and pictures hold, and a word to the visitor on each."""
    named = dict(zip([*recipe.images, *recipe.model_fields, *recipe.extras], sent, strict=True))
    refused = recipe.refused(named, [role for role in recipe.extras if named[role] is not None])
    for name, rule in refused.items():
        gr.Info(f"Left out: {label(name)}. It has no effect {rule.words(lambda name: label(name).lower())}.")
        named[name] = recipe.model_fields[name].default if name in recipe.model_fields else None
    return list(named.values())


def _existing(folder: Path) -> Path:
    """A folder, or the nearest above it that is there already."""
    return next(one for one in (folder, *folder.absolute().parents) if one.exists())


def file_of(sent: Mapping[str, Any] | None) -> str | None:
    """The file that the page or a program sent, whatever is in it: the library says what is wrong with it.

    Raises:
        ImageError: it is inside the request, and larger than what is accepted, or damaged.
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
            raise ImageError("The picture is damaged: the request has no base64 of it.") from None
    return sent["path"]


def line(text: str, share: float | None = None) -> str:
    """A line that says how far something is. Only what stays for a while is read out to those who listen, not every step."""
    if share is None:
        return f'<p role="status">{text}</p>'
    return f'<progress value="{share:.3f}" max="1" aria-label="Progress of the run"></progress><p>{text}</p>'


def progress(preview: Preview) -> str:
    left = f"about {max(1, round(preview.seconds_left))} s left" if not preview.done else "done"
    stage = preview.stage[:1].upper() + preview.stage[1:]
    return line(f"{stage} · step {preview.step} of {preview.steps} · {left}", preview.work)


def arriving(download: DownloadProgress) -> str:
    return line(str(download), download.share)


def outcome(preview: Preview) -> str:
    width, height = preview.picture.size
    steps = "1 step" if preview.steps == 1 else f"{preview.steps} steps"
    how = f"Done in {steps}" if preview.done else f"Stopped at step {preview.step} of {preview.steps}"
    return f"{how} · {width}×{height} pixels"
