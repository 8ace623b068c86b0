"""Where a recipe meets a machine: device, lock, pacing. Tensors below this file, pictures above it."""

import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor

from featviz import provenance
from featviz.answers import ActivationMaps, Classify, correlations
from featviz.dream import DeepDream
from featviz.errors import DivergedError, InputError, LimitError, nearest
from featviz.images import NOTE, Picture, contact_sheet, fit, open_picture, to_picture, to_tensor, with_alpha
from featviz.networks import BUNDLED, LENT, NETWORKS, Arriving, Network, is_here, load, loading, sketch, split
from featviz.recipe import Frame, Recipe, differing, live
from featviz.reconstruct import ReconstructContent, ReconstructStyle
from featviz.style import StyleTransfer
from featviz.turns import Claim, Turns
from featviz.video import Video
from featviz.visualize import FeatureVisualization
from featviz.zoom import DreamZoom

EVERY = (
    DeepDream,
    DreamZoom,
    StyleTransfer,
    ActivationMaps,
    Classify,
    FeatureVisualization,
    ReconstructContent,
    ReconstructStyle,
)
"""In the order of the page."""

RECIPES: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in EVERY}

Device = Literal["auto", "cpu", "cuda"]

LEAST_MEASURED = 0.1
"""Share of a run's work from which on it tells the speed of this machine."""

_turns: dict[torch.device, Turns] = {}
"""One step at a time on each device."""

LENT_SPEED = 5e12
"""Floating point operations a second that a lent GPU is trusted with; it is faster."""

LEASE, TO_BEGIN = (20, 120), 15
"""The least and the most seconds that such a GPU is asked for, and those before the first step."""

_speeds: dict[tuple[torch.device, str], float] = {}
"""Floating point operations a second that a network has reached on a device, corrected by every run."""


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
    kept: bool = False
    """Whether this is a finished picture of a video, which goes into its file."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """What else is worth watching, by name, e.g. the distance that each layer still sees."""

    @property
    def done(self) -> bool:
        return self.step == self.steps


def stream(
    recipe: Recipe,
    *,
    device: Device = "auto",
    every: float = 0.25,
    seconds: float = math.inf,
    steer: Callable[[], Recipe] | None = None,
    **pictures: Picture,
) -> Iterator[Preview]:
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
        LimitError: the run has taken its seconds.
    """
    accepted = {**recipe.images, **recipe.extras}
    if unknown := [role for role in pictures if role not in accepted]:
        raise InputError(f"{recipe.title} takes no picture '{unknown[0]}'; it takes {', '.join(accepted)}.")
    opened = open_pictures(recipe, pictures)
    where = resolve(device)
    network = load(recipe.network_name, where)
    frames = recipe.run(network, **{role: to_tensor(picture, where) for role, picture in opened.items()})
    first = next(iter(opened.values())) if recipe.images else None
    source = first if recipe.produces == "picture" and recipe.keeps_alpha else None  # A video moves on, its alpha would not.
    demand = recipe.demand(network, first and first.size[::-1])
    turn = _claim(where)
    busy = 0.0  # Seconds this run has held the device.
    due = 0.0
    steered = None  # A generator's first step takes nothing.
    as_asked = True  # And steered nowhere else.
    try:
        while True:
            # Never across the yield: a run that is looked at slowly, or stopped, must not keep others from the device.
            with turn:
                start = time.monotonic()
                try:
                    frame = frames.send(steered)
                except StopIteration:
                    return
                except torch.OutOfMemoryError:
                    raise InputError("The device has too little memory for that; choose a smaller size.") from None
                shown = start >= due or frame.kept or frame.step == frame.steps
                if shown:
                    preview = _read(frame, busy, start, source)
                busy += time.monotonic() - start
            if frame.work >= LEAST_MEASURED and frame.steps > 1:  # One look alone says little.
                _speeds[where, recipe.network_name] = demand.flops * frame.work / busy
            as_asked = as_asked and steered in (None, recipe)
            if shown:
                preview.picture.info[NOTE] = provenance.note(steered or recipe, opened, whole=as_asked and preview.done)
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


def prepare(recipe: Recipe, *, device: Device = "auto", **pictures: Picture) -> Iterator[Arriving]:
    """Have the weights that a recipe needs here, and yield how far their download is; nothing where none is needed.

    `stream` does it by itself, but keeps quiet meanwhile. Closing the generator gives up waiting, not the download.

    Raises:
        InputError: a picture is missing or unusable; before anything is downloaded for it.
        WeightsError: the weights cannot be had, for a reason that the message names.
    """
    if recipe.network_name not in BUNDLED:
        open_pictures(recipe, pictures)
        yield from loading(recipe.network_name, _home(device))


def _steered(recipe: Recipe, wanted: Recipe) -> Recipe:
    """A recipe with the live fields of another."""
    return recipe.model_copy(update={name: getattr(wanted, name) for name in live(type(recipe))})


def open_pictures(recipe: Recipe | type[Recipe], given: Mapping[str, Picture | None]) -> dict[str, Image.Image]:
    """The pictures that a recipe needs, and those of the others that are given. Raises ImageError as `open_picture` does."""
    extras = (role for role in recipe.extras if given.get(role) is not None)
    return {role: open_picture(given.get(role), role) for role in (*recipe.images, *extras)}


def run(recipe: Recipe, *, device: Device = "auto", **pictures: Picture) -> Image.Image:
    """Run a recipe to its end and return the last picture. Raises what `stream` raises.

    The picture knows its recipe, and `featviz.save` writes it into the file.
    """
    for preview in stream(recipe, device=device, every=float("inf"), **pictures):
        pass
    return preview.picture


def recipe_of(file: Picture) -> Recipe:
    """The recipe in a picture or a video that featviz made. Run on the same pictures, it makes the same again.

    Raises:
        InputError: there is no such file, or no recipe in it.
    """
    return provenance.read(file, RECIPES).recipe


def film(
    recipe: Recipe, path: str | os.PathLike, *, device: Device = "auto", every: float = 0.25, **pictures: Picture
) -> Iterator[Preview]:
    """Run a recipe that produces a video, write it to `path`, and yield previews as `stream` does.

    Closing the generator stops the run and finishes the file, which then has all the pictures made so far.

    Raises:
        InputError: the recipe produces no video, or `path` has no extension of one; before any work is done.
        FeatvizError: the file cannot be written.
        Also what `stream` raises; the file is finished then, too.
    """
    if recipe.produces != "video":
        raise InputError(f"{recipe.title} makes a picture, not a video; use run or stream.")
    yield from record(
        stream(recipe, device=device, every=every, **pictures),
        Video(path, recipe.fps, provenance.note(recipe, pictures)),
        every=every,
    )


def record(previews: Generator[Preview, None, None], video: Video, *, every: float = 0.25) -> Iterator[Preview]:
    """Write the finished pictures among the previews of a run to a video, and pass previews on, paced by time.

    What `film` does to `stream`, for whoever runs recipes in a way of their own. The video is closed when this ends
    for any reason. Encoding happens between the steps of a run, when no device is held.
    """
    due = 0.0
    with video, closing(previews):
        for preview in previews:
            if preview.kept:
                video.write(preview.picture)
            if preview.done or time.monotonic() >= due:
                yield preview
                due = time.monotonic() + every


def try_out(
    recipe: Recipe, *, device: Device = "auto", every: float = math.inf, **pictures: Picture
) -> Iterator[tuple[Recipe, Preview]]:
    """Small versions of a run to choose among, such as a dream at every layer: each with its finished preview.

    Where `every` is less than infinity, also with previews on the way, as `stream` yields them. Raises what `stream` raises.
    """
    for variant in recipe.variants():
        for preview in stream(variant, device=device, every=every, **pictures):
            if preview.done or every < math.inf:
                yield variant, preview


def on_one_sheet(recipe: Recipe, tried: Iterator[tuple[Recipe, Preview]]) -> Iterator[Preview]:
    """What `try_out` yields for a recipe, as one picture that fills up: every variant so far, under what sets it apart."""
    cells, count = {}, len(recipe.variants())
    for variant, preview in tried:
        cells[differing(variant)] = preview.picture
        picture = contact_sheet(list(cells.items()), columns=6, width=200)
        picture.info[NOTE] = provenance.note(recipe, whole=False)
        yield replace(
            preview,
            step=len(cells),
            steps=count,
            work=len(cells) / count,
            stage=differing(variant),
            picture=picture,
            kept=False,
        )


@dataclass(frozen=True)
class Cell:
    """A channel and what it answers to a picture."""

    layer: str
    """Its address, e.g. `vgg19/relu3_1`."""
    channel: int
    strength: float
    picture: Image.Image | None = None
    """Its activation map: heat over the faint picture."""
    patches: tuple[Image.Image, ...] = ()
    """The pieces of the picture that it answers to most."""


@dataclass(frozen=True)
class Look:
    """What a layer answers to a picture."""

    layer: str
    cells: tuple[Cell, ...]
    """The channels that answer most, the strongest first; the strength is the mean over positions, positive part."""
    mean: float
    """The same, mean over all channels."""
    shape: tuple[int, int, int]
    """(channels, height, width) of the layer for this picture."""
    field: tuple[float, float]
    """(height, width) in pixels of what each unit sees; `inf` where it is the whole picture."""


def look(recipe: ActivationMaps, *, device: Device = "auto", image: Picture) -> Look:
    """The activation maps that `recipe` draws on one sheet, each by itself. Raises what `stream` raises."""
    network, tensor = _ready(recipe, device, image)
    with _claim(network.device):
        found = recipe.look(network, tensor)
        numbers = zip(found.channels.tolist(), found.strengths.tolist(), found.maps.split(1), found.patches, strict=True)
        cells = tuple(
            Cell(recipe.layer, channel, strength, to_picture(map_), tuple(map(to_picture, patches)))
            for channel, strength, map_, patches in numbers
        )
        return Look(recipe.layer, cells, found.mean.item(), found.shape, found.field)


def excited(
    recipe: ActivationMaps, peaks: Mapping[str, Sequence[float]], *, device: Device = "auto", image: Picture
) -> tuple[Cell, ...]:
    """The channels of the whole network that a picture excites most, at most three of a layer.

    `peaks` says for some layers, by address, what each channel answers where it is answered for most: the atlas knows. The
    strength is a share of that: 1 is as much as by the picture that was made for it. Raises what `stream` raises.
    """
    network, tensor = _ready(recipe, device, image)
    own = {split(address)[1]: torch.tensor(most) for address, most in peaks.items() if split(address)[0] == recipe.network_name}
    with _claim(network.device), torch.no_grad():
        answers = network.activations(fit(tensor, recipe.size, network.spec.smallest), own)
        cells = []
        for layer, most in own.items():
            shares = answers[layer][0].amax((1, 2)).cpu() / most.clamp_min(1e-6)
            best = shares.where(most > 0, 0).topk(min(3, len(most)))
            numbers = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            cells += [Cell(f"{recipe.network_name}/{layer}", channel, share) for channel, share in numbers]
    return tuple(sorted(cells, key=lambda cell: -cell.strength)[: recipe.count])


def gram_picture(recipe: ActivationMaps, *, device: Device = "auto", image: Picture) -> Image.Image:
    """The Gram matrix of a layer as a picture, a pixel for each pair of channels: hot where two answer at the same places.

    Entries are divided by the lengths of both maps, so they are cosines: 1 on the diagonal. Raises what `stream` raises.
    """
    network, tensor = _ready(recipe, device, image)
    with _claim(network.device), torch.no_grad():
        layer = split(recipe.layer)[1]
        return to_picture(correlations(network.activations(fit(tensor, recipe.size, network.spec.smallest), [layer])[layer]))


def _ready(recipe: ActivationMaps, device: Device, image: Picture) -> tuple[Network, Tensor]:
    opened = open_picture(image, "image")
    where = resolve(device)
    return load(recipe.network_name, where), to_tensor(opened, where)


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


def memory(recipe: Recipe, size: tuple[int, int] | None = None) -> float:
    """Bytes that a run on a first picture of (width, height) takes at its peak, beside what is in use already."""
    return recipe.demand(sketch(recipe.network_name), size and size[::-1]).bytes


def lease(recipe: Recipe, *_: object, **pictures: Image.Image) -> int:
    """The seconds for which a run or a look asks for a GPU that is lent: the fewer, the sooner its turn."""
    first = next((pictures[role] for role in recipe.images if role in pictures), None)
    least, most = LEASE
    return round(min(max(least, TO_BEGIN + estimate(recipe, first and first.size).seconds), most))


def warm_up(device: Device = "auto") -> None:
    """Load every bundled network ahead of the first run and measure its speed, so that nobody waits for it."""
    where = _home(device)
    for name in BUNDLED:  # All of them first: what cannot be measured is at least loaded.
        load(name, where)
    for name in () if LENT else BUNDLED:
        _measure(name, where)


def _home(device: Device) -> torch.device:
    """Where networks stay between two runs."""
    return torch.device("cpu") if LENT else resolve(device)


def _speed(where: torch.device, name: str) -> float:
    """Of a network on a device, in floating point operations a second."""
    if (where, name) not in _speeds:
        if LENT and where.type == "cuda":
            return LENT_SPEED
        if name not in BUNDLED:  # Not downloaded for the sake of an estimate; its first run will tell.
            return _speed(where, BUNDLED[0])
        _measure(name, where)
    return _speeds[where, name]


def _measure(name: str, where: torch.device) -> None:
    """The speed of a network on a small image. The first pass prepares the kernels and is not counted."""
    spec = NETWORKS[name]
    recipe = DeepDream(layer=f"{name}/{list(spec.layers)[-1]}", octaves=1, steps=3, size=192)
    network, image = load(name, where), torch.rand(1, 3, 192, 192, device=where)
    with _claim(where):
        frames = recipe.run(network, image=image)
        next(frames).loss.item()
        start = time.monotonic()
        next(frames)
        next(frames).loss.item()
        seconds = time.monotonic() - start
    _speeds[where, name] = recipe.demand(network, (192, 192)).flops * 2 / 3 / seconds


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


def _claim(where: torch.device) -> Claim:
    """What a run takes its turns on a device by."""
    return _turns.setdefault(where, Turns()).claim()


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
        kept=frame.kept,
        measures=measures,
    )
