"""The tab of a recipe that makes a video: previews during the run, a player at the end."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
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
        self._folder = tempfile.TemporaryDirectory()
        self._video = Video(Path(self._folder.name) / f"featviz_{recipe.name}.mp4", recipe.fps, metadata.note(recipe, pictures))
        self._finished: str | None = None
        self._lock = Lock()

    def write(self, preview: Preview) -> None:
        """Add a frame of the video. Other previews are ignored."""
        if preview.is_video_frame:
            with error_sentences():
                self._video.write(preview.picture)

    def finish(self, last: Image.Image | None) -> str | None:
        """Close the video and return its path; later calls return the same. A video without frames gets the picture `last`."""
        with self._lock, error_sentences():
            if self._finished is None and self._folder is not None:
                if self._video.count == 0 and last is not None:
                    self._video.write(last)
                self._video.close()
                if self._video.count:
                    self._finished = save_file_to_cache(self._video.path, get_upload_folder())
                self._folder.cleanup()
                self._folder = None
        return self._finished


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

    def _output(self) -> gr.components.Component:
        return gr.Video(label="Result", visible=False)

    def _stream_output(self, sent: Sequence[Any]) -> Iterator[Any]:
        recipe, pictures = self._validate(sent)
        for _ in self.engine.prepare(recipe, **pictures):
            yield None  # A client can cancel at every yield.
        for _, result in self._run_results(recipe, pictures, None):
            yield None
        yield result.file()

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
            film.finish(picture)
