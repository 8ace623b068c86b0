"""Join parts of a video and the sound of another one. Packets are copied, and nothing is encoded again where that is possible."""

from __future__ import annotations

import heapq
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from featviz import extras
from featviz.media.saving import complete_file
from featviz.media.video import ACCURATE_BICUBIC, VIDEO_FORMATS, open_local, reading, seconds, unwritable

if TYPE_CHECKING:
    import av
else:
    av = extras.Lazy("av")

COPIED_SOUND = ("aac", "mp3", "opus", "flac", "alac", "ac3", "eac3")
"""Codecs of sound that MP4 takes and players know. Other ones are encoded anew, as AAC."""


class SoundChanged(UserWarning):
    """The sound of a video could not be copied as it is."""


def assemble(path: Path, parts: Sequence[Path], sound: str | os.PathLike, note: str) -> None:
    """Join the pictures of several MP4s and the sound of another video into one MP4, which replaces `path`.

    Nothing is encoded again, except for sound that is not in `COPIED_SOUND`: it becomes AAC, with a warning. Sound is cut to the
    length of the pictures. Memory does not depend on the length.

    Args:
        path: the file to write.
        parts: files that `Video` wrote with the format `GROWING`, or this function, one after the other in time. One that was not
            finished counts up to where it was.
        sound: the video whose sound is copied, if it has any. Its first frame is at the time 0.
        note: the metadata.

    Raises:
        FeatvizError: the file cannot be written.
    """
    try:
        with ExitStack() as stack:
            written = stack.enter_context(complete_file(path))
            opened = [stack.enter_context(open_local(part)) for part in parts]
            file = stack.enter_context(av.open(written, "w", format="mp4", options=dict(VIDEO_FORMATS[".mp4"].file_options)))
            file.metadata["comment"] = note
            stream = file.add_stream_from_template(opened[0].streams.video[0])
            end = max(map(_end, parts))
            packets = [_packets_of_parts(opened, stream)]
            source = stack.enter_context(open_local(sound))
            if source.streams.audio:
                packets.append(_packets_of_sound(source, file, _start(sound), end))
            for _, packet in heapq.merge(*packets, key=itemgetter(0)):  # By time, so that none has to wait in memory.
                file.mux(packet)
    except (OSError, av.FFmpegError) as error:
        raise unwritable(path, error) from error


TimedPacket = tuple[Fraction, "av.Packet"]
"""A packet of the output, after its time in seconds."""


def _packets_of_parts(parts: Sequence[av.container.InputContainer], stream: av.VideoStream) -> Iterator[TimedPacket]:
    for part in parts:
        for packet in part.demux(part.streams.video[0]):
            if packet.dts is not None:  # The last one is empty.
                time = seconds(packet.dts, packet.time_base)
                packet.stream = stream
                yield time, packet


def _packets_of_sound(
    source: av.container.InputContainer, file: av.container.OutputContainer, start: Fraction, end: Fraction
) -> Iterator[TimedPacket]:
    """Yield the packets of a sound between two times of its source, in seconds; `start` becomes 0."""
    stream = source.streams.audio[0]
    codec = stream.codec_context.name
    if codec in COPIED_SOUND:
        copy = file.add_stream_from_template(stream)
        return _between((packet for packet in source.demux(stream) if packet.dts is not None), copy, start, end)
    warnings.warn(f"The sound was encoded as AAC, since MP4 takes none in {codec}.", SoundChanged, stacklevel=2)
    layout = "mono" if stream.codec_context.channels == 1 else "stereo"
    encoded = file.add_stream("aac", rate=stream.codec_context.sample_rate, layout=layout)
    return _between(_encoded(source.decode(stream), encoded), encoded, start, end)


def _encoded(decoded: Iterator[av.AudioFrame], stream: av.AudioStream) -> Iterator[av.Packet]:
    """Yield the packets of a sound that is encoded anew. Times are counted in samples: those of some containers are rounded."""
    samples: int | None = None
    for frame in decoded:
        if samples is None:
            samples = round(seconds(frame.pts, frame.time_base) * frame.sample_rate)
        frame.pts, frame.time_base = samples, Fraction(1, frame.sample_rate)
        samples += frame.samples
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _between(packets: Iterator[av.Packet], stream: av.AudioStream, start: Fraction, end: Fraction) -> Iterator[TimedPacket]:
    """Yield packets of a stream between two times, moved to begin at 0. Sound that is damaged ends where it is."""
    with suppress(av.FFmpegError):
        for packet in packets:
            time = seconds(packet.dts, packet.time_base) - start
            if time >= end:
                return
            if time >= 0:
                packet.dts = packet.pts = round(time / packet.time_base)
                packet.stream = stream
                yield time, packet


def _start(path: str | os.PathLike) -> Fraction:
    """Return the time of the first frame of a video, in seconds of its container."""
    with reading(path) as file:
        frame = next(file.decode(file.streams.video[0]))
        return seconds(frame.pts, frame.time_base)


def _end(part: Path) -> Fraction:
    """Return the time at which the last picture of a part ends."""
    end = Fraction(0)
    with open_local(part) as file:
        for packet in file.demux(file.streams.video[0]):
            if packet.pts is not None:
                end = seconds(packet.pts + (packet.duration or 0), packet.time_base)
    return end


def has_pictures(path: str | os.PathLike) -> bool:
    """Return whether the first picture of a video can be decoded. Raises InputError if it is no video."""
    with reading(path) as file:
        try:
            return next(file.decode(file.streams.video[0]), None) is not None
        except av.FFmpegError:
            return False


def last_picture(path: str | os.PathLike) -> tuple[int, Image.Image]:
    """Return how many pictures an MP4 has that `assemble` wrote, and the last one. Raises InputError if it cannot be read."""
    with reading(path) as file:
        stream = file.streams.video[0]
        file.seek(stream.duration or 0, stream=stream)
        *_, frame = file.decode(stream)
        return stream.frames, frame.to_image(interpolation=ACCURATE_BICUBIC)
