"""The files of videos: that of a run that makes one, and the film of how a picture came about."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event, Lock
from typing import Any

from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from featviz.errors import InputError
from featviz.media.saving import complete_file
from featviz.media.video import Video
from featviz.recipes import metadata
from featviz.recipes.recipe import Recipe
from featviz.runtime.clip import Clip, complete_clip
from featviz.runtime.history import History
from featviz.runtime.stream import Preview
from featviz.ui.running import Runner, error_sentences, name_of

STEPS, CAME_ABOUT = "steps.zip", "came_about.mp4"
"""Files beside a result: the kept pictures of its steps, and the film of them."""


class Film:
    """The video file of a run: in a temporary folder during the run, then in Gradio's cache."""

    def __init__(self, recipe: Recipe, pictures: Mapping[str, Image.Image]):
        self._name, self._fps, self._note = f"{name_of(recipe)}.mp4", recipe.fps, metadata.note(recipe, pictures)
        self._opened: tuple[tempfile.TemporaryDirectory, Video] | None = None
        self._finished: str | None = None
        self._lock = Lock()

    def write(self, preview: Preview) -> None:
        """Add a frame of the video. Other previews are ignored, and those after `finish`."""
        with self._lock, error_sentences():
            if preview.is_video_frame and self._finished is None:
                self._video().write(preview.picture)

    def finish(self, last: Image.Image) -> str:
        """Close the video and return its path; later calls return the same. A video without frames gets the picture `last`."""
        with self._lock, error_sentences():
            if self._finished is None:
                video = self._video()
                if video.count == 0:
                    video.write(last)
                video.close()
                self._finished = save_file_to_cache(video.path, get_upload_folder())
                self._opened[0].cleanup()
        return self._finished

    def _video(self) -> Video:
        if self._opened is None:
            folder = tempfile.TemporaryDirectory()
            self._opened = folder, Video(Path(folder.name) / self._name, self._fps, self._note)
        return self._opened[1]


class FollowedVideo:
    """The video that a run makes of a video: in a temporary folder during the run, then in Gradio's cache."""

    def __init__(self, recipe: Recipe, clip: Clip, follow: Runner):
        """`follow`: that of the engine."""
        self._recipe, self._clip, self._follow = recipe, clip, follow
        self._folder = tempfile.TemporaryDirectory()
        self._path = Path(self._folder.name) / f"{name_of(recipe)}.mp4"
        self._finished: str | None = None
        self._ended, self._lock = Event(), Lock()

    def run(self, recipe: Recipe, **options: Any) -> Iterator[Preview]:
        """Make the video and yield previews. `options`: those of `film_clip`; pictures among them are ignored."""
        try:
            yield from self._follow(recipe, self._path, **{**options, **self._clip.pictures})
        finally:
            self._ended.set()

    def finish(self, last: Image.Image) -> str:
        """Return the path of the video, once the run has ended. A video without frames gets the picture `last`."""
        self._ended.wait()
        with self._lock, error_sentences():
            if self._finished is None:
                if not self._path.exists():  # The process of the run was ended with its lease, or there was no frame yet.
                    complete_clip(self._recipe, self._path, **self._clip.pictures)
                if not self._path.exists():
                    note = metadata.note(self._recipe, self._clip.opened, whole=False)
                    with Video(self._path, self._clip.header.fps, note) as video:
                        video.write(last)
                self._finished = save_file_to_cache(self._path, get_upload_folder())
                self._folder.cleanup()
        return self._finished


class Steps:
    """The pictures of a run that makes a picture: kept during the run, then moved to a file beside the result.

    Has the methods of `Film`. `write_result` writes the result and returns its path.
    """

    def __init__(self, write_result: Callable[[Image.Image], str]):
        self._write_result, self._history = write_result, History()
        self._finished = False
        self._lock = Lock()

    def write(self, preview: Preview) -> None:
        """Keep the picture of a preview. Does nothing after `finish`."""
        with self._lock:
            if not self._finished:
                self._history.add(preview.picture)

    def finish(self, last: Image.Image) -> str:
        """Write the result, and move the kept pictures beside it. Return the path of the result."""
        file = self._write_result(last)
        with self._lock, error_sentences():
            self._finished = True
            self._history.store(Path(file).with_name(STEPS))
        return file


def has_film(file: str) -> bool:
    """Return whether the steps of a result were kept."""
    return Path(file).with_name(STEPS).is_file()


def film_of(file: str) -> str:
    """Return the film of how a result came about. The first call writes it beside the result; nothing is run again.

    Raises:
        InputError: no steps of the result were kept.
    """
    if not has_film(file):
        raise InputError("No steps of this result were kept, so there is no film of it.")
    film = Path(file).with_name(CAME_ABOUT)
    if not film.is_file():
        with complete_file(film) as partial:  # Two calls at the same time write two files.
            History.load(Path(file).with_name(STEPS)).write(partial)
    return str(film)
