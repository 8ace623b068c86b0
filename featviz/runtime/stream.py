"""Run a recipe: its frames become previews, paced by time. Tensors go in, pictures come out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from featviz.errors import DivergedError, InputError, LimitError
from featviz.media.images import (
    NOTE,
    Picture,
    on_white,
    opacity_of,
    open_picture,
    remarks,
    to_picture,
    to_tensor,
    with_alpha,
)
from featviz.networks.cache import load, load_untrained, load_with_progress
from featviz.networks.table import BUNDLED
from featviz.optimise.tiles import enough_memory
from featviz.recipes import metadata
from featviz.recipes.recipe import Frame, Recipe, live
from featviz.runtime.devices import Device, clock, resolve, slot, storage_device
from featviz.runtime.estimate import record_throughput
from featviz.runtime.memory import reserved

if TYPE_CHECKING:
    from featviz.networks.hub import DownloadProgress


LEAST_MEASURED = 0.1
"""Share of a run's work from which on it tells the speed of this machine."""


@dataclass(frozen=True)
class Preview:
    """A frame that is shown: a picture and numbers, read back from the device."""

    step: int
    steps: int
    stage: str
    """What is being worked on, e.g. "octave 2 of 4"."""
    work: float
    """Share of the run's work that is done, in (0, 1]."""
    seconds_left: float
    """At the speed of the run so far, waiting for others not counted."""
    loss: float
    picture: Image.Image
    is_video_frame: bool = False
    """Whether this is a finished picture of a video, which goes into its file."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """What else is worth watching, by name, e.g. the distance that each layer still sees."""

    @property
    def done(self) -> bool:
        """Whether this is the run's last one."""
        return self.step == self.steps


Previews = Generator[Preview, None, None]
"""A run as people see it. Closing it stops the run."""


def stream(
    recipe: Recipe,
    *,
    device: Device = "auto",
    every: float = 0.25,
    seconds: float = math.inf,
    steer: Callable[[], Recipe] | None = None,
    **pictures: Picture,
) -> Previews:
    """Run a recipe and yield previews: the first step, then one at most every `every` seconds, and always the last.

    `seconds` is what the run may take of the device; waiting for others is not counted.

    `steer`, where given, is asked before every step for the recipe as it is wanted by then; only live fields may differ.

    Every finished picture of a video is yielded as well, however fast they come: `record` makes a file of them.
    Closing the generator stops the run within one step. Runs on the same device take turns step by step, and none
    holds the device while it is not stepping.

    Raises:
        InputError: a picture is missing, unknown or unusable, before any work is done; or the device has too little memory.
        WeightsError: the network's weights cannot be had.
        DivergedError: the run met NaN or infinity; every preview before was good.
        LimitError: the run does not fit into the memory that is free, before any work is done; or it has taken its seconds.
    """
    opened, where = _opened(recipe, pictures), resolve(device)
    size, others = _sizes(recipe, opened)
    with reserved(recipe, size, where, others=others):
        yield from _previews(recipe, opened, where, every, seconds, steer)


def _opened(recipe: Recipe, pictures: Mapping[str, Picture]) -> dict[str, Image.Image]:
    """As `open_pictures`, and every picture has to be one that the recipe takes."""
    accepted = {**recipe.images, **recipe.extras}
    if unknown := [role for role in pictures if role not in accepted]:
        raise InputError(f"{recipe.title} takes no picture '{unknown[0]}'; it takes {', '.join(accepted)}.")
    return open_pictures(recipe, pictures)


def _sizes(recipe: Recipe, opened: Mapping[str, Image.Image]) -> tuple[tuple[int, int] | None, dict[str, tuple[int, int]]]:
    """(width, height) of the first picture that a recipe needs, None if it needs none, and those of the others by their roles."""
    others = {role: picture.size for role, picture in opened.items()}
    return next((others.pop(role) for role in recipe.images), None), others


def _previews(
    recipe: Recipe,
    opened: Mapping[str, Image.Image],
    where: torch.device,
    every: float,
    seconds: float = math.inf,
    steer: Callable[[], Recipe] | None = None,
) -> Previews:
    """`stream` on a device, of pictures that are open, in memory that is reserved."""
    turn = slot(where)
    with enough_memory():
        network = load(recipe.network_name, where)
        frames = recipe.run(network, **tensors(recipe, opened, where))
    first = next(iter(opened.values())) if recipe.images else None
    source = first if keeps_alpha(recipe) else None
    size, others = _sizes(recipe, opened)
    demand = recipe.demand(network, size and size[::-1], **{role: other[::-1] for role, other in others.items()})
    busy = 0.0  # Seconds this run has held the device.
    computed, share = 0.0, 0.0  # Seconds of the device without contention, and the share of the work they did.
    due = 0.0
    steered = None  # A generator's first step takes nothing.
    as_asked = True  # And steered nowhere else.
    try:
        while True:
            # Never across the yield: a run that is looked at slowly, or stopped, must not keep others from the device.
            with turn:
                start, worked = time.monotonic(), clock(where)
                with enough_memory():
                    try:
                        frame = frames.send(steered)
                    except StopIteration:
                        return
                    shown = start >= due or frame.is_video_frame or frame.step == frame.steps
                    if shown:
                        preview = _read(frame, busy, start, source)
                busy += time.monotonic() - start
                computed, share = computed + clock(where) - worked, frame.work if frame.steps > 1 else 0  # One look says little.
            as_asked = as_asked and steered in (None, recipe)
            if shown:
                made_of = metadata.fingerprints(opened, metadata.salt_of(preview.picture)) if preview.done else None
                whole = as_asked and preview.done
                preview.picture.info[NOTE] = metadata.note(steered or recipe, opened, whole=whole, fingerprints=made_of)
                yield preview
                due = time.monotonic() + every
            if busy > seconds and frame.step < frame.steps:
                raise LimitError(
                    f"A run may take {seconds:.0f} s here, and is at step {frame.step} of {frame.steps} by now; the latest picture "
                    f"is kept. Try a smaller size or fewer steps."
                )
            steered = steer and _steered(recipe, steer())
    finally:
        frames.close()
        if share >= LEAST_MEASURED:
            record_throughput(where, recipe, demand, share, computed)


def prepare(recipe: Recipe, *, device: Device = "auto", **pictures: Picture) -> Iterator[DownloadProgress]:
    """Have the weights that a recipe needs here, and yield how far their download is; nothing where none is needed.

    `stream` does it by itself, but keeps quiet meanwhile. Closing the generator gives up waiting, not the download.

    Raises:
        InputError: a picture is missing or unusable; before anything is downloaded for it.
        WeightsError: the weights cannot be had, for a reason that the message names.
    """
    open_pictures(recipe, pictures)
    if recipe.network_name not in BUNDLED:
        yield from load_with_progress(recipe.network_name, storage_device(device))


def _steered(recipe: Recipe, wanted: Recipe) -> Recipe:
    """A recipe with the live fields of another."""
    return recipe.replace(**{name: getattr(wanted, name) for name in live(type(recipe))})


def open_pictures(recipe: Recipe, given: Mapping[str, Picture | None]) -> dict[str, Image.Image]:
    """The pictures that a recipe needs, and those of the others that are given, at no more than the size that it needs.

    Every surface begins with this.

    Raises:
        FieldError: as `check` raises it.
        ImageError: as `open_picture` raises it.
    """
    extras = [role for role in recipe.extras if given.get(role) is not None]
    check(recipe, [*recipe.images, *extras])
    return {role: open_picture(given.get(role), role, recipe.needed(role)) for role in (*recipe.images, *extras)}


def remarks_on(given: Mapping[str, Picture | None]) -> list[str]:
    """What is not obvious about how the pictures of a run are read, in a sentence each. Raises ImageError as `open_picture` does."""
    return [remark for role, picture in given.items() if picture is not None for remark in remarks(picture, role)]


def tensors(recipe: Recipe, opened: Mapping[str, Image.Image], where: torch.device) -> dict[str, Any]:
    """What `recipe.run` takes beside the network: every picture as a tensor on a device, and the opacity of those it weighs.

    The first picture of a recipe that drops its transparency is laid on white, since its background will be seen.
    """
    taken: dict[str, Any] = {role: to_tensor(picture, where) for role, picture in opened.items()}
    opacity = {role: opacity_of(opened[role], where) for role in recipe.opacity_roles if role in opened}
    if opacity := {role: alpha for role, alpha in opacity.items() if alpha is not None}:
        taken["opacity"] = opacity
    for role in list(recipe.images)[:1]:
        if not keeps_alpha(recipe) and role not in recipe.opacity_roles:
            taken[role] = to_tensor(on_white(opened[role]), where)
    return taken


def keeps_alpha(recipe: Recipe) -> bool:
    """Whether the result gets the transparency of the first picture. A video does not: it moves, and its alpha would stay."""
    return recipe.produces == "picture" and recipe.keeps_alpha


def check(recipe: Recipe, pictures: Collection[str]) -> None:
    """Check a recipe against the names of the pictures that it is to run on and against its network, which is not loaded.

    Raises:
        FieldError: a field or a picture has no effect beside what else is given, or the network has no such channel.
    """
    recipe.check_unused(pictures)
    recipe.check_network(load_untrained(recipe.network_name))


def run(recipe: Recipe, *, device: Device = "auto", **pictures: Picture) -> Image.Image:
    """Run a recipe to its end and return the last picture. Raises what `stream` raises.

    The picture knows its recipe, and `featviz.save` writes it into the file.
    """
    # mypy takes it that a picture may be called `seconds` or `steer`.
    for preview in stream(recipe, device=device, every=math.inf, **pictures):  # type: ignore[arg-type]
        pass
    return preview.picture


def _read(frame: Frame, busy: float, start: float, source: Image.Image | None) -> Preview:
    """Wait for the device and read a frame back."""
    loss = frame.loss.item()
    if not math.isfinite(loss):
        raise DivergedError(
            f"The numbers ran out of range at step {frame.step}; the last good picture is kept. Try less strength."
        )
    picture = to_picture(frame.image)
    measures = {name: value.item() for name, value in frame.measures.items()}
    spent = busy + time.monotonic() - start
    return Preview(
        step=frame.step,
        steps=frame.steps,
        stage=frame.stage,
        work=frame.work,
        seconds_left=spent * (1 - frame.work) / frame.work,
        loss=loss,
        picture=with_alpha(picture, source) if source else picture,
        is_video_frame=frame.is_video_frame,
        measures=measures,
    )
