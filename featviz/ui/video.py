"""The tab of a recipe that makes a video: pictures while it is in the making, a player at the end."""

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
from featviz.ui.running import Shot, sentences
from featviz.ui.tab import Tab


class Film:
    """The file of a run that makes a video: in a folder of its own while it grows, then in Gradio's cache."""

    def __init__(self, recipe: Recipe, pictures: Mapping[str, Image.Image]):
        self._folder = tempfile.TemporaryDirectory()
        self._video = Video(Path(self._folder.name) / f"featviz_{recipe.name}.mp4", recipe.fps, metadata.note(recipe, pictures))
        self._finished: str | None = None
        self._lock = Lock()

    def write(self, preview: Preview) -> None:
        if preview.is_video_frame:
            with sentences():
                self._video.write(preview.picture)

    def finish(self, last: Image.Image | None) -> str | None:
        """The file's address, once for all. Where there is no picture yet, `last` has to do."""
        with self._lock, sentences():
            if self._finished is None and self._folder is not None:
                if self._video.count == 0 and last is not None:
                    self._video.write(last)
                self._video.close()
                if self._video.count:
                    self._finished = save_file_to_cache(self._video.path, get_upload_folder())
                self._folder.cleanup()
                self._folder = None
        return self._finished


class VideoShot(Shot):
    """Where a run is that makes a video."""

    def __init__(self, recipe: Recipe, preview: Preview, film: Film):
        super().__init__(recipe, preview)
        self.film = film

    def write(self, picture: Image.Image) -> str:
        """A video of what there is so far. It ends here: its file is asked for once the run has ended or been stopped."""
        return self.film.finish(picture)


class VideoTab(Tab):
    """A tab whose result is a video: single pictures while it is in the making, then a player."""

    FILE = "MP4"

    def _final(self, shared: dict[str, Any]) -> gr.components.Component:
        return gr.Video(label="Result", autoplay=True, loop=True, buttons=[], visible=False, **shared)

    def _onward(self) -> None:
        """A video goes nowhere: recipes start from pictures."""
        self.onward, self.again, self.ways = gr.Row(visible=False), None, {}

    def _answer(self) -> gr.components.Component:
        return gr.Video(label="Result", visible=False)

    def _answers(self, sent: Sequence[Any]) -> Iterator[Any]:
        recipe, pictures = self._checked(sent)
        for _ in self.engine.prepare(recipe, **pictures):
            yield None  # A run can be cancelled wherever it yields.
        for _, shot in self._shots(recipe, pictures, None):
            yield None
        yield shot.file()

    def _shots(
        self, recipe: Recipe, pictures: Mapping[str, Image.Image], source: str | None, **steering: Callable[[], Recipe]
    ) -> Iterator[tuple[Preview, Shot]]:
        film, picture = Film(recipe, pictures), None
        try:
            for preview, _ in super()._shots(recipe, pictures, source, **steering):
                picture = preview.picture
                film.write(preview)
                yield preview, VideoShot(recipe, preview, film)
        finally:
            film.finish(picture)
