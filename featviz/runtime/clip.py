"""Run a recipe on a video: its frames follow one another, and its sound goes along."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.nn import functional

from featviz import limits
from featviz.errors import FeatvizError, FieldError, InputError, LimitError
from featviz.media import images
from featviz.media.assembly import assemble, has_pictures, last_picture
from featviz.media.images import Header, Picture, Pictures, to_tensor
from featviz.media.video import GROWING, TimedFrame, Video, VideoHeader, is_video, read_note, read_video_header, timed_frames
from featviz.networks.cache import load
from featviz.optimise.scaling import fitted_size, size_of
from featviz.optimise.tiles import enough_memory
from featviz.recipes import metadata
from featviz.recipes.following import Shown, follow
from featviz.recipes.recipe import Frames, Recipe
from featviz.recipes.table import RECIPES
from featviz.runtime.devices import Device, resolve
from featviz.runtime.estimate import Estimate, demand, duration, estimate, video_demand
from featviz.runtime.memory import reserve, reserve_video
from featviz.runtime.scheduler import Waiting
from featviz.runtime.stream import Part, Preview, Previews, RunOptions, open_pictures, pace, sizes_of, tensors

EXTENSION = ".mp4"
"""The only format of videos that are made from videos: the others have no sound."""


LEAST_COMPLETE = 0.9
"""The share of the length in a video's header that it has to have. Some headers are a little off."""


def takes_video(recipe: Recipe | type[Recipe], pictures: Mapping[str, object]) -> bool:
    """Whether the first picture of a run is the path of a video, and the recipe can follow it."""
    return recipe.follows_video and is_video(pictures.get(next(iter(recipe.images))))


@dataclass(frozen=True)
class Clip:
    """A video that a recipe is run on, checked against the recipe."""

    path: Path
    role: str
    """The role of the picture that the video stands for."""
    header: VideoHeader
    opened: dict[str, Image.Image]
    """The pictures of the first frame, by role."""

    @property
    def pictures(self) -> dict[str, Picture]:
        """The pictures of the run, as `film_clip` takes them."""
        return {**self.opened, self.role: self.path}


def open_clip(recipe: Recipe, pictures: Mapping[str, Pictures | None]) -> Clip:
    """Open the pictures of a run of which the first is the path of a video.

    Raises:
        FieldError: a picture has no effect where the first one is a video.
        InputError: the video cannot be read or has no frames; also what `open_pictures` raises.
    """
    role, *_ = recipe.images
    path = Path(os.fspath(pictures[role]))  # type: ignore[arg-type]  # `takes_video` has looked.
    for unused in recipe.roles_of_stills:
        if pictures.get(unused) is not None:
            raise FieldError(f"{unused} has no effect beside a video: every frame would start from it; leave {unused} out.")
    header = read_video_header(path)
    with closing(timed_frames(path, recipe.scaled_side(role))) as frames:
        opened = open_pictures(recipe, {**pictures, role: next(frames).picture})
    return Clip(path, role, header, opened)


def check_length(header: VideoHeader) -> None:
    """Raise LimitError if a video is longer than a server accepts."""
    length, most = header.frames / header.fps, limits.VIDEO_SECONDS.value
    if length > most:
        raise LimitError(f"The video lasts {duration(float(length))}; at most {most} s are accepted here. Cut out a part of it.")


def read_headers(recipe: Recipe | type[Recipe], pictures: Mapping[str, Picture]) -> tuple[dict[str, Header], int]:
    """Return the headers of the pictures of a run by role, and the number of frames: 1 unless the first picture is a video.

    Raises:
        ImageError, InputError: a picture or the video cannot be read.
    """
    role, count, headers = next(iter(recipe.images), ""), 1, {}
    for each, picture in pictures.items():
        if each == role and takes_video(recipe, pictures):
            path = Path(os.fspath(picture))  # type: ignore[arg-type]
            headers[each], count = _header_of_frames(path, path.stat().st_mtime_ns)
        else:
            headers[each] = images.read_header(picture, each)
    return headers, count


@lru_cache(maxsize=100)
def _header_of_frames(path: Path, changed: int) -> tuple[Header, int]:
    """Return the header of a frame of a video, and the number of frames. A frame is decoded, since it may be turned.

    `changed`: when the file was changed, so that a later one of the same name is read anew.
    """
    with closing(timed_frames(path)) as frames:
        return Header(next(frames).picture.size), max(1, read_video_header(path).frames)


def estimate_clip(recipe: Recipe, pictures: Mapping[str, Pictures | None], *, device: Device = "auto") -> Estimate:
    """Predict the run of a recipe on a video. Raises what `open_clip` and `estimate` raise."""
    headers, count = read_headers(recipe, open_clip(recipe, pictures).pictures)
    return estimate(recipe, headers, device=device, count=count)


def film_clip(
    recipe: Recipe,
    path: str | os.PathLike,
    *,
    device: Device = "auto",
    every: float = 0.25,
    seconds: float = math.inf,
    steer: Callable[[], Recipe] | None = None,
    stopped: Callable[[], bool] | None = None,
    on_wait: Callable[[Waiting], object] | None = None,
    on_part: Callable[[Part], object] | None = None,
    **pictures: Pictures | None,
) -> Previews:
    """Run a recipe on a video, write an MP4 with its sound to `path`, and yield previews as `stream` does.

    Closing the generator stops the run and completes the file with the frames made so far. If `path` is such an unfinished video,
    made by the same recipe from the same pictures, the run goes on where it ended; also after its process was killed. Other
    arguments are those of `stream`. Memory does not depend on the length.

    Raises:
        InputError: `path` is no .mp4; or the video is damaged, after the file was completed with the frames before the damage.
        FeatvizError: the file cannot be written.
        Also what `open_clip` and `stream` raise.
    """
    path = Path(path)
    if path.suffix.lower() != EXTENSION:
        raise InputError(f"'{path}' has no extension of a video with sound; accepted: {EXTENSION}.")
    clip, torch_device = open_clip(recipe, pictures), resolve(device)
    output = _Output(path, recipe, clip)
    source = _Source(clip, recipe, skip=max(0, output.count - 1))
    latest = None
    with reserve_video(clip.header.decoded_bytes), reserve(recipe, torch_device, sizes_of(clip.opened)) as budget:
        if output.latest is not None:
            picture = to_tensor(next(source.pictures), torch_device)
            result = _padded(to_tensor(output.latest, torch_device), recipe, picture)
            latest = Shown(picture, result, output.count)
            if source.is_last:
                yield output.finished()
                return
        with enough_memory():
            others = tensors(recipe, clip.opened, torch_device)
            others.pop(clip.role)
            tensors_of_frames = (to_tensor(picture, torch_device) for picture in source.pictures)
            frames = follow(recipe, load(recipe.network_name, torch_device), clip.role, tensors_of_frames, latest, **others)
        count, sizes = max(1, clip.header.frames - output.count), sizes_of(clip.opened)
        first, later = (demand(each, torch_device, sizes, budget).flops for each in (recipe, recipe.following))
        previews = pace(
            _numbered(frames, source, output.count, clip.header.frames, first / later),
            video_demand(recipe, torch_device, sizes, count, budget),
            recipe, clip.opened, torch_device, budget,
            RunOptions(every=every, seconds=seconds, steer=steer, stopped=stopped, on_wait=on_wait, on_part=on_part),
        )  # fmt: skip
        due = 0.0
        with output, closing(previews):
            for preview in previews:
                if preview.is_video_frame:
                    output.write(preview, source.current)
                if preview.done or time.monotonic() >= due:
                    yield preview
                    due = time.monotonic() + every
    if source.damage is not None:
        end = float(source.current.time + source.current.duration)
        raise InputError(f"{source.damage} The result ends there, after {end:.1f} s.") from source.damage


def complete_clip(recipe: Recipe, path: Path, **pictures: Pictures | None) -> None:
    """Complete the video of a `film_clip` whose process was killed with the frames made so far. Arguments are those of the run."""
    _Output(path, recipe, open_clip(recipe, pictures))


class _Source:
    """The frames of a video, read one ahead, so that the last one is known as such."""

    def __init__(self, clip: Clip, recipe: Recipe, skip: int):
        self.is_last = False
        """Whether the latest of `pictures` is the last."""
        self.damage: InputError | None = None
        """Why the video ends before its end."""
        self.current: TimedFrame
        """The frame of the latest of `pictures`."""
        self.pictures = self._pictures(clip, timed_frames(clip.path, recipe.scaled_side(clip.role), skip))

    def _pictures(self, clip: Clip, frames: Iterator[TimedFrame]) -> Iterator[Image.Image]:
        """Yield the pictures, all of one size. Ends before a frame that is damaged; raises if it is the first one."""
        self.current, size = next(frames), clip.opened[clip.role].size
        while not self.is_last:
            ahead = None
            try:
                ahead = next(frames, None)
            except InputError as error:
                self.damage = error
            self.is_last = ahead is None
            if ahead is None and self.current.time + self.current.duration < LEAST_COMPLETE * clip.header.seconds:
                self.damage = self.damage or InputError(
                    f"'{clip.path}' should last {float(clip.header.seconds):.1f} s, and its end is missing."
                )
            picture = self.current.picture
            yield picture if picture.size == size else picture.resize(size, Image.Resampling.LANCZOS)
            self.current = ahead or self.current


class _Output:
    """The video that is made: what is there of it from before, and the part that grows. A context that completes it."""

    def __init__(self, path: Path, recipe: Recipe, clip: Clip):
        self._path, self._recipe, self._clip = path, recipe, clip
        self._part = path.with_name(f".{path.stem}.part{EXTENSION}")
        self._video: Video | None = None
        self._whole = False
        self._fingerprints = done = self._unfinished(path)
        if rest := self._unfinished(self._part):  # Its process was killed.
            self._fingerprints = rest
            self._assemble([path, self._part] if done == rest else [self._part])
        self.count = 0
        """How many frames are there."""
        self.latest: Image.Image | None = None
        """The last one."""
        if self._fingerprints:
            self.count, self.latest = last_picture(path)

    def write(self, preview: Preview, frame: TimedFrame) -> None:
        """Append the picture of a preview at the time of a frame. Raises FeatvizError if that fails; the frames before are kept."""
        if self._video is None:
            self._fingerprints = self._fingerprints or metadata.fingerprints(self._clip.opened, metadata.salt_of(preview.picture))
            self._video = Video(self._part, self._clip.header.fps, self._note(), format_=GROWING)
        try:
            self._video.write(preview.picture, frame.time, frame.duration)
        except FeatvizError as error:
            raise FeatvizError(f"{error} The same run goes on from frame {self.count + self._video.count + 1}.") from error
        self._whole = preview.done

    def finished(self) -> Preview:
        """Complete a video that has all its frames already, and return a preview of the last."""
        assert self.latest is not None
        self._whole = True
        self._assemble([self._path])
        return Preview(1, 1, f"frame {self.count} of {self.count}", 1.0, 0.0, 0.0, self.latest, is_video_frame=True)

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._video is None:
            return
        failed = kind is not None and issubclass(kind, FeatvizError)
        with suppress(FeatvizError) if failed else nullcontext():  # The first error is the reason.
            self._video.close()
            self._assemble([self._path, self._part] if self.count else [self._part])

    def _assemble(self, parts: list[Path]) -> None:
        """Join parts and sound. The part that grew is removed only when this succeeds."""
        assemble(self._path, parts, self._clip.path, self._note())
        self._part.unlink(missing_ok=True)

    def _note(self) -> str:
        return metadata.note(self._recipe, self._clip.opened, whole=self._whole, fingerprints=self._fingerprints)

    def _unfinished(self, file: Path) -> Mapping[str, str]:
        """Return the fingerprints in a file that an unfinished run of the same recipe on the same pictures has made, else {}."""
        with suppress(InputError):
            made = metadata.restore(read_note(file), RECIPES)
            unfinished = made.whole is False and made.recipe == self._recipe
            if unfinished and not metadata.changed_pictures(made, self._clip.opened) and has_pictures(file):
                return made.fingerprints
        return {}


def _numbered(frames: Frames, source: _Source, before: int, total: int, first: float) -> Frames:
    """Yield frames with the steps and the work of the whole video.

    `before` of `total` frames are there already; `total` is 0 if unknown. `first`: the work of a frame without a predecessor, in
    units of one with a predecessor.
    """
    step, complete = 0, 0
    changed: Recipe | None = None
    with closing(frames):
        while True:
            frame = frames.send(changed)
            step, is_last = step + 1, frame.is_video_frame and source.is_last
            number, ahead = before + complete + 1, max(0, total - before - complete - 1)
            done = first * frame.work if number == 1 else complete + frame.work + (0 if before else first - 1)
            left = ahead + (1 - frame.work) * (first if number == 1 else 1)
            later = frame.steps if number > 1 else max(1, round(frame.steps / first))
            steps = step + max(1, frame.steps - frame.step + ahead * later)
            complete += frame.is_video_frame
            changed = yield frame.replace(
                step=step,
                steps=step if is_last else steps,
                stage=f"frame {number}" + (f" of {total}" if total >= number else ""),
                work=1.0 if is_last else min(done / (done + left), 0.999),
            )
            if is_last:
                return


def _padded(result: Tensor, recipe: Recipe, picture: Tensor) -> Tensor:
    """Return a result (1, 3, H, W) read from a video with the odd last row and column that the video lacks, repeated."""
    size = size_of(picture)
    height, width = size if getattr(recipe, "full_size", False) else fitted_size(size, dict(recipe)["size"])
    return functional.pad(result, (0, width - result.shape[-1], 0, height - result.shape[-2]), mode="replicate")
