"""The file of a run that makes a video."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from threading import Lock

from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from featviz.media.video import Video
from featviz.recipes import metadata
from featviz.recipes.recipe import Recipe
from featviz.runtime.stream import Preview
from featviz.ui.running import error_sentences, name_of


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
