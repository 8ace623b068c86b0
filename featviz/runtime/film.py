"""Write a run to a video file: the video that its recipe produces, or how its picture came about."""

from __future__ import annotations

import os
import time
from contextlib import closing

from featviz.errors import InputError
from featviz.media.images import Pictures
from featviz.media.video import Video
from featviz.recipes import metadata
from featviz.recipes.recipe import Recipe
from featviz.runtime.clip import film_clip, takes_video
from featviz.runtime.devices import Device
from featviz.runtime.history import FPS, History
from featviz.runtime.stream import Previews, stream


def film(
    recipe: Recipe, path: str | os.PathLike, *, device: Device = "auto", every: float = 0.25, **pictures: Pictures
) -> Previews:
    """Run a recipe, write a video to `path`, and yield previews as `stream` does.

    A recipe that produces a video, such as `DeepDreamZoom`, writes that video; its field `fps` is the frame rate. Any other
    writes a film of how its picture came about: 6 seconds, whatever the number of steps, with frames chosen by how much the
    picture changes. The last preview has the picture. Closing the generator stops the run and completes the file with the
    pictures made so far.

    The first picture of `DeepDream` and `StyleTransfer` may be the path of a video. Its frames follow one another, as the field
    `steadiness` says, and its sound is copied. Where `path` is a video that the same run has left unfinished, it is continued.

    Args:
        recipe: the recipe to run.
        path: the file to write; its extension selects the format: .mp4, .webp or .gif; .mp4 for a video that is made of a video.
        device: "auto", "cpu", "cuda", "cuda:1" (a card by its index) or "mps".
        every: least seconds between two previews. The file gets every picture of the video, however they are paced.
        pictures: the pictures that the recipe takes, by role: a path, a PIL image or an array, as for `stream`.

    Raises:
        InputError: the recipe makes numbers, or `path` has no extension of a video; before any work is done. Or a video is damaged,
            after the file was completed with the frames before the damage.
        FeatvizError: the file cannot be written.
        Also what `stream` raises; the file is completed in that case as well.
    """
    pictures = recipe.by_role(pictures)
    if takes_video(recipe, pictures):
        yield from film_clip(recipe, path, device=device, every=every, **pictures)  # type: ignore[arg-type]
        return
    if recipe.produces == "numbers":
        raise InputError(f"{recipe.title} makes numbers in one step, which no film shows; use run or stream.")
    roles = [role for role, picture in pictures.items() if picture is not None]
    if recipe.produces == "video":
        video = Video(path, dict(recipe)["fps"], metadata.note(recipe, roles))
        yield from record(stream(recipe, device=device, every=every, **pictures), video, every=every)  # type: ignore[arg-type]  # As in `run`.
    else:
        yield from record_steps(stream(recipe, device=device, every=0, **pictures), path, every=every)  # type: ignore[arg-type]


def record(previews: Previews, video: Video, *, every: float = 0.25) -> Previews:
    """Write the finished frames among the previews of a run to a video, and yield previews at most every `every` seconds.

    `film` is this applied to `stream`. The video is closed when the generator ends for any reason. Frames are encoded between
    the steps of the run, while it does not hold the device.
    """
    with video, closing(previews):
        yield from _paced(_written(previews, video), every)


def record_steps(previews: Previews, path: str | os.PathLike, *, every: float = 0.25) -> Previews:
    """Write a film of the previews of a run when the generator ends for any reason, and yield previews as `record` does.

    The film shows only what is in `previews`: for all steps, make them with `every=0`. The arguments are checked at once.

    Raises:
        InputError, MissingExtraError: as for `Video`; before any preview is asked for.
        FeatvizError: the file cannot be written.
    """
    Video(path, FPS)  # Refuses what cannot be written. It makes no file.
    history = History()
    return _paced(_kept(previews, history, path), every)


def _written(previews: Previews, video: Video) -> Previews:
    """Write the finished frames of a video, and pass previews on."""
    for preview in previews:
        if preview.is_video_frame:
            video.write(preview.picture)
        yield preview


def _kept(previews: Previews, history: History, path: str | os.PathLike) -> Previews:
    """Keep the picture of every preview, pass previews on, and write the film at the end."""
    try:
        with closing(previews):
            for preview in previews:
                history.add(preview.picture)
                yield preview
    finally:
        history.write(path)


def _paced(previews: Previews, every: float) -> Previews:
    """Yield a preview at most every `every` seconds, and the last one."""
    due = 0.0
    with closing(previews):
        for preview in previews:
            if preview.done or time.monotonic() >= due:
                yield preview
                due = time.monotonic() + every
