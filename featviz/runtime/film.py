"""Write the pictures of a run to a video file."""

from __future__ import annotations

import os
import time
from contextlib import closing

from featviz.errors import InputError
from featviz.media.images import Picture
from featviz.media.video import Video
from featviz.recipes import metadata
from featviz.recipes.recipe import Recipe
from featviz.runtime.devices import Device
from featviz.runtime.stream import Previews, stream


def film(
    recipe: Recipe, path: str | os.PathLike, *, device: Device = "auto", every: float = 0.25, **pictures: Picture
) -> Previews:
    """Run a recipe that produces a video, write it to `path`, and yield previews as `stream` does.

    Closing the generator stops the run and completes the file with the pictures made so far.

    Args:
        recipe: a recipe whose `produces` is "video", such as `DeepDreamZoom`. Its field `fps` is the frame rate.
        path: the file to write; its extension selects the format: .mp4, .webp or .gif.
        device: "auto", "cpu", "cuda", "cuda:1" (a card by its index) or "mps".
        every: least seconds between two previews. The file gets every picture of the video, however they are paced.
        pictures: the pictures that the recipe takes, by role: a path, a PIL image or an array, as for `stream`.

    Raises:
        InputError: the recipe produces no video, or `path` has no extension of one; before any work is done.
        FeatvizError: the file cannot be written.
        Also what `stream` raises; the file is completed in that case as well.
    """
    if recipe.produces != "video":
        raise InputError(f"{recipe.title} makes a picture, not a video; use run or stream.")
    yield from record(
        stream(recipe, device=device, every=every, **pictures),  # type: ignore[arg-type]  # As in `run`.
        Video(
            path, dict(recipe)["fps"], metadata.note(recipe, [role for role, picture in pictures.items() if picture is not None])
        ),
        every=every,
    )


def record(previews: Previews, video: Video, *, every: float = 0.25) -> Previews:
    """Write the finished frames among the previews of a run to a video, and yield previews at most every `every` seconds.

    `film` is this applied to `stream`. The video is closed when the generator ends for any reason. Frames are encoded between
    the steps of the run, while it does not hold the device.
    """
    due = 0.0
    with video, closing(previews):
        for preview in previews:
            if preview.is_video_frame:
                video.write(preview.picture)
            if preview.done or time.monotonic() >= due:
                yield preview
                due = time.monotonic() + every
