"""Write the frames of a run to a video file."""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import TYPE_CHECKING

from featviz.errors import InputError
from featviz.media.images import (
    Picture,
)
from featviz.media.video import Video
from featviz.recipes import metadata
from featviz.recipes.recipe import Recipe
from featviz.runtime.devices import Device

if TYPE_CHECKING:
    pass

from featviz.runtime.stream import Previews, stream


def film(
    recipe: Recipe, path: str | os.PathLike, *, device: Device = "auto", every: float = 0.25, **pictures: Picture
) -> Previews:
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
        stream(recipe, device=device, every=every, **pictures),  # type: ignore[arg-type]  # As in `run`.
        Video(path, dict(recipe)["fps"], metadata.note(recipe, pictures)),
        every=every,
    )


def record(previews: Previews, video: Video, *, every: float = 0.25) -> Previews:
    """Write the finished pictures among the previews of a run to a video, and pass previews on, paced by time.

    What `film` does to `stream`, for whoever runs recipes in a way of their own. The video is closed when this ends
    for any reason. Encoding happens between the steps of a run, when no device is held.
    """
    due = 0.0
    with video, closing(previews):
        for preview in previews:
            if preview.is_video_frame:
                video.write(preview.picture)
            if preview.done or time.monotonic() >= due:
                yield preview
                due = time.monotonic() + every
