"""### How steady is a video, how good are its frames, and how long does one take?

Clips are made of the example pictures with motion that is known exactly (`benchmarks/clips.py`). The warped error is the root mean
square difference, of 255, from the result before, moved by the true motion, where it was visible there. It is compared with that of
frames made alone. A dream keeps its picture, with the picture's own noise, so there the change by the dream is compared. Distances
are those of the loss of the last step, relative to frames made alone. Seconds are of a frame after the first. Memory is the peak of a
process that makes a video of a whole file.
"""

import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.clips import CLIPS, Clip
from benchmarks.measure import EXAMPLES, Row, apart, peak_memory
from featviz.media.images import open_picture, to_picture, to_tensor
from featviz.media.video import Video
from featviz.networks.cache import load
from featviz.recipes.deepdream import DeepDream
from featviz.recipes.following import follow
from featviz.recipes.recipe import Frame, Recipe
from featviz.recipes.style_transfer import StyleTransfer
from featviz.runtime.film import film

COUNT, SMALL = 5, 1.25
"""Frames of a clip, and its scale for errors and distances: 160×120."""

STYLE = StyleTransfer(size=round(128 * SMALL))
DREAM = DeepDream(layer="efficientnet_lite0/block9", size=round(128 * SMALL))

LARGE = {
    "style 384 px, VGG-19": (StyleTransfer(size=384), "aim: 4 s"),
    "dream 400 px, EfficientNet-Lite0": (DREAM.replace(size=400), "aim: 0.4 s"),
}

LENGTHS = (5, 60)
"""Seconds of the clips whose memory is compared, at `FPS` frames a second."""

FPS = 10


def others(recipe: Recipe) -> dict[str, Tensor]:
    return {"style": to_tensor(open_picture(EXAMPLES / "great_wave.jpg"))} if isinstance(recipe, StyleTransfer) else {}


def results(recipe: Recipe, clip: Clip) -> list[Frame]:
    """Return the last frame of the run of each frame of a clip."""
    role, *_ = recipe.images
    frames = follow(recipe, load(recipe.network_name), role, clip.frames, **others(recipe))
    return [frame for frame in frames if frame.is_video_frame]


def warped_error(images: list[Tensor], clip: Clip) -> float:
    squares = [
        ((motion(before) - after).square() * motion.visible).sum() / motion.visible.sum() / 3
        for (before, after), motion in zip(pairwise(images), clip.motions[1:], strict=True)
        if motion is not None
    ]
    return 255 * torch.stack(squares).mean().sqrt().item()


def seconds(recipe: Recipe, clip: Clip) -> list[float]:
    """Return the seconds of each frame of a clip."""
    role, *_ = recipe.images
    ends = [time.monotonic()]
    for frame in follow(recipe, load(recipe.network_name), role, clip.frames, **others(recipe)):
        if frame.is_video_frame:
            frame.loss.item()
            ends.append(time.monotonic())
    return [end - start for start, end in pairwise(ends)]


def rows() -> Iterator[Row]:
    for title, recipe in (("style, VGG-19", STYLE), ("dream, EfficientNet-Lite0", DREAM)):
        for name, make in CLIPS.items():
            clip = make(COUNT, SMALL)
            alone, steady = (results(recipe.replace(steadiness=steadiness), clip) for steadiness in (0.0, 1.0))
            if name == "cut":
                number = clip.motions.index(None, 1)
                ghost = (alone[number].image - steady[number].image).abs().max().item()
                yield Row(f"{title}, {name}: difference from a still after the cut", "of 255", [255 * ghost], "aim: 0")
                continue
            errors = []
            for made in (alone, steady):
                images = [frame.image for frame in made]
                if isinstance(recipe, DeepDream):
                    images = [image - picture for image, picture in zip(images, clip.frames, strict=True)]
                errors.append(warped_error(images, clip))
            yield Row(f"{title}, {name}: warped error", "of frames alone", [errors[1] / errors[0]], "aim: 0.5")
            if isinstance(recipe, StyleTransfer):
                yield from distances(f"{title}, {name}", recipe, alone[1:], steady[1:])
    for title, (recipe, aim) in LARGE.items():
        first, *later = seconds(recipe, CLIPS["pan"](4, recipe.size / 128))
        yield Row(f"{title}: a frame after the first", "s", later, aim)
        yield Row(f"{title}: relative to the first", "of a still", [each / first for each in later], "aim: 0.33")

    short, long = (apart(memory, length) / 1e6 for length in LENGTHS)
    yield Row(f"memory, a clip of {LENGTHS[0]} s", "MB", [short])
    yield Row(f"memory, a clip of {LENGTHS[1]} s", "MB", [long], f"aim: as for {LENGTHS[0]} s")


def memory(length: int) -> float:
    """Return the peak memory in bytes of this process, which makes a video of a clip of so many seconds."""
    frames = [to_picture(frame) for frame in CLIPS["pan"](FPS, 1.0).frames]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "clip.mp4"
        with Video(source, FPS) as video:
            for _ in range(length):
                for frame in frames:
                    video.write(frame)
        for _ in film(DREAM.replace(size=64, octaves=1, steps=1), Path(folder) / "out.mp4", image=source):
            pass
    return peak_memory()


def distances(title: str, recipe: StyleTransfer, alone: list[Frame], steady: list[Frame]) -> Iterator[Row]:
    weights = recipe.weights(load(recipe.network_name), "style_layers")
    for what, names in (("style", weights), ("content", {"content": 1.0})):
        values = [
            sum(weight * follows.measures[name].item() for name, weight in names.items())
            / sum(weight * still.measures[name].item() for name, weight in names.items())
            for follows, still in zip(steady, alone, strict=True)
        ]
        yield Row(f"{title}: distance to the {what}", "of frames alone", values, "aim: at most 1.1")
