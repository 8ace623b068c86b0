"""Keep the pictures of a run in bounded memory, thinned by how much they change, and show them as a film of fixed length."""

from __future__ import annotations

import io
import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from itertools import chain, repeat
from statistics import fmean
from zipfile import ZipFile

from PIL import Image, ImageChops, ImageStat

from featviz.media.saving import NOTE
from featviz.media.video import Video

FPS, SECONDS, HOLD_SECONDS = 24, 6, 1
"""Frames per second, and the length of the film, of which the last picture is held for `HOLD_SECONDS`."""

MOVING_FRAMES = FPS * (SECONDS - HOLD_SECONDS)

LONGEST = 720
"""Longest side of the film, in pixels. Each kept picture takes about 0.2 MB at this size."""


INDEX = "index.json"
"""The entry of a stored history that has the positions and the recipe. The others are the pictures, by number."""


class History:
    """The pictures of a run, of which at most `most` are kept.

    The position of a picture is the sum of all changes up to it: each is the mean absolute difference of a picture from the
    one before, of 255. When there are too many pictures, the one whose neighbours are closest is dropped. So the kept ones are
    spread evenly by change, whatever the number of steps. The first and the last are always kept.

    Kept pictures are JPEGs without chroma subsampling. The last one is kept as it is.
    """

    def __init__(self, most: int = MOVING_FRAMES):
        self._most = most
        self._kept: list[bytes] = []
        """All kept pictures but the last."""
        self._positions: list[float] = []
        """The positions of all kept pictures."""
        self._last: Image.Image | None = None
        self._note = ""

    def add(self, picture: Image.Image) -> None:
        """Append the picture of a step. Its size may differ from those before, and its transparency is ignored."""
        self._note = picture.info.get(NOTE, "")
        scaled = picture.convert("RGB")
        scaled.thumbnail((LONGEST, LONGEST))
        if self._last is None:
            self._positions.append(0.0)
        else:
            self._kept.append(_as_jpeg(self._last))
            self._positions.append(self._positions[-1] + _difference(self._last, scaled))
        self._last = scaled
        if len(self._positions) > self._most:
            self._drop()

    def frames(self) -> Iterator[Image.Image]:
        """Yield the frames of the film, all of the size of the last picture; none if there was no picture.

        Film time is proportional to position: a picture stays until the change up to the next one would have happened.
        """
        if self._last is None:
            return
        shown = [bisect_right(self._positions, self._positions[-1] * frame / MOVING_FRAMES) - 1 for frame in range(MOVING_FRAMES)]
        index, picture = -1, self._last
        for wanted in chain(shown, repeat(len(self._kept), FPS * HOLD_SECONDS)):
            if wanted != index:
                index, picture = wanted, self._picture(wanted)
            yield picture

    def store(self, path: str | os.PathLike) -> None:
        """Move the kept pictures into a file, which `load` reads. Without a picture there is no file."""
        if self._last is None:
            return
        last = io.BytesIO()
        self._last.save(last, "PNG", compress_level=1)
        with ZipFile(path, "w") as file:
            file.writestr(INDEX, json.dumps({"positions": self._positions, "note": self._note}))
            for index, picture in enumerate([*self._kept, last.getvalue()]):
                file.writestr(str(index), picture)
        self._kept, self._positions, self._last = [], [], None

    @classmethod
    def load(cls, path: str | os.PathLike) -> History:
        """Return the history that `store` has written."""
        history = cls()
        with ZipFile(path) as file:
            index = json.loads(file.read(INDEX))
            history._positions, history._note = index["positions"], index["note"]
            *history._kept, last = (file.read(str(number)) for number in range(len(history._positions)))
        history._last = Image.open(io.BytesIO(last))
        return history

    def write(self, path: str | os.PathLike) -> None:
        """Write the film with the recipe of the last picture. Without a picture there is no file.

        Raises:
            InputError: `path` has no extension of a video.
            MissingExtraError: PyAV is not installed.
            FeatvizError: the file cannot be written.
        """
        with Video(path, FPS, self._note) as video:
            for frame in self.frames():
                video.write(frame)

    def _picture(self, index: int) -> Image.Image:
        """Return a kept picture in the size of the last one."""
        assert self._last is not None
        if index == len(self._kept):
            return self._last
        with Image.open(io.BytesIO(self._kept[index])) as picture:
            return picture.resize(self._last.size, Image.Resampling.BICUBIC)

    def _drop(self) -> None:
        """Drop the picture whose neighbours have the closest positions."""
        places = self._positions
        index = min(range(1, len(places) - 1), key=lambda index: places[index + 1] - places[index - 1])
        del self._kept[index], places[index]


def _difference(before: Image.Image, after: Image.Image) -> float:
    """Return the mean absolute difference of two RGB pictures, of 255, in the size of the second one."""
    before = before.resize(after.size, Image.Resampling.BICUBIC)
    return fmean(ImageStat.Stat(ImageChops.difference(before, after)).mean)


def _as_jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95, subsampling=0)
    return file.getvalue()
