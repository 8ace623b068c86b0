"""Where a recipe meets a machine: device, lock, pacing. Tensors below this file, pictures above it."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from PIL import Image

from featviz.dream import DeepDream
from featviz.errors import InputError, nearest
from featviz.images import Picture, open_picture, to_picture, to_tensor
from featviz.networks import NETWORKS, load
from featviz.recipe import Frame, Recipe
from featviz.style import StyleTransfer

RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in (DeepDream, StyleTransfer)}

Device = Literal["auto", "cpu", "cuda"]

_locks: dict[torch.device, threading.Lock] = defaultdict(threading.Lock)
"""One step at a time on each device. A plain lock, since the steps of one run come from different threads."""


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

    @property
    def done(self) -> bool:
        return self.step == self.steps


def stream(recipe: Recipe, *, device: Device = "auto", every: float = 0.25, **pictures: Picture) -> Iterator[Preview]:
    """Run a recipe and yield previews: the first step, then one at most every `every` seconds, and always the last.

    Closing the generator stops the run within one step. Runs on the same device take turns step by step, and none
    holds the device while it is not stepping.

    Raises:
        InputError: a picture is missing, unknown or unusable; before any work is done.
        WeightsError: the network's weights cannot be had.
    """
    if unknown := [role for role in pictures if role not in recipe.images]:
        raise InputError(f"{recipe.title} takes no picture '{unknown[0]}'; it takes {' and '.join(recipe.images)}.")
    opened = {role: open_picture(pictures.get(role), role) for role in recipe.images}
    where = resolve(device)
    network = load(recipe.network_name, where)
    frames = recipe.run(network, **{role: to_tensor(picture, where) for role, picture in opened.items()})
    busy = 0.0  # Seconds this run has held the device.
    due = 0.0
    try:
        while True:
            # Never across the yield: a run that is looked at slowly, or stopped, must not keep others from the device.
            with _locks[where]:
                start = time.monotonic()
                frame = next(frames, None)
                if frame is None:
                    return
                shown = start >= due or frame.step == frame.steps
                if shown:
                    preview = _read(frame, busy, start)
                busy += time.monotonic() - start
            if shown:
                yield preview
                due = time.monotonic() + every
    finally:
        frames.close()


def run(recipe: Recipe, *, device: Device = "auto", **pictures: Picture) -> Image.Image:
    """Run a recipe to its end and return the last picture. Raises what `stream` raises."""
    for preview in stream(recipe, device=device, every=float("inf"), **pictures):
        pass
    return preview.picture


def warm_up(device: Device = "auto") -> None:
    """Load every bundled network ahead of the first run, so that nobody waits for it."""
    for name in NETWORKS:
        load(name, resolve(device))


def resolve(device: Device) -> torch.device:
    """The device of that name; "auto" is a CUDA card where there is one, else the CPU.

    Raises:
        InputError: there is no such device here.
    """
    if device not in get_args(Device):
        raise InputError(f"There is no device '{device}'; {nearest(device, get_args(Device))}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no CUDA device here; 'cpu' and 'auto' work.")
    return torch.device(device)


def _read(frame: Frame, busy: float, start: float) -> Preview:
    """Wait for the device and read a frame back."""
    picture, loss = to_picture(frame.image), frame.loss.item()
    spent = busy + time.monotonic() - start
    return Preview(frame.step, frame.steps, frame.stage, frame.work, spent * (1 - frame.work) / frame.work, loss, picture)
