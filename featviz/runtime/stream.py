"""Run a recipe and read its frames back as previews, paced by time. Pictures go in and come out; tensors stay inside."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from featviz.errors import DivergedError, LimitError
from featviz.media.images import Picture, Pictures, on_white, opacity_of, remarks, to_pixels, to_tensor, with_alpha
from featviz.media.saving import NOTE
from featviz.networks.cache import load, load_untrained, load_with_progress
from featviz.networks.table import BUNDLED
from featviz.optimise.gradients import gradient_image
from featviz.optimise.tile_reports import Report, View, heard
from featviz.optimise.tiles import Area, Budget, enough_memory, granted
from featviz.optimise.transfers import Read
from featviz.recipes import metadata
from featviz.recipes.recipe import Demand, Frame, Frames, Recipe, live
from featviz.runtime.devices import Device, clock, resolve, slot, storage_device
from featviz.runtime.estimate import LEAST_RECORDED, Sizes, demand, expected_seconds, record_throughput
from featviz.runtime.memory import open_reserved, reserve, reserve_decoding
from featviz.runtime.preemption import PauseBetweenOperations
from featviz.runtime.scheduler import Slot, StoppedError, Waiting

if TYPE_CHECKING:
    from featviz.networks.hub import DownloadProgress


LONG_STEP = 0.1
"""Seconds of the device from which on a step gives way to other runs. The steps of a run get longer by at most ten times at once."""


PART_SECONDS = 1.0
"""Least seconds between two parts of a step that are shown."""

PART_SHARE = 0.02
"""The most of a run's time that goes into drawing its parts."""

OUTLINE = 400
"""Longest side of a picture, relative to the width of the outline of a tile."""

STRIP = 256
"""Rows of a picture that are read at once in the middle of a step: the float32 copies of all rows would take memory of the step."""

EXPECTED_SHARE = 0.02
"""The share of a run's work that counts as done at the expected speed. Its first steps alone say little: they prepare the kernels, and
the first layers of a network are a thousandth of the work."""

AHEAD = 2
"""The most steps of a run that a card may have before it: the one it computes, and the next, so that it never waits."""


@dataclass(frozen=True)
class Preview:
    """A frame read back from the device: a picture and numbers."""

    step: int
    """From 1 to `steps`."""
    steps: int
    stage: str
    """The part of the run that is being computed, e.g. "octave 2 of 4"."""
    work: float
    """The share of the run's work that is done, in (0, 1]."""
    seconds_left: float
    """At the speed of the run so far, and at first at the expected speed, without waiting for other runs."""
    loss: float
    picture: Image.Image
    is_video_frame: bool = False
    """Whether this is a finished picture of a video, to be written to its file."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Other numbers worth watching, by name, e.g. the distance at each layer."""
    gradient: Image.Image | None = None
    """The gradient image of the step, if the recipe shows it: see `featviz.optimise.gradients.gradient_image`."""
    seconds_used: float = 0.0
    """Seconds of computing in the steps so far; on a CPU they exclude other programs. Later estimates learn from them."""

    @property
    def done(self) -> bool:
        """Whether this is the last preview of its run."""
        return self.step == self.steps


@dataclass(frozen=True)
class Part:
    """The middle of a long step, after one of its tiles."""

    number: int
    """From 1 to `count`. A step may pass over its tiles several times."""
    count: int
    seconds: float
    """Seconds for which the run has had the device since the latest preview."""
    picture: Image.Image | None
    """The picture before the step, with the parts that are known already, and the tile outlined. A part is moved down its own
    gradient: the exact step needs the gradient of the whole picture. None for the tile of another picture, such as a style."""


Previews = Generator[Preview, None, None]
"""The previews of a run. Closing the generator stops the run."""


@dataclass(frozen=True)
class RunOptions:
    """How a run is shown, steered and stopped: the arguments of `stream` with the same names."""

    every: float = 0.25
    seconds: float = math.inf
    steer: Callable[[], Recipe] | None = None
    stopped: Callable[[], bool] | None = None
    on_wait: Callable[[Waiting], object] | None = None
    on_part: Callable[[Part], object] | None = None
    new: bool = True
    """Whether the run goes before others until its first preview."""


def stream(
    recipe: Recipe,
    *,
    device: Device = "auto",
    every: float = 0.25,
    seconds: float = math.inf,
    steer: Callable[[], Recipe] | None = None,
    stopped: Callable[[], bool] | None = None,
    on_wait: Callable[[Waiting], object] | None = None,
    on_part: Callable[[Part], object] | None = None,
    **pictures: Pictures,
) -> Previews:
    """Run a recipe and yield previews: the first step, then one at most every `every` seconds, and always the last.

    Of a video, every finished picture is yielded as well, whatever `every` is; `film` writes them to a file.

    Closing the generator stops the run. Runs on the same device take turns, also in the middle of a long step: first those
    without a preview, then the one with the least work left (`Scheduler`). A run never holds the device between two previews.

    Args:
        recipe: the recipe to run.
        device: "auto", "cpu", "cuda", "cuda:1" (a card by its index) or "mps".
        every: least seconds between two previews.
        seconds: most seconds that the run may hold the device. Waiting for other runs does not count.
        steer: called before every step but the first; returns the recipe with new values of its live fields. Other fields of
            what it returns are ignored.
        stopped: whether the run is to end. Called while it waits and during its steps, of which a long one ends early; then the
            generator ends without another preview.
        on_wait: called four times a second while the run waits for the device.
        on_part: called in the middle of a long step on a CPU, after a tile, at most every second. The result does not depend on it.
        pictures: the pictures that the recipe takes, by role, e.g. `image=`: a path, a PIL image, bytes, an open file, a NumPy
            array (H, W, C) or a tensor (C, H, W), as uint8 or floats in [0, 1].

    Raises:
        InputError: a picture is missing, unknown or unusable, before any work is done; or the device runs out of memory.
        WeightsError: the network's weights are not available.
        DivergedError: the loss became NaN or infinite. All previews before are good.
        LimitError: the run does not fit into the free memory, before any work is done; or it has used up its seconds.
    """
    options = RunOptions(every=every, seconds=seconds, steer=steer, stopped=stopped, on_wait=on_wait, on_part=on_part)
    opened, torch_device = open_pictures(recipe, pictures), resolve(device)
    with reserve(recipe, torch_device, sizes_of(opened)) as budget:
        yield from preview_frames(recipe, opened, torch_device, budget, options)


def run(recipe: Recipe, *, device: Device = "auto", **pictures: Pictures) -> Image.Image:
    """Run a recipe to its end and return the last picture, an RGB or RGBA image.

    Takes and raises what `stream` does. The recipe is attached to the picture, and `featviz.save` writes it into the file.
    """
    # mypy assumes that a picture may be called `seconds` or `steer`.
    for preview in stream(recipe, device=device, every=math.inf, **pictures):  # type: ignore[arg-type]
        pass
    return preview.picture


def prepare(recipe: Recipe, *, device: Device = "auto", **pictures: Pictures) -> Iterator[DownloadProgress]:
    """Download the weights that a recipe needs and yield the progress; yields nothing where no download is needed.

    `stream` does the same without reporting progress. Closing the generator stops waiting, but not the download.

    Args:
        recipe: the recipe that is going to be run.
        device: as for `stream`.
        pictures: those of the run, which are checked first.

    Raises:
        InputError: a picture is missing, unknown or unusable; before anything is downloaded.
        WeightsError: the weights are not available; the message has the reason.
    """
    open_pictures(recipe, pictures)
    if recipe.network_name not in BUNDLED:
        yield from load_with_progress(recipe.network_name, storage_device(device))


def open_pictures(recipe: Recipe, pictures: Mapping[str, Pictures | None]) -> dict[str, Image.Image]:
    """Check a recipe against its pictures and open them, each scaled down to the size that the recipe needs.

    Every surface calls this first.

    Raises:
        InputError: the recipe takes no picture of that role.
        FieldError: as for `check`.
        ImageError: as for `open_picture`.
        LimitError: too little memory is free to decode a picture.
    """
    pictures = recipe.by_role(pictures)
    recipe.check_roles(pictures)
    roles = [*recipe.images, *(role for role in recipe.optional_images if pictures.get(role) is not None)]
    check(recipe, roles)
    return {role: open_reserved(pictures.get(role), role, recipe.scaled_side(role)) for role in roles}


def check(recipe: Recipe, roles: Collection[str]) -> None:
    """Check a recipe against the roles of its pictures and against its network, whose weights are not loaded.

    Raises:
        FieldError: a field or a picture has no effect beside the others, or the network has no such channel.
    """
    recipe.check_unused(roles)
    recipe.check_network(load_untrained(recipe.network_name))


def remarks_on(pictures: Mapping[str, Picture | None]) -> list[str]:
    """Return remarks on how the pictures of a run are read, one sentence each. Raises as `open_reserved` does."""
    given = {role: picture for role, picture in pictures.items() if picture is not None}
    return [
        remark for role, picture in given.items() for remark in remarks(picture, role, reserve=partial(reserve_decoding, role))
    ]


def sizes_of(opened: Mapping[str, Image.Image]) -> Sizes:
    """Return the (width, height) of pictures by their roles."""
    return {role: picture.size for role, picture in opened.items()}


def preview_frames(
    recipe: Recipe, opened: Mapping[str, Image.Image], device: torch.device, budget: Budget, options: RunOptions
) -> Previews:
    """Run a recipe on opened pictures, whose memory is reserved, and yield previews. `budget`: that of its tiles, as reserved."""
    with enough_memory():
        frames = recipe.run(load(recipe.network_name, device), **tensors(recipe, opened, device))
    needs = demand(recipe, device, sizes_of(opened), budget)
    alpha_source = next(iter(opened.values())) if recipe.images and _keeps_alpha(recipe) else None
    yield from pace(frames, needs, recipe, opened, device, budget, options, alpha_source)


def pace(
    frames: Frames,
    needs: Demand,
    recipe: Recipe,
    opened: Mapping[str, Image.Image],
    device: torch.device,
    budget: Budget,
    options: RunOptions,
    alpha_source: Image.Image | None = None,
) -> Previews:
    """Compute the frames of a run on a device that it shares with others, and yield previews.

    `needs` is the demand of all frames, `budget` that of tiles. Previews get the opacity of `alpha_source`.
    """
    work = expected_seconds(needs, device, recipe)
    timer = _StepTimer(device, slot(device, work, new=options.new, stopped=options.stopped, on_wait=options.on_wait), work)
    parts = _Parts(timer, options.on_part) if options.on_part and device.type == "cpu" else None
    steered: Recipe | None = None  # A generator's first step takes nothing.
    unaltered, gradient = True, getattr(recipe, "show_gradient", False)
    share_done = due = 0.0
    try:
        while True:
            # Steps follow each other at once until there is a preview. The device is released before each yield: a slow or
            # stopped consumer must not block other runs.
            with timer.slot, enough_memory(), granted(budget), heard(parts):
                while True:
                    with timer.step():
                        frame = frames.send(steered)
                        is_last = frame.step == frame.steps
                        shown = timer.started >= due or frame.is_video_frame or is_last
                        preview = _read(frame, timer, alpha_source, gradient) if shown else None
                    if parts:
                        parts.end_step()
                    timer.slot.progress(frame.work)
                    share_done = frame.work if frame.steps > 1 else 0.0  # A single step says little about speed.
                    unaltered = unaltered and steered in (None, recipe)
                    over = timer.slot.held > options.seconds
                    if preview or over:
                        break
                    steered = options.steer and _with_live_fields(recipe, options.steer())
                    timer.slot.pause()
            if preview:
                preview = replace(preview, seconds_used=timer.computed)
                _attach_note(preview, steered or recipe, opened, unaltered=unaltered)
                yield preview
                due = time.monotonic() + options.every
            if is_last:
                return
            if over:
                raise LimitError(
                    f"A run may take {options.seconds:.0f} s here, and has reached step {frame.step} of {frame.steps}; the latest picture "
                    f"is kept. Try a smaller size or fewer steps."
                )
            steered = options.steer and _with_live_fields(recipe, options.steer())
    except StoppedError:
        return
    finally:
        frames.close()
        if share_done >= LEAST_RECORDED:
            record_throughput(device, recipe, needs, share_done, timer.computed)


class _StepTimer:
    """Measure the steps of a run while it holds its slot of a device, and let long ones give way to other runs."""

    def __init__(self, device: torch.device, slot: Slot, expected: float):
        """`expected`: seconds that the run is expected to take."""
        self._device, self.slot, self._expected = device, slot, expected
        self._latest = math.inf  # Of the first step, nothing is known.
        self._queued: deque[torch.cuda.Event] = deque()
        """The ends of the steps that a card may still be computing, the oldest first."""
        self.started = 0.0
        """When the latest step started, by `time.monotonic`."""
        self.computed = 0.0
        """Seconds of `clock` in completed steps, without pauses; on a CPU they exclude other programs."""

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time the step that is computed in the context."""
        self.started, computed, held = time.monotonic(), clock(self._device), self.slot.held
        with ExitStack() as context:
            if self._latest > LONG_STEP:
                context.enter_context(PauseBetweenOperations(self.slot.pause))
            self._wait_for_card()
            yield
        self._note_end()
        self._latest = self.slot.held - held
        paused = time.monotonic() - self.started - self._latest
        self.computed += clock(self._device) - computed - (0 if self._device.type == "cpu" else paused)

    def seconds_left(self, share: float) -> float:
        """Return the seconds that the rest of the run takes, once a share of its work is done."""
        return (self.slot.held + EXPECTED_SHARE * self._expected) / (share + EXPECTED_SHARE) * (1 - share)

    def _wait_for_card(self) -> None:
        """Wait until fewer than `AHEAD` steps are queued on a card, so that Stop and other runs wait for no more than these."""
        while len(self._queued) >= AHEAD:
            self._queued.popleft().synchronize()

    def _note_end(self) -> None:
        if self._device.type == "cuda":
            self._queued.append(torch.cuda.Event())
            self._queued[-1].record(torch.cuda.current_stream(self._device))


class _Parts:
    """Draw the middle of long steps, and call a function with it now and then."""

    def __init__(self, timer: _StepTimer, on_part: Callable[[Part], object]):
        self._timer, self._on_part = timer, on_part
        self._view: View | None = None
        self._pixels = np.empty((0, 0, 3), np.uint8)
        """Of `_view`, so far."""
        self._reports: list[Report] = []
        """Those that are not drawn yet."""
        self.end_step()

    def end_step(self) -> None:
        """Forget the parts of a step that has ended."""
        self._view, self._held, self._due = None, self._timer.slot.held, time.monotonic() + PART_SECONDS
        self._reports.clear()

    @torch.no_grad()
    def __call__(self, report: Report) -> None:
        self._reports.append(report)
        started = time.monotonic()
        if started < self._due:
            return
        picture = self._picture(report.view, report.area) if report.view else None
        self._on_part(Part(report.number, report.count, self._timer.slot.held - self._held, picture))
        self._reports.clear()
        ended = time.monotonic()
        self._due = ended + max(PART_SECONDS, (ended - started) / PART_SHARE)

    def _picture(self, view: View, outlined: Area) -> Image.Image:
        if view is not self._view:
            self._view, self._pixels = view, np.empty((*view.size, 3), np.uint8)
            for first in range(0, view.size[0], STRIP):
                rows = slice(first, first + STRIP)
                self._pixels[rows] = to_pixels(view.before((rows, slice(None)))).numpy()
        for report in self._reports:
            if report.view is view and report.gradient is not None and report.gradient.numel():
                after = view.after(report.area, report.gradient)
                if after is not None:
                    self._pixels[report.area] = to_pixels(after).numpy()
        picture = Image.fromarray(self._pixels.copy())
        (top, bottom), (left, right) = ((along.start, along.stop) for along in outlined)
        if top < bottom and left < right:
            width = max(1, max(view.size) // OUTLINE)
            ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), outline="white", width=width)
        return picture


def _read(frame: Frame, timer: _StepTimer, alpha_source: Image.Image | None, gradient: bool) -> Preview:
    """Read a frame back from the device, which waits once, for the step to be computed. `gradient`: whether it is shown."""
    numbers = torch.stack([frame.loss.float(), *(value.float() for value in frame.measures.values())])
    gradients = [to_pixels(gradient_image(frame.gradient))] if gradient and frame.gradient is not None else []
    pixels, numbers, *gradients = Read([to_pixels(frame.image), numbers, *gradients]).wait()
    loss, *measures = numbers.tolist()
    if not math.isfinite(loss):
        raise DivergedError(
            f"The numbers ran out of range at step {frame.step}; the last good picture is kept. Try less strength."
        )
    picture = Image.fromarray(pixels.numpy())
    return Preview(
        step=frame.step,
        steps=frame.steps,
        stage=frame.stage,
        work=frame.work,
        seconds_left=timer.seconds_left(frame.work),
        loss=loss,
        picture=with_alpha(picture, alpha_source) if alpha_source else picture,
        is_video_frame=frame.is_video_frame,
        measures=dict(zip(frame.measures, measures, strict=True)),
        gradient=Image.fromarray(gradients[0].numpy()) if gradients else None,
    )


def _attach_note(preview: Preview, recipe: Recipe, opened: Mapping[str, Image.Image], *, unaltered: bool) -> None:
    """Attach the recipe to the picture of a preview, and to the last one fingerprints of the pictures it was made of.

    `unaltered`: whether no live field was changed so far, so that the recipe alone reproduces the last picture.
    """
    fingerprints = metadata.fingerprints(opened, metadata.salt_of(preview.picture)) if preview.done else None
    whole = unaltered and preview.done
    preview.picture.info[NOTE] = metadata.note(recipe, opened, whole=whole, fingerprints=fingerprints)


def _with_live_fields(recipe: Recipe, source: Recipe) -> Recipe:
    """Return a recipe with the live fields of another."""
    return recipe.replace(**{name: getattr(source, name) for name in live(type(recipe))})


def tensors(recipe: Recipe, opened: Mapping[str, Image.Image], device: torch.device) -> dict[str, Any]:
    """Return the arguments of `recipe.run` beside the network: pictures as tensors, and the opacity of those that have one.

    Where a recipe discards the transparency of its first picture, that picture is laid on white: its background will be visible.
    """
    arguments: dict[str, Any] = {role: to_tensor(picture, device) for role, picture in opened.items()}
    opacity = {role: opacity_of(opened[role], device) for role in recipe.opacity_roles if role in opened}
    if opacity := {role: alpha for role, alpha in opacity.items() if alpha is not None}:
        arguments["opacity"] = opacity
    for role in list(recipe.images)[:1]:
        if not _keeps_alpha(recipe) and role not in recipe.opacity_roles:
            arguments[role] = to_tensor(on_white(opened[role]), device)
    return arguments


def _keeps_alpha(recipe: Recipe) -> bool:
    """Whether the result gets the alpha channel of the first picture. A video does not: it moves, and its alpha would not."""
    return recipe.produces == "picture" and recipe.keeps_alpha
