"""The tab of a recipe that makes a video: previews during the run, a player at the end."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from featviz.media.video import Video
from featviz.recipes import metadata
from featviz.recipes.recipe import Recipe
from featviz.runtime.stream import Preview
from featviz.ui.running import Result, error_sentences
from featviz.ui.tab import Tab


class Film:
    """The video file of a run: in a temporary folder during the run, then in Gradio's cache."""

    def __init__(self, recipe: Recipe, pictures: Mapping[str, Image.Image]):
        self._name, self._fps, self._note = f"featviz_{recipe.name}.mp4", recipe.fps, metadata.note(recipe, pictures)
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


class VideoResult(Result):
    """The result of a run that makes a video."""

    def __init__(self, recipe: Recipe, preview: Preview, film: Film):
        super().__init__(recipe, preview)
        self.film = film

    def write(self, picture: Image.Image) -> str:
        """Close the video and return its path. Called when the run has ended or was stopped."""
        return self.film.finish(picture)


class VideoTab(Tab):
    """A tab whose result is a video: previews during the run, then a player."""

    FILE = "MP4"

    def _final_view(self, shared: dict[str, Any]) -> gr.components.Component:
        return gr.Video(label="Result", autoplay=True, loop=True, buttons=[], visible=False, **shared)

    def _build_follow_ups(self) -> None:
        """Build no buttons: no recipe takes a video."""
        self.follow_ups, self.reuse_button, self.send_buttons = gr.Row(visible=False), None, {}

    def _run_results(
        self, recipe: Recipe, pictures: Mapping[str, Image.Image], source: str | None, **steering: Callable[[], Recipe]
    ) -> Iterator[tuple[Preview, Result]]:
        film, picture = Film(recipe, pictures), None
        try:
            for preview, _ in super()._run_results(recipe, pictures, source, **steering):
                picture = preview.picture
                film.write(preview)
                yield preview, VideoResult(recipe, preview, film)
        finally:
            if picture:
                film.finish(picture)
