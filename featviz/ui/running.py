"""A run as the surfaces see it: what is checked before it starts, what is kept of it, and what people read meanwhile."""

import errno
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_base64_to_cache, save_pil_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from featviz import limits
from featviz.errors import FeatvizError, ImageError
from featviz.hub import Arriving
from featviz.looking import Cell, Look, excited, gram_picture, look
from featviz.machine import Device, Estimate, estimate, lacks, memory
from featviz.recipe import Recipe
from featviz.stream import Preview, open_pictures, prepare, stream, try_out
from featviz.ui.gate import RATE, visitor
from featviz.ui.leaving import RUNS
from featviz.ui.memory import MEMORY

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


def within_memory(run: Runner) -> Runner:
    """`run`, begun only if there is memory for it beside those under way."""

    @wraps(run)
    def run_within_memory(recipe: Recipe, **pictures: Image.Image) -> Iterator[Any]:
        others = {role: picture.size for role, picture in pictures.items()}
        first = next((others.pop(role) for role in recipe.images if role in others), None)
        with sentences(), MEMORY.promised(memory(recipe, first, **others)):
            yield from run(recipe, **pictures)

    return run_within_memory


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


def polite_look(look: Callable[..., Any]) -> Callable[..., Any]:
    """The same for what answers at once."""

    @wraps(look)
    def politely(*asked: Any, **pictures: Image.Image) -> Any:
        with sentences():
            return look(*asked, **pictures)

    return politely


@dataclass(frozen=True)
class Engine:
    """What the page asks of the library; tests put something quicker in its place."""

    run: Runner = stream
    try_out: Callable[..., Iterator[tuple[Recipe, Preview]]] = TRY_OUT
    estimate: Callable[[Recipe, tuple[int, int]], Estimate] = estimate
    look: Callable[..., Look] = look
    excited: Callable[..., tuple[Cell, ...]] = excited
    gram_picture: Callable[..., Image.Image] = gram_picture
    within_reach: bool = True
    """Whether runs live in this process, so that something can be told to them while they go on."""
    prepare: Callable[..., Iterator[Arriving]] = prepare
    """Comes before a run and before trying out, and never on a device that is borrowed: it may take minutes."""
    lacks: Callable[[], list[str]] = lacks

    @classmethod
    def on(cls, device: Device) -> "Engine":
        granted = partial(stream, seconds=limits.RUN_SECONDS.value)
        asked = (granted, TRY_OUT, estimate, look, excited, gram_picture)
        return cls(
            *(partial(ask, device=device) for ask in asked), prepare=partial(prepare, device=device), lacks=partial(lacks, device)
        )

    def lent(self, lend: Callable[[Runner], Runner], *, apart: bool = False) -> "Engine":
        """The same, on a device that is borrowed for each run; `apart` in a process of its own."""
        begun = (lambda run: run) if apart else within_memory
        runs = {name: attended(begun(lend(polite(getattr(self, name))))) for name in ("run", "try_out")}
        looks = {name: self._ready_for(lend(polite_look(getattr(self, name)))) for name in ("look", "excited", "gram_picture")}
        return replace(self, **runs, **looks, prepare=polite(self.prepare), within_reach=not apart)

    def _ready_for(self, look: Callable[..., Any]) -> Callable[..., Any]:
        """What answers at once, after what it needs is there: where it is borrowed from, nothing may be waited for."""

        def looked(recipe: Recipe, *asked: Any, **pictures: Image.Image) -> Any:
            for _ in polite(self.prepare)(recipe, **pictures):
                pass
            return look(recipe, *asked, **pictures)

        return looked


def in_cache(picture: Image.Image, kind: str = "png", name: str = "image") -> str:
    """The file of a picture in Gradio's cache, which is emptied regularly."""
    return save_pil_to_cache(picture, get_upload_folder(), name=name, format=kind)


@dataclass(frozen=True, eq=False)
class Shot:
    """The latest picture of a run, and what it was made of."""

    recipe: Recipe
    before: Image.Image
    preview: Preview
    _written: list[str] = field(default_factory=list, kw_only=True, repr=False)

    def shown(self) -> tuple[Image.Image, str] | str:
        """What is shown when the run is over: the picture before, at the size of the result, and the result's file."""
        return self.before.resize(self.preview.picture.size, Image.Resampling.LANCZOS), self.file()

    def file(self) -> str:
        """A PNG of full quality. Written once, and again where it is gone."""
        if not (self._written and Path(self._written[-1]).exists()):
            with sentences():
                self._written.append(in_cache(self.preview.picture, name=f"featviz_{self.recipe.name}"))
        return self._written[-1]


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
        return chosen, open_pictures(recipe, {role: file_of(named[role]) for role in (*recipe.images, *recipe.extras)})


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


def arriving(download: Arriving) -> str:
    return line(str(download), download.share)


def outcome(preview: Preview) -> str:
    width, height = preview.picture.size
    steps = "1 step" if preview.steps == 1 else f"{preview.steps} steps"
    how = f"Done in {steps}" if preview.done else f"Stopped at step {preview.step} of {preview.steps}"
    return f"{how} · {width}×{height} pixels"
