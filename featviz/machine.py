"""The machine: its devices and whose turn is next on them, their speed, and what a run will take of it."""

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from PIL import Image

from featviz import video
from featviz.dream import DeepDream
from featviz.errors import InputError, nearest
from featviz.loading import is_here, load, sketch
from featviz.network import LENT
from featviz.networks import BUNDLED, NETWORKS
from featviz.recipe import Recipe
from featviz.tiles import out_of_memory
from featviz.turns import Claim, Turns

Device = Literal["auto", "cpu", "cuda"]

if LENT:  # The threads of OpenMP do not survive a fork, and the first loop of the child would wait for them for ever.
    os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))

_turns: dict[torch.device, Turns] = defaultdict(Turns)
"""One step at a time on each device."""

LENT_SPEED = 5e12
"""Floating point operations a second that a lent GPU is trusted with; it is faster."""

LEASE, TO_BEGIN = (20, 120), 15
"""The least and the most seconds that such a GPU is asked for, and those before the first step."""

_speeds: dict[tuple[str, str], float] = {}
"""(Kind of device, network) → floating point operations a second that were reached, corrected by every run."""


def places(device: Device) -> list[torch.device]:
    """The devices of that name; "auto" stands for the CUDA cards where there are any, else for the CPU.

    Raises:
        InputError: there is no such device here.
    """
    if device not in get_args(Device):
        raise InputError(f"There is no device '{device}'; {nearest(device, get_args(Device))}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("There is no CUDA device here; 'cpu' and 'auto' work.")
    if device == "cpu":
        return [torch.device("cpu")]
    return [torch.device("cuda", index) for index in range(max(1, torch.cuda.device_count()))]


def resolve(device: Device) -> torch.device:
    """The device of that name that a run had better take: of several cards, the one with the fewest. Raises as `places` does."""
    return min(places(device), key=lambda where: _turns[where].runs)


def lacks(device: Device = "auto") -> list[str]:
    """What is slow or off here, in a sentence each."""
    from featviz import hub  # Here, since what it imports takes its time.

    slow = "" if LENT or resolve(device).type == "cuda" else "There is no GPU, so a run takes from seconds to minutes."
    return list(filter(None, (slow, hub.why_off(), video.why_off())))


def claim(where: torch.device) -> Claim:
    """What a run takes its turns on a device by."""
    return _turns[where].claim()


@dataclass(frozen=True)
class Estimate:
    """What a run is going to take on this machine."""

    seconds: float
    bytes: float
    """Of memory, beside what is in use already."""
    download: bool = False
    """Whether the network's weights have to be downloaded first; seconds do not count it."""

    def __str__(self) -> str:
        first = ", once the network has been downloaded" if self.download else ""
        return f"About {duration(self.seconds)} and {gigabytes(self.bytes)} on this machine{first}."


def duration(seconds: float) -> str:
    """As people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes / 60:.0f} h"


def gigabytes(number: float) -> str:
    """Of as many bytes."""
    return f"{max(number / 1e9, 0.1):.1f} GB"


def estimate(recipe: Recipe, size: tuple[int, int] | None = None, *, device: Device = "auto") -> Estimate:
    """What a run on a first picture of (width, height) takes: counted work at the speed that runs have had here so far."""
    name, where = recipe.network_name, resolve(device)
    demand = recipe.demand(sketch(name, where), size and size[::-1])
    return Estimate(demand.flops / _speed(where, name), demand.bytes, not is_here(name))


def memory(recipe: Recipe, size: tuple[int, int] | None = None, **others: tuple[int, int]) -> float:
    """Bytes that a run takes at its peak, beside what is in use already.

    `size` and `others` as in `Recipe.demand`, but (width, height).
    """
    heights_first = {role: other[::-1] for role, other in others.items()}
    return recipe.demand(sketch(recipe.network_name), size and size[::-1], **heights_first).bytes


def lease(recipe: Recipe, *_: object, **pictures: Image.Image) -> int:
    """The seconds for which a run or a look asks for a GPU that is lent: the fewer, the sooner its turn."""
    first = next((pictures[role] for role in recipe.images if role in pictures), None)
    least, most = LEASE
    return round(min(max(least, TO_BEGIN + estimate(recipe, first.size if first else None).seconds), most))


def warm_up(device: Device = "auto") -> None:
    """Load every bundled network ahead of the first run and measure its speed, so that nobody waits for it."""
    at = [torch.device("cpu")] if LENT else places(device)
    for name in BUNDLED:  # All of them first: what cannot be measured is at least loaded.
        for where in at:
            load(name, where)
    for name in () if LENT else BUNDLED:
        try:
            _measure(name, at[0])
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return  # The first run tells the speed.


def home(device: Device) -> torch.device:
    """Where networks stay between two runs."""
    return torch.device("cpu") if LENT else resolve(device)


def learn(where: torch.device, name: str, flops: float, seconds: float) -> None:
    """Note what a network has done on a device in so many seconds: the next estimate relies on it."""
    _speeds[where.type, name] = flops / seconds


def _speed(where: torch.device, name: str) -> float:
    """Of a network on a device, in floating point operations a second."""
    if (where.type, name) not in _speeds:
        if LENT and where.type == "cuda":
            return LENT_SPEED
        if name not in BUNDLED:  # Not downloaded for the sake of an estimate; its first run will tell.
            return _speed(where, BUNDLED[0])
        _measure(name, where)
    return _speeds[where.type, name]


def _measure(name: str, where: torch.device) -> None:
    """The speed of a network on a small image. The first pass prepares the kernels and is not counted."""
    spec = NETWORKS[name]
    recipe = DeepDream(layer=f"{name}/{list(spec.layers)[-1]}", octaves=1, steps=3, size=192)
    network, image = load(name, where), torch.rand(1, 3, 192, 192, device=where)
    with claim(where):
        frames = recipe.run(network, image=image)
        next(frames).loss.item()
        start = time.monotonic()
        next(frames)
        next(frames).loss.item()
        seconds = time.monotonic() - start
    learn(where, name, recipe.demand(network, (192, 192)).flops * 2 / 3, seconds)
