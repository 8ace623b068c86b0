"""The files of a result: its picture or its video, and beside it a small copy, its source, and the steps that it came from."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Event, Lock
from typing import Any

from PIL import Image

from featviz.errors import InputError
from featviz.media.saving import complete_file
from featviz.media.video import Video
from featviz.recipes import metadata
from featviz.recipes.recipe import Recipe
from featviz.runtime.clip import Clip, complete_clip
from featviz.runtime.history import History
from featviz.runtime.memory import open_reserved
from featviz.runtime.stream import Preview

Run = Callable[..., Iterator[Preview]]

Keep = Callable[[Path], str]
"""A function that copies a temporary file to the folder of results, and returns the path of the copy."""

STEPS, CAME_ABOUT = "steps.zip", "came_about.mp4"
"""Files beside a result: the kept pictures of its steps, and the film of them."""

BEFORE, SMALL, SMALL_SIDE = "before.jpg", "small.jpg", 112
"""Files beside a result: the source at the size of the result, and a small copy with this longest side in pixels."""


def name_of(recipe: Recipe) -> str:
    """Return the file name of a result of a recipe, without extension."""
    return f"featviz_{recipe.name}"


class Film:
    """The video file of a run: in a temporary folder during the run, then where results are kept."""

    def __init__(self, recipe: Recipe, pictures: Mapping[str, Image.Image], keep: Keep):
        self._name, self._note = f"{name_of(recipe)}.mp4", metadata.note(recipe, pictures)
        self._fps: int = recipe.fps  # type: ignore[attr-defined]  # It has the field, since it produces a video.
        self._opened: tuple[tempfile.TemporaryDirectory, Video] | None = None
        self._keep = keep
        self._finished: str | None = None
        self._lock = Lock()

    def write(self, preview: Preview) -> None:
        """Add a frame of the video. Other previews are ignored, and those after `finish`."""
        with self._lock:
            if preview.is_video_frame and self._finished is None:
                self._open()[1].write(preview.picture)

    def finish(self, last: Image.Image) -> str:
        """Close the video and return its path; later calls return the same. A video without frames gets the picture `last`."""
        with self._lock:
            if self._finished is None:
                folder, video = self._open()
                if video.count == 0:
                    video.write(last)
                video.close()
                self._finished = self._keep(video.path)
                write_small(last, self._finished)
                folder.cleanup()
        return self._finished

    def _open(self) -> tuple[tempfile.TemporaryDirectory, Video]:
        if self._opened is None:
            folder = tempfile.TemporaryDirectory()
            self._opened = folder, Video(Path(folder.name) / self._name, self._fps, self._note)
        return self._opened


class FollowedVideo:
    """The video that a run makes of a video: in a temporary folder during the run, then where results are kept."""

    def __init__(self, recipe: Recipe, clip: Clip, follow: Run, keep: Keep):
        """`follow`: `film_clip`, or a stand-in for it."""
        self._recipe, self._clip, self._follow, self._keep = recipe, clip, follow, keep
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
        with self._lock:
            if self._finished is None:
                if not self._path.exists():  # The process of the run was ended with its lease, or there was no frame yet.
                    complete_clip(self._recipe, self._path, **self._clip.pictures)
                if not self._path.exists():
                    note = metadata.note(self._recipe, self._clip.opened, whole=False)
                    with Video(self._path, self._clip.header.fps, note) as video:
                        video.write(last)
                self._finished = self._keep(self._path)
                write_small(last, self._finished)
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
        with self._lock:
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


def recorded(run: Run, film: Film | Steps) -> Run:
    """Return the run with its previews given to what keeps them."""

    def wrapped(recipe: Recipe, **given: Any) -> Iterator[Preview]:
        for preview in run(recipe, **given):
            film.write(preview)
            yield preview

    return wrapped


def write_source(source: str, picture: Image.Image, file: str) -> None:
    """Write the file of the source, at the size of the result, beside the result."""
    opened = open_reserved(source, longest=max(picture.size)).convert("RGB")
    opened.resize(picture.size, Image.Resampling.LANCZOS).save(Path(file).with_name(BEFORE), quality=90)


def before(file: str) -> str | None:
    """Return the file of the source at the size of a result; None if the result has no source."""
    path = Path(file).with_name(BEFORE)
    return str(path) if path.is_file() else None


def write_small(picture: Image.Image, file: str) -> None:
    """Write a small copy of a picture beside the file of a result."""
    copy = picture.convert("RGB")
    copy.thumbnail((SMALL_SIDE, SMALL_SIDE))
    copy.save(Path(file).with_name(SMALL), quality=75)


def small(file: str) -> bytes:
    """Return the small copy of a result as JPEG."""
    return Path(file).with_name(SMALL).read_bytes()
