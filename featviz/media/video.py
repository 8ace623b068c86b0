"""Write pictures to video files and read them back, one at a time. Codecs and containers are handled only here."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from featviz import extras, limits
from featviz.errors import FeatvizError, InputError, MissingExtraError
from featviz.media import hdr
from featviz.media.images import on_white
from featviz.media.saving import complete_file, exif_of

if TYPE_CHECKING:
    import av
else:
    av = extras.Lazy("av")

BT709, BT601, BT2020, UNSPECIFIED = 1, 5, 9, 2
"""Codes of colour matrices and primaries (ITU-T H.273), as FFmpeg uses them."""

LIMITED_RANGE, SRGB_TRANSFER = 1, 13
"""FFmpeg's codes of the limited colour range and of the sRGB transfer function."""


def _bt709(picture: Image.Image) -> av.VideoFrame:
    """Return a frame for H.264 in BT.709 and 4:2:0, which every browser plays. An odd last row or column is cropped."""
    picture = picture.crop((0, 0, picture.width // 2 * 2, picture.height // 2 * 2))
    return av.VideoFrame.from_image(picture).reformat(
        format="yuv420p", dst_colorspace=BT709, dst_color_range=LIMITED_RANGE, interpolation="LANCZOS"
    )


def _bgra(picture: Image.Image) -> av.VideoFrame:
    return av.VideoFrame.from_image(picture).reformat(format="bgra")


def _palette(picture: Image.Image) -> av.VideoFrame:
    """Return a frame with its own palette of 256 colours. Not dithered: dithering flickers and doubles the size of the file."""
    indexed = picture.quantize(256)
    palette = np.full((256, 4), 255, np.uint8)  # ARGB, FFmpeg's order.
    colours = np.array(indexed.getpalette("RGB"), np.uint8).reshape(-1, 3)
    palette[: len(colours), 1:] = colours
    both: Any = (np.asarray(indexed), palette)  # For pal8 PyAV takes two arrays.
    return av.VideoFrame.from_ndarray(both, format="pal8")


def _in_gif(file: bytes, note: str) -> bytes:
    """Return a GIF with a note as a comment before its first frame, where readers expect it."""
    flags = file[10]
    start = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)  # After the header and the global palette.
    text = note.encode("ascii", "replace")
    blocks = b"".join(bytes([len(part)]) + part for part in (text[i : i + 255] for i in range(0, len(text), 255)))
    return file[:start] + b"\x21\xfe" + blocks + b"\0" + file[start:]


def _in_webp(file: bytes, note: str) -> bytes:
    """Return an animated WebP with a note in an EXIF chunk at the end, and the EXIF flag set in its first chunk (VP8X)."""
    data = exif_of(note)
    chunk = b"EXIF" + len(data).to_bytes(4, "little") + data + b"\0" * (len(data) % 2)
    body = file[8:20] + bytes([file[20] | 0x08]) + file[21:] + chunk
    return b"RIFF" + len(body).to_bytes(4, "little") + body


@dataclass(frozen=True)
class Format:
    """How files of one extension are written."""

    codec: str
    frame: Callable[[Image.Image], av.VideoFrame]
    """RGB picture → frame in the pixel format of the codec."""
    clock: int | None = None
    """Ticks per second of the time base; None for one tick per frame."""
    codec_settings: Mapping[str, Any] = field(default_factory=dict)
    codec_options: Mapping[str, str] = field(default_factory=dict)
    file_options: Mapping[str, str] = field(default_factory=dict)
    annotated: Callable[[bytes, str], bytes] | None = None
    """(finished file, note) → file with the note; None if FFmpeg writes the note."""
    in_place: bool = False
    """Whether the file is written under its own name, and is playable at any moment."""


_SRGB = {  # Without these tags, players guess the colour space from the size of the video.
    "colorspace": BT709,
    "color_primaries": BT709,
    "color_trc": SRGB_TRANSFER,
    "color_range": LIMITED_RANGE,
}

VIDEO_FORMATS: dict[str, Format] = {
    # `faststart` puts the index first, so that a browser can start before the download is complete.
    ".mp4": Format("libx264", _bt709, None, _SRGB, {"crf": "18", "preset": "medium"}, {"movflags": "faststart"}),
    ".webp": Format("libwebp_anim", _bgra, 1000, {}, {"quality": "80"}, {"loop": "0"}, _in_webp),
    ".gif": Format("gif", _palette, 100, {}, {}, {"loop": "0"}, _in_gif),
}
"""Extension → how it is written. WebP and GIF loop forever."""

FRAME_DURATION = 1 << 8
"""FFmpeg's flag of an encoder whose frames have durations."""

TICKS = 90_000
"""Ticks per second of videos whose frames have times of their own: the clock of MPEG, a multiple of the usual frame rates."""

GROWING = Format(
    "libx264",
    _bt709,
    TICKS,
    _SRGB,
    # Every frame is at its place, so that another part can follow: no B-frames. At most 10 frames wait in the encoder.
    {"crf": "18", "preset": "medium", "bf": "0", "rc-lookahead": "10", "g": "50", "threads": "2"},
    {"movflags": "frag_every_frame+delay_moov+default_base_moof", "flush_packets": "1"},
    in_place=True,
)
"""An MP4 that is playable at any moment: what is left of it after its process was killed is a whole video."""

READ = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
"""A file with one of these extensions is read as a video."""


ACCURATE_BICUBIC = 0x4 | 0x2000 | 0x40000
"""FFmpeg's SWS_BICUBIC | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND. Without the last two, colours are wrong by up to 3/255."""

WHITE = np.float32(255 << 8)
"""White in FFmpeg's conversion from Y'CbCr to 16-bit RGB: 65280, not 65535."""

MOST_STRETCHED = 4
"""Largest accepted pixel aspect ratio, or its inverse. Video uses at most 64:33; a larger one means a damaged header."""

TRANSPOSITIONS = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}
"""Display matrix (a, b, c, d) → transposition in Pillow. The matrix maps (x, y) to (ax + cy, bx + dy)."""


def limitation() -> str:
    """Return a sentence for the user about videos that cannot be written on this machine, "" if all can."""
    try:
        codecs = av.codecs_available
    except MissingExtraError as error:
        return str(error)
    lacking = [extension for extension, format_ in VIDEO_FORMATS.items() if format_.codec not in codecs]
    return f"Videos cannot be written as {', '.join(lacking)}: FFmpeg lacks their codec." if lacking else ""


class Video:
    """A video file that is written one picture at a time, and is playable after `close`. Use it as a context manager.

    The file appears under its name when it is closed, and replaces an older one only then; without a picture there is no file.
    `fps` is the number of pictures per second. `note` is stored in the metadata. Thread-safe: one thread may close the video while
    another writes. Pictures written after `close` are ignored.

    Raises:
        InputError: the extension of `path` is not one of `VIDEO_FORMATS`.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: str | os.PathLike, fps: int | Fraction, note: str = "", *, format_: Format | None = None):
        self.path = Path(path)
        self._format = format_ or format_of(self.path)
        extras.load("av")  # Fail early if PyAV is missing.
        self._fps = Fraction(fps)
        self._note = note
        self.count = 0
        """Number of pictures written."""
        self._closed = False
        self._lock = threading.Lock()
        self._file = ExitStack()
        """Its end completes the file, or removes it if there was an error."""
        self._opened: tuple[av.container.OutputContainer, av.VideoStream] | None = None

    def write(self, picture: Image.Image, time: Fraction | None = None, duration: Fraction | None = None) -> None:
        """Append a picture. Every picture needs the size of the first. Transparency is ignored. Does nothing after `close`.

        It is shown at `time` for `duration`, both in seconds; by default, one after the other at the frame rate.

        Raises:
            FeatvizError: the file cannot be written.
        """
        frame = self._format.frame(picture.convert("RGB"))
        with self._lock, self._sentence():
            if self._closed:
                return
            file, stream = self._opened or self._open(frame)
            clock = 1 / self._fps if time is None else Fraction(1, TICKS)
            frame.time_base = clock
            frame.pts = self.count if time is None else round(time / clock)
            frame.duration = 1 if duration is None else round(duration / clock)
            file.mux(stream.encode(frame))
            self.count += 1

    def close(self) -> None:
        """Finish the file. Further calls do nothing.

        Raises:
            FeatvizError: the file cannot be written.
        """
        with self._lock, self._sentence():
            opened, self._opened, self._closed = self._opened, None, True
            if opened is not None:
                with self._file:
                    file, stream = opened
                    with file:
                        file.mux(stream.encode(None))
                    if self._note and self._format.annotated:
                        self._place.write_bytes(self._format.annotated(self._place.read_bytes(), self._note))

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, frame: av.VideoFrame) -> tuple[av.container.OutputContainer, av.VideoStream]:
        self._place = self.path if self._format.in_place else self._file.enter_context(complete_file(self.path))
        file = av.open(self._place, "w", format=self.path.suffix.lower()[1:], options=dict(self._format.file_options))
        file.metadata["comment"] = self._note
        try:
            stream = file.add_stream(self._format.codec, rate=self._fps, options=dict(self._format.codec_options))
        except ValueError:
            raise FeatvizError(f"This machine cannot write such videos: its FFmpeg lacks {self._format.codec}.") from None
        assert isinstance(stream, av.VideoStream)  # Every codec of `VIDEO_FORMATS` is a video codec.
        self._opened = file, stream
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = frame.width, frame.height, frame.format.name
        context.time_base = Fraction(1, self._format.clock) if self._format.clock else 1 / self._fps
        if self._format.clock == TICKS:
            context.flags |= FRAME_DURATION
        for name, value in self._format.codec_settings.items():
            setattr(context, name, value)
        return self._opened

    @contextmanager
    def _sentence(self) -> Iterator[None]:
        """Say in a sentence that the file cannot be written, and discard what there is of it."""
        try:
            yield
        except (OSError, av.FFmpegError, FeatvizError) as error:
            opened, self._opened, self._closed = self._opened, None, True
            with suppress(OSError, av.FFmpegError):
                if opened is not None:
                    opened[0].close()
            self._file.__exit__(type(error), error, None)
            raise error if isinstance(error, FeatvizError) else unwritable(self.path, error) from error


def unwritable(path: Path, error: OSError | av.FFmpegError) -> FeatvizError:
    """Return the error for a video that cannot be written."""
    return FeatvizError(f"The video '{path}' could not be written: {error.strerror or error}.")


@dataclass(frozen=True)
class VideoHeader:
    """What the header of a video says."""

    fps: Fraction
    """Mean number of frames per second; 25 if unknown."""
    frames: int
    """Number of frames, from the duration if the header lacks it; 0 if unknown."""
    seconds: Fraction
    """Length of the pictures; 0 if unknown."""
    decoded_bytes: int
    """Bytes of a decoded frame."""
    sound: str
    """Name of the codec of the sound; "" if there is none."""


@dataclass(frozen=True)
class TimedFrame:
    """A frame of a video."""

    picture: Image.Image
    time: Fraction
    """Seconds since the first frame."""
    duration: Fraction
    """Seconds."""


def read_video_header(path: str | os.PathLike) -> VideoHeader:
    """Return the header of a video.

    Raises:
        InputError: the file is not a readable video, or its frames have more pixels than `limits.PIXELS`.
        MissingExtraError: PyAV is not installed.
    """
    with reading(path) as file:
        stream = _pictures(path, file)
        rate = stream.average_rate or Fraction(25)
        length = Fraction(file.duration or 0, 10**6)
        bits = sum(component.bits * component.width * component.height for component in stream.format.components)
        sound = file.streams.audio[0].codec_context.name if file.streams.audio else ""
        # Matroska has no length of a stream, only that of the longest; in an MP4 that was trimmed, the whole stream is longer.
        own = min(length, seconds(stream.duration, stream.time_base)) if stream.frames else Fraction(0)
        return VideoHeader(rate, stream.frames or round(length * rate), own, bits // 8, sound)


def frames(path: str | os.PathLike) -> Iterator[Image.Image]:
    """Yield the pictures of a video as `timed_frames` does, and raise what it raises."""
    for frame in timed_frames(path):
        yield frame.picture


def timed_frames(path: str | os.PathLike, longest: int | None = None, skip: int = 0) -> Generator[TimedFrame, None, None]:
    """Yield the frames of a video: mode RGB, in sRGB, upright, with square pixels, deinterlaced, on white where transparent.

    Args:
        path: the file.
        longest: frames with a longer side are scaled down to this many pixels.
        skip: how many frames are left out at the start.

    Raises:
        InputError: the file is not a readable video, is damaged, has no frames, or frames of more pixels than `limits.PIXELS`.
            Frames before the damage have been yielded.
        MissingExtraError: PyAV is not installed.
    """
    with reading(path) as file:
        stream = _pictures(path, file)
        ratio, usual = stream.sample_aspect_ratio or Fraction(1), 1 / (stream.average_rate or Fraction(25))
        start, end, number = None, Fraction(0), 0
        for number, frame in enumerate(_progressive(stream, file.decode(stream)), 1):
            time = end if frame.pts is None else seconds(frame.pts, frame.time_base)
            start = time if start is None else start
            time, duration = max(time - start, end), seconds(frame.duration, frame.time_base) or usual
            end = time + duration
            if number > skip:
                yield TimedFrame(_upright(_square_srgb(frame, ratio, longest), frame), time, duration)
        if number == 0:
            raise InputError(f"'{path}' has no pictures.")


def seconds(ticks: int | None, tick: Fraction | None) -> Fraction:
    """Return ticks of a clock in seconds; 0 if they are unknown."""
    return Fraction(ticks or 0) * (tick or 0)


@contextmanager
def reading(path: str | os.PathLike) -> Iterator[av.container.InputContainer]:
    """Open a video for reading. FFmpeg's errors are raised as `InputError`."""
    try:
        with open_local(path) as file:
            yield file
    except (OSError, av.FFmpegError) as error:
        raise InputError(f"'{path}' cannot be read as a video: {error.strerror or error}.") from error


def _pictures(path: str | os.PathLike, file: av.container.InputContainer) -> av.VideoStream:
    """Return the stream of pictures. Raises InputError if there is none, or if its frames are too large."""
    stream = next(iter(file.streams.video), None)
    if stream is None or stream.format is None:
        raise InputError(f"'{path}' has no pictures.")
    if stream.width * stream.height > limits.PIXELS.value:
        raise InputError(
            f"The frames of '{path}' have {stream.width * stream.height / 1e6:.0f} megapixels; at most "
            f"{limits.PIXELS.value / 1e6:.10g} are accepted."
        )
    return stream


def _progressive(stream: av.VideoStream, decoded: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Yield decoded frames; from the first interlaced one on, deinterlaced by FFmpeg's `bwdif`, one for each frame."""
    graph: av.filter.Graph | None = None
    for frame in decoded:
        if graph is None and frame.interlaced_frame:
            graph = av.filter.Graph()
            graph.link_nodes(
                graph.add_buffer(template=stream), graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink")
            ).configure()
        if graph is None:
            yield frame
        else:
            graph.vpush(frame)
            yield from _filtered(graph)
    if graph is not None:
        graph.vpush(None)
        yield from _filtered(graph)


def _filtered(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    """Yield the frames that a filter has ready."""
    with suppress(BlockingIOError, EOFError):
        while True:
            yield graph.vpull()


def open_local(path: str | os.PathLike, container: str | None = None) -> av.container.InputContainer:
    """Open a video for reading. Its metadata may have any encoding, and what it names on other machines is not fetched."""
    return av.open(path, "r", format=container, metadata_errors="replace", options={"protocol_whitelist": "file"})


def _square_srgb(frame: av.VideoFrame, ratio: Fraction, longest: int | None) -> Image.Image:
    """Return a frame in sRGB with square pixels, on white where it is transparent.

    `ratio` is the width of a pixel over its height; one side is enlarged by it. Then the frame is scaled down to `longest`.
    """
    stretch = float(ratio) if 1 / MOST_STRETCHED <= ratio <= MOST_STRETCHED else 1.0
    wide = frame.color_trc in (hdr.PQ, hdr.HLG) or frame.color_primaries == BT2020
    if frame.colorspace == UNSPECIFIED and not frame.format.is_rgb:  # The rule that players use.
        large = frame.height >= 720 or frame.width >= 1280
        frame.colorspace = BT2020 if wide else BT709 if large else BT601
    width, height = frame.width * max(stretch, 1), frame.height * max(1 / stretch, 1)
    factor = min(1.0, (longest or math.inf) / max(width, height))
    options: dict[str, Any] = {
        "width": max(1, round(width * factor)),
        "height": max(1, round(height * factor)),
        "interpolation": ACCURATE_BICUBIC,
    }
    if any(component.is_alpha for component in frame.format.components):
        return on_white(Image.fromarray(frame.to_ndarray(format="rgba", **options)))
    if not wide:
        return frame.to_image(**options)
    codes = frame.to_ndarray(format="rgb48le", **options)
    bands = np.array_split(codes, 1 + len(codes) // 64)  # Bands save memory: a 4K frame as floats takes 100 MB a copy.
    return Image.fromarray(np.concatenate([hdr.to_srgb(np.minimum(band / WHITE, 1), frame.color_trc) for band in bands]))


def _upright(picture: Image.Image, frame: av.VideoFrame) -> Image.Image:
    """Return a picture rotated and mirrored by its frame's display matrix. Matrices not in `TRANSPOSITIONS` are ignored."""
    side_data: Any = frame.side_data  # PyAV's stubs lack lookup by type.
    matrix = side_data.get(extras.load("av.sidedata.sidedata").Type.DISPLAYMATRIX)
    if matrix is None:
        return picture
    a, b, _, c, d, *_ = np.frombuffer(matrix, "i4") / (1 << 16)
    transposition = TRANSPOSITIONS.get((a, b, c, d))
    return picture if transposition is None else picture.transpose(transposition)


def is_video(path: object) -> bool:
    """Whether something is the path of a file that is taken for a video, by its extension."""
    return isinstance(path, (str, os.PathLike)) and Path(path).suffix.lower() in READ


def count_frames(path: str | os.PathLike) -> int:
    """Return the number of frames in a video's header, 0 if unknown or unreadable. Raises MissingExtraError as `frames` does."""
    try:
        with open_local(path) as file:
            return file.streams.video[0].frames
    except (OSError, IndexError, av.FFmpegError):
        return 0  # `frames` reports the error.


def read_note(path: str | os.PathLike) -> str:
    """Return the note in an MP4, "" if there is none or it is not an MP4. Raises MissingExtraError as `frames` does."""
    try:
        # Only MP4 is accepted, because some of FFmpeg's formats open other files and uploads are not trusted.
        with open_local(path, "mp4") as file:
            return file.metadata.get("comment", "")
    except (OSError, ValueError, av.FFmpegError):
        return ""


def format_of(path: str | os.PathLike) -> Format:
    """Return the format for the extension of `path`, in upper or lower case.

    Raises:
        InputError: the extension is not one of `VIDEO_FORMATS`.
    """
    if (extension := Path(path).suffix.lower()) not in VIDEO_FORMATS:
        raise InputError(f"'{path}' has no extension of a video; accepted: {', '.join(VIDEO_FORMATS)}.")
    return VIDEO_FORMATS[extension]
