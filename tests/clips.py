"""Small videos that several test files share: a picture with a drifting window, frames that are not evenly spaced, and a tone."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

TIMES = [Fraction(tenths, 10) for tenths in (0, 1, 2, 5, 6, 7)]
"""Seconds at which the frames are shown; the third one for longer. The video ends at 0.8."""

NOISE = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE).resize((160, 120), Image.Resampling.BICUBIC)


def window(number: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """The picture of a frame."""
    return PICTURE.crop((2 * number, number, 2 * number + size[0], number + size[1]))


def clip(path: Path, *, size: tuple[int, int] = (64, 48), sound: str = "aac", count: int = len(TIMES), tick: int = 10) -> Path:
    """Write a video; `sound` is the name of a codec, "" for none. The sound lasts 1.5 seconds. At `tick` 1 it is ten times slower."""
    with av.open(path, "w") as file:
        pictures = file.add_stream("libx264", rate=tick, options={"g": "2", "bf": "0"})
        pictures.width, pictures.height, pictures.pix_fmt = size[0], size[1], "yuv420p"
        tone = file.add_stream(sound, rate=8000, layout="mono") if sound else None
        for number in range(count):
            frame = av.VideoFrame.from_image(window(number, size))
            frame.pts, frame.time_base = int(TIMES[number] * 10), Fraction(1, tick)
            file.mux(pictures.encode(frame))
        file.mux(pictures.encode(None))
        for start in range(0, 12_000, 1000) if tone else ():
            wave = np.sin((start + np.arange(1000)) * 2 * np.pi * 440 / 8000)[None].astype(np.float32) / 2
            frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            frame.rate, frame.pts, frame.time_base = 8000, start, Fraction(1, 8000)
            file.mux(tone.encode(frame))
        if tone:
            file.mux(tone.encode(None))
    return path


def damaged(source: Path, path: Path, number: int) -> Path:
    """Write a copy whose packet of a frame, and those after it, have other bytes."""
    content = bytearray(source.read_bytes())
    for packet in packets(source, "video")[number:]:
        start = content.index(packet)
        content[start + 4 : start + len(packet)] = bytes(255 - byte for byte in packet[4:])
    path.write_bytes(content)
    return path


def times(path: Path) -> list[Fraction]:
    """The seconds at which the frames of a video are shown."""
    with av.open(path) as file:
        return [Fraction(frame.pts * frame.time_base).limit_denominator(1000) for frame in file.decode(video=0)]


def packets(path: Path, kind: str = "audio") -> list[bytes]:
    """The packets of a stream as they are in the file."""
    with av.open(path) as file:
        return [bytes(packet) for packet in file.demux(**{kind: 0}) if packet.size]


def length(path: Path, kind: str) -> float:
    """Seconds of a stream."""
    with av.open(path) as file:
        (stream,) = getattr(file.streams, kind)
        return float(stream.duration * stream.time_base)
